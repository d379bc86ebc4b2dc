//! `divvy run --estimate`: a few rows are asked and kept, and what the rest will take is told with its interval.

use divvy_testkit::{
    script::{Fault, Step},
    teacher::{Bureau, Lesson},
};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, RECIPE, REQUESTS, TEST, TRAIN},
};

const ROWS: usize = 4;
/// Of a sample: collect, screen, direct, cot, and two for each two-stage answer.
const SAMPLED: usize = 6 * ROWS;

fn priced() -> String {
    RECIPE.replace("concurrency = 4", "concurrency = 4\nprice = { input = \"10\", output = \"100\" }")
}

fn estimate(bench: &Bench) -> Value {
    bench.json(&["run", "recipe.toml", &format!("--estimate={ROWS}"), "--json"])
}

fn left(told: &Value, stage: &str) -> Value {
    let lines = told["lines"].as_array().unwrap();
    lines.iter().find(|line| line["stage"] == stage).unwrap_or_else(|| panic!("{stage}: {told}"))["left"].clone()
}

#[test]
fn a_few_rows_tell_what_the_rest_takes_and_are_not_asked_again() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&priced());
    let told = estimate(&bench);
    assert_eq!(bench.teacher.asked().len(), SAMPLED);
    let rest = |rows: usize| json!({ "estimate": rows as f64, "ci": [rows as f64, rows as f64] });
    assert_eq!(left(&told, "collect")["calls"], rest(TRAIN - ROWS));
    assert_eq!(left(&told, "screen")["calls"], rest(TRAIN - ROWS));
    assert_eq!(left(&told, "evaluate")["calls"], rest(4 * (TEST - ROWS)));
    assert_eq!(told["all"]["calls"], rest(REQUESTS - SAMPLED));
    assert_eq!(told["asked_now"]["calls"], SAMPLED);

    let spent = told["asked_now"]["cost_nanos"].as_i64().unwrap();
    bench.done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), bench.repeats()), (REQUESTS, 0), "the sample was kept");
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    let truth = (status["calls"][0]["cost_nanos"].as_i64().unwrap() - spent) as f64;
    let money = &told["all"]["cost_nanos"];
    let (low, high) = (money["ci"][0].as_f64().unwrap(), money["ci"][1].as_f64().unwrap());
    assert!(low < truth && truth < high && high < 2.0 * truth, "{truth} in {money}");

    let after = estimate(&bench);
    assert_eq!(after["all"]["calls"], rest(0));
    assert_eq!(after["asked_now"]["calls"], 0);
    assert_eq!(bench.teacher.asked().len(), REQUESTS);
}

#[test]
fn an_estimate_again_asks_nothing_and_says_the_same() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&priced());
    let (first, second) = (estimate(&bench), estimate(&bench));
    assert_eq!(bench.teacher.asked().len(), SAMPLED);
    for figure in ["calls", "tokens_in", "tokens_out", "cost_nanos"] {
        assert_eq!(first["all"][figure], second["all"][figure], "{figure}");
    }
}

/// Another plan on the same store has paid for what the two share.
#[test]
fn what_another_plan_has_paid_for_is_free() {
    // That its first try came to nothing is no matter of this plan's, either.
    let bench = Bench::new(Lesson { script: vec![Step::fault(Fault::Empty)], ..school::lesson() });
    bench.recipe(RECIPE).done(&["screen", "recipe.toml"]);
    bench.recipe(&RECIPE.replace("name = \"school\"", "name = \"again\""));
    for _ in 0..2 {
        let told = estimate(&bench);
        assert_eq!(left(&told, "collect")["calls"]["estimate"], 0.0, "{told}");
        assert_eq!(left(&told, "screen")["calls"]["estimate"], 0.0);
        assert_eq!(left(&told, "evaluate")["calls"]["estimate"], (4 * (TEST - ROWS)) as f64);
    }
    let found = bench.stage("collect")["calls"]["found"].clone();
    assert_eq!(found["calls"], ROWS, "{found}");
    let told = bench.done(&["status", "recipe.toml"]).stdout;
    assert!(told.contains("price unknown; all in the store before this plan began, and free for it\n"), "{told}");
    // Of the evaluation alone.
    assert!(told.contains(&format!("spent for this plan: {} calls", SAMPLED - 2 * ROWS)), "{told}");
    assert!(!told.contains("behind no item") && !told.contains("came to nothing:"), "{told}");
}

