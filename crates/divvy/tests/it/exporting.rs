//! `divvy export --rows`: what a student learns from, in the forms that other trainers read, with where it comes from.

use std::{collections::HashMap, path::Path, sync::Mutex};

use divvy_testkit::teacher::Lesson;
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, Manner, RECIPE, TRAIN},
};

const STUDENT: &str =
    "[models.tiny]\nsource = \"path:HERE/tiny\"\n[students.sd-r]\nbase = \"tiny\"\ntarget = \"SD-R\"\n";

fn bench(collect: &str, lesson: Lesson) -> Bench {
    let bench = Bench::new(lesson);
    divvy_testkit::checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    bench.recipe(&format!("{}\n{STUDENT}", RECIPE.replace("[collect]", &format!("[collect]\n{collect}"))));
    bench.done(&["screen", "recipe.toml"]);
    bench
}

fn export(bench: &Bench, form: &str, out: &str) -> Vec<Value> {
    bench.done(&["export", "recipe.toml", "--student", "sd-r", "--rows", form, "--out", out]);
    let text = std::fs::read_to_string(bench.file(out)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn rows_go_out_in_every_form_with_their_source() {
    let bench = bench("", school::lesson());
    let asked = bench.teacher.asked().len();
    let kept = TRAIN - TRAIN.div_ceil(4);
    for form in ["prompt-completion", "messages", "sharegpt", "alpaca", "ids"] {
        let rows = export(&bench, form, &format!("{form}.jsonl"));
        assert_eq!(rows.len(), kept, "{form}");
        let source = &rows[0]["divvy"];
        assert_eq!(
            (&source["target"], &source["teacher"], &source["pass_rate"]),
            (&json!("SD-R"), &json!("big"), &json!(1.0))
        );
        let key = source["call"].as_str().unwrap();
        assert!(bench.done(&["calls", key]).stdout.contains("Which facts matter here?"), "the call that it came from");
    }
    let ids = export(&bench, "ids", "again.jsonl");
    let labels = ids[0]["labels"].as_array().unwrap();
    assert_eq!(labels.len(), ids[0]["input_ids"].as_array().unwrap().len());
    assert!(labels[0] == -100 && labels.last().unwrap().as_i64().unwrap() >= 0, "{labels:?}");
    bench.done(&["export", "recipe.toml", "--student", "sd-r", "--rows", "messages", "--out", "rows.parquet"]);
    let again =
        bench.run(&["export", "recipe.toml", "--student", "sd-r", "--rows", "messages", "--out", "rows.parquet"]);
    again.complains(2, &["--out", "already there"]);
    assert_eq!(bench.teacher.asked().len(), asked, "nothing is asked");
}

fn rows_of(path: &Path) -> Vec<Value> {
    divvy_data::questions::raw::read_rows(path).unwrap().map(|row| row.unwrap().value.unwrap()).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const FORMS: [&str; 5] = ["alpaca", "ids", "messages", "prompt-completion", "sharegpt"];

/// One pass writes what a command for each form writes, as JSONL and as Parquet, whose columns are nested as the rows are.
#[test]
fn several_forms_in_one_command_are_those_of_one_each() {
    let bench = bench("", school::lesson());
    let export = |rows: &str, more: &[&str]| {
        bench.run(&[&["export", "recipe.toml", "--student", "sd-r", "--rows", rows][..], more].concat())
    };
    let named = FORMS.join(",");
    assert_eq!(export(&named, &["--out", "some"]).code, Some(0));
    // No pairs: there is one sample of each question.
    let all = export("all", &["--out", "all/"]);
    assert!(all.code == Some(0) && all.stderr.contains("no rows for preferences"), "{}", all.stderr);
    assert_eq!(export(&named, &["--parquet", "--out", "tables"]).code, Some(0));
    for form in FORMS {
        let (jsonl, parquet) = (format!("{form}.jsonl"), format!("{form}.parquet"));
        assert_eq!(export(form, &["--out", &jsonl]).code, Some(0));
        assert_eq!(export(form, &["--out", &parquet]).code, Some(0));
        let read = |path: &str| std::fs::read(bench.file(path)).unwrap();
        assert_eq!(read(&format!("some/{jsonl}")), read(&jsonl), "{form}");
        assert_eq!(read(&format!("all/{jsonl}")), read(&jsonl), "{form}");
        assert_eq!(read(&format!("tables/{parquet}")), read(&parquet), "{form}");
        let rows = rows_of(&bench.file(&parquet));
        assert_eq!(rows, rows_of(&bench.file(&jsonl)), "{form}: with its source, whole");
        assert!(rows[0]["divvy"]["pass_rate"] == 1.0 && rows[0]["divvy"]["sample"] == 0, "{}", rows[0]);
    }
    let complete = FORMS.map(|form| format!("{form}.jsonl"));
    assert_eq!((files(&bench.file("some")), files(&bench.file("all"))), (complete.to_vec(), complete.to_vec()));
    export("messages", &["--out", "some"]).complains(2, &["some/messages.jsonl", "already there"]);
    export("messages,ids", &["--out", "messages.jsonl"]).complains(2, &["several forms need a folder"]);
    export("messages", &["--parquet", "--out", "m.jsonl"]).complains(2, &["does not end in .parquet"]);
    export("messages,preferences", &["--out", "none"]).complains(1, &["no such rows yet for preferences", "[collect]"]);
    assert!(files(&bench.file("none")).is_empty(), "a form without rows leaves none of the others");
}

/// A student that chooses among its rows is exported what it learns.
#[test]
fn a_choice_of_rows_is_the_one_that_is_learnt() {
    let bench = bench("", school::lesson());
    let every: Vec<Value> = export(&bench, "messages", "every.jsonl");
    // Another plan, for which the same replies count.
    bench.recipe(&format!("{RECIPE}\n{STUDENT}rows = 5\n")).done(&["screen", "recipe.toml"]);
    let some = export(&bench, "messages", "some.jsonl");
    assert_eq!(some.len(), 5);
    let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].to_string()).collect::<Vec<_>>();
    assert!(ids(&some).iter().all(|id| ids(&every).contains(id)));
    assert!(ids(&every).is_sorted(), "in the order of their ids");
}

/// The disk is full when the second file ends: the first one, which is whole, gets no name either.
#[cfg(target_os = "linux")]
#[test]
fn a_write_that_fails_leaves_no_file() {
    let bench = bench("", school::lesson());
    for ending in ["jsonl", "parquet"] {
        let folder = bench.file(ending);
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.join(format!("ids.{ending}.partial"))).unwrap();
        let parquet: &[&str] = if ending == "parquet" { &["--parquet"] } else { &[] };
        let arguments = ["export", "recipe.toml", "--student", "sd-r", "--rows", "messages,ids", "--out", ending];
        bench.run(&[&arguments[..], parquet].concat()).complains(1, &["cannot write", &format!("ids.{ending}")]);
        assert!(files(&folder).is_empty(), "{:?}", files(&folder));
    }
}

