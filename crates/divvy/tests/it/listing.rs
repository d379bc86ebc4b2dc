//! What can be used, listed for people and for programs.

use std::process::Stdio;

use serde_json::Value;

use crate::bench::{Bench, ended};

#[test]
fn data_previews_questions_as_json_lines() {
    let bench = Bench::idle();
    let ended = bench.done(&["data", "synth", "--rows", "3", "--seed", "5", "--json"]);
    let rows: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["golds"].as_array().is_some_and(|golds| !golds.is_empty())), "{rows:?}");
    let again = bench.done(&["data", "synth", "--rows", "3", "--seed", "5", "--json"]);
    assert_eq!(ended.stdout, again.stdout, "the same seed is the same data");
}

#[test]
fn data_lists_every_kind() {
    let list = Bench::idle().json(&["data", "--json"]);
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|set| set["dataset"].as_str().unwrap()).collect();
    let kinds = divvy_core::datasets::DatasetKind::ALL.map(divvy_core::datasets::DatasetKind::name);
    assert_eq!(names, kinds);
    assert!(names.contains(&"2wikimultihopqa"));
}

#[test]
fn an_unknown_data_set_is_answered_with_the_known() {
    Bench::idle().run(&["data", "gsm8"]).complains(2, &["unknown data set `gsm8`", "gsm8k"]);
}

#[test]
fn models_are_listed_without_a_network() {
    let bench = Bench::idle();
    let list = bench.json(&["models", "--json"]);
    assert_eq!(list["cached"], serde_json::json!([]));
    assert!(list["known"].as_array().unwrap().iter().all(|model| model["sha256"].as_str().unwrap().len() == 64));
    let people = bench.done(&["models"]);
    assert!(people.stdout.contains("divvy models fetch"), "{people:?}");
}

#[test]
fn a_model_that_nobody_knows_cannot_be_fetched() {
    let ended = Bench::idle().run(&["models", "fetch", "smollm3"]);
    assert!(matches!(ended.code, Some(1 | 2)), "{ended:?}");
    ended.complains(ended.code.unwrap(), &["smollm3", "divvy models"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let bench = Bench::idle();
    let mut command = bench.command(&["data", "synth", "--rows", "3000"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = ended(child);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
}
