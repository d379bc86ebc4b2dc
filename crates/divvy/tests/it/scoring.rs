//! `divvy score`: predictions of any program, graded line by line.

use serde_json::{Value, json};

use crate::bench::Bench;

fn scored(bench: &Bench, scorer: &str, lines: &str) -> Vec<Value> {
    bench.workspace.write("p.jsonl", lines);
    let ended = bench.done(&["score", "--scorer", scorer, "--predictions", "p.jsonl"]);
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_line_comes_back_with_its_figures() {
    let bench = Bench::idle();
    let lines = concat!(
        r#"{"id": 1, "predicted": ["7 May 1921"], "golds": [["May 1921"]]}"#,
        "\n\n",
        r#"{"id": 2, "predicted": ["the red", "blue"], "golds": [["green"], ["Blue", "red"]]}"#,
        "\n"
    );
    let rows = scored(&bench, "drop", lines);
    let figures: Vec<_> = rows.iter().map(|row| (&row["id"], &row["em"], &row["f1"])).collect();
    assert_eq!(figures, [(&json!(1), &json!(0.0), &json!(0.8)), (&json!(2), &json!(1.0), &json!(1.0))]);
    let numeric = scored(&bench, "numeric", r#"{"predicted": ["The answer is: $1,200.00"], "golds": [["1200"]]}"#);
    let exact = scored(&bench, "exact", r#"{"predicted": ["The Hague"], "golds": [["hague"]]}"#);
    assert_eq!((&numeric[0]["em"], &exact[0]["em"]), (&json!(1.0), &json!(1.0)));
    let ended = bench.done(&["score", "--scorer", "exact", "--predictions", "p.jsonl"]);
    assert!(ended.stderr.contains("1 lines, exact match 100.00 %"), "{ended:?}");
}

#[test]
fn a_line_that_is_none_is_named() {
    let bench = Bench::idle();
    for (line, words) in [("{\"predicted\": \"x\", \"golds\": []}", "predicted"), ("nonsense", "a line is {")] {
        bench.workspace.write("p.jsonl", &format!("{{\"predicted\": [], \"golds\": [[\"x\"]]}}\n{line}\n"));
        let ended = bench.run(&["score", "--scorer", "drop", "--predictions", "p.jsonl"]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("p.jsonl:2: ") && ended.stderr.contains(words), "{ended:?}");
    }
    bench.run(&["score", "--scorer", "drop", "--predictions", "q.jsonl"]).complains(2, &["--predictions", "q.jsonl"]);
}

/// DROP's official script has an answer to every question, and gives nothing where it is blank.
#[test]
fn a_line_without_gold_is_no_wrong_answer() {
    let bench = Bench::idle();
    bench.workspace.write("p.jsonl", r#"{"predicted": ["x"], "golds": []}"#);
    for scorer in ["drop", "exact"] {
        let ended = bench.run(&["score", "--scorer", scorer, "--predictions", "p.jsonl"]);
        ended.complains(2, &["p.jsonl:1: `golds` is empty", "leave the line out"]);
    }
    let blank = scored(&bench, "drop", r#"{"predicted": ["x"], "golds": [[""]]}"#);
    assert_eq!(blank[0]["em"], json!(0.0));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let bench = Bench::idle();
    let line = r#"{"predicted": ["x"], "golds": [["x"]]}"#;
    assert_eq!(scored(&bench, "exact", &format!("\u{feff}{line}\n{line}")).len(), 2);
}

#[test]
fn a_line_keeps_what_it_had() {
    let bench = Bench::idle();
    let line = r#"{"z": 1.50, "predicted": ["4"], "golds": [["4"]], "a": {"b": [1, 2]} }"#;
    bench.workspace.write("p.jsonl", line);
    let ended = bench.done(&["score", "--scorer", "drop", "--predictions", "p.jsonl"]);
    let open = line.strip_suffix(" }").unwrap();
    assert_eq!(ended.stdout, format!("{open}, \"em\": 1.0, \"f1\": 1.0}}\n"));
    let again = scored(&bench, "numeric", r#"{"em": 0.0, "predicted": ["4"], "golds": [["4"]]}"#);
    assert_eq!(again[0]["em"], json!(1.0));
}

#[test]
fn every_scorer_can_be_asked_for() {
    let bench = Bench::idle();
    for (scorer, reply, gold) in [
        ("choice", "The answer is: (B)", "(B)"),
        ("yes-no", "The answer is: true", "yes"),
        ("paper-gsm8k", "It is 18 or 20", "18"),
        ("paper-drop", "The answer is: 10:30", "30"),
        ("paper-bamboogle", "In 1984", "4"),
    ] {
        let row = json!({ "predicted": [reply], "golds": [[gold]] }).to_string();
        assert_eq!(scored(&bench, scorer, &row)[0]["em"], json!(1.0), "{scorer}");
    }
}

#[test]
fn two_scorers_are_compared_line_by_line() {
    let bench = Bench::idle();
    let rows: Vec<String> = ["The answer is: 18", "He has 18. The answer is: 20", "The answer is: 5"]
        .iter()
        .map(|reply| json!({ "predicted": [reply], "golds": [["18"]] }).to_string())
        .collect();
    bench.workspace.write("p.jsonl", &rows.join("\n"));
    let ended = bench.done(&["score", "--compare", "numeric", "paper-gsm8k", "--predictions", "p.jsonl"]);
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["predicted"], json!(["He has 18. The answer is: 20"]));
    let expect = json!({ "numeric": { "em": 0.0, "f1": 0.0 }, "paper-gsm8k": { "em": 1.0, "f1": 1.0 } });
    assert_eq!(lines[0]["scores"], expect);
    assert!(ended.stderr.contains("they disagree on 1 (33.33 %)"), "{ended:?}");
    bench.run(&["score", "--predictions", "p.jsonl"]).complains(2, &["--scorer"]);
    bench.run(&["score", "--compare", "drop", "--predictions", "p.jsonl"]).complains(2, &["--compare"]);
}
