//! Rows and splits that cannot be used: named by file and line, or by id, before anybody is asked.

use serde_json::json;

use crate::{bench::Bench, school};

const RECIPE: &str = r#"
name = "rows"
[data]
on_bad_row = "stop"
[data.train]
dataset = "rows"
files = ["train.jsonl"]
columns = { question = "q", answer = "a" }
[data.test]
dataset = "rows"
files = ["test.jsonl"]
columns = { question = "q", answer = "a" }
[models.big]
source = "URL"
model = "teacher"
[collect]
teacher = "big"
[screen]
solver = "big"
[evaluate]
solvers = ["big"]
strategies = ["direct"]
"#;

const TRAIN: &str = r#"{"q": "Ann has 3 pens and finds 39 more. How many pens has Ann?", "a": 42}
{"q": "A train takes 50 minutes and is 8 minutes early. How long did it take?", "a": "42"}
"#;
const TEST: &str = r#"{"q": "Six trays hold seven rolls each. How many rolls are there?", "a": "42"}
"#;

/// A bench with these files; the teacher says 42 whatever it hears.
fn bench(recipe: &str, train: &str, test: &str) -> Bench {
    let bench = Bench::new(school::lesson());
    bench.recipe(recipe);
    bench.workspace.write("train.jsonl", train);
    bench.workspace.write("test.jsonl", test);
    bench
}

#[track_caller]
fn refused(bench: &Bench, code: i32, words: &[&str]) {
    bench.run(&["run", "recipe.toml"]).complains(code, words);
    assert_eq!(bench.teacher.asked().len(), 0, "somebody was asked all the same");
}

#[test]
fn good_rows_run() {
    let bench = bench(RECIPE, TRAIN, TEST);
    bench.done(&["run", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    assert_eq!((&report["arms"][0]["n"], &report["arms"][0]["correct"]), (&json!(1), &json!(1)));
}

#[test]
fn a_missing_data_file_is_named() {
    let bench = bench(RECIPE, TRAIN, TEST);
    std::fs::remove_file(bench.file("train.jsonl")).unwrap();
    refused(&bench, 2, &["train.jsonl"]);
}

#[test]
fn a_malformed_row_is_named_by_file_and_line() {
    let broken = format!("{TRAIN}{{\"q\": \"cut off\n");
    refused(&bench(RECIPE, &broken, TEST), 2, &["train.jsonl:3", "on_bad_row = \"skip\""]);
}

#[test]
fn a_row_without_its_column_is_named_with_what_it_has() {
    let other = format!("{{\"question\": \"?\", \"a\": 1}}\n{TRAIN}");
    refused(
        &bench(RECIPE, &other, TEST),
        2,
        &["train.jsonl:1", "column `q` is missing", "question", "under `columns`"],
    );
}

#[test]
fn bad_rows_are_skipped_aloud_when_the_recipe_says_so() {
    let broken = format!("{{\"q\": \"cut off\n{TRAIN}");
    let bench = bench(&RECIPE.replace("\"stop\"", "\"skip\""), &broken, TEST);
    let ended = bench.done(&["run", "recipe.toml"]);
    assert!(
        ended.stderr.contains("1 bad rows of train skipped") && ended.stderr.contains("train.jsonl:1"),
        "{ended:?}"
    );
    assert_eq!(bench.json(&["report", "recipe.toml", "--json"])["screening"]["candidates"], json!(2));
}

#[test]
fn no_usable_row_is_a_mistake_even_when_skipping() {
    let bench = bench(&RECIPE.replace("\"stop\"", "\"skip\""), "{\n", TEST);
    refused(&bench, 2, &["train.jsonl", "no question"]);
}

#[test]
fn a_recipe_s_own_rows_are_previewed_split_by_split() {
    let ended = bench(RECIPE, TRAIN, TEST).done(&["data", "recipe.toml", "--rows", "1"]);
    for part in ["train: 2 questions", "test: ", "rows/train/", "rows/test/", "gold"] {
        assert!(ended.stdout.contains(part), "{part} is not in {ended:?}");
    }
}

#[test]
fn screening_without_gold_answers_says_what_to_write() {
    let without =
        RECIPE.replacen("columns = { question = \"q\", answer = \"a\" }", "columns = { question = \"q\" }", 1);
    let bench = bench(&without, TRAIN, TEST);
    bench.run(&["run", "recipe.toml"]).complains(2, &["gold", "rows/train/", "name the answer column", "SD-T"]);
    assert_eq!(bench.teacher.asked().len(), 0, "nothing is paid for what cannot be screened");
}

#[test]
fn scoring_without_gold_answers_is_refused_before_anything_is_paid() {
    let (before, after) = RECIPE.rsplit_once("columns = { question = \"q\", answer = \"a\" }").unwrap();
    let bench = bench(&format!("{before}columns = {{ question = \"q\" }}{after}"), TRAIN, TEST);
    for arguments in [&["run", "recipe.toml"][..], &["run", "recipe.toml", "--dry-run"]] {
        bench.run(arguments).complains(2, &["gold answer", "1 of 1 have none", "rows/test/", "columns.answer = \"…\""]);
    }
    assert_eq!(bench.teacher.asked().len(), 0);
}

#[test]
fn rows_are_graded_by_the_scorer_that_the_recipe_names() {
    let columns = "columns = { question = \"q\", answer = \"a\" }";
    let named = |scorer: &str| RECIPE.replace(columns, &format!("{columns}\nscorer = \"{scorer}\""));
    let gold = |recipe: &str| bench(recipe, TRAIN, TEST).done(&["data", "recipe.toml", "--json"]).stdout;
    assert!(gold(RECIPE).contains("\"scorer\":\"numeric\""));
    assert!(gold(&named("exact")).contains("\"scorer\":\"exact\""));
    refused(&bench(&named("yes-no"), TRAIN, TEST), 2, &["train.jsonl:1", "`42`", "yes, no, true or false"]);
}

#[test]
fn a_recorded_teacher_that_recorded_nothing() {
    let (before, after) = RECIPE.split_once("teacher = \"big\"").unwrap();
    let bench = bench(&format!("{before}teacher = \"recorded\"{after}"), TRAIN, TEST);
    bench.run(&["run", "recipe.toml"]).complains(2, &["collect.teacher", "nothing recorded", "model as the teacher"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

#[test]
fn leaking_splits_are_refused_with_their_rows() {
    let leaking = format!("{TRAIN}{TEST}");
    refused(&bench(RECIPE, &leaking, TEST), 2, &["rows/train/2", "rows/test/0", "leaks = \"drop\""]);
}

#[test]
fn leaking_rows_are_dropped_aloud_when_the_recipe_says_so() {
    let leaking = format!("{TRAIN}{TEST}");
    let bench = bench(&RECIPE.replace("on_bad_row", "leaks = \"drop\"\non_bad_row"), &leaking, TEST);
    let ended = bench.done(&["run", "recipe.toml"]);
    assert!(
        ended.stderr.contains("1 rows of train and dev left out") && ended.stderr.contains("rows/train/2"),
        "{ended:?}"
    );
    assert_eq!(bench.json(&["report", "recipe.toml", "--json"])["screening"]["candidates"], json!(2));
}

#[test]
fn more_dev_rows_than_train_has() {
    let recipe = RECIPE.replace("on_bad_row", "dev_rows = 2\non_bad_row");
    refused(&bench(&recipe, TRAIN, TEST), 2, &["data.dev_rows is 2", "only 2 rows"]);
}
