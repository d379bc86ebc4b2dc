//! Whole sources: good rows, bad rows under both policies, sampling, several files; and the real data sets where they are.

use std::{fs, path::Path};

use divvy_core::questions::InMemory;

use super::*;

fn spec(dataset: &str, base: &Path, files: &[&str]) -> SourceSpec {
    SourceSpec {
        dataset: dataset.into(),
        name: dataset.into(),
        style: None,
        split: Split::Train,
        files: files.iter().map(|&file| file.to_owned()).collect(),
        base: base.to_owned(),
        lines: None,
        columns: None,
        scorer: None,
        on_bad_row: OnBadRow::Stop,
        rows: None,
        seed: 1,
    }
}

fn gsm8k_row(number: usize) -> String {
    format!(r#"{{"question": "What is {number} plus 1?", "answer": "It is {number}+1.\n#### {}"}}"#, number + 1)
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| fs::write(dir.path().join(name), content).unwrap());
    dir
}

fn read_questions(spec: &SourceSpec) -> Result<Loaded, DataError> {
    super::read_questions(spec, Arc::new(InMemory::default()))
}

fn ids(loaded: &Loaded) -> Vec<String> {
    loaded.questions.iter().map(|question| question.id.0.clone()).collect()
}

#[test]
fn a_bad_row_stops_or_is_listed_and_keeps_its_number() {
    let text = [gsm8k_row(1), r#"{"question": "x?", "answer": "no gold"}"#.into(), gsm8k_row(3)].join("\n");
    let dir = folder(&[("a.jsonl", &text), ("b.jsonl", &gsm8k_row(4))]);
    let mut spec = spec("gsm8k", dir.path(), &["a.jsonl", "b.jsonl"]);
    let error = read_questions(&spec).unwrap_err().to_string();
    assert!(error.starts_with("a.jsonl:2: ") && error.contains("####") && error.contains("on_bad_row"), "{error}");
    spec.on_bad_row = OnBadRow::Skip;
    let loaded = read_questions(&spec).unwrap();
    assert_eq!(ids(&loaded), ["gsm8k/train/0", "gsm8k/train/2", "gsm8k/train/3"]);
    assert_eq!((loaded.skipped.len(), loaded.skipped[0].line), (1, 2));
}

#[test]
fn nothing_usable_is_an_error_even_when_skipping() {
    let dir = folder(&[("a.jsonl", "{}\n{}\n"), ("empty.jsonl", "")]);
    for (file, reason) in [("a.jsonl", "a.jsonl:1"), ("empty.jsonl", "it is empty")] {
        let mut spec = spec("gsm8k", dir.path(), &[file]);
        spec.on_bad_row = OnBadRow::Skip;
        let error = read_questions(&spec).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn mistakes_in_the_recipe_say_what_to_write() {
    let check = |dataset: &str, files: &[&str], expect: &str| {
        let error = read_questions(&spec(dataset, Path::new("/nowhere"), files)).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check("synth", &[], "rows = 400");
    check("gsm8k", &[], "files = [");
    check("gsm8k", &["train.jsonl"], "/nowhere/train.jsonl: there is no such file (a recipe's files lie beside it");
    check("gsm8k", &["train.jsonl"], "--data");
    check("gms8k", &["train.jsonl"], "unknown data set `gms8k`");
    check("gsm8k", &["hf:org/name"], "hf:org/name:path");
    let dir = folder(&[("a.jsonl", "{}")]);
    let error = read_questions(&spec("rows", dir.path(), &["a.jsonl"])).unwrap_err().to_string();
    assert!(error.contains("columns = {"), "{error}");
}

#[test]
fn rows_with_a_column_mapping_and_no_two_alike_ids() {
    let dir = folder(&[("a.csv", "key,q,a\nx,How many?,7\ny,Who?,Ann\nx,Again?,8\n")]);
    let mut spec = spec("rows", dir.path(), &["a.csv"]);
    let columns = |id: Option<&str>| Columns {
        question: "q".into(),
        answer: Some("a".into()),
        premise: None,
        decomposition: None,
        id: id.map(str::to_owned),
        tests: None,
    };
    spec.columns = Some(columns(None));
    assert_eq!(ids(&read_questions(&spec).unwrap()), ["rows/train/0", "rows/train/1", "rows/train/2"]);
    spec.columns = Some(columns(Some("key")));
    let error = read_questions(&spec).unwrap_err().to_string();
    assert!(error.starts_with("a.csv:4: another row has its id"), "{error}");
}

#[test]
fn a_sample_takes_from_all_files() {
    let rows = |from: usize| (from..from + 50).map(gsm8k_row).collect::<Vec<_>>().join("\n");
    let dir = folder(&[("a.jsonl", &rows(0)), ("b.jsonl", &rows(50))]);
    let mut spec = spec("gsm8k", dir.path(), &["a.jsonl", "b.jsonl"]);
    spec.rows = Some(20);
    let loaded = read_questions(&spec).unwrap();
    assert_eq!(loaded.questions.len(), 20);
    let numbers: Vec<usize> = ids(&loaded).iter().map(|id| id.rsplit('/').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.iter().any(|&n| n < 50) && numbers.iter().any(|&n| n >= 50), "{numbers:?}");
}

#[test]
fn drop_reads_flat_files_in_any_order_and_the_official_form() {
    let questions = r#"{"passage_id": 7, "question": "How many points?", "golds": ["13"]}"#;
    let passages = r#"{"passage_id": 7, "passage": "The Reds scored 13 points."}"#;
    let official = r#"{"p_1": {"passage": "The Reds scored 13.", "qa_pairs": [
        {"question": "How many?", "answer": {"number": "13"}}, {"question": "", "answer": {"number": "1"}},
        {"question": "Who?", "answer": {"spans": ["the Reds"]}}]}}"#;
    let dir = folder(&[("q.jsonl", questions), ("p.jsonl", passages), ("official.json", official)]);
    for files in [["q.jsonl", "p.jsonl"], ["p.jsonl", "q.jsonl"]] {
        let loaded = read_questions(&spec("drop", dir.path(), &files)).unwrap();
        assert_eq!(loaded.questions.at(0).premise.as_deref(), Some("The Reds scored 13 points."));
        assert_eq!(ids(&loaded), ["drop/train/0"]);
    }
    let mut spec = spec("drop", dir.path(), &["official.json"]);
    spec.on_bad_row = OnBadRow::Skip;
    let loaded = read_questions(&spec).unwrap();
    assert_eq!(ids(&loaded), ["drop/train/0", "drop/train/2"]);
    assert!(loaded.skipped[0].reason.contains("p_1"), "{}", loaded.skipped[0]);
}

#[test]
fn bamboogle_comes_with_and_without_a_header() {
    let bare = "Who wrote the anthem of Samplia?,,,,Ann Example,,\n";
    let headed = "Question,Answer\nWho wrote the anthem of Samplia?,Ann Example\n";
    let dir = folder(&[("bare.csv", bare), ("headed.csv", headed)]);
    for file in ["bare.csv", "headed.csv"] {
        let loaded = read_questions(&spec("bamboogle", dir.path(), &[file])).unwrap();
        assert_eq!(loaded.questions.len(), 1);
        assert_eq!(loaded.questions.at(0).golds[0].to_string(), "Ann Example");
    }
}

/// The whole of each public data set, row for row.
#[test]
fn the_real_data_sets_load_without_a_bad_row() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !base.is_dir() {
        println!("SKIPPED: ../shared/data not found");
        return;
    }
    let check = |dataset: &str, files: &[&str], count: usize, recorded: usize| {
        let loaded = read_questions(&spec(dataset, &base, files)).unwrap();
        let with_steps = loaded.questions.iter().filter(|question| question.recorded.is_some()).count();
        assert_eq!((loaded.questions.len(), with_steps), (count, recorded), "{files:?}");
    };
    check("gsm8k", &["gsm8k/train_socratic.jsonl"], 7473, 7473);
    check("gsm8k", &["gsm8k/test.jsonl"], 1319, 0);
    check("bamboogle", &["bamboogle/bamboogle.jsonl"], 125, 125);
    check("bamboogle", &["bamboogle/bamboogle_original.csv"], 125, 0);
    let flat = ["drop/dev_questions.jsonl", "drop/dev_passages.jsonl"];
    check("drop", &flat, fs::read_to_string(base.join(flat[0])).unwrap().lines().count(), 0);
}
