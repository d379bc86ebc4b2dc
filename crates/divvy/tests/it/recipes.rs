//! The recipes that come with divvy: each can be read and planned, its questions are there wherever it needs no file, and the
//! one that stands for the paper's main table makes that table.

use std::path::{Path, PathBuf};

use divvy_core::{
    arm::Arm,
    plan::Plan,
    question::{Question, Split},
    recipe::{DataSet, Method, Recipe},
    synth::{Style, of_style},
};
use divvy_testkit::{checkpoint, teacher::Lesson};
use serde_json::Value;

use crate::{
    bench::Bench,
    school::{self, Manner},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes")
}

/// Every recipe with its text, in the order of their names.
fn recipes() -> Vec<(PathBuf, String)> {
    let files = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = files(folder()).chain(files(folder().join("paper")));
    let mut paths: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn planned(path: &Path, text: &str) -> (Recipe, Plan) {
    let origin = path.display().to_string();
    let recipe = Recipe::parse(text, &origin).unwrap_or_else(|error| panic!("{error}"));
    let plan = Plan::resolve(&recipe, &origin).unwrap_or_else(|error| panic!("{error}"));
    (recipe, plan)
}

fn needs_files(recipe: &Recipe) -> bool {
    recipe.data.train.all().iter().chain(recipe.data.test.all()).any(|set: &DataSet| !set.files.is_empty())
}

#[test]
fn every_recipe_has_a_plan_under_the_name_of_its_file() {
    let recipes = recipes();
    let tables = recipes.iter().filter(|(path, _)| path.to_string_lossy().contains("paper/table")).count();
    assert!(recipes.len() > 12 && tables == 9, "{tables} tables in {} recipes", recipes.len());
    for (path, text) in recipes {
        let (recipe, plan) = planned(&path, &text);
        assert_eq!(Some(recipe.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
        assert!(plan.evaluate.is_some_and(|evaluate| evaluate.arms.len() > 2), "{}", path.display());
        assert!(text.contains("divvy run recipes/") || recipe.name == "quickstart", "{}", path.display());
    }
}

/// Without any, Holm's adjustment is over every pair that a report asks about, and of several data sets nothing is ever shown. The
/// quickstart has one data set and few arms, and its plan is one that people compare their own run with.
#[test]
fn every_recipe_but_the_quickstart_says_beforehand_what_it_decides() {
    for (path, text) in recipes() {
        let (recipe, plan) = planned(&path, &text);
        let declared = plan.evaluate.map_or(0, |evaluate| evaluate.comparisons.len());
        assert!((5..=10).contains(&declared) || recipe.name == "quickstart", "{}: {declared}", path.display());
    }
}

#[test]
fn the_papers_tables_have_the_papers_rows() {
    let arms = |name: &str| {
        let path = folder().join("paper").join(name);
        let (_, plan) = planned(&path, &std::fs::read_to_string(&path).unwrap());
        (plan.evaluate.unwrap().arms.iter().map(Arm::slug).collect::<Vec<_>>(), plan.data.test.0, plan.students)
    };
    let (_, sets, _) = arms("table4.toml");
    assert_eq!(sets, ["stories", "passages"], "for GSM8K and DROP");
    let (slugs, _, students) = arms("table7.toml");
    assert!(slugs.contains(&"two-stage/sd-r-full/sd-r-full".to_owned()), "{slugs:?}");
    assert_eq!(students["sd-r-full"].method, Method::Full);
    let (slugs, _, students) = arms("table9.toml");
    assert!(slugs.contains(&"two-stage/sd-r-shot/qwen-0.5b".to_owned()), "{slugs:?}");
    assert_eq!(students["sd-r-shot"].shots, 1);
}

/// Those of the paper, and chain of thought.
fn rows_of_table_1() -> [String; 12] {
    let (large, small) = ("qwen-1.5b", "smollm2");
    [
        format!("direct/{large}"),
        format!("cot/{large}"),
        format!("two-stage/teacher/{large}"),
        format!("two-stage/{small}/{large}"),
        format!("two-stage/sd-t/{large}"),
        format!("two-stage/sd-r/{large}"),
        format!("direct/{small}"),
        format!("cot/{small}"),
        format!("two-stage/teacher/{small}"),
        format!("two-stage/{small}/{small}"),
        "two-stage/teacher/se-t".to_owned(),
        "two-stage/teacher/se-a".to_owned(),
    ]
}

/// What Table 1 declares, by the places of its rows.
const DECIDED: [(usize, usize); 10] =
    [(5, 3), (5, 4), (5, 2), (11, 8), (5, 11), (5, 0), (5, 1), (11, 1), (11, 0), (2, 1)];

#[test]
fn table_1_plans_the_papers_rows_and_declares_what_it_decides() {
    let path = folder().join("paper/table1.toml");
    let (_, plan) = planned(&path, &std::fs::read_to_string(&path).unwrap());
    let (evaluate, rows) = (plan.evaluate.unwrap(), rows_of_table_1());
    let mut arms: Vec<String> = evaluate.arms.iter().map(Arm::slug).collect();
    arms.sort();
    let mut expect = rows.clone();
    expect.sort();
    assert_eq!(arms, expect);
    let declared: Vec<(&str, &str)> = evaluate.comparisons.iter().map(|pair| (&*pair.a, &*pair.b)).collect();
    assert_eq!(declared, DECIDED.map(|(a, b)| (&*rows[a], &*rows[b])));
    assert_eq!(plan.data.test.0, STYLES.map(|(name, _)| name));
}

#[test]
fn a_recipe_without_files_needs_nothing_but_divvy() {
    let bench = Bench::idle();
    for (path, text) in recipes() {
        if needs_files(&planned(&path, &text).0) {
            continue;
        }
        let ended = bench.done(&["run", path.to_str().unwrap(), "--dry-run"]);
        assert!(ended.stderr.contains("grid: ") && ended.stderr.contains("local models: about"), "{ended:?}");
    }
}

#[test]
fn a_recipe_of_files_reads_them_where_they_are() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !data.exists() {
        println!("SKIPPED: no data sets at {}", data.display());
        return;
    }
    let bench = Bench::idle();
    let of_files = recipes().into_iter().filter(|(path, text)| needs_files(&planned(path, text).0));
    for (path, _) in of_files {
        let ended = bench.done(&["data", path.to_str().unwrap(), "--data", data.to_str().unwrap(), "--rows", "1"]);
        assert!(ended.stdout.contains("train: ") && ended.stdout.contains("test: "), "{}: {ended:?}", path.display());
    }
}

/// What its comment offers, in the place of its own data.
fn with_real_data(text: &str) -> String {
    let (_, offer) = text.split_once("`--data DIR` says where:\n").unwrap();
    let offer: Vec<&str> = offer.lines().map_while(|line| line.strip_prefix('#')).collect();
    let data: Vec<&str> = offer.iter().take_while(|line| line.is_empty() || line.starts_with("   ")).copied().collect();
    let (before, after) = text.split_once("[[data.train]]\ndataset = \"synth\"").unwrap();
    let (_, after) = after.split_once("[models.").unwrap();
    format!("{before}{}\n[models.{after}", data.join("\n"))
}

#[test]
fn table_1_offers_the_papers_own_data() {
    let path = folder().join("paper/table1.toml");
    let (_, plan) = planned(&path, &with_real_data(&std::fs::read_to_string(&path).unwrap()));
    assert_eq!(plan.data.train.0, ["gsm8k", "drop"]);
    assert_eq!(plan.data.test.0, ["gsm8k", "drop", "bamboogle"]);
}

const STYLES: [(&str, Style); 3] =
    [("stories", Style::Arithmetic), ("passages", Style::Passage), ("facts", Style::Facts)];
const TRAIN: usize = 6;
const TEST: usize = 3;

/// The same recipe with a teacher over HTTP for the large model, a tiny one for the small, and few rows.
fn shrunken(text: &str) -> String {
    let (before, after) = text.split_once("[models.smollm2]").unwrap();
    let (_, after) = after.split_once("[collect]").unwrap();
    let models = "[models.smollm2]\nsource = \"path:HERE/tiny\"\n[models.\"qwen-1.5b\"]\nsource = \"URL\"\nmodel = \"teacher\"\n";
    let rows = |text: &str| text.replace("rows = 200", "rows = 6").replace("rows = 150", "rows = 3");
    let student = "base = \"smollm2\"\nrank = 2\nmax_row_tokens = 3000";
    let after = after.replace("base = \"smollm2\"", student).replace("epochs = 3", "epochs = 1");
    let after = after
        .replace("solve_tokens = 300", "solve_tokens = 8")
        .replace("decompose_tokens = 160", "decompose_tokens = 8");
    format!("{}{models}[collect]{after}", rows(before))
}

/// Right about three of four, in both splits.
fn lesson() -> Lesson {
    let of = |split, rows| STYLES.into_iter().flat_map(move |(_, style)| of_style(style, split, 5).take(rows));
    let questions: Vec<Question> = of(Split::Train, TRAIN).chain(of(Split::Test, TEST)).collect();
    let answer = |question: &Question, manner: Manner| match manner {
        Manner::Decompose => school::SUBQUESTIONS.to_owned(),
        _ if school::row(question) % 4 == 3 => "I guess.\nThe answer is: 987654321".to_owned(),
        _ => school::right(question),
    };
    Lesson { rule: school::rule_about(questions, answer), ..Lesson::default() }
}

#[test]
fn table_1_has_the_rows_and_columns_of_the_paper() {
    let bench = Bench::new(lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let text = std::fs::read_to_string(folder().join("paper/table1.toml")).unwrap();
    let ended = bench.recipe(&shrunken(&text)).done(&["run", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let rows = rows_of_table_1();
    let sets = report["by_dataset"].as_array().unwrap();
    assert_eq!(
        sets.iter().map(|set| set["dataset"].as_str().unwrap()).collect::<Vec<_>>(),
        STYLES.map(|(name, _)| name)
    );
    for set in sets {
        let arms = set["arms"].as_array().unwrap();
        assert_eq!(arms.iter().map(|arm| arm["arm"].as_str().unwrap()).collect::<Vec<_>>(), rows);
        assert!(
            arms.iter().all(|arm| arm["n"] == TEST && arm["errors"] == 0 && arm["tokens_in"].as_u64() > Some(0)),
            "{set}"
        );
        assert_eq!(arms[1]["correct"], TEST, "the large model knows the first three: {set}");
        let compared = |a: &str, b: &str| {
            set["comparisons"]
                .as_array()
                .unwrap()
                .iter()
                .any(|pair| pair["a"] == *a && pair["b"] == *b && pair["n"] == TEST)
        };
        for (a, b) in DECIDED.into_iter().chain([(10, 8), (5, 10)]) {
            assert!(compared(&rows[a], &rows[b]), "{} against {}: {set}", rows[a], rows[b]);
        }
        let declared = set["comparisons"].as_array().unwrap().iter().filter(|pair| pair["declared"] == true);
        assert!(declared.clone().all(|pair| pair["tests"] == 3 * DECIDED.len()), "on three data sets: {set}");
        assert_eq!(declared.count(), DECIDED.len(), "{set}");
        assert!(set["verdict"]["headline"].is_string(), "{set}");
    }
    let trained: Vec<(&Value, &Value)> =
        report["training"].as_array().unwrap().iter().map(|one| (&one["student"], &one["rows"])).collect();
    let rows_of = |student: &str| trained.iter().find(|(name, _)| *name == student).unwrap().1.as_u64().unwrap();
    assert_eq!([rows_of("sd-t"), rows_of("se-t"), rows_of("se-a")], [18, 18, 18]);
    assert_eq!(rows_of("sd-r"), 15, "those that led to a right answer");
    assert!(ended.stdout.contains("stories (n = 3)") && ended.stdout.contains("facts (n = 3)"), "{}", ended.stdout);
}
