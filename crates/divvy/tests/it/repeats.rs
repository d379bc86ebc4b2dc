//! Answers that are drawn: what is asked for them, how often, and what a report makes of several to each question.

use std::{collections::HashMap, sync::Mutex};

use divvy_testkit::teacher::{Asked, Lesson};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, Manner, TEST},
};

const REPEATS: usize = 3;

/// Of every three answers to a question the second is wrong; of the odd questions so is the third.
fn lesson() -> Lesson {
    let times: Mutex<HashMap<(String, bool), usize>> = Mutex::default();
    Lesson {
        rule: school::rule(move |question, manner| {
            if manner == Manner::Decompose {
                return school::SUBQUESTIONS.to_owned();
            }
            let mut times = times.lock().unwrap();
            let time = times.entry((question.id.0.clone(), manner == Manner::Cot)).or_default();
            *time += 1;
            let wrong = *time == 2 || (*time == 3 && school::row(question) % 2 == 1);
            if wrong { "The answer is: 987654321".to_owned() } else { school::right(question) }
        }),
        ..Lesson::default()
    }
}

fn recipe(evaluate: &str) -> String {
    let arms = school::RECIPE.replace("[screen]\nsolver = \"big\"\n", "").replace("\"direct\", ", "");
    format!("{arms}{evaluate}\n")
        .replace("teacher = \"big\"", "teacher = \"recorded\"")
        .replace("\"teacher\"]", "\"big\"]")
}

const DRAWN: &str = "repeats = 3\nsolving = { temperature = 0.7, top_p = 0.9 }";

#[test]
fn every_question_is_answered_several_times_and_counts_once() {
    let bench = Bench::new(lesson());
    bench.recipe(&recipe(DRAWN));
    let ended = bench.done(&["run", "recipe.toml"]);
    let asked = bench.teacher.asked();
    let of = |manner| asked.iter().filter(|asked| Manner::of(asked) == manner).collect::<Vec<_>>();
    assert_eq!(of(Manner::Decompose).len(), TEST, "a greedy decomposition is written once for all repeats");
    let solved = of(Manner::Cot);
    assert_eq!((solved.len(), of(Manner::TwoStage).len()), (REPEATS * TEST, REPEATS * TEST));
    for asked in &solved {
        assert_eq!((&asked.body["temperature"], &asked.body["top_p"]), (&json!(0.7), &json!(0.9)));
        assert!(asked.body.get("top_k").is_none() && asked.body.get("min_p").is_none(), "{}", asked.body);
    }
    let mut seeds: Vec<u64> = solved.iter().map(|asked| asked.body["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), REPEATS * TEST, "each answer is drawn by itself");

    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let arm = &report["arms"][0];
    assert_eq!((&arm["arm"], &arm["n"], &arm["each"]), (&json!("cot/big"), &json!(REPEATS * TEST), &json!(REPEATS)));
    // Of even questions two of three are right, of odd ones one.
    assert_eq!(arm["correct"], json!(TEST / 2 * 3), "{arm}");
    assert_eq!(arm["accuracy"], json!(0.5));
    let (low, high) = (arm["ci"][0].as_f64().unwrap(), arm["ci"][1].as_f64().unwrap());
    // So few questions do not tell how much more their answers are worth than one each.
    assert!(0.2 < low && low < 0.22 && 0.78 < high && high < 0.8, "as of 8 answers: {arm}");
    let cost = &report["costs"]["arms"][0];
    assert_eq!((&cost["n"], &cost["calls"]), (&json!(REPEATS * TEST), &json!(REPEATS * TEST)), "{cost}");
    let pair = &report["comparisons"][0];
    assert_eq!((&pair["n"], &pair["difference"], &pair["only_a"]), (&json!(TEST), &json!(0.0), &json!(0)), "{pair}");
    for part in [&format!("{TEST} × 3")[..], "whole questions"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    check_rows(&bench);

    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), asked.len());
    // One answer more asks for that one alone.
    bench.recipe(&recipe(&DRAWN.replace("repeats = 3", "repeats = 4")));
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), asked.len() + 2 * TEST);
}

