//! A whole run: every stage, a report with fixed denominators, faults on the way, and a second run that costs nothing.

use divvy_core::question::{QuestionId, Split};
use divvy_testkit::script::{Fault, Step};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, Manner, RECIPE, REQUESTS, TEST, TRAIN},
};

fn arm<'a>(report: &'a Value, slug: &str) -> &'a Value {
    report["arms"].as_array().unwrap().iter().find(|arm| arm["arm"] == slug).unwrap_or_else(|| panic!("{report}"))
}

fn states(bench: &Bench, stage: &str) -> Value {
    bench.stage(stage)["states"].clone()
}

/// The figures that follow from what the teacher knows.
fn check_report(report: &Value) {
    for (slug, correct) in [("direct/big", TEST / 2), ("cot/big", TEST), ("two-stage/teacher/big", TEST)] {
        let arm = arm(report, slug);
        assert_eq!((&arm["n"], &arm["correct"]), (&json!(TEST), &json!(correct)), "{slug}: {arm}");
        let (low, high) = (arm["ci"][0].as_f64().unwrap(), arm["ci"][1].as_f64().unwrap());
        let accuracy = arm["accuracy"].as_f64().unwrap();
        assert!(0.0 <= low && low <= accuracy && accuracy <= high && high <= 1.0, "{arm}");
        assert!(arm["tokens_in"].as_u64().unwrap() > 0 && arm["tokens_out"].as_u64().unwrap() > 0, "{arm}");
    }
    let screening = &report["screening"];
    let kept = TRAIN - TRAIN.div_ceil(4);
    assert_eq!((&screening["candidates"], &screening["kept"]), (&json!(TRAIN), &json!(kept)), "{screening}");
}

#[test]
fn a_changed_recipe_is_told_of_the_plan_before_it() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    bench.recipe(&RECIPE.replace("seed = 7", "seed = 8"));
    for command in ["report", "status"] {
        let ended = bench.done(&[command, "recipe.toml"]);
        assert!(ended.stderr.contains("other plans called `school`"), "{command}: {ended:?}");
    }
}

#[test]
fn every_stage_runs_and_a_second_run_asks_nothing() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE);
    let first = bench.done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), bench.repeats()), (REQUESTS, 0));
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    check_report(&report);
    let kept = bench.stored(&report["plan"], QuestionId::new("synth", Split::Test, 1));
    assert!(kept.is_some_and(|question| !question.golds.is_empty()), "the store holds the questions of its plans");

    assert!(first.stdout.contains("two-stage") && first.stdout.contains('|'), "{first:?}");
    assert!(first.stderr.contains("school: plan ") && first.stderr.contains("report: "), "{first:?}");
    assert!(!first.stdout.contains("report: ") && !first.stderr.contains("| "), "{first:?}");
    let page = std::fs::read_to_string(bench.file("runs/reports/school.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") || page.starts_with("<!doctype html>"));

    let status = bench.json(&["status", "recipe.toml", "--json"]);
    let calls: Vec<_> = status["stages"].as_array().unwrap().iter().map(|stage| &stage["calls"]["calls"]).collect();
    assert_eq!(calls, [&json!(TRAIN), &json!(TRAIN), &json!(4 * TEST)], "each call is counted in one stage");

    let second = bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), REQUESTS, "a second run asked again");
    assert!(second.stdout.contains("two-stage/teacher/big"), "{second:?}");
}

/// The host does not exist: only a proxy can reach it.
#[test]
fn a_proxy_is_taken_from_the_environment() {
    for variable in ["http_proxy", "HTTP_PROXY"] {
        let bench = Bench::new(school::lesson());
        bench.recipe(&RECIPE.replace("URL", "http://teacher.invalid/v1"));
        let proxy = bench.teacher.url().replace("/v1", "");
        let mut command = bench.command(&["collect", "recipe.toml"]);
        for other in ["http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"] {
            command.env_remove(other);
        }
        let ended = crate::bench::ended(command.env(variable, proxy).spawn().unwrap());
        assert_eq!((ended.code, bench.teacher.asked().len()), (Some(0), TRAIN), "{variable}: {ended:?}");
        assert_eq!(bench.teacher.asked()[0].target, "http://teacher.invalid/v1/chat/completions");
    }
}

