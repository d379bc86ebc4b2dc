//! The small commands: one question, a first recipe, a look at a plan.

use serde_json::json;

use divvy_testkit::teacher::{Asked, Lesson};

use crate::{
    bench::Bench,
    school::{self, Manner, RECIPE, TEST, TRAIN},
};

const QUESTION: &str = "Ann has 40 pens and gets 2 more. How many pens has she?";

#[test]
fn ask_answers_one_question_with_a_chosen_arm() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE);
    let arguments = ["ask", QUESTION, "--arm", "cot/big", "--recipe", "recipe.toml", "--json"];
    let answer = bench.json(&arguments);
    assert_eq!((&answer["arm"], &answer["answer"]), (&json!("cot/big"), &json!("42")));
    assert_eq!(answer["solve"]["from_cache"], json!(false));
    assert_eq!(bench.json(&arguments)["solve"]["from_cache"], json!(true), "the same question was paid for twice");
    assert_eq!(bench.teacher.asked().len(), 1);
    assert_eq!(bench.teacher.asked()[0].body["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn ask_shows_steps_answer_and_tokens() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE);
    let two_stage = bench.done(&["ask", QUESTION, "--arm", "two-stage/teacher/big", "--recipe", "recipe.toml"]);
    assert!(two_stage.stdout.contains("two-stage/teacher/big"), "{two_stage:?}");
    assert!(two_stage.stdout.contains("tokens in"), "{two_stage:?}");
}

#[test]
fn each_subquestion_has_its_sub_answer() {
    let otherwise = school::lesson().rule;
    let steps = "1. Which facts matter here? 40 and 2\n2. What follows from them? 40 + 2 = 42\nThe answer is: 42";
    let rule = move |asked: &Asked| match Manner::of(asked) {
        Manner::TwoStage => steps.to_owned(),
        _ => otherwise(asked),
    };
    let bench = Bench::new(Lesson { rule: Box::new(rule), ..Lesson::default() });
    bench.recipe(RECIPE);
    let arguments = ["ask", QUESTION, "--arm", "two-stage/teacher/big", "--recipe", "recipe.toml"];
    let shown = bench.done(&arguments).stdout;
    assert!(shown.contains("step 1    Which facts matter here?\n          40 and 2\nstep 2"), "{shown}");
    assert!(!shown.contains("The answer is"), "the reply has nothing more to say: {shown}");
    let answer = bench.json(&[&arguments[..], &["--json"]].concat());
    assert_eq!(answer["sub_answers"], json!(["40 and 2", "40 + 2 = 42"]));
}

#[test]
fn an_unknown_arm_is_refused_with_the_nearest() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE);
    let ended = bench.run(&["ask", QUESTION, "--arm", "cot/bug", "--recipe", "recipe.toml"]);
    ended.complains(2, &["--arm", "cot/bug", "did you mean `cot/big`?", "direct/big"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

#[test]
fn an_empty_question_is_refused() {
    let bench = Bench::idle();
    bench.recipe(RECIPE).run(&["ask", "  ", "--recipe", "recipe.toml"]).complains(2, &["the question is empty"]);
}

#[test]
fn init_writes_a_recipe_once() {
    let bench = Bench::idle();
    let first = bench.done(&["init"]);
    assert!(first.stderr.contains("--dry-run"), "{first:?}");
    std::fs::write(bench.file("divvy.toml"), "mine").unwrap();
    bench.run(&["init"]).complains(2, &["divvy.toml", "already there", "choose another name"]);
    assert_eq!(std::fs::read_to_string(bench.file("divvy.toml")).unwrap(), "mine");
}

#[test]
fn what_init_writes_can_be_planned() {
    let bench = Bench::idle();
    bench.done(&["init"]);
    let plan = bench.json(&["run", "--dry-run"]);
    assert_eq!(plan["name"], json!("my-task"));
}

#[test]
fn a_dry_run_shows_the_plan_and_touches_nothing() {
    let bench = Bench::new(school::lesson());
    let price = "concurrency = 4\nprice = { input = \"1\", output = \"2\" }";
    bench.recipe(&RECIPE.replace("concurrency = 4", price));
    let ended = bench.done(&["run", "recipe.toml", "--dry-run"]);
    let plan: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let arms: Vec<_> = plan["evaluate"]["arms"].as_array().unwrap().iter().map(|arm| &arm["strategy"]).collect();
    assert_eq!(arms, [&json!("direct"), &json!("cot"), &json!("two-stage")]);
    for (stage, calls) in [("collect", TRAIN), ("screen", TRAIN), ("evaluate", TEST)] {
        let line = ended.stderr.lines().find(|line| line.starts_with(stage)).unwrap_or_else(|| panic!("{ended:?}"));
        assert!(line.split_whitespace().any(|word| word.parse().is_ok_and(|n: usize| n >= calls)), "{line}");
        assert!(line.contains('$'), "{line}");
    }
    assert_eq!(bench.teacher.asked().len(), 0);
    assert!(!bench.file("runs").exists(), "a dry run left a store behind");
    assert!(ended.stderr.contains("finished already: nothing"), "{ended:?}");
    bench.done(&["collect", "recipe.toml"]);
    let asked = bench.teacher.asked().len();
    let again = bench.done(&["run", "recipe.toml", "--dry-run"]);
    assert!(again.stderr.contains(&format!("collect {TRAIN}")) && again.stderr.contains("and free"), "{again:?}");
    assert_eq!(bench.teacher.asked().len(), asked);
}

#[test]
fn a_report_before_any_run_says_what_to_do() {
    let bench = Bench::idle();
    bench.recipe(RECIPE).run(&["report", "recipe.toml"]).complains(1, &["no store", "divvy run"]);
}

#[test]
fn help_has_examples_for_every_command() {
    let bench = Bench::idle();
    for command in [
        "init", "run", "collect", "screen", "train", "eval", "report", "ask", "export", "status", "redo", "calls",
        "data", "models",
    ] {
        let help = bench.done(&[command, "--help"]);
        assert!(help.stdout.contains("Example"), "{command}: {}", help.stdout);
    }
}
