//! What was asked of `divvy serve --record` is the next training set: `--from traffic`.

use serde_json::{Value, json};

use crate::{
    bench::Bench,
    serving::{RECIPE, Serving, bench},
};

/// The recipe with a screening that needs no gold, a teacher that can be asked, and a student that learns from both.
fn recipe() -> String {
    let teacher = RECIPE.replace(
        "teacher = \"recorded\"",
        "teacher = \"big\"\n\n[screen]\nsolver = \"big\"\nrule = \"agreement\"\nsamples = 2\ntemperature = 0.7",
    );
    teacher.replace("\"SD-T\"", "\"SD-R\"").replace("\"big\", \"teacher\"]", "\"big\"]")
}

const QUESTIONS: [&str; 3] = [
    "Ann has 3 boxes of 12 pens and gives 7 away. How many are left?",
    "How many eggs do 4 nests of 5 hold?",
    "Who wins?",
];

/// Asks each, and the first of them again with other spacing.
fn record(bench: &Bench, questions: &[&str]) {
    let serving = Serving::start(bench, &["--arm", "cot/big", "--record"]);
    let again = questions[0].to_uppercase().replace(' ', "  ");
    for question in questions.iter().copied().chain([&*again]) {
        let body = json!({"model": "cot/big", "messages": [{"role": "user", "content": question}]}).to_string();
        assert_eq!(serving.send("POST /v1/chat/completions", &body).0, 200);
    }
    serving.stop();
}

fn plan(bench: &Bench, arguments: &[&str]) -> Value {
    bench.json(&[&["status", "recipe.toml", "--json"], arguments].concat())
}

fn collected(bench: &Bench, arguments: &[&str]) -> (Value, Value) {
    let status = plan(bench, arguments);
    (status["plan"].clone(), status["stages"][0]["states"]["done"].clone())
}

#[test]
fn what_was_asked_is_collected_screened_and_learnt_from() {
    let bench = bench();
    bench.recipe(&recipe());
    record(&bench, &QUESTIONS);
    let told = bench.done(&["collect", "recipe.toml", "--from", "traffic"]).stderr;
    assert!(told.contains("traffic: 3 questions in 4 lines, 1 repeated ones left out; `--from traffic:4`"), "{told}");
    let (plan_of_traffic, done) = collected(&bench, &["--from", "traffic"]);
    assert_eq!(done, 3);
    let (graded, none) = collected(&bench, &[]);
    assert!(graded != plan_of_traffic && none.is_null(), "graded rows are another plan, and none was collected for it");
    // No gold: the solver's samples have to agree.
    bench.done(&["screen", "recipe.toml", "--from", "traffic"]);
    bench.done(&[
        "export",
        "recipe.toml",
        "--from",
        "traffic",
        "--student",
        "sd",
        "--rows",
        "messages",
        "--out",
        "rows.jsonl",
    ]);
    let rows = std::fs::read_to_string(bench.file("rows.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), 3);
    assert!(QUESTIONS.iter().all(|question| rows.contains(question)) && rows.contains("traffic/train/"), "{rows}");
    bench.done(&["train", "recipe.toml", "--from", "traffic"]);
    assert!(plan(&bench, &["--from", "traffic"])["students"][0]["trained"].as_bool().unwrap());

    // More is asked: what was asked before is another plan's question, and asked of no teacher again.
    let asked = bench.teacher.asked().len();
    record(&bench, &["How many legs have 9 dogs?"]);
    let served = bench.teacher.asked().len() - asked;
    assert_eq!(served, 2);
    bench.done(&["collect", "recipe.toml", "--from", "traffic"]);
    assert_eq!(bench.teacher.asked().len() - asked - served, 1);
    assert_eq!(collected(&bench, &["--from", "traffic"]).1, 4);
    // The first lines mean what they meant, in a recipe too.
    assert_eq!(collected(&bench, &["--from", "traffic:4"]), (plan_of_traffic.clone(), json!(3)));
    let data = "[data.train]\ndataset = \"synth\"\nrows = 12";
    bench.recipe(&recipe().replace(data, "[data.train]\ndataset = \"traffic\"\nlines = 4"));
    assert_eq!(collected(&bench, &[]), (plan_of_traffic, json!(3)));
}

#[test]
fn what_cannot_be_learnt_from_is_said() {
    let bench = bench();
    bench.recipe(&recipe());
    let from = |which: &str| bench.run(&["collect", "recipe.toml", "--from", which]);
    from("traffic").complains(2, &["no traffic is recorded at `runs/traffic.jsonl`", "--record"]);
    assert!(from("trafic").stderr.contains("traffic:180") && from("traffic:0").code == Some(2));
    // A test question that somebody asked stays out of training.
    let shown = bench.done(&["data", "recipe.toml", "--rows", "1", "--json"]).stdout;
    let test: Value = serde_json::from_str(shown.lines().last().unwrap()).unwrap();
    assert_eq!(test["split"], "test");
    let leaking = json!({"question": test["text"], "premise": test["premise"], "scorer": test["scorer"]});
    let fresh = json!({"question": QUESTIONS[0], "premise": null, "scorer": "numeric"});
    bench.workspace.write("runs/traffic.jsonl", &format!("{leaking}\n{fresh}\n"));
    from("traffic").complains(2, &["the splits share 1 rows", "traffic/train/", "leaks = \"drop\""]);
    bench.recipe(&recipe().replace("[data.train]", "[data]\nleaks = \"drop\"\n[data.train]"));
    assert!(from("traffic").stderr.contains("1 rows of train and dev left out because they leak"));
    assert_eq!(collected(&bench, &["--from", "traffic"]).1, 1);
    // There is no gold to screen with, nor to score on.
    bench.recipe(
        &recipe().replace("rule = \"agreement\"", "").replace("[data.train]", "[data]\nleaks = \"drop\"\n[data.train]"),
    );
    bench.run(&["screen", "recipe.toml", "--from", "traffic"]).complains(2, &["have none", "`agreement`"]);
    bench.recipe(&recipe().replace("[data.test]\ndataset = \"synth\"\nrows = 4", "[data.test]\ndataset = \"traffic\""));
    bench.run(&["collect", "recipe.toml"]).complains(2, &["data.test.dataset", "no gold answers"]);
    // A line that is none, and a record of something else.
    bench.recipe(&recipe()).workspace.write("runs/traffic.jsonl", &format!("{fresh}\n{{\"question\": \"How ma\n"));
    from("traffic").complains(2, &["traffic.jsonl:2", "not JSON"]);
    bench.workspace.write("runs/traffic.jsonl", "{\"question\": \"How many?\"}\n");
    from("traffic").complains(2, &["traffic.jsonl:1", "`scorer` is missing"]);
}
