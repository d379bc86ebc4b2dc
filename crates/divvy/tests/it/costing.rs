//! What a run cost, by its report: tokens, machine time, tries that failed, and whether a student is paid back.

use divvy_testkit::{
    checkpoint,
    script::{Fault, Step},
    teacher::{Asked, Lesson},
};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, Manner, TEST, TRAIN},
};

/// A teacher that is paid by the token decomposes and solves; a tiny student is to decompose in its place.
const RECIPE: &str = r#"
name = "costly"
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
PRICE

[models.tiny]
source = "path:HERE/tiny"

[collect]
teacher = "big"

[screen]
solver = "big"

[students.sd-r]
base = "tiny"
target = "SD-R"
rank = 4
epochs = 1
batch_rows = 4
max_row_tokens = 3000

[evaluate]
solvers = ["big"]
strategies = ["direct", "cot", "two-stage"]
decomposers = ["student:sd-r", "teacher"]
decompose_tokens = 16

[costs]
TERMS
"#;

/// A thousandth of a dollar for a token in, two for one out.
const PRICE: &str = "price = { input = \"1\", output = \"2\" }";

fn bench(price: &str, terms: &str, lesson: Lesson) -> Bench {
    let bench = Bench::new(lesson);
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    write(&bench, price, terms);
    bench
}

fn write(bench: &Bench, price: &str, terms: &str) {
    bench.recipe(&RECIPE.replace("PRICE", price).replace("TERMS", terms));
}

fn report(bench: &Bench) -> Value {
    bench.json(&["report", "recipe.toml", "--json"])
}

fn of<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|entry| entry[key] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}

fn cost<'a>(report: &'a Value, slug: &str) -> &'a Value {
    of(&report["costs"]["arms"], "arm", slug)
}

/// By the price above.
fn paid(tokens: &Value) -> i64 {
    1000 * tokens["input"].as_i64().unwrap() + 2000 * tokens["output"].as_i64().unwrap()
}

#[test]
fn every_token_and_every_hour_is_paid_for() {
    let bench = bench(PRICE, "machine_hour = \"0.36\"\nutilisation = 0.5", school::lesson());
    let run = bench.done(&["run", "recipe.toml"]);
    let report = report(&bench);
    for slug in ["direct/big", "cot/big", "two-stage/teacher/big"] {
        let cost = cost(&report, slug);
        assert_eq!(cost["money"]["total"].as_i64(), Some(paid(&cost["tokens"])), "{cost}");
        assert_eq!((&cost["n"], &cost["latency"]["n"]), (&json!(TEST), &json!(TEST)), "{cost}");
        assert!(cost["machine"].is_null(), "somebody else's machine: {cost}");
    }
    assert_eq!(cost(&report, "two-stage/teacher/big")["calls"], json!(2 * TEST), "shared calls count for each arm");
    let student = cost(&report, "two-stage/sd-r/big");
    assert!(student["money"]["total"].as_i64().unwrap() > 0, "tokens and the machine's time: {student}");
    assert!(student["one_off"]["money_nanos"].as_i64().unwrap() > 0, "{student}");

    let once = of(&report["costs"]["students"], "student", "sd-r");
    for stage in ["collection", "screening"] {
        assert_eq!(once[stage]["money_nanos"].as_i64(), Some(paid(&once[stage]["tokens"])), "{stage}: {once}");
    }
    let tokens = &report["collection"];
    assert_eq!(once["collection"]["tokens"]["input"], tokens["tokens_in"], "all {TRAIN} rows");
    // Ten cents an hour of training by 36 cents a machine's hour.
    let training = &once["training"];
    let wall = report["training"][0]["wall_ms"].as_i64().unwrap();
    assert_eq!(
        (training["money_nanos"].as_i64(), training["machine_us"].as_i64()),
        (Some(100 * wall), Some(1000 * wall))
    );

    let pairs = report["costs"]["distilling"].as_array().unwrap();
    let replaced: Vec<&Value> = pairs.iter().map(|pair| &pair["replaces"]).collect();
    assert_eq!(replaced, [&json!("cot/big"), &json!("two-stage/teacher/big")], "{pairs:?}");
    assert!(pairs.iter().all(|pair| pair["measure"] == "money"), "{pairs:?}");
    for said in [
        "What it costs and saves:",
        "How sure:",
        "What would change it:",
        "## When a student is paid back",
        "utilisation",
    ] {
        let said = said.replace("utilisation", "at work 50.0 % of the time");
        assert!(run.stdout.contains(&said), "{said} in {}", run.stdout);
    }
}

/// An endpoint that says nothing of tokens when it is asked for a chain of thought.
#[test]
fn tokens_that_an_endpoint_does_not_count_are_unknown_and_no_zero() {
    let misfortune = |asked: &Asked| (Manner::of(asked) == Manner::Cot).then(|| Step::fault(Fault::NoUsage));
    let lesson = Lesson { misfortune: Box::new(misfortune), ..school::lesson() };
    let bench = bench("", "", lesson);
    let run = bench.done(&["run", "recipe.toml"]);
    let report = report(&bench);
    assert_eq!(cost(&report, "cot/big")["unknown_usage"], json!(TEST));
    let (cot, direct) = (of(&report["arms"], "arm", "cot/big"), of(&report["arms"], "arm", "direct/big"));
    assert!(cot["tokens_in"].is_null() && cot["tokens_out"].is_null() && cot["solve_tokens_in"].is_null(), "{cot}");
    assert!(direct["tokens_in"].as_u64() > Some(0), "{direct}");
    let note = format!("Calls without: cot/big {TEST} of {TEST}.");
    assert!(run.stdout.contains(&note), "{note} in {}", run.stdout);
    let rows = bench.done(&["report", "recipe.toml", "--format", "csv"]).stdout;
    let head: Vec<&str> = rows.lines().next().unwrap().split(',').collect();
    let at = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let line: Vec<&str> = rows.lines().find(|line| line.contains(",cot/big,")).unwrap().split(',').collect();
    assert_eq!((line[at("tokens_in")], line[at("tokens_out")]), ("", ""), "{line:?}");
}

