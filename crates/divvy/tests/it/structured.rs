//! Decompositions as JSON by a schema: an endpoint that keeps to it, one that refuses it, one that takes no notice.

use divvy_testkit::{
    script::Step,
    teacher::{Asked, Lesson, Rule},
};

use serde_json::{Value, json};

use crate::{
    bench::{Bench, stage},
    school::{self, Manner, RECIPE, REQUESTS, TEST, TRAIN},
};

const JSON: &str = r#"{"subquestions": ["Which facts matter here?", "What follows from them?"]}"#;

fn recipe(structured: &str) -> String {
    RECIPE.replace("concurrency = 4", &format!("concurrency = 4\nstructured = \"{structured}\""))
}

fn by_schema(asked: &Asked) -> bool {
    !asked.body["response_format"].is_null()
}

/// How many requests named a schema.
fn schemas(bench: &Bench) -> usize {
    bench.teacher.asked().iter().filter(|asked| by_schema(asked)).count()
}

fn able() -> Box<Rule> {
    let plain = school::lesson().rule;
    Box::new(move |asked| if by_schema(asked) { JSON.to_owned() } else { plain(asked) })
}

#[test]
fn an_endpoint_that_keeps_to_it_is_held_to_it() {
    let bench = Bench::new(Lesson { rule: able(), ..Lesson::default() });
    let first = bench.recipe(&recipe("auto")).done(&["run", "recipe.toml"]);
    assert!(first.stderr.contains("`big` keeps to a JSON schema"), "{first:?}");
    // The trial was the first item's own request, and only decompositions have a schema.
    assert_eq!((bench.teacher.asked().len(), bench.repeats(), schemas(&bench)), (REQUESTS, 0, TRAIN + TEST));
    let asked = bench.teacher.asked();
    assert!(asked.iter().all(|asked| by_schema(asked) == (Manner::of(asked) == Manner::Decompose)));
    let format = &asked.iter().find(|asked| by_schema(asked)).unwrap().body["response_format"];
    assert_eq!((&format["type"], &format["json_schema"]["strict"]), (&"json_schema".into(), &true.into()));
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let arm = report["arms"].as_array().unwrap().iter().find(|arm| arm["arm"] == "two-stage/teacher/big").unwrap();
    assert_eq!(arm["correct"], TEST, "{arm}");
    let calls = &bench.stage("collect")["calls"];
    assert_eq!((&calls["calls"], &calls["schema_trials"]), (&json!(TRAIN), &json!(0)), "it counts once");
    let second = bench.done(&["run", "recipe.toml"]);
    assert!(bench.teacher.asked().len() == REQUESTS && !second.stderr.contains("schema"), "{second:?}");
}

#[track_caller]
fn asked_plainly_after_one_trial(bench: &Bench) {
    let first = bench.recipe(&recipe("auto")).done(&["run", "recipe.toml"]);
    assert!(first.stderr.contains("`big` does not keep to a JSON schema"), "{first:?}");
    assert_eq!((bench.teacher.asked().len(), schemas(bench)), (REQUESTS + 1, 1));
    assert!(by_schema(&bench.teacher.asked()[0]), "the trial comes before everything else");
    // Other questions, another plan: the store knows.
    bench.recipe(&recipe("auto").replace("seed = 7", "seed = 8"));
    bench.done(&["collect", "recipe.toml"]);
    assert_eq!(schemas(bench), 1);
}

#[test]
fn one_that_refuses_it_is_asked_plainly() {
    let message = Some("'response_format' of type 'json_schema' is not supported with this model.".to_owned());
    let script = vec![Step::Status { status: 400, retry_after: None, message }];
    let bench = Bench::new(Lesson { script, ..school::lesson() });
    asked_plainly_after_one_trial(&bench);
    bench.recipe(&recipe("auto"));
    let calls = &bench.stage("collect")["calls"];
    let told = [&calls["calls"], &calls["schema_trials"], &calls["failed_attempts"]["attempts"]];
    assert_eq!(told, [&json!(TRAIN), &json!(0), &json!(1)], "the refusal is told at its stage");
}

#[test]
fn one_that_takes_no_notice_is_asked_plainly() {
    asked_plainly_after_one_trial(&Bench::new(school::lesson()));
}

