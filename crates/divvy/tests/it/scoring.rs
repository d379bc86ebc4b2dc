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
        bench.workspace.write("p.jsonl", &format!("{{\"predicted\": [], \"golds\": []}}\n{line}\n"));
        let ended = bench.run(&["score", "--scorer", "drop", "--predictions", "p.jsonl"]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("p.jsonl:2: ") && ended.stderr.contains(words), "{ended:?}");
    }
    bench.run(&["score", "--scorer", "drop", "--predictions", "q.jsonl"]).complains(2, &["--predictions", "q.jsonl"]);
}
