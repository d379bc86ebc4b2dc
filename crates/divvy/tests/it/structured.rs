//! Decompositions as JSON by a schema: an endpoint that keeps to it, one that refuses it, one that takes no notice.

use divvy_testkit::{
    script::Step,
    teacher::{Asked, Lesson, Rule},
};

use crate::{
    bench::Bench,
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
    asked_plainly_after_one_trial(&Bench::new(Lesson { script, ..school::lesson() }));
}

#[test]
fn one_that_takes_no_notice_is_asked_plainly() {
    asked_plainly_after_one_trial(&Bench::new(school::lesson()));
}

#[test]
fn a_trial_that_fails_for_another_reason_is_no_verdict() {
    let bench = Bench::new(Lesson { script: vec![Step::status(400)], rule: able(), ..Lesson::default() });
    bench.recipe(&recipe("auto")).done(&["collect", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), schemas(&bench)), (1 + TRAIN, 1));
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(schemas(&bench), 1 + TEST, "the next stage tries again");
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
