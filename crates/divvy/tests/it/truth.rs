//! `divvy status`, and item by item with `--rows`: what was paid, also for nothing, and why each row was kept or dropped.

use std::{collections::BTreeSet, sync::Mutex};

use divvy_testkit::{
    postgres::Postgres,
    script::{Fault, Step},
    teacher::{Asked, Lesson},
};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, ended, stage},
    forged,
    school::{self, Manner, RECIPE, TEST, TRAIN},
};

/// Paid by the token or not.
fn recipe(price: &str) -> String {
    RECIPE.replace("concurrency = 4", &format!("concurrency = 4\ntimeout_seconds = 4\n{price}"))
}

const PRICE: &str = "price = { input = \"1\", output = \"2\" }";
/// The question whose decomposition is never solved, though each try is charged.
const MUTE: &str = "synth/test/2";
/// The question that the teacher only chats about.
const CHATTY: &str = "synth/train/5";

/// Decompositions come after two tries in vain, one of them is cut off, another is none; one answer never comes.
fn lesson() -> Lesson {
    let rule = |question: &divvy_core::question::Question, manner| match manner {
        Manner::Decompose if question.id.0 == CHATTY => "Let me think.\nThat is hard.".to_owned(),
        manner => school::answer(question, manner),
    };
    let script = vec![Step::fault(Fault::Empty), Step::status(500), Step::fault(Fault::Truncated)];
    let misfortune = school::never_answered(MUTE, Manner::TwoStage, school::breaks_off());
    Lesson { script, rule: school::rule(rule), misfortune, ..Lesson::default() }
}

/// A finished run, in a file or on a server.
struct Run<'a> {
    bench: &'a Bench,
    store: Option<&'a str>,
}