/// They are charged and count against the caps, like those that bring a reply.
#[test]
fn tries_that_come_to_nothing_are_foreseen() {
    let told = |script: Vec<Step>| {
        let bench = Bench::new(Lesson { script, ..school::lesson() });
        left(&estimate(bench.recipe(&priced())), "collect")
    };
    let (smooth, rough) = (told(Vec::new()), told(vec![Step::fault(Fault::Empty)]));
    assert_eq!(smooth["calls"], rough["calls"]);
    for figure in ["tokens_in", "cost_nanos"] {
        let of = |told: &Value| told[figure]["estimate"].as_f64().unwrap();
        assert!(of(&rough) > of(&smooth), "{figure}: {rough}, {smooth}");
    }
}

/// A batch answers all rows in the hours that it takes for one.
#[test]
fn how_long_batches_take_is_not_known_from_their_rows() {
    let bench = Bench::new(school::bureau(Bureau::default()));
    let told = estimate(bench.recipe(&format!("{}\n[budget]\nminutes = 60\n", school::in_batches(""))));
    assert_eq!(left(&told, "collect")["calls"]["estimate"], (TRAIN - ROWS) as f64);
    assert_eq!(left(&told, "collect")["seconds"], Value::Null, "{told}");
    assert_eq!(told["all"]["seconds"], Value::Null);
    assert_eq!(told["budget"][0]["verdict"], "unknown");
}

#[test]
fn the_caps_of_the_budget_are_held_against_it() {
    let bench = Bench::new(school::lesson());
    let with = |cap: &str| bench.recipe(&format!("{}\n[budget]\n{cap}\n", priced()));
    // All commands together: the estimate's own calls are spent.
    with("calls = 49\ndollars = \"100\"");
    let told = estimate(&bench);
    let of = |cap: &str| told["budget"].as_array().unwrap().iter().find(|told| told["cap"] == cap).unwrap().clone();
    // 16 for collecting and screening, 16 for the evaluation.
    let stops = json!({
        "cap": "calls", "most": 49.0, "spent": SAMPLED as f64, "verdict": "stops", "stage": "evaluate", "share": 9.0 / 16.0
    });
    assert_eq!((of("calls"), &of("cost_nanos")["verdict"]), (stops, &json!("fits")));
    let text = bench.done(&["run", "recipe.toml", "--estimate=4"]).stdout;
    assert!(text.contains("the run would stop in evaluate, with about 56 % of what it has left done"), "{text}");
    assert!(text.contains("collect   4 of 12 rows done, and free") && text.contains("$"), "{text}");

    let short = Bench::new(school::lesson());
    short.recipe(&format!("{RECIPE}\n[budget]\ncalls = 6\n"));
    let ended = short.run(&["run", "recipe.toml", "--estimate=4"]);
    assert_eq!((ended.code, short.teacher.asked().len()), (Some(3), 6), "{ended:?}");
    assert!(ended.stdout.contains("not counted, since none of its rows is done"), "{ended:?}");
}

/// Whose student is still to be trained: nobody trains for an estimate.
#[test]
fn an_arm_that_cannot_be_asked_yet_borrows_its_solver_from_another() {
    let bench = Bench::new(school::lesson());
    divvy_testkit::checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let student =
        "[models.tiny]\nsource = \"path:HERE/tiny\"\n[students.sd]\nbase = \"tiny\"\ntarget = \"SD-T\"\n[collect]";
    let recipe = priced().replace("[collect]", student).replace("[\"teacher\"]", "[\"teacher\", \"student:sd\"]");
    let told = estimate(bench.recipe(&recipe));
    assert_eq!(bench.teacher.asked().len(), SAMPLED);
    // Four calls a row that is left, and one a row of the student's arm, of which no row is done.
    assert_eq!(left(&told, "evaluate")["calls"]["estimate"], (4 * (TEST - ROWS) + TEST) as f64, "{told}");
    let not_counted = told["not_counted"].to_string();
    for words in ["two-stage/sd/big: its solver counted as in two-stage/teacher/big", "train sd: not counted, about"] {
        assert!(not_counted.contains(words), "{words}: {not_counted}");
    }
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    assert_eq!(status["students"][0]["trained"], false);
}

