//! `divvy report` in every form, two runs compared, and the page in a browser.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use divvy_testkit::{script::Step, teacher::Lesson};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, files_below},
    forged,
    school::{self, Manner, RECIPE, TEST},
    serving::{clients, says_ok},
};

const ALL: &str = "md,html,json,csv,parquet,csv-arms,outcomes,latex,inspect";
const ROWS: usize = 3 * TEST;

fn ran() -> Bench {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    bench
}

fn parquet(path: &Path) -> Vec<Value> {
    let rows = divvy_data::questions::raw::read_rows(path).unwrap();
    rows.map(|row| row.unwrap().value.unwrap()).collect()
}

#[test]
fn every_form_has_every_row() {
    let bench = ran();
    let ended = bench.done(&["report", "recipe.toml", "--format", ALL, "--out", "all/"]);
    assert_eq!((ended.stdout.as_str(), ended.stderr.matches("report: all/school").count()), ("", 9), "{ended:?}");
    let read = |name: &str| std::fs::read_to_string(bench.file("all").join(name)).unwrap();
    assert!(read("school.md").contains("two-stage/teacher/big") && read("school.tex").contains("\\toprule"));
    let report: Value = serde_json::from_str(&read("school.json")).unwrap();
    assert_eq!(report, bench.json(&["report", "recipe.toml", "--json"]));
    let csv = read("school-rows.csv");
    assert!(csv.starts_with("question_id,arm,correct,") && csv.contains("\r\nsynth/test/0,direct/big,true,"), "{csv}");
    assert_eq!(read("school-arms.csv").lines().count(), 4);
    published(&read("school-outcomes.csv"));
    let rows = parquet(&bench.file("all/school-rows.parquet"));
    assert_eq!(rows.len(), ROWS);
    let right = rows.iter().filter(|row| row["correct"] == json!(true)).count() as u64;
    let counted: u64 = report["arms"].as_array().unwrap().iter().map(|arm| arm["correct"].as_u64().unwrap()).sum();
    assert_eq!(right, counted, "rows and figures are one");
    let two_stage = rows.iter().find(|row| row["arm"] == "two-stage/teacher/big").unwrap();
    let keys: Vec<String> = serde_json::from_str(two_stage["calls"].as_str().unwrap()).unwrap();
    assert_eq!(keys.len(), 2, "{two_stage}");
    assert!(bench.done(&["calls", &keys[1][..12]]).stdout.contains("── reply"));
    let page = read("school.html");
    assert!(page.contains(&format!("All {ROWS} graded rows")) && page.contains("id=\"calls-0.js\""));
    assert!(!bench.file("all").join("school.rows").exists(), "few rows are in the page");
    let logs = files_below(&bench.file("all/school-inspect"));
    assert_eq!(logs.len(), 3, "a log an arm, and nothing else: {logs:?}");
    for log in logs {
        let log: Value = serde_json::from_slice(&std::fs::read(log).unwrap()).unwrap();
        assert_eq!(log["samples"].as_array().map(Vec::len), Some(TEST));
    }
}

/// What became of every row, and not a word of it.
fn published(outcomes: &str) {
    let lines: Vec<Vec<&str>> = outcomes.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), ROWS, "{outcomes}");
    let words = |text: &str| text.contains(' ') || text.contains('"');
    assert!(lines.iter().flatten().all(|cell| !words(cell)), "{outcomes}");
    let named = format!("{:.16}", divvy_core::digest::Digest::of_bytes(b"synth/test/0").hex());
    let two_stage = lines.iter().find(|line| line[0] == named && line[2] == "two-stage/teacher/big").unwrap();
    assert_eq!((two_stage[1], two_stage[3], two_stage[7]), ("synth", "1", "answered"));
    assert!(two_stage[10..].iter().all(|figure| figure.parse::<u64>().is_ok()), "{two_stage:?}");
    assert_ne!((two_stage[11], two_stage[14]), ("0", "0"), "decomposer and solver have tokens of their own");
}

#[test]
fn a_run_is_reported_without_its_recipe_and_one_form_is_printed() {
    let bench = ran();
    let by_recipe = bench.done(&["report", "recipe.toml", "--format", "csv"]).stdout;
    std::fs::remove_file(bench.file("recipe.toml")).unwrap();
    let by_run = bench.done(&["report", "--run", "1", "--format", "csv"]).stdout;
    assert_eq!(by_run, by_recipe);
    // The ending tells the form, and a page comes with any other.
    bench.done(&["report", "--run", "1", "--out", "rows.parquet", "--html", "page/report.html"]);
    assert_eq!(parquet(&bench.file("rows.parquet")).len(), ROWS);
    assert!(bench.file("page/report.html").exists());
    assert!(bench.done(&["report", "--run", "1"]).stdout.starts_with("# school"));
}