impl Run<'_> {
    fn says(&self, arguments: &[&str]) -> String {
        let mut command = self.bench.command(arguments);
        self.store.iter().for_each(|url| _ = command.env("DIVVY_STORE", url));
        let ended = ended(command.spawn().unwrap());
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended.stdout
    }

    fn rows(&self, conditions: &[&str]) -> Vec<Value> {
        let flags = conditions.iter().flat_map(|condition| ["--where", condition]);
        let arguments: Vec<&str> = ["status", "recipe.toml", "--rows", "--json"].into_iter().chain(flags).collect();
        self.says(&arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn stage(&self, name: &str) -> Value {
        let status = serde_json::from_str(&self.says(&["status", "recipe.toml", "--json"])).unwrap();
        stage(&status, name)["calls"].clone()
    }
}

fn sum(rows: &[Value], of: impl Fn(&Value) -> &Value) -> i64 {
    rows.iter().map(|row| of(row).as_i64().unwrap()).sum()
}

#[test]
fn every_item_tells_why_it_was_kept_or_dropped_and_what_it_took() {
    let check = |store: Option<&str>| {
        let bench = Bench::new(lesson());
        bench.recipe(&recipe(PRICE));
        let run = Run { bench: &bench, store };
        run.says(&["run", "recipe.toml"]);
        every_item_is_listed(&run);
        what_came_to_nothing_has_its_price(&run);
        a_failed_call_is_shown(&run);
    };
    check(None);
    if let Some(server) = Postgres::start() {
        check(Some(&server.database("truth")));
    }
}

fn every_item_is_listed(run: &Run<'_>) {
    let rows = run.rows(&[]);
    assert_eq!(rows.len(), TRAIN + (TRAIN - 2) + 3 * TEST, "two decompositions are no use for screening");
    let name = |row: &Value| (row["question"].to_string(), row["sample"].as_u64(), row["arm"].to_string());
    for stage in ["collect", "screen", "evaluate"] {
        let names: Vec<_> = rows.iter().filter(|row| row["stage"] == stage).map(name).collect();
        assert!(names.is_sorted() && !names.is_empty(), "{stage}: {names:?}");
    }
    let collected = run.rows(&["stage=collect"]);
    let total = run.stage("collect");
    assert_eq!(sum(&collected, |row| &row["took"]["cost_nanos"]), total["cost_nanos"].as_i64().unwrap());
    assert_eq!(sum(&collected, |row| &row["took"]["tokens_out"]), total["tokens_out"].as_i64().unwrap());

    let wrong = run.rows(&["state=rejected", "reason=wrong-answer"]);
    assert!(!wrong.is_empty() && wrong.iter().all(|row| row["stage"] == "screen" && row["pass_rate"] == 0.0));
    let kept = &run.rows(&["stage=screen", "state=done"])[0];
    assert_eq!((&kept["pass_rate"], &kept["reason"]), (&json!(1.0), &json!("correct")));
    assert_eq!(run.rows(&["reason=truncated"]).len(), 1);
    let correct: Vec<Value> = rows.iter().filter(|row| row["reason"] == "correct").cloned().collect();
    assert!(!correct.is_empty() && run.rows(&["reason=correct"]) == correct, "what is kept has a reason, too");

    let question = format!("question={CHATTY}");
    let [chat] = &run.rows(&[&question])[..] else { panic!("it was not screened") };
    assert_eq!(
        (&chat["reason"], &chat["problems"]),
        (&json!("malformed"), &json!(["skipped-line ×2", "no-subquestions"]))
    );
    let line = run.says(&["status", "recipe.toml", "--rows", "--where", &question]);
    let key = &chat["calls"][0].as_str().unwrap()[..12];
    let beginning = format!("collect   {CHATTY}  0  -  rejected: malformed  1 call: ");
    let end = format!("  problems: skipped-line ×2, no-subquestions  {key}\n");
    assert!(line.starts_with(&beginning) && line.ends_with(&end), "{line}");
    assert!(run.says(&["calls", key]).contains("That is hard."), "the reply behind the row");
}

fn what_came_to_nothing_has_its_price(run: &Run<'_>) {
    let collected = run.rows(&["stage=collect"]);
    let lost = &run.stage("collect")["failed_attempts"];
    for figure in ["attempts", "tokens_in", "tokens_out"] {
        let of_rows = sum(&collected, |row| &row["took"]["failed_attempts"][figure]);
        assert_eq!(lost[figure], json!(of_rows), "{figure}");
    }
    assert_eq!(
        (&lost["attempts"], &lost["unpriced"]),
        (&json!(2), &json!(0)),
        "what said nothing has no price to miss"
    );
    let paid = 1000 * lost["tokens_in"].as_i64().unwrap() + 2000 * lost["tokens_out"].as_i64().unwrap();
    assert!(paid > 0, "{lost}");
    assert_eq!(lost["cost_nanos"], json!(paid));
    let people = run.says(&["status", "recipe.toml"]);
    let shown = divvy_core::cost::show_dollars(paid);
    assert!(people.contains(&format!("2 attempts that came to nothing: {} tokens in", lost["tokens_in"])), "{people}");
    assert!(people.contains(&format!(" out reported, {shown}\n")), "{people}");
    let beside = &serde_json::from_str::<Value>(&run.says(&["status", "recipe.toml", "--json"])).unwrap()["spending"];
    let calls = beside["behind_no_item"]["calls"].as_u64().unwrap();
    assert!(calls >= 1 && people.contains(&format!("   of that: {calls} calls behind no item above")), "{people}");
    let unreported = people.lines().find(|line| line.contains("server-error")).unwrap();
    assert!(unreported.ends_with("0 tokens in, 0 out reported"), "{unreported}");
}

fn a_failed_call_is_shown(run: &Run<'_>) {
    let [failed] = &run.rows(&["state=failed"])[..] else { panic!("one answer never came") };
    assert_eq!((&failed["question"], &failed["reason"]), (&json!(MUTE), &json!("rate-limited")));
    assert!(failed["message"].as_str().unwrap().contains("provider is busy"), "{failed}");
    assert_eq!((&failed["took"]["calls"], failed["calls"].as_array().unwrap().len()), (&json!(1), 2), "{failed}");
    let attempts = &failed["took"]["failed_attempts"];
    assert_eq!(run.stage("evaluate")["failed_attempts"], *attempts);
    let shown = run.says(&["calls", failed["calls"][1].as_str().unwrap()]);
    assert!(shown.contains("rate-limited") && shown.contains("── as received"), "{shown}");
}

/// The third of all the requests to the solver is never answered.
fn one_sample_is_lost() -> Lesson {
    let seen = Mutex::new(Vec::<Value>::new());
    let misfortune = move |asked: &Asked| {
        let mut seen = seen.lock().unwrap();
        if Manner::of(asked) == Manner::TwoStage && !seen.contains(&asked.body) {
            seen.push(asked.body.clone());
        }
        (seen.get(2) == Some(&asked.body)).then(school::breaks_off)
    };
    Lesson { misfortune: Box::new(misfortune), ..school::lesson() }
}

#[test]
fn a_screening_that_failed_took_what_was_answered_and_a_kept_one_says_why() {
    let bench = Bench::new(one_sample_is_lost());
    let agreement = "[screen]\nrule = \"agreement\"\nsamples = 3\ntemperature = 0.7";
    bench.recipe(&recipe(PRICE).replace("[screen]", agreement)).done(&["screen", "recipe.toml"]);
    let run = Run { bench: &bench, store: None };
    let [failed] = &run.rows(&["stage=screen", "state=failed"])[..] else { panic!("one sample never came") };
    assert_eq!((&failed["took"]["calls"], failed["calls"].as_array().unwrap().len()), (&json!(2), 3), "{failed}");
    let (rows, total) = (run.rows(&["stage=screen"]), run.stage("screen"));
    assert_eq!(total["calls"], 3 * TRAIN - 1);
    assert_eq!(sum(&rows, |row| &row["took"]["cost_nanos"]), total["cost_nanos"].as_i64().unwrap());
    kept_because(&run, "agreed", TRAIN - 1);
}

#[test]
fn what_is_kept_by_its_form_says_so() {
    let bench = Bench::new(school::lesson());
    let format = RECIPE.replace("[screen]\nsolver = \"big\"", "[screen]\nrule = \"format\"");
    bench.recipe(&format).done(&["screen", "recipe.toml"]);
    kept_because(&Run { bench: &bench, store: None }, "well-formed", TRAIN);
}

fn kept_because(run: &Run<'_>, reason: &str, rows: usize) {
    let kept = run.rows(&["stage=screen", "state=done"]);
    assert!(kept.len() == rows && kept.iter().all(|row| row["reason"] == reason), "{kept:?}");
    assert_eq!(run.rows(&[&format!("reason={reason}")]), kept);
    let people = run.says(&["status", "recipe.toml", "--rows", "--where", "stage=screen", "--where", "state=done"]);
    assert!(people.lines().all(|line| line.contains(&format!("  done: {reason}  "))), "{people}");
}

#[test]
fn tokens_without_a_price_are_not_free() {
    let bench = Bench::new(Lesson { script: vec![Step::fault(Fault::Empty)], ..school::lesson() });
    bench.recipe(&recipe("")).done(&["collect", "recipe.toml"]);
    let run = Run { bench: &bench, store: None };
    let lost = &run.stage("collect")["failed_attempts"];
    assert_eq!((&lost["attempts"], &lost["unpriced"], &lost["cost_nanos"]), (&json!(1), &json!(1), &Value::Null));
    let people = run.says(&["status", "recipe.toml"]);
    let lines: Vec<&str> = people.lines().filter(|line| line.ends_with(" out reported, price unknown")).collect();
    assert_eq!(lines.len(), 2, "of the stage, and of the outcome: {people}");
}

/// More than is read at once; two arms share each decomposition.
#[test]
fn a_stage_of_many_parts_is_summed_and_listed_whole() {
    const QUESTIONS: usize = 60;
    let bench = Bench::idle();
    assert_eq!(forged::forge(&bench, QUESTIONS), 600);
    let run = Run { bench: &bench, store: None };
    let calls = QUESTIONS as i64 * 13;
    let total = run.stage("evaluate");
    assert_eq!(
        (&total["calls"], &total["tokens_in"], &total["cost_nanos"]),
        (&json!(calls), &json!(160 * calls), &json!(140_000 * calls))
    );
    let rows = run.rows(&["stage=evaluate"]);
    let name = |row: &Value| (row["question"].to_string(), row["arm"].to_string());
    assert_eq!(rows.iter().map(name).collect::<BTreeSet<_>>().len(), 600);
    assert!(rows.iter().map(name).is_sorted());
    assert_eq!(sum(&rows, |row| &row["took"]["calls"]), QUESTIONS as i64 * 16, "what is shared counts for each");
}

#[test]
fn a_condition_that_no_item_meets_or_can_meet() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE).done(&["collect", "recipe.toml"]);
    let rows = |condition: &str| bench.run(&["status", "recipe.toml", "--rows", "--where", condition]);
    rows("stage=train").complains(2, &["--where stage=train", "collect, screen, evaluate or judge"]);
    rows("state=lost").complains(2, &["a state is done, failed, rejected or pending"]);
    bench.run(&["status", "recipe.toml", "--where", "state=done"]).complains(2, &["--rows"]);
    let none = rows("reason=never");
    assert!(none.code == Some(0) && none.stdout.is_empty() && none.stderr.contains("no item is like that"), "{none:?}");
    bench.done(&["redo", "recipe.toml", "--where", "stage=collect"]);
    assert_eq!(rows("state=pending").stdout.lines().count(), TRAIN, "what was put back");
}
