//! `divvy export --rows`: what a student learns from, in the forms that other trainers read, with where it comes from.

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
    for pair in &pairs {
        let text = |side: &str| pair[side][0]["content"].as_str().unwrap().to_owned();
        assert!(text("chosen").contains("useful") && text("rejected").contains("useless"), "{pair}");
        assert!(pair["divvy"]["chosen"]["pass_rate"] == 1.0 && pair["divvy"]["rejected"]["pass_rate"] == 0.0, "{pair}");
    }
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