#[test]
fn a_recipe_without_students_says_how_to_add_one() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE).done(&["collect", "recipe.toml"]);
    let ended = bench.run(&["export", "recipe.toml", "--student", "sd-r", "--out", "sd-r"]);
    ended.complains(2, &["--student", "it has none", "[students.NAME]"]);
}

#[test]
fn preferences_pair_a_kept_decomposition_with_a_failed_one() {
    // Two decompositions a question in turn; the solver is right with the first kind only.
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let rule = school::rule(move |question, manner| match manner {
        Manner::Decompose => {
            let kind = ["useful", "useless"][turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2];
            format!("1. What is {kind} here?\n2. And then?")
        }
        other => school::answer(question, other),
    });
    let rule: Box<divvy_testkit::teacher::Rule> = Box::new(move |asked| {
        let said = rule(asked);
        if asked.last().contains("useless") { "The answer is: 987654321".to_owned() } else { said }
    });
    let bench = bench("samples = 6\ntemperature = 0.7", Lesson { rule, ..school::lesson() });
    let pairs = export(&bench, "preferences", "pairs.jsonl");
    assert!(pairs.len() >= TRAIN, "{}", pairs.len());
    let both = ["export", "recipe.toml", "--student", "sd-r", "--rows", "preferences,messages", "--out", "both"];
    bench.done(&both);
    let read = |path: &str| std::fs::read_to_string(bench.file(path)).unwrap();
    assert_eq!(read("both/preferences.jsonl"), read("pairs.jsonl"));
    bench.done(&["export", "recipe.toml", "--student", "sd-r", "--rows", "preferences", "--out", "pairs.parquet"]);
    assert_eq!(rows_of(&bench.file("pairs.parquet")), pairs, "both sources are columns");
    for pair in &pairs {
        let text = |side: &str| pair[side][0]["content"].as_str().unwrap().to_owned();
        assert!(text("chosen").contains("useful") && text("rejected").contains("useless"), "{pair}");
        assert!(pair["divvy"]["chosen"]["pass_rate"] == 1.0 && pair["divvy"]["rejected"]["pass_rate"] == 0.0, "{pair}");
    }
}

