//! A model of some thousand parameters goes the whole way: trained, interrupted, resumed, measured, asked, exported.

use std::{collections::HashSet, path::PathBuf, sync::Mutex};

use divvy_core::records::{ItemState, Stage};
use divvy_store::{ItemRow, Store};
use divvy_student::model::Model;
use divvy_testkit::{
    checkpoint,
    teacher::{Asked, Lesson},
};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, ended, files_below, interrupt, wait_for},
    school::{self, TEST, TRAIN},
};

/// A tiny student, trained on what a teacher over HTTP has screened.
pub(crate) const RECIPE: &str = r#"
name = "tiny"
seed = 7

[data.train]
dataset = "synth"
rows = 12

[data.test]
dataset = "synth"
rows = 8

[models.big]
source = "URL"
model = "teacher"
concurrency = 4

[models.tiny]
source = "path:HERE/tiny"
concurrency = 8

[collect]
teacher = "recorded"

[screen]
solver = "big"

[students.sd-r]
base = "tiny"
target = "SD-R"
rank = 4
epochs = 6
batch_rows = 2
learning_rate = 0.01
checkpoint_every = 1
max_row_tokens = 3000

[evaluate]
solvers = ["tiny"]
strategies = ["direct", "two-stage"]
decomposers = ["tiny", "student:sd-r", "teacher"]
direct_tokens = 8
solve_tokens = 8
decompose_tokens = 16
"#;

/// Kept rows two by two, six times over.
const KEPT: usize = TRAIN - TRAIN.div_ceil(4);
const STEPS: usize = 6 * KEPT.div_ceil(2);

fn bench() -> Bench {
    let bench = Bench::new(school::lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    bench.recipe(RECIPE);
    bench
}

/// Files of that name in a store's students.
fn students(bench: &Bench, store: &str, name: &str) -> Vec<PathBuf> {
    files_below(&bench.file(store).join("students")).into_iter().filter(|file| file.ends_with(name)).collect()
}

fn adapter(bench: &Bench, store: &str) -> Vec<u8> {
    let files = students(bench, store, "adapter_model.safetensors");
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::read(&files[0]).unwrap()
}

#[test]
fn trained_interrupted_resumed_measured_asked_and_exported() {
    let bench = bench();
    let mut child = bench.command(&["run", "recipe.toml"]).spawn().unwrap();
    wait_for(&mut child, || !students(&bench, "runs", "checkpoint.safetensors").is_empty());
    interrupt(&child);
    ended(child).complains(130, &["interrupted", "run the same command to go on"]);
    assert!(students(&bench, "runs", "adapter_model.safetensors").is_empty(), "the interrupt came too late");

    let finished = bench.done(&["run", "recipe.toml"]);
    assert!(finished.stdout.contains("two-stage/sd-r/tiny"), "{finished:?}");
    assert_eq!(bench.teacher.asked().len(), TRAIN, "each row is screened once");
    check_report(&bench.json(&["report", "recipe.toml", "--json"]));

    check_log(&bench);
    let before = adapter(&bench, "runs");
    bench.done(&["train", "recipe.toml", "--store", "other"]);
    assert!(before == adapter(&bench, "other"), "the interrupted run became another student");

    let trained =
        |bench: &Bench| students(bench, "runs", "adapter_model.safetensors")[0].metadata().unwrap().modified();
    let when = trained(&bench).unwrap();
    let (asked, again) = (bench.teacher.asked().len(), bench.done(&["run", "recipe.toml"]));
    assert_eq!(bench.teacher.asked().len(), asked);
    assert_eq!(trained(&bench).unwrap(), when, "trained again: {again:?}");
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    assert_eq!((&status["students"][0]["trained"], &status["students"][0]["rows"]), (&json!(true), &json!(KEPT)));
    ask(&bench);
    export(&bench, &before);
}

/// Every step once, whatever was cut, and an event file for each time that it began.
fn check_log(bench: &Bench) {
    let lines = std::fs::read_to_string(&students(bench, "runs", "metrics.jsonl")[0]).unwrap();
    let steps: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        steps.iter().map(|step| step["step"].as_u64().unwrap()).collect::<Vec<_>>(),
        Vec::from_iter(1..=STEPS as u64)
    );
    assert!(steps.iter().all(|step| step["loss"].is_f64() && step["grad_norm"].is_f64()), "{lines}");
    let logs = files_below(&bench.file("runs").join("students"));
    assert_eq!(logs.iter().filter(|file| file.to_string_lossy().contains("tfevents")).count(), 2, "{logs:?}");
}