#[test]
fn flags_that_make_no_sense_are_answered_with_the_way_out() {
    let bench = ran();
    let report = |flags: &[&str]| bench.run(&[&["report", "recipe.toml"], flags].concat());
    report(&["--format", "parquet"]).complains(2, &["--format parquet needs --out PATH"]);
    report(&["--format", "md,csv"]).complains(2, &["several forms need --out FOLDER"]);
    report(&["--out", "report.docx"]).complains(2, &["report.docx", "no form has this ending", "--format"]);
    report(&["--format", "md,csv", "--out", "recipe.toml"]).complains(2, &["recipe.toml is a file"]);
    report(&["--html", "a.html", "--out", "b.html"]).complains(2, &["--html", "--out"]);
    bench.run(&["report", "--run", "9"]).complains(2, &["--run: no run's id is `9`", "school"]);
    bench.run(&["report", "--compare", "1", "1"]).complains(2, &["--compare: both are plan"]);
    bench.run(&["report", "--compare", "1", "nobody"]).complains(2, &["--compare: no run's id is `nobody`"]);
    report(&["--fail-on-regression"]).complains(2, &["--compare BEFORE AFTER"]);
}

#[test]
fn a_page_does_not_take_the_place_of_what_is_not_its_own() {
    let bench = ran();
    std::fs::create_dir(bench.file("mine.rows")).unwrap();
    std::fs::write(bench.file("mine.rows/thesis.txt"), "years of work").unwrap();
    bench.run(&["report", "recipe.toml", "--html", "mine.html"]).complains(1, &["thesis.txt", "name another page"]);
    assert!(bench.file("mine.rows/thesis.txt").exists() && !bench.file("mine.html").exists());
}

/// The second run asks a model that has forgotten how to reason.
fn two_runs() -> Bench {
    let forgot = Arc::new(AtomicBool::new(false));
    let later = Arc::clone(&forgot);
    let answer = move |question: &divvy_core::question::Question, manner: Manner| match manner {
        Manner::Cot if later.load(Ordering::SeqCst) => "The answer is: 987654321".to_owned(),
        manner => school::answer(question, manner),
    };
    let bench = Bench::new(Lesson { rule: school::rule(answer), ..Lesson::default() });
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    forgot.store(true, Ordering::SeqCst);
    let other = RECIPE.replace("model = \"teacher\"", "model = \"teacher\"\nprovider = \"elsewhere\"");
    bench.workspace.write("later.toml", &other.replace("URL", &bench.teacher.url()));
    bench.done(&["run", "later.toml"]);
    bench
}