#[test]
fn without_a_price_money_is_unknown() {
    let bench = Bench::new(school::lesson());
    let told = estimate(bench.recipe(RECIPE));
    assert_eq!(told["all"]["cost_nanos"], Value::Null);
    assert!(told["all"]["tokens_out"]["estimate"].as_f64().unwrap() > 0.0);
}

/// Two answers to one question that are the same words are one call.
#[test]
fn the_verdicts_of_a_judge_are_foreseen() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&format!("{}\n[evaluate.judge]\nmodel = \"big\"\n", priced()));
    let dry = bench.done(&["run", "recipe.toml", "--dry-run"]).stderr;
    let line = dry.lines().find(|line| line.starts_with("judge")).unwrap_or_else(|| panic!("{dry}"));
    assert_eq!(line.split_whitespace().nth(2).unwrap(), (3 * TEST).to_string(), "{line}");
    assert!(line.contains('$') && line.ends_with("judge of direct/big, cot/big, two-stage/teacher/big"), "{line}");

    let told = estimate(&bench);
    let asked = bench.teacher.asked().len();
    // `direct` is wrong on every second row, and says there what the others do not.
    let wrong = asked - SAMPLED - ROWS;
    assert!(wrong <= ROWS && told["asked_now"]["calls"] == asked, "{told}");
    assert_eq!(left(&told, "judge")["calls"]["estimate"], (TEST - ROWS) as f64 * (1.0 + wrong as f64 / ROWS as f64));
    assert!(left(&told, "judge")["cost_nanos"]["estimate"].as_f64().unwrap() > 0.0, "{told}");
    let status = bench.stage("judge");
    assert_eq!((&status["items"], &status["states"]["pending"]), (&json!(3 * TEST), &json!(3 * (TEST - ROWS))));
    let text = bench.done(&["status", "recipe.toml"]).stdout;
    assert!(text.contains("judge (24)\n") && text.contains("left, from 12 rows"), "{text}");

    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), REQUESTS + TEST + TEST / 2, "a verdict on each answer that differs");
    assert_eq!(estimate(&bench)["all"]["calls"]["estimate"], 0.0);
    assert_eq!(bench.stage("judge")["states"]["pending"], 0);
    let again = bench.done(&["run", "recipe.toml", "--dry-run"]).stderr;
    assert!(again.contains(&format!("judge {}", 3 * TEST)), "{again}");
}

#[test]
fn a_judge_of_an_arm_that_cannot_be_asked_yet_is_counted_as_that_of_another() {
    let bench = Bench::new(school::lesson());
    divvy_testkit::checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let student =
        "[models.tiny]\nsource = \"path:HERE/tiny\"\n[students.sd]\nbase = \"tiny\"\ntarget = \"SD-T\"\n[collect]";
    let recipe = priced().replace("[collect]", student).replace("[\"teacher\"]", "[\"teacher\", \"student:sd\"]");
    let told = estimate(bench.recipe(&format!("{recipe}\n[evaluate.judge]\nmodel = \"big\"\n")));
    let not_counted = told["not_counted"].to_string();
    assert!(not_counted.contains("judge of two-stage/sd/big: counted as that of direct/big"), "{not_counted}");
}

#[test]
fn wrong_flags_are_bad_usage() {
    let bench = Bench::idle();
    bench.recipe(RECIPE);
    for arguments in [&["--estimate=1"][..], &["--estimate=x"], &["--json"], &["--estimate", "--dry-run"]] {
        let ended = bench.run(&[&["run", "recipe.toml"], arguments].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    }
    assert_eq!(bench.teacher.asked().len(), 0);
}