#[test]
fn a_price_that_is_written_later_counts_what_was_asked_before() {
    let bench = bench("", "", school::lesson());
    bench.done(&["run", "recipe.toml"]);
    let unknown = report(&bench);
    assert!(cost(&unknown, "cot/big")["money"].is_null());
    let pair = &unknown["costs"]["distilling"][0];
    assert_eq!((&pair["measure"], &pair["break_even"]), (&Value::Null, &Value::Null), "tokens and hours do not add up");

    let asked = bench.teacher.asked().len();
    write(&bench, PRICE, "machine_hour = \"3600\"");
    let known = report(&bench);
    assert_eq!(known["plan"], unknown["plan"], "prices are no part of a plan");
    assert_eq!(bench.teacher.asked().len(), asked);
    let (cot, student) = (cost(&known, "cot/big"), cost(&known, "two-stage/sd-r/big"));
    assert_eq!(cot["money"]["total"].as_i64(), Some(paid(&cot["tokens"])));
    let dear = student["money"]["total"].as_i64().unwrap();
    write(&bench, PRICE, "machine_hour = \"3600\"\nutilisation = 0.1");
    let idle = report(&bench);
    let tenfold = cost(&idle, "two-stage/sd-r/big")["money"]["total"].as_i64().unwrap();
    assert!(tenfold > 2 * dear, "a dollar a second, and ten of them: {dear} {tenfold}");
}

#[test]
fn tries_that_failed_and_questions_without_an_answer_are_counted() {
    let misfortune = school::never_answered("synth/test/2", Manner::TwoStage, school::breaks_off());
    let lesson = Lesson { script: vec![Step::status(500)], misfortune, ..school::lesson() };
    let bench = bench(&format!("{PRICE}\ntimeout_seconds = 4"), "machine_hour = \"0.36\"", lesson);
    bench.done(&["run", "recipe.toml"]);
    let report = report(&bench);
    let failed = cost(&report, "two-stage/teacher/big");
    assert_eq!(failed["calls"], json!(2 * TEST - 1), "the decomposition was paid for: {failed}");
    assert!(failed["failed_tries"].as_i64().unwrap() > 0 && failed["n"] == json!(TEST), "{failed}");
    let (kept, lost) = (paid(&failed["tokens"]), paid(&failed["failed_tokens"]));
    assert!(lost > 0, "{failed}");
    assert_eq!(failed["money"]["total"].as_i64(), Some(kept + lost), "a try has a price without its call: {failed}");
    assert_eq!(failed["latency"]["n"], json!(TEST - 1), "nobody waited for an answer that never came");

    let arm = of(&report["arms"], "arm", "two-stage/teacher/big");
    let (all, tokens) = (["tokens_in", "tokens_out"].map(|of| &arm[of]), &failed["tokens"]);
    assert_eq!(all, [&tokens["input"], &tokens["output"]], "the two tables are of the same calls");
    let rows = bench.done(&["report", "recipe.toml", "--format", "outcomes"]).stdout;
    let mut lines = rows.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let at = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let (arm, outcome) = (at("arm"), at("outcome"));
    let line = lines.find(|line| line[arm] == "two-stage/teacher/big" && line[outcome] == "error").unwrap();
    assert_ne!(line[at("decompose_in")], "0", "its decomposition was paid for: {line:?}");
    assert_eq!((line[at("solve_in")], line[at("solve_out")]), ("0", "0"), "{line:?}");
}

#[test]
fn what_the_recipe_declares_is_the_one_family() {
    let bench = Bench::new(school::lesson());
    let declared = "decomposers = [\"teacher\"]\n\n[[evaluate.comparisons]]\na = \"cot/big\"\nb = \"direct/big\"\n";
    bench.recipe(&school::RECIPE.replace("decomposers = [\"teacher\"]\n", declared)).done(&["run", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let pairs = report["comparisons"].as_array().unwrap();
    let first = &pairs[0];
    assert_eq!(
        (&first["a"], &first["family"], &first["exploratory"]),
        (&json!("cot/big"), &json!("declared"), &json!(false))
    );
    assert_eq!((&first["p_holm"], first.get("tests")), (&first["p_value"], None), "it is alone in its family");
    assert_eq!(first["declared"], true);
    assert!(pairs.len() > 1 && pairs[1..].iter().all(|pair| pair["exploratory"] == true), "{pairs:?}");
    let text = bench.done(&["report", "recipe.toml"]).stdout;
    assert!(text.contains("decomposer, exploratory") && text.contains("The others are exploratory"), "{text}");

    bench.recipe(&school::RECIPE.replace("decomposers = [\"teacher\"]\n", &declared.replace("cot/big", "cot/bug")));
    bench.run(&["run", "recipe.toml"]).complains(2, &["evaluate.comparisons.a", "did you mean `cot/big`?"]);
    bench.recipe(&format!("{}\n[costs]\nutilisation = 30\n", school::RECIPE));
    bench.run(&["run", "recipe.toml"]).complains(2, &["costs.utilisation", "as in 0.5"]);
}
