//! The strategies that answer one subquestion at a time: what is asked, in which order, and what stands in the report.

use divvy_testkit::{
    script::{Fault, Step},
    teacher::{Asked, Lesson},
};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, RECIPE, TEST},
};

/// Evaluates alone, with the model as its own decomposer.
fn recipe(strategies: &str) -> String {
    RECIPE
        .replace("teacher = \"big\"", "teacher = \"recorded\"")
        .replace("[screen]\nsolver = \"big\"\n", "")
        .replace("\"direct\", \"cot\", \"two-stage\"", strategies)
        .replace("decomposers = [\"teacher\"]", "decomposers = [\"big\"]")
}

/// Right about every question, once it has been told the answers to its two subquestions.
fn lesson() -> Lesson {
    let otherwise = school::lesson().rule;
    let rule = move |asked: &Asked| {
        let prompt = asked.last();
        let known = prompt.matches("\nAnswer: ").count();
        if let Some((_, next)) = prompt.split_once("Answer this subquestion only: ") {
            let figure = if next.starts_with("Which facts matter") { 4 } else { 5 };
            return format!("2 + 2 is\nThe answer is: {figure}");
        }
        match (prompt.contains("asked one at a time"), known) {
            (true, 0) => "Which facts matter here?".to_owned(),
            (true, 1) => "2. What follows from #1?".to_owned(),
            (true, _) => "Enough".to_owned(),
            (false, 2) => otherwise(asked),
            _ if prompt.contains("Reason from these answers") => "The answer is: 987654321".to_owned(),
            _ => otherwise(asked),
        }
    };
    Lesson { rule: Box::new(rule), ..Lesson::default() }
}

fn report(bench: &Bench) -> Value {
    bench.json(&["report", "recipe.toml", "--json"])
}

#[test]
fn sequential_feeds_every_answer_on() {
    let bench = Bench::new(lesson());
    bench.recipe(&recipe("\"two-stage\", \"sequential\"")).done(&["eval", "recipe.toml"]);
    let report = report(&bench);
    let arm = &report["arms"][1];
    assert_eq!((&arm["arm"], &arm["correct"]), (&json!("sequential/big/big"), &json!(TEST)), "{arm}");
    assert_eq!(arm["examples"][0]["sub_answers"], json!(["4", "5"]));
    // A decomposition serves both strategies; then one call for two-stage, and for sequential two and the question.
    assert_eq!(bench.teacher.asked().len(), TEST * (1 + 1 + 2 + 1));
    let compared = &report["comparisons"][0];
    assert_eq!((&compared["a"], &compared["b"]), (&json!("sequential/big/big"), &json!("two-stage/big/big")));
}

#[test]
fn self_ask_hears_each_answer_before_it_asks_on() {
    let bench = Bench::new(lesson());
    bench.recipe(&recipe("\"self-ask\"")).done(&["eval", "recipe.toml"]);
    let arm = &report(&bench)["arms"][0];
    assert_eq!((&arm["arm"], &arm["correct"]), (&json!("self-ask/big/big"), &json!(TEST)), "{arm}");
    assert_eq!(arm["examples"][0]["subquestions"], json!(["Which facts matter here?", "What follows from #1?"]));
    assert_eq!((&arm["mean_subquestions"], &arm["well_formed"]), (&json!(2.0), &json!(1.0)));
    assert_eq!(bench.teacher.asked().len(), TEST * (3 + 2 + 1));
    let again = bench.done(&["eval", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), TEST * (3 + 2 + 1), "{again:?}");
}

#[test]
fn self_ask_stops_at_the_cap_and_at_a_repeated_subquestion() {
    let asks =
        |bench: &Bench| bench.teacher.asked().iter().filter(|asked| asked.last().contains("one at a time")).count();
    let bench = Bench::new(lesson());
    let capped = recipe("\"self-ask\"").replace("decomposers", "max_subquestions = 1\ndecomposers");
    bench.recipe(&capped).done(&["eval", "recipe.toml"]);
    assert_eq!(asks(&bench), TEST);

    let parrot =
        |asked: &Asked| if asked.last().contains("one at a time") { "Why?".to_owned() } else { "4".to_owned() };
    let bench = Bench::new(Lesson { rule: Box::new(parrot), ..Lesson::default() });
    bench.recipe(&recipe("\"self-ask\"")).done(&["eval", "recipe.toml"]);
    assert_eq!(asks(&bench), 2 * TEST);
    assert_eq!(report(&bench)["arms"][0]["mean_subquestions"], json!(1.0));
}