/// Three decompositions a question: the solver is right with the first, with the second in one of two tries, and never with the
/// last.
fn in_three_grades() -> Lesson {
    let heard = Mutex::new(HashMap::<String, usize>::new());
    let known = school::rule(|question, _| school::right(question));
    let rule: Box<divvy_testkit::teacher::Rule> = Box::new(move |asked| {
        let mut heard = heard.lock().unwrap();
        let times = heard.entry(asked.last().to_owned()).or_default();
        *times += 1;
        let text = asked.last();
        match Manner::of(asked) {
            Manner::Decompose => {
                let kind = ["useful", "doubtful", "hopeless"][(*times - 1) % 3];
                format!("1. What is {kind} here?\n2. And then?")
            }
            _ if text.contains("hopeless") || (text.contains("doubtful") && *times > 1) => {
                "The answer is: 987654321".to_owned()
            }
            _ => known(asked),
        }
    });
    Lesson { rule, ..school::lesson() }
}

#[test]
fn every_rejected_decomposition_that_does_worse_is_paired() {
    let bench = Bench::new(in_three_grades());
    divvy_testkit::checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let rates_of = |rule: &str| {
        let screen = format!("[screen]\nsamples = 2\ntemperature = 0.5\nrule = \"{rule}\"");
        let recipe =
            RECIPE.replace("[collect]", "[collect]\nsamples = 3\ntemperature = 0.7").replace("[screen]", &screen);
        bench.recipe(&format!("{recipe}\n{STUDENT}")).done(&["screen", "recipe.toml"]);
        let pairs = export(&bench, "preferences", &format!("{rule}.jsonl"));
        assert!(pairs.iter().all(|pair| pair["divvy"]["chosen"]["pass_rate"] == 1.0), "{pairs:?}");
        let rate = |pair: &Value| pair["divvy"]["rejected"]["pass_rate"].as_f64().unwrap();
        let mut rates: Vec<f64> = pairs.iter().map(rate).collect();
        rates.sort_by(f64::total_cmp);
        rates
    };
    let (none, half) = ([0.0; TRAIN], [0.5; TRAIN]);
    assert_eq!(rates_of("all"), [none, half].concat());
    assert_eq!(rates_of("best"), none, "what is merely not the best is no bad example");
}

#[test]
fn nothing_screened_yet_is_said_with_the_way_out() {
    let bench = Bench::new(school::lesson());
    divvy_testkit::checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    bench.recipe(&format!("{RECIPE}\n{STUDENT}")).done(&["collect", "recipe.toml"]);
    let export = |form: &str, out: &str| {
        bench.run(&["export", "recipe.toml", "--student", "sd-r", "--rows", form, "--out", out])
    };
    export("messages", "rows.jsonl").complains(1, &["no such rows yet", "divvy screen"]);
    assert_eq!(export("words", "rows.jsonl").code, Some(2));
    bench.done(&["screen", "recipe.toml"]);
    export("messages", "rows.txt").complains(2, &["should end in .jsonl or .parquet"]);
    bench.recipe(&format!("{RECIPE}\n{}", STUDENT.replace("SD-R", "SE-A")));
    export("preferences", "pairs.jsonl").complains(2, &["`sd-r` learns SE-A"]);
}