#[test]
fn a_regression_is_shown_and_fails_only_on_request() {
    let bench = two_runs();
    let found = bench.json(&["report", "--compare", "1", "2", "--json"]);
    let arms = found["arms"].as_array().unwrap();
    let cot = arms.iter().find(|arm| arm["arm"] == "cot/big").unwrap();
    assert_eq!((&cot["n"], &cot["lost"], &cot["gained"]), (&json!(TEST), &json!(TEST), &json!(0)));
    assert_eq!((&found["regression"], found["flips"].as_array().map(Vec::len)), (&json!(true), Some(TEST)));
    assert!(arms.iter().all(|arm| arm["arm"] == "cot/big" || arm["change"] == "not-shown"), "{found}");
    let failed = bench.run(&["report", "--compare", "1", "2", "--fail-on-regression"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(
        failed.stdout.starts_with("# Worse: cot/big.") && failed.stderr.contains("error: regression: cot/big"),
        "{failed:?}"
    );
    // Recipes as well as runs, and the other way round there is no regression.
    let back = bench.done(&["report", "--compare", "later.toml", "recipe.toml", "--fail-on-regression"]);
    assert!(back.stdout.starts_with("# Better: cot/big."), "{back:?}");
}

#[test]
fn a_run_that_cannot_be_judged_does_not_pass() {
    let bench = ran();
    let fewer = RECIPE.replace("\"direct\", ", "");
    assert_ne!(fewer, RECIPE);
    bench.workspace.write("fewer.toml", &fewer.replace("URL", &bench.teacher.url()));
    bench.done(&["run", "fewer.toml"]);
    let compare = ["report", "--compare", "recipe.toml", "fewer.toml"];
    bench.done(&compare);
    let gone = bench.run(&[&compare[..], &["--fail-on-regression"]].concat());
    assert_eq!(gone.code, Some(4), "{gone:?}");
    assert!(gone.stderr.contains("not judged: direct/big; the run after has no such arm"), "{gone:?}");

    let misfortune = school::never_answered("synth/test/2", Manner::Cot, Step::status(400));
    let bench = Bench::new(Lesson { misfortune, ..school::lesson() });
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    let other = RECIPE.replace("model = \"teacher\"", "model = \"teacher\"\nprovider = \"elsewhere\"");
    bench.workspace.write("later.toml", &other.replace("URL", &bench.teacher.url()));
    bench.done(&["run", "later.toml"]);
    let down = bench.run(&["report", "--compare", "1", "2", "--fail-on-regression"]);
    assert!(down.stdout.starts_with("# Not judged, as more than 1 % of the answers failed"), "{down:?}");
    assert_eq!(down.code, Some(4), "{down:?}");
    assert!(down.stderr.contains("not judged: cot/big; more than 1 % of its answers failed"), "{down:?}");
}

/// `inspect_ai` reads the logs.
#[test]
fn inspect_opens_the_logs() {
    let Some(folder) = clients() else { return };
    let bench = ran();
    bench.done(&["report", "recipe.toml", "--format", "inspect", "--out", "logs"]);
    says_ok(&folder, "inspect_log.py", &[&bench.file("logs").to_string_lossy(), &TEST.to_string()]);
}

#[test]
fn latex_takes_the_table() {
    let bench = ran();
    bench.done(&["report", "recipe.toml", "--out", "table.tex"]);
    let paper = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{table}\\end{document}";
    std::fs::write(bench.file("paper.tex"), paper).unwrap();
    let latex = Command::new("pdflatex")
        .args(["-interaction=batchmode", "-halt-on-error", "paper.tex"])
        .current_dir(bench.workspace.path())
        .output();
    match latex {
        Ok(output) => assert!(output.status.success(), "{}", std::fs::read_to_string(bench.file("paper.log")).unwrap()),
        Err(_) => eprintln!("SKIPPED: there is no pdflatex"),
    }
}

fn shots(bench: &Bench) -> PathBuf {
    std::env::var_os("DIVVY_TEST_SHOTS").map_or_else(|| bench.file("shots"), PathBuf::from)
}

/// In headless Chromium: sort, filter, open a row with its calls, search, the dark, the phone.
#[test]
fn the_report_in_a_browser() {
    let Some(folder) = clients() else { return };
    let bench = Bench::idle();
    let rows = forged::forge(&bench, 300);
    bench.done(&["report", "recipe.toml", "--html", "report.html"]);
    let (page, shots) = (bench.file("report.html"), shots(&bench));
    says_ok(&folder, "report.py", &[&page.to_string_lossy(), &shots.to_string_lossy(), &rows.to_string()]);
}

/// Two data sets on one page: what each has is there under ids of its own.
#[test]
fn the_page_of_several_data_sets() {
    let bench = Bench::idle();
    let rows = forged::forge_sets(&bench, 40);
    bench.done(&["report", "recipe.toml", "--html", "report.html"]);
    let file = bench.file("report.html");
    let page = std::fs::read_to_string(&file).unwrap();
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{ids:?}");
    let (first, rest) = page.split_once("id=\"set-1\"").unwrap();
    for set in ["stories", "facts"] {
        assert!(first.contains(&format!("<li><strong>{set}</strong>: Nothing was distilled")), "its answer");
    }
    let (one, other) = rest.split_once("id=\"set-2\"").unwrap();
    for (number, set) in [(1, one), (2, other)] {
        assert!(set.contains("<div class=\"verdict nothing-distilled\">") && set.contains("<svg"), "{number}");
        for id in ["arms", "costs", "comparisons", "calls"] {
            assert!(set.contains(&format!("<table id=\"{id}-{number}\"")), "{id}-{number}");
        }
    }
    assert!(page.contains(&format!("All {rows} graded rows")));
    let (Some(folder), shots) = (clients(), shots(&bench)) else { return };
    says_ok(&folder, "report.py", &[&file.to_string_lossy(), &shots.to_string_lossy(), &rows.to_string(), "sets"]);
}

/// Many rows, which lie beside the page. `DIVVY_TEST_STORE` keeps the store in that folder, to measure with.
#[test]
#[ignore = "takes a minute and a gigabyte"]
fn two_hundred_thousand_rows_in_a_browser() {
    let bench = Bench::idle();
    let rows = forged::forge(&bench, 20_000);
    if let Some(kept) = std::env::var_os("DIVVY_TEST_STORE").map(PathBuf::from) {
        std::fs::create_dir_all(kept.join("runs")).unwrap();
        std::fs::copy(bench.file("recipe.toml"), kept.join("recipe.toml")).unwrap();
        // What was written last may be in the log beside the database.
        for file in files_below(&bench.file("runs")).iter().filter(|file| file.to_string_lossy().contains("divvy.db")) {
            std::fs::copy(file, kept.join("runs").join(file.file_name().unwrap())).unwrap();
        }
    }
    bench.done(&["report", "recipe.toml", "--html", "report.html"]);
    assert!(bench.file("report.rows").is_dir());
    let Some(folder) = clients() else { return };
    let (page, shots) = (bench.file("report.html"), shots(&bench));
    says_ok(&folder, "report.py", &[&page.to_string_lossy(), &shots.to_string_lossy(), &rows.to_string(), "many"]);
}