#[test]
fn a_decomposer_that_asks_nothing_usable_is_malformed_and_the_solver_is_not_asked() {
    let silent = |asked: &Asked| {
        assert!(asked.last().contains("one at a time"), "the solver was asked");
        "I do not know.".to_owned()
    };
    let bench = Bench::new(Lesson { rule: Box::new(silent), ..Lesson::default() });
    bench.recipe(&recipe("\"self-ask\"")).done(&["eval", "recipe.toml"]);
    let arm = &report(&bench)["arms"][0];
    assert_eq!((&arm["well_formed"], &arm["no_answer"]), (&json!(0.0), &json!(TEST)), "{arm}");
    assert_eq!(bench.teacher.asked().len(), TEST);
}

#[test]
fn a_decomposer_cut_off_before_it_asked_anything_is_truncated_and_the_solver_is_not_asked() {
    for strategy in ["\"two-stage\"", "\"self-ask\""] {
        let thinks = |_: &Asked| "I have to think about this for a while".to_owned();
        let cut = |_: &Asked| Some(Step::Fault { fault: Fault::Truncated });
        let bench = Bench::new(Lesson { rule: Box::new(thinks), misfortune: Box::new(cut), ..Lesson::default() });
        bench.recipe(&recipe(strategy)).done(&["eval", "recipe.toml"]);
        let arm = &report(&bench)["arms"][0];
        assert_eq!((&arm["well_formed"], &arm["truncated"], &arm["no_answer"]), (&json!(0.0), &json!(TEST), &json!(0)));
        assert_eq!(bench.teacher.asked().len(), TEST);
    }
}

#[test]
fn ask_shows_the_steps_of_a_dynamic_answer() {
    let bench = Bench::new(lesson());
    bench.recipe(&recipe("\"self-ask\""));
    let question = ["ask", "How many?", "--arm", "self-ask/big/big", "--recipe", "recipe.toml"];
    let shown = bench.done(&question).stdout;
    assert!(shown.contains("step 1    Which facts matter here?\n          4\nstep 2"), "{shown}");
    assert!(shown.contains("decompose 3 calls, ") && shown.contains("solve     3 calls, "), "{shown}");
    assert!(shown.contains("\n\nThe answer is: 42\n\nanswer    42\n"), "the last call's reply is shown: {shown}");
}

#[test]
fn the_plan_counts_the_calls_of_each_step() {
    let bench = Bench::new(lesson());
    let calls = |strategies: &str| -> Vec<u64> {
        let ended = bench.recipe(&recipe(strategies)).done(&["run", "recipe.toml", "--dry-run"]);
        let lines = ended.stderr.lines().filter(|line| line.starts_with("evaluate"));
        lines.map(|line| line.split_whitespace().nth(2).unwrap().parse().unwrap()).collect()
    };
    let questions: Vec<_> = school::questions().split_off(school::TRAIN);
    let steps: u64 = questions.iter().map(|question| question.steps.unwrap() as u64).sum();
    let test = TEST as u64;
    // One decomposition serves both; then every subquestion and the question.
    assert_eq!(calls("\"two-stage\", \"sequential\""), [test, test, steps + test]);
    // The decomposer asks once for every subquestion and once more.
    assert_eq!(calls("\"self-ask\""), [steps + test, steps + test]);
    let told = bench.recipe(&recipe("\"two-stage\", \"sequential\"")).done(&["run", "recipe.toml", "--dry-run"]).stderr;
    let parts: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("evaluate"))
        .map(|line| &line[line.rfind("  ").unwrap() + 2..])
        .collect();
    let decomposer = "decomposer of two-stage/big/big, sequential/big/big";
    assert_eq!(parts, [decomposer, "solver of two-stage/big/big", "solver of sequential/big/big"], "{told}");
    assert_eq!(bench.teacher.asked().len(), 0);
}