/// Every answer is a row, and an epoch of Inspect's.
fn check_rows(bench: &Bench) {
    let rows = bench.done(&["report", "recipe.toml", "--format", "csv"]).stdout;
    assert_eq!(rows.lines().filter(|line| line.starts_with("synth/test/")).count(), 2 * REPEATS * TEST, "{rows}");
    assert_eq!(rows.matches(",cot/big (3),").count(), TEST);
    bench.done(&["report", "recipe.toml", "--format", "inspect", "--out", "logs/"]);
    let logs: Vec<_> = std::fs::read_dir(bench.file("logs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(logs.len(), 2, "{logs:?}");
    let log: Value = serde_json::from_str(&std::fs::read_to_string(&logs[0]).unwrap()).unwrap();
    let epochs = log["samples"].as_array().unwrap().iter().map(|sample| sample["epoch"].as_u64().unwrap());
    assert_eq!(epochs.sum::<u64>(), (6 * TEST) as u64, "1, 2, 3 of each question");
    assert_eq!(bench.stage("evaluate")["states"], json!({ "done": 2 * REPEATS * TEST, "pending": 0 }));
}

#[test]
fn the_plan_tells_how_much_repeats_take() {
    let bench = Bench::new(lesson());
    bench.recipe(&recipe(DRAWN));
    let told = bench.done(&["run", "recipe.toml", "--dry-run"]).stderr;
    let grid = format!("grid: 2 arms × 3 repeats × synth {TEST} = {} answers", 2 * REPEATS * TEST);
    assert!(told.contains(&grid), "{told}");
    assert!(told.contains(&format!("{TEST} are written")), "{told}");
    assert_eq!(bench.teacher.asked().len(), 0);
}

#[test]
fn greedy_answers_are_not_repeated() {
    let bench = Bench::new(lesson());
    bench.recipe(&recipe("repeats = 3"));
    bench.run(&["run", "recipe.toml"]).complains(2, &["evaluate.repeats", "`cot/big` is greedy", "temperature = 0.7"]);
    bench.recipe(&recipe("repeats = 3\ndecomposing = { temperature = 0.7 }"));
    bench.run(&["run", "recipe.toml"]).complains(2, &["`cot/big` is greedy"]);
    bench.recipe(&recipe("solving = { temperature = 0.7, top_k = 5 }"));
    bench.run(&["run", "recipe.toml"]).complains(2, &["evaluate.solving.top_k", "local models alone", "`big`"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

/// Every answer has a verdict of its own, which is foreseen, and counts with those on the same question.
#[test]
fn a_judge_reads_every_answer() {
    let answers = lesson().rule;
    let judging = move |asked: &Asked| match asked.body["messages"][0]["content"].as_str() {
        Some(system) if !system.contains("You compare") => answers(asked),
        None => answers(asked),
        _ if asked.last().contains("Given: 987654321") => "Another number.\nVERDICT: INCORRECT".to_owned(),
        _ => "The same.\nVERDICT: CORRECT".to_owned(),
    };
    let bench = Bench::new(Lesson { rule: Box::new(judging), ..Lesson::default() });
    bench.recipe(&recipe(&format!("{DRAWN}\njudge = {{ model = \"big\" }}")));
    let verdicts = 2 * REPEATS * TEST;
    let dry = bench.done(&["run", "recipe.toml", "--dry-run"]).stderr;
    let line = dry.lines().find(|line| line.starts_with("judge")).unwrap_or_else(|| panic!("{dry}"));
    assert_eq!(line.split_whitespace().nth(2).unwrap(), verdicts.to_string(), "{line}");

    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.stage("judge")["states"], json!({ "done": verdicts, "pending": 0 }));
    let asked = bench.teacher.asked();
    let read = asked.iter().filter(|asked| asked.last().contains("Given: ")).count();
    assert_eq!(read, 2 * TEST, "a right and a wrong answer to each question; the same answer is read once");
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let scored = report["scoring"]["arms"].as_array().unwrap();
    for arm in ["cot/big", "two-stage/big/big"] {
        let by = |scorer| scored.iter().find(|row| row["arm"] == arm && row["scorer"] == scorer).unwrap();
        let (own, judge) = (by("own"), by("judge"));
        assert_eq!((&judge["n"], &judge["unread"]), (&json!(REPEATS * TEST), &json!(0)), "{judge}");
        assert_eq!((&judge["correct"], &judge["ci"]), (&own["correct"], &own["ci"]), "{judge}");
    }
    assert_eq!(report["scoring"]["disagreements"], json!([]));

    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), asked.len(), "a second run asks nothing");
    // One answer more has its own verdict.
    bench.recipe(&recipe(&format!("{}\njudge = {{ model = \"big\" }}", DRAWN.replace("repeats = 3", "repeats = 4"))));
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.stage("judge")["states"]["done"], json!(2 * (REPEATS + 1) * TEST));
}

/// Drawn decompositions are drawn for each answer.
#[test]
fn what_is_drawn_is_drawn_again() {
    let bench = Bench::new(lesson());
    let lines = "repeats = 2\ndecomposing = { temperature = 1.0, seed = 5 }\narms = [\"two-stage/*\"]";
    bench.recipe(&recipe(lines));
    bench.done(&["run", "recipe.toml"]);
    let asked = bench.teacher.asked();
    let decomposed: Vec<_> = asked.iter().filter(|asked| Manner::of(asked) == Manner::Decompose).collect();
    assert_eq!(decomposed.len(), 2 * TEST);
    assert!(decomposed.iter().all(|asked| asked.body["temperature"] == 1.0));
    let solved = asked.len() - decomposed.len();
    assert_eq!(solved, TEST, "the same decomposition, greedily solved, is one call");
}
