//! A store outlives its recipes: another recipe on it pays only for what was never asked before.

use serde_json::json;

use crate::{
    bench::Bench,
    school::{self, CONCURRENCY, RECIPE, REQUESTS, TEST, TRAIN},
};

const STRATEGIES: &str = "strategies = [\"direct\", \"cot\", \"two-stage\"]";

#[test]
fn an_arm_that_is_added_is_all_that_is_paid_for() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&RECIPE.replace(STRATEGIES, "strategies = [\"direct\"]")).done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), 2 * TRAIN + TEST);
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), bench.repeats()), (REQUESTS, 0));
    // Why its first stages took no time.
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let stages = report["stages"].as_array().unwrap();
    let asking = stages.iter().filter(|stage| stage["stage"] != "train");
    let found: Vec<_> = asking.map(|stage| (&stage["stage"], &stage["found"])).collect();
    let all = json!({"calls": TRAIN, "of": TRAIN});
    let some = json!({"calls": TEST, "of": REQUESTS - 2 * TRAIN});
    assert_eq!(found, [(&json!("collect"), &all), (&json!("screen"), &all), (&json!("evaluate"), &some)]);
}

#[test]
fn how_a_model_is_reached_is_no_part_of_what_it_said() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    let faster = "concurrency = 9\ntimeout_seconds = 30\nprice = { input = \"1\", output = \"2\" }";
    bench.recipe(&RECIPE.replace(&format!("concurrency = {CONCURRENCY}"), faster)).done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), REQUESTS);
}

#[test]
fn each_recipe_reports_its_own_figures() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE).done(&["run", "recipe.toml"]);
    let fewer = RECIPE.replace("rows = 8", "rows = 5");
    let fewer = bench.workspace.write("fewer.toml", &fewer.replace("URL", &bench.teacher.url()));
    let fewer = fewer.to_str().unwrap();
    bench.done(&["run", fewer]);
    let n = |recipe: &str| bench.json(&["report", recipe, "--json"])["arms"][0]["n"].as_u64().unwrap();
    assert_eq!((n("recipe.toml"), n(fewer)), (TEST as u64, 5));
    let data = bench.json(&["report", "recipe.toml", "--json"])["datasets"].clone();
    let test = data.as_array().unwrap().iter().find(|used| used["split"] == "test").unwrap();
    assert_eq!(test["opened_by"], 2, "both plans have looked at the test set");
}

#[test]
fn samples_are_different_calls() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&RECIPE.replace("[collect]", "[collect]\nsamples = 3\ntemperature = 0.7"));
    bench.done(&["collect", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), bench.repeats()), (3 * TRAIN, 0));
    assert!(bench.teacher.asked().iter().all(|asked| asked.body["temperature"] == 0.7 && asked.body["seed"].is_u64()));
}
