//! Several data sets in one recipe: what is asked of whom and how often, what students learn from each, and what the report
//! says of each.

use std::collections::BTreeSet;

use divvy_core::{
    question::{Question, Split},
    synth::{Style, of_style},
};
use divvy_testkit::{checkpoint, teacher::Lesson};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, Manner},
};

const STORIES: usize = 4;
const FACTS: usize = 5;
/// Questions of a file, which come without decompositions.
const PLAIN: usize = 3;
const ALL: usize = STORIES + FACTS + PLAIN;

const DATA: &str = r#"
name = "grid"
seed = 7

[[data.train]]
dataset = "synth"
name = "stories"
style = "stories"
rows = 8
dev_rows = 2

[[data.train]]
dataset = "synth"
name = "facts"
style = "facts"
rows = 6

[[data.test]]
dataset = "synth"
name = "stories"
style = "stories"
rows = 4

[[data.test]]
dataset = "synth"
name = "facts"
style = "facts"
rows = 5

[[data.test]]
dataset = "rows"
name = "plain"
files = ["plain.jsonl"]
columns = { question = "q", answer = "a" }

[models.big]
source = "URL"
model = "teacher"
concurrency = 4

[models.other]
source = "URL"
model = "teacher"
provider = "another"

[models.tiny]
source = "path:HERE/tiny"

[collect]
teacher = "recorded"
"#;

const ARMS: &str = r#"
[evaluate]
solvers = ["big", "other"]
strategies = ["cot", "two-stage"]
decomposers = ["big", "teacher"]
"#;

/// Right about stories, and about nothing else.
fn lesson() -> Lesson {
    let stories = of_style(Style::Arithmetic, Split::Test, 7).take(STORIES).collect();
    let answer = |story: &Question, manner: Manner| match manner {
        Manner::Decompose => school::SUBQUESTIONS.to_owned(),
        _ => school::right(story),
    };
    Lesson { rule: school::rule_about(stories, answer), ..Lesson::default() }
}

fn bench(rest: &str) -> Bench {
    let bench = Bench::new(lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let row = |at: usize| {
        format!("{}\n", json!({ "q": format!("Which bird sings at hour {at} of the day?"), "a": "a wren" }))
    };
    bench.workspace.write("plain.jsonl", &(0..PLAIN).map(row).collect::<String>());
    bench.recipe(&format!("{DATA}{rest}"));
    bench
}

fn report(bench: &Bench) -> Value {
    bench.json(&["report", "recipe.toml", "--json"])
}

fn of_set<'a>(report: &'a Value, set: &str) -> &'a Value {
    let sets = report["by_dataset"].as_array().unwrap();
    sets.iter().find(|one| one["dataset"] == set).unwrap_or_else(|| panic!("{report}"))
}

fn slugs(arms: &Value) -> Vec<&str> {
    arms.as_array().unwrap().iter().map(|arm| arm["arm"].as_str().unwrap()).collect()
}