/// A second decomposer, which is a model of its own, is tried in the evaluation.
const TWO: &str = r#"
[models.other]
source = "URL"
model = "teacher"
provider = "elsewhere"
structured = "auto"
price = { input = "1", output = "2" }
"#;

#[test]
fn a_trial_in_vain_is_told_and_paid_at_its_stage() {
    let bench = Bench::new(school::lesson());
    let priced = recipe("auto").replace("structured", "price = { input = \"10\", output = \"100\" }\nstructured");
    let two = priced.replace("decomposers = [\"teacher\"]", "decomposers = [\"teacher\", \"other\"]") + TWO;
    bench.recipe(&two).done(&["run", "recipe.toml"]);
    assert_eq!(schemas(&bench), 2);
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    let collect = &stage(&status, "collect")["calls"];
    assert_eq!((&collect["calls"], &collect["schema_trials"]), (&json!(TRAIN + 1), &json!(1)), "{status}");
    assert_eq!(stage(&status, "evaluate")["calls"]["schema_trials"], 1, "{status}");
    // Whatever a model was paid, a stage has paid.
    let sum = |values: &[Value]| {
        let of =
            |value: &Value| ["calls", "tokens_in", "tokens_out", "cost_nanos"].map(|of| value[of].as_u64().unwrap());
        values.iter().map(of).fold([0; 4], |sum, of| std::array::from_fn(|at| sum[at] + of[at]))
    };
    let stages: Vec<Value> = status["stages"].as_array().unwrap().iter().map(|stage| stage["calls"].clone()).collect();
    assert_eq!(sum(&stages), sum(status["calls"].as_array().unwrap()), "{status}");
    assert_eq!(sum(&stages)[0], bench.teacher.asked().len() as u64);
    let text = bench.done(&["status", "recipe.toml"]).stdout;
    assert!(text.contains("13 calls, 1 of them a trial of a JSON schema: "), "{text}");
    // Another plan knows it from this one, and has paid nothing for it.
    bench.recipe(&two.replace("seed = 7", "seed = 8")).done(&["collect", "recipe.toml"]);
    let collect = &bench.stage("collect")["calls"];
    assert_eq!((&collect["calls"], &collect["schema_trials"]), (&json!(TRAIN), &json!(0)));
}

#[test]
fn a_trial_that_fails_for_another_reason_is_no_verdict() {
    let bench = Bench::new(Lesson { script: vec![Step::status(400)], rule: able(), ..Lesson::default() });
    bench.recipe(&recipe("auto")).done(&["collect", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), schemas(&bench)), (1 + TRAIN, 1));
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(schemas(&bench), 1 + TEST, "the next stage tries again");
}

/// As an endpoint that has no place of their own for thoughts puts them into the text.
#[test]
fn a_trial_that_is_cut_off_while_the_model_thinks_is_no_verdict() {
    let thoughts = json!({"message": {"content": "The user wants subquestions. First"}, "finish_reason": "length"});
    let script = vec![Step::raw(200, json!({ "choices": [thoughts] }).to_string())];
    let bench = Bench::new(Lesson { script, rule: able(), ..Lesson::default() });
    let first = bench.recipe(&recipe("auto")).done(&["collect", "recipe.toml"]);
    assert!(!first.stderr.contains("JSON schema"), "{first:?}");
    assert_eq!((bench.teacher.asked().len(), schemas(&bench)), (1 + TRAIN, 1));
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(schemas(&bench), 1 + TEST, "the next stage tries again, and keeps to it");
}

#[test]
fn who_insists_is_told_of_the_refusal() {
    let message = Some("response_format is not supported".to_owned());
    let script = vec![Step::Status { status: 400, retry_after: None, message }; 2 * TRAIN];
    let bench = Bench::new(Lesson { script, ..school::lesson() });
    bench.recipe(&recipe("on")).run(&["collect", "recipe.toml"]).complains(1, &["response_format is not supported"]);
    let plain = Bench::new(school::lesson());
    plain.recipe(&recipe("on")).done(&["run", "recipe.toml"]);
    assert_eq!(
        (plain.teacher.asked().len(), schemas(&plain)),
        (REQUESTS, TRAIN + TEST),
        "and lines are read all the same"
    );
}