#[test]
fn stages_run_one_by_one() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE);
    let mut heard = Vec::new();
    for stage in ["collect", "screen", "train", "eval"] {
        let ended = bench.done(&[stage, "recipe.toml"]);
        assert_eq!(ended.stdout, "", "{stage} has no data to print");
        heard.push(bench.teacher.asked().len());
    }
    assert_eq!(heard, [TRAIN, 2 * TRAIN, 2 * TRAIN, REQUESTS]);
    check_report(&bench.json(&["report", "recipe.toml", "--json"]));
}

#[test]
fn before_evaluation_there_is_a_screening_to_report_and_no_arm() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE).done(&["screen", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    assert_eq!((&report["screening"]["candidates"], &report["arms"]), (&json!(TRAIN), &json!([])));
    assert_eq!(states(&bench, "collect"), json!({ "done": TRAIN, "pending": 0 }));
    assert_eq!(states(&bench, "evaluate")["pending"], json!(3 * TEST));
}

#[test]
fn faults_that_pass_are_waited_out() {
    let limited = Step::Status { status: 429, retry_after: Some(0.05), message: None };
    let faults = [Fault::Hang, Fault::Cut, Fault::Nonsense, Fault::Empty].map(Step::fault);
    let script: Vec<Step> = [limited, Step::status(500)].into_iter().chain(faults).collect();
    let count = script.len();
    let bench = Bench::new(divvy_testkit::teacher::Lesson { script, ..school::lesson() });
    let recipe = RECIPE.replace("concurrency = 4", "concurrency = 8\ntimeout_seconds = 8");
    bench.recipe(&recipe).done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), REQUESTS + count);
    check_report(&bench.json(&["report", "recipe.toml", "--json"]));
    let attempts = bench.attempts();
    for outcome in ["rate-limited", "server-error", "timed-out", "cut-off", "unreadable", "empty-completion"] {
        assert!(attempts.contains(&(outcome.to_owned(), 1)), "{outcome} in {attempts:?}");
    }
}

#[test]
fn a_refused_request_is_recorded_and_asked_again_by_the_next_run() {
    let script = vec![Step::status(400)];
    let bench = Bench::new(divvy_testkit::teacher::Lesson { script, ..school::lesson() });
    bench.recipe(RECIPE).done(&["screen", "recipe.toml"]);
    assert_eq!(states(&bench, "collect"), json!({ "done": TRAIN - 1, "failed: bad-request": 1, "pending": 0 }));
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), REQUESTS + 1);
    check_report(&bench.json(&["report", "recipe.toml", "--json"]));
}

#[test]
fn a_question_that_never_gets_an_answer_stays_in_the_denominator() {
    let misfortune = school::never_answered("synth/test/2", Manner::Cot, Step::status(400));
    let bench = Bench::new(divvy_testkit::teacher::Lesson { misfortune, ..school::lesson() });
    bench.recipe(RECIPE);
    bench.done(&["run", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let cot = arm(&report, "cot/big");
    let figures = (&cot["n"], &cot["correct"], &cot["errors"]);
    assert_eq!(figures, (&json!(TEST), &json!(TEST - 1), &json!(1)), "{cot}");
}

#[test]
fn nonsense_decompositions_are_rejected_with_a_reason() {
    let chatty = |question: &divvy_core::question::Question, manner: Manner| {
        let nonsense = manner == Manner::Decompose && school::row(question) < 3;
        if nonsense { "Sorry, I cannot help.".to_owned() } else { school::answer(question, manner) }
    };
    let bench = Bench::new(divvy_testkit::teacher::Lesson { rule: school::rule(chatty), ..school::lesson() });
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    assert_eq!(states(&bench, "collect"), json!({ "done": TRAIN - 3, "rejected: malformed": 3, "pending": 0 }));
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let two_stage = arm(&report, "two-stage/teacher/big");
    assert_eq!((&two_stage["n"], &two_stage["correct"]), (&json!(TEST), &json!(TEST - 3)), "{two_stage}");
}