#[test]
fn every_arm_answers_every_data_set_and_a_decomposition_is_written_once() {
    let bench = bench(ARMS);
    let ended = bench.done(&["run", "recipe.toml"]);
    let decompositions = bench.teacher.asked().iter().filter(|asked| Manner::of(asked) == Manner::Decompose).count();
    assert_eq!(decompositions, ALL, "one for both solvers");
    // Two solvers: by themselves, after the model, and after the recorded teacher, who says nothing of the file.
    assert_eq!(bench.teacher.asked().len(), ALL + 2 * (ALL + ALL + STORIES + FACTS));

    let report = report(&bench);
    let stories = of_set(&report, "stories");
    let right = stories["arms"].as_array().unwrap();
    assert!(right.len() == 6 && right.iter().all(|arm| arm["correct"] == STORIES), "{stories}");
    let plain = of_set(&report, "plain");
    let without_teacher = ["cot/big", "two-stage/big/big", "cot/other", "two-stage/big/other"];
    assert_eq!(slugs(&plain["arms"]), without_teacher);
    assert!(plain["arms"].as_array().unwrap().iter().all(|arm| arm["n"] == PLAIN && arm["errors"] == 0), "{plain}");
    // It says of no question how many steps it takes; the model that decomposes first does, and the stories do themselves.
    assert_eq!(slugs(&plain["slices"]), without_teacher);
    for arm in plain["slices"].as_array().unwrap() {
        let numbers = arm["by_subquestions"].as_array().unwrap();
        assert_eq!(numbers.iter().map(|slice| slice["n"].as_u64().unwrap()).sum::<u64>(), PLAIN as u64, "{arm}");
    }
    let slices = stories["slices"].as_array().unwrap();
    assert!(slices.len() == 6 && slices.iter().all(|arm| arm.get("by_subquestions").is_none()), "{stories}");
    let teacher = &report["arms"][2];
    assert_eq!((&teacher["arm"], &teacher["n"]), (&json!("two-stage/teacher/big"), &json!(STORIES + FACTS)));
    let compared = stories["comparisons"].as_array().unwrap();
    assert!(
        !compared.is_empty() && compared.iter().all(|pair| pair["n"] == STORIES) && report["comparisons"] == json!([]),
        "{compared:?}"
    );
    // One family: three pairs a solver of the stories and of the facts, one of the plain ones.
    let facts = of_set(&report, "facts");
    for pair in [&stories, &facts, &plain].iter().flat_map(|set| set["comparisons"].as_array().unwrap()) {
        assert_eq!((&pair["family"], &pair["tests"]), (&json!("decomposer"), &json!(14)), "{pair}");
    }
    let opened: Vec<_> = report["datasets"].as_array().unwrap().iter().filter(|used| used["split"] == "test").collect();
    assert!(opened.len() == 3 && opened.iter().all(|used| used["opened_by"] == 1), "{opened:?}");

    assert_eq!(bench.stage("evaluate")["states"], json!({ "done": 6 * ALL - 2 * PLAIN, "pending": 0 }));
    let told = "by the teacher's number of subquestions, as no gold steps are known";
    for part in [told, "## Data set stories", "## Data set plain", "| two-stage/teacher/other |", "- facts: **"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    let page = std::fs::read_to_string(bench.file("runs/reports/grid.html")).unwrap();
    assert!(page.contains("id=\"set-3\"") && page.contains("id=\"subquestions-3\""), "{page}");
}

#[test]
fn the_grid_is_shown_before_anything_is_asked() {
    let bench = bench(ARMS);
    let ended = bench.done(&["run", "recipe.toml", "--dry-run"]);
    assert!(ended.stderr.contains("grid: 6 arms × stories 4 + facts 5 + plain 3 = 66 answers"), "{ended:?}");
    assert!(ended.stderr.contains("24 of them begin with a decomposition"), "{ended:?}");
    assert!(ended.stderr.contains("12 are written, each once for all arms that share it"), "{ended:?}");
    assert_eq!(bench.teacher.asked().len(), 0);
}

/// Everything that a student of these lines is taught, by the name of its set.
fn taught(bench: &Bench, student: &str) -> Vec<String> {
    let out = format!("{}.jsonl", student.replace('@', "-"));
    bench.done(&["export", "recipe.toml", "--student", student, "--rows", "messages", "--out", &out]);
    let text = std::fs::read_to_string(bench.file(&out)).unwrap();
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(id).collect()
}

fn count(ids: &[String], set: &str) -> usize {
    ids.iter().filter(|id| id.starts_with(&format!("{set}/"))).count()
}

const STUDENTS: &str = r#"
[students.universal]
base = "tiny"
target = "SD-T"
data = { stories = 1, facts = 0.5 }

[students.stories]
base = "tiny"
target = "SD-T"
data = ["stories"]

[students.sized]
base = "tiny"
target = "SD-T"
rows = [2, 5, 99]

[students.solver]
base = "tiny"
target = "SE-A-direct"
rows = [2, 5]
"#;

#[test]
fn students_learn_from_their_sets_in_their_sizes() {
    let bench = bench(STUDENTS);
    bench.done(&["collect", "recipe.toml"]);
    let universal = taught(&bench, "universal");
    assert_eq!([count(&universal, "stories"), count(&universal, "facts")], [8, 3]);
    assert_eq!(taught(&bench, "stories").len(), 8);
    let [small, large, all] = ["sized@2", "sized@5", "sized@99"].map(|student| taught(&bench, student));
    assert_eq!([small.len(), large.len(), all.len()], [2, 5, 14]);
    assert!(small.iter().all(|id| large.contains(id)) && large.iter().all(|id| all.contains(id)));
    assert_eq!(taught(&bench, "solver@5"), large, "the same questions for both parts");
}

#[test]
fn one_trained_on_one_set_is_measured_on_all() {
    let quick = STUDENTS.replace("base = \"tiny\"", "base = \"tiny\"\nepochs = 1\nrank = 2\nmax_row_tokens = 3000");
    let evaluate = r#"
[evaluate]
solvers = ["tiny", "student:solver"]
strategies = ["two-stage"]
decomposers = ["student:stories", "student:universal", "student:sized"]
arms = ["*/tiny", "two-stage/stories/*"]
decompose_tokens = 8
solve_tokens = 8
"#;
    let bench = bench(&format!("{quick}{evaluate}"));
    let ended = bench.done(&["run", "recipe.toml"]);
    assert!(ended.stderr.contains("students.sized@99 has 14 rows, all that there are, not 99"), "{ended:?}");
    let report = report(&bench);
    let expect = [
        "stories/tiny",
        "universal/tiny",
        "sized@2/tiny",
        "sized@5/tiny",
        "sized@99/tiny",
        "stories/solver@2",
        "stories/solver@5",
    ];
    for set in ["stories", "facts", "plain"] {
        assert_eq!(slugs(&of_set(&report, set)["arms"]), expect.map(|arm| format!("two-stage/{arm}")), "{set}");
    }
    let rows: BTreeSet<(&str, u64)> = report["training"]
        .as_array()
        .unwrap()
        .iter()
        .map(|training| (training["student"].as_str().unwrap(), training["rows"].as_u64().unwrap()))
        .collect();
    let trained = [
        ("sized@2", 2),
        ("sized@5", 5),
        ("sized@99", 14),
        ("solver@2", 2),
        ("solver@5", 5),
        ("stories", 8),
        ("universal", 11),
    ];
    assert_eq!(rows, trained.into());
    assert!(ended.stdout.contains("### Accuracy (%) by number of training rows"), "{}", ended.stdout);
    assert!(ended.stdout.contains("| two-stage/sized/tiny"), "{}", ended.stdout);
}

#[test]
fn a_row_of_one_set_leaks_into_the_test_of_another() {
    let bench = bench(ARMS);
    let fact = of_style(Style::Facts, Split::Test, 7).nth(1).unwrap();
    let rows = format!(
        "{}\n{}\n",
        json!({ "q": fact.text, "a": "x" }),
        json!({ "q": "Who sails north on the sea?", "a": "Ann" })
    );
    bench.workspace.write("train.jsonl", &rows);
    let set = "[[data.train]]\ndataset = \"rows\"\nfiles = [\"train.jsonl\"]\ncolumns = { question = \"q\", answer = \"a\" }\n";
    let data = DATA.replacen("[[data.test]]", &format!("{set}[[data.test]]"), 1).replace("\"recorded\"", "\"big\"");
    bench.recipe(&format!("{data}{ARMS}"));
    bench
        .run(&["run", "recipe.toml"])
        .complains(2, &["rows/train/0 (train)", "facts/test/1 (test)", "the same question"]);
    // Without students there is no telling what the rows are for, and a recorded teacher says nothing of them.
    bench.recipe(&format!("{DATA}{ARMS}").replacen("[[data.test]]", &format!("{set}[[data.test]]"), 1).replacen(
        "seed = 7",
        "seed = 7\n[data]\nleaks = \"drop\"",
        1,
    ));
    bench.run(&["run", "recipe.toml"]).complains(2, &["training questions of `rows`", "nothing recorded"]);
}
