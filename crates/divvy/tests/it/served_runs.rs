//! `divvy serve --run`: what a run measured, without the recipe's file; and the runs that the page browses.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    bench::{Bench, wait_for},
    serving::{RECIPE, Serving, bench, bench_with},
};

fn runs(bench: &Bench) -> Vec<Value> {
    let text = bench.done(&["runs", "--json"]).stdout;
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn models(serving: &Serving) -> Vec<String> {
    let list = serving.json("/v1/models");
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_run_is_served_without_its_recipe() {
    let bench = bench();
    bench.done(&["run", "recipe.toml"]);
    std::fs::remove_file(bench.file("recipe.toml")).unwrap();
    let all = runs(&bench);
    assert_eq!((all.len(), &all[0]["id"], &all[0]["status"]), (1, &json!(1), &json!("done")));
    let plan = all[0]["plan"].as_str().unwrap();
    let serving = Serving::begin(&bench, &["--run", "1", "--arm", "two-stage/sd/big", "--arm", "cot/big"]);
    assert_eq!(models(&serving), ["cot/big", "two-stage/sd/big", "big", "student:sd"]);
    // The student is found by what it learnt from, and what was measured stands beside it.
    let reply = serving.ask("two-stage/sd/big");
    assert_eq!(
        (&reply["divvy"]["answer"], &reply["divvy"]["usage"]["calls"][0]["model"]),
        (&json!("29"), &json!("student:sd"))
    );
    assert_eq!(serving.json("/v1/models")["data"][0]["divvy"]["measured"]["n"], 4);
    assert_eq!(serving.json("/api/status")["plan"], plan);
    serving.stop();
    // As it is shown to people.
    let serving = Serving::begin(&bench, &["--run", &plan[..12]]);
    assert_eq!(models(&serving), ["cot/big", "two-stage/sd/big", "two-stage/big/big", "big", "student:sd"]);
    serving.stop();
}

#[test]
fn which_run_is_meant_has_to_be_clear() {
    let bench = bench();
    let serve = |arguments: &[&str]| bench.run(&[&["serve", "--listen", "127.0.0.1:0"], arguments].concat());
    serve(&["--run", "1"]).complains(1, &["no store", "--store"]);
    bench.done(&["collect", "recipe.toml"]);
    // Plans enough for two to begin with the same digit.
    for seed in 8..25 {
        bench.recipe(&RECIPE.replace("seed = 7", &format!("seed = {seed}"))).done(&["collect", "recipe.toml"]);
    }
    serve(&["--run", "999999999999"])
        .complains(2, &["--run", "no run's id is `999999999999`", "the newest are", "served"]);
    serve(&["--run", "nothing"]).complains(2, &["no plan begins so"]);
    let plans: Vec<String> = runs(&bench).iter().map(|run| run["plan"].as_str().unwrap().to_owned()).collect();
    let letters = |plan: &&String| plan.starts_with(|first: char| first.is_ascii_alphabetic());
    let twice = plans.iter().filter(letters).find(|plan| plans.iter().filter(|one| one[..1] == plan[..1]).count() > 1);
    if let Some(plan) = twice {
        serve(&["--run", &plan[..1]])
            .complains(2, &["several plans begin with", plan.get(..12).unwrap(), "more digits"]);
    }
    serve(&["--run", "1", "--arm", "cot/bog"]).complains(2, &["--arm", "did you mean `cot/big`?"]);
    serve(&["recipe.toml", "--arm", "cot/bog"]).complains(2, &["--arm", "did you mean `cot/big`?"]);
    serve(&["--run", "1", "--arm", "two-stage/sd/big"]).complains(1, &["--arm", "is not trained yet"]);
    let both = serve(&["recipe.toml", "--run", "1"]);
    assert!(both.code == Some(2) && both.stderr.contains("cannot be used with"), "{both:?}");
}

#[test]
fn what_is_not_what_was_measured_is_refused() {
    let bench = bench();
    bench.done(&["collect", "recipe.toml"]);
    let serve = || bench.run(&["serve", "--run", "1", "--listen", "127.0.0.1:0"]);
    std::fs::write(bench.file("tiny/more.json"), "{}").unwrap();
    serve().complains(1, &["models.tiny", "is not the model that was measured", "put that one back"]);
    // A recipe with what may be a secret in a URL stays out of the store.
    let secret = RECIPE.replace("source = \"URL\"", "source = \"URL?key=secret-of-the-house\"");
    bench.recipe(&secret).done(&["collect", "recipe.toml"]);
    bench.run(&["serve", "--run", "2"]).complains(1, &["may be a secret", "serve the recipe itself"]);
    let store = std::fs::read(bench.file("runs/divvy.db")).unwrap();
    assert!(!store.windows(19).any(|bytes| bytes == b"secret-of-the-house"));
}

#[test]
fn the_page_browses_every_run_of_the_store() {
    let bench = bench();
    bench.done(&["run", "recipe.toml"]);
    bench
        .recipe(&RECIPE.replace("seed = 7", "seed = 8").replace("\"served\"", "\"other\""))
        .done(&["run", "recipe.toml"]);
    bench.recipe(RECIPE);
    let serving = Serving::start(&bench, &[]);
    let list = serving.json("/api/runs");
    let names: Vec<&Value> = list["runs"].as_array().unwrap().iter().map(|run| &run["recipe"]).collect();
    assert_eq!(names, ["other", "served"], "the newest first");
    let (other, served) = (list["runs"][0]["plan"].as_str().unwrap(), list["served"].as_str().unwrap());
    assert_eq!(list["runs"][1]["plan"], served);
    let arm = &list["plans"][other]["arms"][0];
    assert_eq!(
        (&arm["arm"], &arm["asked"], &list["plans"][other]["questions"]),
        (&json!("cot/big"), &json!(4), &json!(4))
    );
    // Rows, report, status and calls of the one that is not served.
    let rows = serving.json(&format!("/api/rows?plan={other}&arm=cot/big&count=9"));
    assert_eq!(rows["total"], 4);
    assert!(rows["rows"][0]["question"].is_string(), "{rows}");
    let report = serving.get(&format!("/api/report?plan={other}")).1;
    assert!(report.contains(&other[..12]) && report.contains("tiny") && !report.contains(&served[..12]), "{report}");
    let theirs: Value = bench.json(&["report", "recipe.toml", "--json"]);
    assert!(serving.get("/api/report").1.contains(&theirs["plan"].as_str().unwrap()[..12]));
    let status = serving.json(&format!("/api/status?plan={other}"));
    assert_eq!(
        (&status["running"], &status["run"]["status"], &status["students"][0]["trained"]),
        (&Value::Null, &json!("done"), &json!(true))
    );
    let calls = serving.json(&format!("/api/calls?plan={other}&last=3"));
    assert_eq!(calls[0]["stage"], "evaluate");
    let key = calls[0]["key"].as_str().unwrap();
    assert_eq!(serving.json(&format!("/api/calls?key={key}"))[0]["key"], key);
    assert_eq!(serving.get(&format!("/api/status?plan={}", "f".repeat(64))).0, 500);
    serving.stop();
}

#[test]
fn a_job_at_work_is_seen_and_one_that_was_killed_is_not() {
    let bench = bench_with(Duration::from_secs(30));
    bench.done(&["collect", "recipe.toml"]);
    let serving = Serving::start(&bench, &[]);
    assert_eq!(serving.json("/api/status")["running"], Value::Null);
    let mut child = bench.command(&["run", "recipe.toml"]).spawn().unwrap();
    wait_for(&mut child, || serving.json("/api/status")["running"]["status"] == "running");
    assert_eq!(serving.json("/api/runs")["runs"][0]["status"], "running");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(serving.json("/api/status")["running"], Value::Null);
    assert_eq!(serving.json("/api/runs")["runs"][0]["status"], "killed");
    assert!(bench.done(&["runs"]).stdout.lines().next().unwrap().ends_with("killed"));
    serving.stop();
}
