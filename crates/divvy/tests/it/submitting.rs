//! `divvy submit`: what a cluster is given, read back as the cluster would.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    bench::{Bench, ended},
    school::RECIPE,
};

const STORE: &str = "postgres://ann:hidden@db/x";

fn bench() -> Bench {
    let bench = Bench::idle();
    bench.recipe(&RECIPE.replace("concurrency = 4", "api_key_env = \"SCHOOL_KEY\""));
    bench
}

fn submit(bench: &Bench, more: &[&str]) -> Command {
    let mut command = bench.command(&["submit", "recipe.toml", "--workers", "8"]);
    command.args(more).env("DIVVY_STORE", STORE).env("SCHOOL_KEY", "hidden too");
    command
}

#[test]
fn a_manifest_has_the_recipe_the_names_of_its_keys_and_no_key() {
    let bench = bench();
    let told = ended(submit(&bench, &["--kubernetes", "--image", "divvy:1", "--stage", "screen"]).spawn().unwrap());
    assert_eq!(told.code, Some(0), "{told:?}");
    let manifest: Value = serde_json::from_str(&told.stdout).unwrap();
    let job = &manifest["items"][1]["spec"];
    assert_eq!(job["completions"], json!(8));
    let container = &job["template"]["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["divvy", "screen", "/recipe/recipe.toml"]));
    let names: Vec<&Value> = container["env"].as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["DIVVY_STORE", "SCHOOL_KEY"]);
    assert!(manifest["items"][0]["data"]["recipe.toml"].as_str().unwrap().contains("SCHOOL_KEY"));
    assert!(!format!("{told:?}").contains("hidden"), "{told:?}");
    assert!(
        told.stderr.contains("kubectl create secret generic divvy-school-env") && told.stderr.contains("kubectl apply")
    );
}

#[test]
fn a_script_runs_the_command_where_its_variables_are_and_says_when_they_are_not() {
    let bench = bench();
    let written = ["--slurm", "--option=--mem=2G", "--out", "job.sbatch"];
    let told = ended(submit(&bench, &written).spawn().unwrap());
    assert_eq!((told.code, told.stdout.as_str()), (Some(0), ""), "{told:?}");
    let script = std::fs::read_to_string(bench.file("job.sbatch")).unwrap();
    assert!(script.contains("#SBATCH --array=1-8\n#SBATCH") && script.contains("--mem=2G"), "{script}");
    assert!(!script.contains("hidden"), "{script}");
    // The program itself is the last word; that it starts is seen by what it says of a store that is not there.
    let run = |key: Option<&str>| {
        let mut bash = Command::new("bash");
        bash.arg(bench.file("job.sbatch")).env("DIVVY_STORE", "nowhere/here").env_remove("SCHOOL_KEY");
        key.map(|key| bash.env("SCHOOL_KEY", key));
        String::from_utf8(bash.output().unwrap().stderr).unwrap()
    };
    assert!(run(None).contains("SCHOOL_KEY: sbatch passes on"), "{}", run(None));
    assert!(run(Some("x")).contains("school: plan "), "{}", run(Some("x")));
}

/// The command of a worker stands behind `--`, as it would be typed.
#[test]
fn both_spellings_submit_the_same() {
    let bench = bench();
    let told = |words: &[&str]| {
        let ended = ended(bench.command(words).env("DIVVY_STORE", STORE).spawn().unwrap());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let pods = ["--kubernetes", "--image", "divvy:1"];
    for (cluster, stage) in [(&["--slurm"][..], "collect"), (&pods[..], "screen"), (&pods[..], "eval")] {
        let by_flags = told(&[&["submit", "recipe.toml", "--stage", stage, "--workers", "8"], cluster].concat());
        let behind = ["--", stage, "recipe.toml", "--shards", "8"];
        assert_eq!(told(&[&["submit"], cluster, &behind].concat()), by_flags);
        let recipe_before = ["--", stage, "--shards=8"];
        assert_eq!(told(&[&["submit", "recipe.toml"], cluster, &recipe_before].concat()), by_flags);
    }
    let data = told(&["submit", "--slurm", "--", "collect", "recipe.toml", "--data", "/far", "--shards", "2"]);
    assert!(data.contains("recipe.toml --data /far\n") && data.contains("--array=1-2"), "{data}");
}

#[test]
fn what_cannot_be_submitted_is_refused() {
    let bench = bench();
    let refused = |arguments: &[&str], words: &[&str]| {
        let told = ended(bench.command(&[&["submit", "recipe.toml"], arguments].concat()).spawn().unwrap());
        told.complains(2, words);
    };
    refused(&["--workers", "2", "--slurm"], &["postgres://", "DIVVY_STORE"]);
    let server = ["--workers", "2", "--store", STORE];
    refused(&[&server[..], &["--slurm", "--option", "rm"]].concat(), &["--option", "`rm`"]);
    refused(&[&server[..], &["--kubernetes"]].concat(), &["--image"]);
    refused(&server, &["--slurm"]);
    refused(&["--slurm", "--workers", "0"], &["--workers"]);
    let behind = |words: &[&str], told: &[&str]| refused(&[&["--slurm", "--"], words].concat(), told);
    behind(&["run", "--shards", "2"], &["behind `--`", "'run'", "collect, screen, eval", "-- collect my-task.toml"]);
    behind(&["collect"], &["how many", "collect --shards 8"]);
    behind(&["collect", "--shards", "0"], &["behind `--`", "--shards"]);
    behind(&["collect", "other.toml", "--shards", "2"], &["`recipe.toml`", "`other.toml`", "one recipe"]);
    behind(&["collect", "--shards", "2", "--store", STORE], &["--store", "go before it"]);
    refused(&["--slurm", "--workers", "2", "--", "collect", "--shards", "2"], &["--workers", "cannot be used"]);
    refused(&["--slurm", "--workers", "2", "--from", "traffic"], &["--from", "recipe's questions"]);
}