fn check_report(report: &Value) {
    let arms = report["arms"].as_array().unwrap();
    let slugs: Vec<&str> = arms.iter().map(|arm| arm["arm"].as_str().unwrap()).collect();
    assert_eq!(slugs, ["direct/tiny", "two-stage/tiny/tiny", "two-stage/sd-r/tiny", "two-stage/teacher/tiny"]);
    assert!(arms.iter().all(|arm| arm["n"] == json!(TEST)), "{report}");
    assert_eq!(report["screening"]["kept"], json!(KEPT));
    let training = &report["training"][0];
    assert_eq!((&training["student"], &training["rows"]), (&json!("sd-r"), &json!(KEPT)), "{training}");
    let curve = training["curve"].as_array().unwrap();
    let steps: Vec<u64> = curve.iter().map(|point| point["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=STEPS as u64).collect::<Vec<_>>(), "the curve has gaps");
    let loss = |at: usize| curve[at]["loss"].as_f64().unwrap();
    assert!(loss(STEPS - 1) < loss(0), "{} after {}", loss(STEPS - 1), loss(0));
}

fn ask(bench: &Bench) {
    let question = "Ann has 3 boxes of 12 pens. How many pens has she?";
    let answer = bench.json(&["ask", question, "--recipe", "recipe.toml", "--json"]);
    let chosen = bench.json(&["ask", question, "--arm", "two-stage/sd-r/tiny", "--recipe", "recipe.toml", "--json"]);
    assert_eq!(chosen["arm"], json!("two-stage/sd-r/tiny"));
    assert_eq!(answer["arm"], chosen["arm"], "the arm with a student is the default");
    assert_eq!(answer["reply"], chosen["reply"]);
}

fn export(bench: &Bench, adapter: &[u8]) {
    let arguments = ["export", "recipe.toml", "--student", "sd-r", "--out", "out"];
    bench.done(&arguments);
    let config: Value = serde_json::from_slice(&std::fs::read(bench.file("out/adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&config["peft_type"], &config["r"]), (&json!("LORA"), &json!(4)), "{config}");
    assert!(std::fs::read(bench.file("out/adapter_model.safetensors")).unwrap() == adapter);
    bench.run(&arguments).complains(2, &["--out", "already there"]);
    for (format, file) in [
        ("safetensors", "model.safetensors"),
        ("gguf", "sd-r-bf16.gguf"),
        ("gguf-lora", "sd-r-lora.gguf"),
        ("base", "config.json"),
        ("base-gguf", "tiny-bf16.gguf"),
    ] {
        bench.done(&["export", "recipe.toml", "--student", "sd-r", "--format", format, "--out", format]);
        assert!(bench.file(format).join(file).is_file(), "{format}");
        let card = std::fs::read_to_string(bench.file(format).join("README.md")).unwrap();
        for part in ["target SD-R", "two-stage/sd-r/tiny", "## Licence", "[students.sd-r]", "- plan: `"] {
            assert!(card.contains(part), "{format}: {part} in {card}");
        }
    }
    let wide =
        ["export", "recipe.toml", "--student", "sd-r", "--format", "safetensors", "--dtype", "f32", "--out", "wide"];
    bench.done(&wide);
    let size = |folder: &str| bench.file(folder).join("model.safetensors").metadata().unwrap().len();
    assert!(size("wide") > size("safetensors") * 3 / 2);
    let adapter_on = |base: &str| Model::load(&bench.file(base)).unwrap().adapter(&bench.file("out"));
    for base in ["tiny", "base", "base-gguf/tiny-bf16.gguf"] {
        adapter_on(base).unwrap();
    }
    assert!(adapter_on("safetensors").is_err(), "the student itself is no base of its adapter");
    whole(bench);
}

/// What is exported whole is a model that divvy itself runs.
fn whole(bench: &Bench) {
    for path in ["safetensors", "gguf/sd-r-bf16.gguf"] {
        let recipe = RECIPE.replace("path:HERE/tiny", &format!("path:HERE/{path}"));
        let head = recipe.split_once("[students.sd-r]").unwrap().0;
        bench.recipe(&format!("{head}{EVALUATED}")).done(&["eval", "recipe.toml", "--store", "whole"]);
    }
}

const EVALUATED: &str = "[evaluate]\nsolvers = [\"tiny\"]\nstrategies = [\"direct\"]\ndirect_tokens = 8\n";

/// The other half of the paper's question: solvers that are distilled, alone and beside a decomposer.
#[test]
fn distilled_solvers_are_trained_measured_and_compared() {
    let bench = bench();
    let settings = "rank = 4\nepochs = 1\nbatch_rows = 4\nmax_row_tokens = 3000\n";
    let student =
        |name: &str, target: &str| format!("[students.{name}]\nbase = \"tiny\"\ntarget = \"{target}\"\n{settings}\n");
    let students = [("sd", "SD-T"), ("se-a", "SE-A"), ("ans", "direct"), ("both", "joint")];
    let students: String = students.iter().map(|(name, target)| student(name, target)).collect();
    let head = RECIPE.split_once("[students.sd-r]").unwrap().0;
    let evaluate = "[evaluate]\nsolvers = [\"big\", \"tiny\", \"student:se-a\", \"student:ans\", \"student:both\"]\n\
                    strategies = [\"direct\", \"two-stage\"]\ndecomposers = [\"student:sd\", \"student:both\", \"teacher\"]\n\
                    direct_tokens = 8\nsolve_tokens = 8\ndecompose_tokens = 16\n";
    bench.recipe(&format!("{head}{students}{evaluate}")).done(&["run", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let list = |of: &str, field: &str| -> Vec<String> {
        let entries = report[of].as_array().unwrap().iter();
        entries.map(|entry| entry[field].as_str().map_or_else(|| entry[field].to_string(), str::to_owned)).collect()
    };
    let arms = list("arms", "arm");
    assert_eq!(arms.len(), 4 + 4 + 3 + 1 + 3, "{arms:?}");
    assert!(arms.contains(&"two-stage/both/both".to_owned()) && arms.contains(&"direct/ans".to_owned()), "{arms:?}");
    // SE-A has every row that was screened, right or wrong; joint has two rows a question.
    let rows: Vec<(String, String)> = list("training", "student").into_iter().zip(list("training", "rows")).collect();
    let expected = [("ans", TRAIN), ("both", 2 * TRAIN), ("sd", TRAIN), ("se-a", TRAIN)];
    assert_eq!(rows, expected.map(|(student, rows)| (student.to_owned(), rows.to_string())));
    check_pairs(&report);
    check_prompts(&bench);
}

/// Each question has its own family, adjusted by itself.
fn check_pairs(report: &Value) {
    let comparisons = report["comparisons"].as_array().unwrap();
    let family = |a: &str, b: &str| {
        let found = comparisons.iter().find(|pair| pair["a"] == a && pair["b"] == b);
        found.map(|pair| pair["family"].as_str().unwrap())
    };
    for (a, b, expected) in [
        ("two-stage/teacher/se-a", "two-stage/teacher/tiny", Some("solver")),
        ("two-stage/teacher/se-a", "two-stage/teacher/big", Some("solver")),
        ("direct/ans", "direct/big", Some("solver")),
        ("two-stage/sd/big", "two-stage/teacher/se-a", Some("parts")),
        ("two-stage/sd/big", "direct/ans", Some("parts")),
        ("two-stage/both/big", "direct/ans", None),
        ("two-stage/sd/tiny", "direct/ans", None),
        ("two-stage/sd/big", "two-stage/teacher/big", Some("decomposer")),
        ("two-stage/sd/big", "direct/tiny", None),
    ] {
        assert_eq!(family(a, b), expected, "{a} against {b}");
    }
    for name in ["decomposer", "solver", "parts"] {
        let mut raw: Vec<&Value> = comparisons.iter().filter(|pair| pair["family"] == name).collect();
        raw.sort_by(|a, b| a["p_value"].as_f64().unwrap().total_cmp(&b["p_value"].as_f64().unwrap()));
        let tests = raw[0]["tests"].as_f64().unwrap();
        let smallest = raw[0]["p_value"].as_f64().unwrap() * tests;
        assert!(tests >= raw.len() as f64, "{name}: {raw:?}");
        assert!((raw[0]["p_holm"].as_f64().unwrap() - smallest.min(1.0)).abs() < 1e-12, "{name}: {raw:?}");
    }
}

/// Right the first time, and wrong when it is asked again.
fn fickle() -> Lesson {
    let (sure, asked_before) = (school::lesson().rule, Mutex::new(HashSet::new()));
    let rule = move |asked: &Asked| match asked_before.lock().unwrap().insert(asked.last().to_owned()) {
        true => sure(asked),
        false => "The answer is: 987654321".to_owned(),
    };
    Lesson { rule: Box::new(rule), ..school::lesson() }
}

/// A row is put back, so that the plan as it stands makes another student; a later version may do the same.
#[test]
fn a_report_tells_of_the_student_that_was_evaluated() {
    let bench = Bench::new(fickle());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    bench.recipe(RECIPE);
    bench.done(&["run", "recipe.toml"]);
    let trained = || bench.json(&["report", "recipe.toml", "--json"])["training"].clone();
    let before = trained();
    assert_eq!(before[0]["rows"], json!(KEPT));
    bench.done(&["redo", "recipe.toml", "--where", "stage=screen", "--where", "question=synth/train/1"]);
    assert_eq!(trained(), before);
    let now = || bench.json(&["status", "recipe.toml", "--json"])["students"][0].clone();
    assert_eq!(now()["trained"], json!(false), "the plan has none as it stands");
    bench.done(&["train", "recipe.toml"]);
    assert_eq!(now()["rows"], json!(KEPT - 1), "another student");
    assert_eq!(trained(), before, "it has answered nothing");
}

/// Half of its answers are missing when a row is put back: the table stays that of the student that began it.
#[test]
fn a_student_that_began_to_answer_answers_to_the_end() {
    let bench = Bench::new(fickle());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    bench.recipe(RECIPE);
    bench.done(&["run", "recipe.toml"]);
    let report = || bench.json(&["report", "recipe.toml", "--json"]);
    let calls = || {
        let status = bench.json(&["status", "recipe.toml", "--json"]);
        let of = status["calls"].as_array().unwrap().iter().find(|calls| calls["model"] == "sd-r").cloned();
        of.unwrap()["calls"].clone()
    };
    let (before, asked) = (report(), calls());
    bench.wait(unanswered);
    bench.done(&["redo", "recipe.toml", "--where", "stage=screen", "--where", "question=synth/train/1"]);
    let ended = bench.done(&["run", "recipe.toml"]);
    assert!(ended.stderr.contains("`sd-r` is another student than the one that has answered"), "{ended:?}");
    let after = report();
    assert_eq!((&after["arms"], &after["training"]), (&before["arms"], &before["training"]), "{after}");
    assert_eq!(calls(), asked, "what the first one wrote was there already");
    let exported = bench.done(&["export", "recipe.toml", "--student", "sd-r", "--out", "mine"]);
    assert!(exported.stderr.contains(&format!("({KEPT} rows")), "what is handed on is what was measured: {exported:?}");
}

/// Takes every other answer of the student's arm back.
async fn unanswered(path: PathBuf) {
    let store = Store::open(&path).await.unwrap();
    let plan = store.runs().await.unwrap().remove(0).plan;
    let rows = store.items(&plan, Stage::Evaluate).await.unwrap();
    let of_student = rows.into_iter().filter(|row| row.arm == "two-stage/sd-r/tiny");
    let pending =
        |row: ItemRow| ItemRow { state: ItemState::Pending, payload_json: "null".into(), calls: Vec::new(), ..row };
    let rows: Vec<ItemRow> = of_student.step_by(2).map(pending).collect();
    assert_eq!(rows.len(), TEST / 2);
    store.put_items(&rows).await.unwrap();
    store.close().await.unwrap();
}

/// What a finished solver was asked is, to the letter, what any solver is asked in that place.
fn check_prompts(bench: &Bench) {
    let asked = |model: &str| -> Vec<Value> {
        let listed = bench.done(&["calls", "--model", model, "--last", "1000", "--json"]).stdout;
        let calls = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        calls.map(|call| call["request"]["messages"].clone()).collect()
    };
    let (student, base) = (asked("ans"), asked("tiny"));
    assert_eq!(student.len(), TEST);
    assert!(student.iter().all(|messages| base.contains(messages)), "the student is asked otherwise than its base");
}

#[test]
fn a_fully_trained_student_is_exported_as_a_model_of_its_own() {
    let bench = bench();
    let full =
        RECIPE.replace("rank = 4\n", "method = \"full\"\n").replace("learning_rate = 0.01", "learning_rate = 0.002");
    bench.recipe(&full).done(&["run", "recipe.toml"]);
    let question = "Ann has 3 boxes of 12 pens. How many pens has she?";
    let arm = |name: &str| format!("two-stage/{name}/tiny");
    let trained = bench.json(&["ask", question, "--arm", &arm("sd-r"), "--recipe", "recipe.toml", "--json"]);
    bench.done(&["export", "recipe.toml", "--student", "sd-r", "--out", "out"]);
    let alone = RECIPE.replace("[collect]", "[models.alone]\nsource = \"path:HERE/out\"\n\n[collect]");
    bench.recipe(&alone.replace("decomposers = [", "decomposers = [\"alone\", "));
    let exported = bench.json(&["ask", question, "--arm", &arm("alone"), "--recipe", "recipe.toml", "--json"]);
    for part in ["subquestions", "malformed", "reply"] {
        assert_eq!(exported[part], trained[part], "{part}");
    }
    assert!(trained["malformed"] != trained["subquestions"], "the student wrote nothing: {trained}");
}

#[test]
fn a_student_of_the_question_alone_reads_less_in_training_and_after() {
    let bench = bench();
    let read = |recipe: &str| {
        bench.recipe(recipe).done(&["run", "recipe.toml"]);
        let report = bench.json(&["report", "recipe.toml", "--json"]);
        let asked = |arm: usize| report["arms"][arm]["decompose_tokens_in"].as_u64().unwrap();
        [report["training"][0]["curve"][0]["tokens"].as_u64().unwrap(), asked(2), asked(1)]
    };
    let long = read(RECIPE);
    let short = read(&RECIPE.replace("target = \"SD-R\"", "target = \"SD-R\"\nprompt = \"question\""));
    assert!(short[0] < long[0] && short[1] < long[1], "{short:?} against {long:?}");
    assert_eq!(long[1], long[2], "student and base read the same");
    assert_eq!(short[2], long[2], "the base still needs its instruction");
}

#[test]
fn fast_numerics_make_another_model_and_the_same_student() {
    let bench = bench();
    let model = |recipe: &str| {
        bench.recipe(recipe).done(&["run", "recipe.toml"]);
        let report = bench.json(&["report", "recipe.toml", "--json"]);
        report["models"].as_array().unwrap().iter().find(|model| model["name"] == json!("tiny")).unwrap().clone()
    };
    let exact = model(RECIPE);
    let before = adapter(&bench, "runs");
    let fast = model(&RECIPE.replace("[models.tiny]", "[models.tiny]\nnumerics = \"fast\""));
    assert_eq!((&exact["numerics"], &fast["numerics"]), (&json!("exact"), &json!("fast")));
    assert_ne!(exact["id"], fast["id"]);
    let small = model(&RECIPE.replace("[models.tiny]", "[models.tiny]\nkv_cache = \"int8\""));
    assert_eq!(small["numerics"], json!("exact+kv-int8"));
    assert_ne!(exact["id"], small["id"]);
    assert!(before == adapter(&bench, "runs"), "the student was trained again");
}

#[test]
fn killed_in_training_the_run_goes_on_from_its_checkpoint() {
    let bench = bench();
    let mut child = bench.command(&["train", "recipe.toml"]).spawn().unwrap();
    wait_for(&mut child, || !students(&bench, "runs", "checkpoint.safetensors").is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    bench.done(&["train", "recipe.toml"]);
    bench.done(&["train", "recipe.toml", "--store", "other"]);
    assert!(adapter(&bench, "runs") == adapter(&bench, "other"), "the killed run became another student");
    assert!(students(&bench, "runs", "checkpoint.safetensors").is_empty(), "a finished student needs no checkpoint");
}

#[test]
fn nothing_kept_is_nothing_to_train_on() {
    let wrong = divvy_testkit::teacher::Lesson {
        rule: Box::new(|_| "The answer is: 987654321".to_owned()),
        ..divvy_testkit::teacher::Lesson::default()
    };
    let bench = Bench::new(wrong);
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    bench.recipe(RECIPE).run(&["run", "recipe.toml"]).complains(1, &["sd-r", "no rows to train on", "divvy status"]);
}

#[test]
fn a_question_longer_than_the_context_fails_alone() {
    let bench = bench();
    let long = "one word after another ".repeat(checkpoint::CONTEXT / 20);
    let rows = [long.as_str(), "Two cats meet three dogs.", "A boat sails north."].map(|passage| {
        json!({ "q": format!("What is said of {}?", &passage[..9]), "a": "nothing", "p": passage }).to_string() + "\n"
    });
    bench.workspace.write("test.jsonl", &rows.concat());
    let test = "[data.test]\ndataset = \"rows\"\nfiles = [\"test.jsonl\"]\n\
                columns = { question = \"q\", answer = \"a\", premise = \"p\" }\n";
    let (before, after) = RECIPE.split_once("[data.test]\ndataset = \"synth\"\nrows = 8\n").unwrap();
    let (after, _) = after.split_once("[students.sd-r]").unwrap();
    let evaluate = "[evaluate]\nsolvers = [\"tiny\"]\nstrategies = [\"direct\"]\ndirect_tokens = 4\n";
    bench.recipe(&format!("{before}{test}{after}{evaluate}"));
    // The second time it is the only one asked, and still no reason to call the model broken.
    for _ in 0..2 {
        let ended = bench.done(&["run", "recipe.toml"]);
        assert!(ended.stderr.contains("evaluate: 1 failed, one with: "), "{ended:?}");
    }
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let arm = &report["arms"][0];
    assert_eq!((&arm["n"], &arm["errors"]), (&json!(3), &json!(1)), "{arm}");
}
