//! Recipes that cannot be run: exit code 2, and what to write instead.

use crate::{bench::Bench, school::RECIPE};

#[track_caller]
fn refused(recipe: &str, words: &[&str]) {
    let bench = Bench::idle();
    bench.recipe(recipe).run(&["run", "recipe.toml"]).complains(2, words);
    assert!(!bench.file("runs").exists(), "a bad recipe left a store behind");
}

#[test]
fn an_unknown_key_is_refused_with_place_and_suggestion() {
    refused(&RECIPE.replace("teacher = ", "techer = "), &["recipe.toml:19:1", "techer", "did you mean `teacher`?"]);
}

#[test]
fn no_toml_at_all() {
    refused("name = tiny\n", &["recipe.toml:1:8"]);
}

#[test]
fn a_missing_recipe_names_init() {
    let bench = Bench::idle();
    bench.run(&["run", "nowhere.toml"]).complains(2, &["nowhere.toml", "divvy init"]);
    bench.run(&["run"]).complains(2, &["divvy.toml", "divvy init"]);
}

#[test]
fn an_undefined_model_is_refused_with_the_nearest() {
    refused(
        &RECIPE.replace("solver = \"big\"", "solver = \"bog\""),
        &["screen.solver", "`bog`", "did you mean `big`?"],
    );
}

#[test]
fn an_endpoint_without_a_model_name() {
    refused(&RECIPE.replace("model = \"teacher\"\n", ""), &["models.big.model", "model = \"…\""]);
}

#[test]
fn two_stage_without_a_decomposer() {
    refused(&RECIPE.replace("decomposers = [\"teacher\"]", ""), &["evaluate.decomposers", "at least one decomposer"]);
}

#[test]
fn samples_without_a_temperature() {
    let recipe = RECIPE.replace("[collect]", "[collect]\nsamples = 3");
    refused(&recipe, &["collect.temperature", "above 0"]);
}

#[test]
fn a_price_is_by_the_token_or_by_the_hour() {
    let priced = |price: &str| RECIPE.replace("concurrency = 4", &format!("concurrency = 4\nprice = {price}"));
    refused(&priced("{ input = \"1\" }"), &["models.big.price", "machine_hour = \"0.10\""]);
    refused(&priced("{ machine_hour = \"cheap\" }"), &["models.big.price", "`cheap`", "decimal"]);
}

#[test]
fn a_record_is_held_to_no_schema() {
    let record = "[models.old]\nsource = \"recorded:old.jsonl\"\nstructured = \"auto\"\n[collect]";
    refused(&RECIPE.replace("[collect]", record), &["models.old.structured", "a record cannot be held"]);
}

#[test]
fn an_unknown_data_set() {
    refused(&RECIPE.replace("\"synth\"\nrows = 12", "\"gms8k\"\nrows = 12"), &["data.train.dataset", "gms8k", "gsm8k"]);
}

#[test]
fn an_unknown_flag_or_command_is_bad_usage() {
    let bench = Bench::idle();
    for arguments in [&["run", "--dryrun"][..], &["rnu"], &[]] {
        let ended = bench.run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains("Usage"), "{ended:?}");
    }
}
