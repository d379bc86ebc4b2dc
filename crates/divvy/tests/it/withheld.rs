//! What a provider's filter took away, and what a model says nothing to, are answers: recorded with their reason, and not paid
//! for by the next command.

use divvy_core::question::Question;
use divvy_testkit::{
    script::{Fault, Step},
    teacher::{Asked, Bureau, Lesson},
};
use serde_json::json;

use crate::{
    bench::{Bench, stage},
    school::{self, Manner, RECIPE, TEST, TRAIN, in_batches},
};

fn filtered(left: &str) -> Option<Step> {
    let choice = json!({"message": {"content": left}, "finish_reason": "content_filter"});
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 0});
    Some(Step::raw(200, json!({"choices": [choice], "usage": usage}).to_string()))
}

fn misfortune(questions: &[Question], asked: &Asked) -> Option<Step> {
    let question = questions.iter().find(|question| school::is_about(asked.last(), question))?;
    match (&*question.id.0, Manner::of(asked)) {
        ("synth/train/5" | "synth/test/2", Manner::Decompose) | ("synth/test/1", Manner::Cot) => filtered(""),
        ("synth/train/6", Manner::Decompose) => filtered("1. Which facts matter here?\n2. What"),
        ("synth/test/3", Manner::Cot) => Some(Step::fault(Fault::Empty)),
        _ => None,
    }
}

fn lesson() -> Lesson {
    let questions = school::questions();
    Lesson { misfortune: Box::new(move |asked| misfortune(&questions, asked)), ..school::lesson() }
}

#[test]
fn what_was_withheld_is_recorded_with_its_reason_and_paid_once() {
    let bench = Bench::new(lesson());
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    // Two rows are not screened, one decomposition is not solved, and what says nothing is asked twice.
    let paid = school::REQUESTS - 2 - 1 + 1;
    assert_eq!(bench.teacher.asked().len(), paid);
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    let collected = json!({"done": TRAIN - 2, "rejected: content-filter": 2, "pending": 0});
    assert_eq!(stage(&status, "collect")["states"], collected, "{status}");
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let arms = report["arms"].as_array().unwrap().iter();
    let of = |arm: &serde_json::Value| ["refused", "no_answer", "errors", "n"].map(|key| arm[key].as_u64().unwrap());
    let expected = [[0, 0, 0], [1, 1, 0], [1, 0, 0]].map(|[a, b, c]| [a, b, c, TEST as u64]);
    assert_eq!(arms.map(of).collect::<Vec<_>>(), expected, "direct, cot, two-stage: {report}");

    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), paid, "nothing is asked again …");
    let redo = bench.done(&["redo", "recipe.toml", "--where", "reason=content-filter"]);
    assert!(redo.stderr.contains("collect: 2 items put back"), "{redo:?}");
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), paid + 2, "… but on purpose");
}

#[test]
fn a_row_of_a_batch_that_says_nothing_is_handed_in_twice() {
    let mute = school::questions().remove(5);
    let answered = school::lesson().rule;
    let rule = move |asked: &Asked| {
        if school::is_about(asked.last(), &mute) { String::new() } else { answered(asked) }
    };
    let bench = Bench::new(Lesson { rule: Box::new(rule), ..school::bureau(Bureau::default()) });
    bench.recipe(&in_batches(""));
    for _ in 0..2 {
        bench.done(&["collect", "recipe.toml"]);
        assert_eq!(bench.batches(), [TRAIN, 1]);
    }
    let states = json!({"done": TRAIN - 1, "rejected: malformed": 1, "pending": 0});
    assert_eq!(bench.stage("collect")["states"], states);
}
