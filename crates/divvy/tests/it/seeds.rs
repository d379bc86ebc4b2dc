//! Students of several seeds, learning rates and checkpoints: what is trained, what is chosen by dev, what a report says.

use divvy_testkit::checkpoint;
use serde_json::{Value, json};

use crate::{
    bench::{Bench, files_below},
    school::{self, TEST},
    student,
};

/// A quick student with these lines, and some questions of dev.
fn bench(lines: &str) -> Bench {
    let bench = Bench::new(school::lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    bench.recipe(&recipe(lines));
    bench
}

fn recipe(lines: &str) -> String {
    let quick = student::RECIPE.replace("epochs = 6", "epochs = 2").replace("learning_rate = 0.01\n", lines);
    let tokens = quick.replace("decompose_tokens = 16", "decompose_tokens = 8");
    tokens.replacen("[data.train]", "[data]\ndev_rows = 3\n\n[data.train]", 1)
}

fn adapters(bench: &Bench) -> Vec<Vec<u8>> {
    let files = files_below(&bench.file("runs").join("students"));
    let adapters = files.into_iter().filter(|file| file.ends_with("adapter_model.safetensors"));
    adapters.map(|file| std::fs::read(file).unwrap()).collect()
}

fn arm<'a>(arms: &'a Value, slug: &str) -> &'a Value {
    let found = arms.as_array().unwrap().iter().find(|arm| arm["arm"] == slug);
    found.unwrap_or_else(|| panic!("no {slug} in {arms}"))
}

#[test]
fn seeds_are_trained_each_and_told_as_one_arm() {
    let bench = bench("learning_rate = 0.01\nseeds = [1, 2, 3]\n");
    let ended = bench.done(&["run", "recipe.toml"]);
    let trained = adapters(&bench);
    assert_eq!(trained.len(), 3);
    assert!(trained[0] != trained[1] && trained[1] != trained[2] && trained[0] != trained[2], "a seed changes nothing");

    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let whole = arm(&report["arms"], "two-stage/sd-r/tiny");
    assert_eq!((&whole["n"], &whole["each"]), (&json!(3 * TEST), &json!(3)), "{whole}");
    let slugs = ["two-stage/sd-r#1/tiny", "two-stage/sd-r#2/tiny", "two-stage/sd-r#3/tiny"];
    assert_eq!(whole["pool"]["of"], json!(slugs));
    let seeds: Vec<&Value> = slugs.iter().map(|slug| arm(&report["seeds"], slug)).collect();
    let sum = |key: &str| seeds.iter().map(|seed| seed[key].as_u64().unwrap()).sum::<u64>();
    for key in ["n", "correct", "errors", "no_answer", "truncated", "tokens_out"] {
        assert_eq!(whole[key], sum(key), "{key}: {report}");
    }
    let pair =
        report["comparisons"].as_array().unwrap().iter().find(|pair| pair["a"] == "two-stage/sd-r/tiny").unwrap();
    assert_eq!(pair["n"], json!(TEST), "questions, not answers: {pair}");
    assert!(!report["comparisons"].to_string().contains("sd-r#"), "a seed by itself is compared with nothing");
    assert_eq!(arm(&report["costs"]["arms"], "two-stage/sd-r/tiny")["n"], json!(3 * TEST), "{report}");
    let told =
        ["Accuracy (%) of each seed", "| two-stage/sd-r#2/tiny", &format!("{TEST} × 3"), "draws questions and seeds"];
    assert!(told.iter().all(|part| ended.stdout.contains(part)), "{}", ended.stdout);

    bench.done(&["run", "recipe.toml"]);
    assert_eq!(adapters(&bench), trained, "found, not trained anew");
    bench.done(&["report", "recipe.toml", "--format", "inspect", "--out", "logs/"]);
    let logs = files_below(&bench.file("logs"));
    assert_eq!(logs.len(), 6, "one for each arm that was asked: {logs:?}");
    bench.done(&["export", "recipe.toml", "--student", "sd-r#2", "--format", "safetensors", "--out", "second"]);
    let card = std::fs::read_to_string(bench.file("second").join("README.md")).unwrap();
    assert!(card.contains("two-stage/sd-r#2/tiny") && !card.contains("sd-r#1"), "{card}");
}

#[test]
fn the_rate_with_the_least_loss_on_dev_is_kept() {
    let bench = bench("learning_rate = [0.02, 0.0001, 1e30]\n");
    let ended = bench.done(&["run", "recipe.toml"]);
    assert!(ended.stderr.contains("by its loss on dev") && ended.stderr.contains("diverged"), "{}", ended.stderr);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let training = &report["training"].as_array().unwrap()[..];
    assert_eq!(training.len(), 1, "one student: {report}");
    let tried = training[0]["sweep"].as_array().unwrap();
    let rates: Vec<f64> = tried.iter().map(|tried| tried["learning_rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, [0.0001, 0.02, 1e30]);
    assert_eq!(tried[2]["dev_loss"], Value::Null);
    let losses: Vec<f64> = tried[..2].iter().map(|tried| tried["dev_loss"].as_f64().unwrap()).collect();
    let kept = usize::from(losses[1] < losses[0]);
    let marks: Vec<bool> = tried.iter().map(|tried| tried["kept"].as_bool().unwrap()).collect();
    assert_eq!(marks, [kept == 0, kept == 1, false], "{tried:?}");
    let last = training[0]["curve"].as_array().unwrap().last().unwrap()["dev_loss"].as_f64();
    assert_eq!(last, Some(losses[kept]), "its curve is shown");
    let arms: Vec<&str> = report["arms"].as_array().unwrap().iter().map(|arm| arm["arm"].as_str().unwrap()).collect();
    assert_eq!(arms.iter().filter(|arm| arm.contains("sd-r")).count(), 1, "{arms:?}");
    assert!(ended.stdout.contains("Learning rates that were tried"), "{}", ended.stdout);

    let (asked, trained) = (bench.teacher.asked().len(), adapters(&bench));
    let again = bench.done(&["run", "recipe.toml"]);
    assert!(!again.stderr.contains("diverged"), "nothing is tried again: {}", again.stderr);
    bench.recipe(&recipe(&format!("learning_rate = {}\n", rates[kept])));
    bench.done(&["train", "recipe.toml"]);
    assert_eq!((bench.teacher.asked().len(), adapters(&bench)), (asked, trained), "the same student by another way");
}

#[test]
fn training_ends_when_dev_no_longer_gains_and_the_best_step_is_kept() {
    let lines = "learning_rate = 0.05\neval_every = 1\nearly_stop = { on = \"loss\", patience = 2 }\n";
    let bench = bench(lines);
    bench.recipe(&recipe(lines).replace("epochs = 2", "epochs = 40"));
    bench.done(&["train", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let (kept, curve) = (&report["training"][0]["kept"], report["training"][0]["curve"].as_array().unwrap());
    let losses: Vec<f64> = curve.iter().map(|point| point["dev_loss"].as_f64().unwrap()).collect();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let best = losses.iter().position(|loss| *loss == least).unwrap();
    assert_eq!((&kept["step"], &kept["of"]), (&json!(best + 1), &json!(curve.len())), "{kept}");
    assert_eq!((curve.len(), kept["value"].as_f64()), (best + 3, Some(least)), "two looks later: {losses:?}");
    let status = bench.done(&["status", "recipe.toml"]);
    assert!(status.stdout.contains(&format!("kept step {} of {}", best + 1, curve.len())), "{}", status.stdout);
}

#[test]
fn decompositions_that_can_be_read_may_say_when_to_end() {
    let lines = "learning_rate = 0.01\neval_every = 2\nearly_stop = { on = \"decomposition-quality\", patience = 1 }\n";
    let bench = bench(lines);
    bench.done(&["train", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let kept = &report["training"][0]["kept"];
    assert_eq!(kept["on"], "decomposition-quality", "{kept}");
    let log = files_below(&bench.file("runs").join("students"));
    let log = log.iter().find(|file| file.ends_with("metrics.jsonl")).unwrap();
    let steps: Vec<Value> =
        std::fs::read_to_string(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<(u64, f64)> =
        steps.iter().filter_map(|step| Some((step["step"].as_u64()?, step["dev_quality"].as_f64()?))).collect();
    assert!(!told.is_empty() && told.iter().all(|(_, share)| (0.0..=1.0).contains(share)), "{told:?}");
    let best = told.iter().map(|told| told.1).fold(0.0, f64::max);
    let first = told.iter().find(|told| told.1 == best).unwrap();
    assert_eq!((kept["step"].as_u64(), kept["value"].as_f64()), (Some(first.0), Some(best)), "{told:?}");
    let curve = report["training"][0]["curve"].as_array().unwrap();
    let stored: Vec<f64> = curve.iter().filter_map(|point| point["dev_quality"].as_f64()).collect();
    assert_eq!(stored, told.iter().map(|told| told.1).collect::<Vec<_>>(), "the store has it, too");
}

/// Whether somebody judges or not: whoever reads the log sees what the student writes.
#[test]
fn what_it_writes_to_dev_questions_is_in_the_log() {
    let judged = "eval_every = 2\nearly_stop = { on = \"decomposition-quality\", patience = 100 }\n";
    for lines in ["eval_every = 2\n", judged, &format!("method = \"full\"\n{judged}")] {
        let bench = bench(lines);
        bench.done(&["train", "recipe.toml"]);
        let folder = files_below(&bench.file("runs").join("students"));
        let read = |name: &str| -> Vec<Value> {
            let path = folder.iter().find(|file| file.ends_with(name)).unwrap();
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let looked: Vec<u64> = read("metrics.jsonl")
            .iter()
            .filter(|step| step["dev_loss"].is_f64())
            .map(|step| step["step"].as_u64().unwrap())
            .collect();
        let samples = read("samples.jsonl");
        assert!(samples.iter().all(|sample| sample["text"].is_string()), "{samples:?}");
        let told: Vec<u64> = samples.iter().map(|sample| sample["step"].as_u64().unwrap()).collect();
        let expected: Vec<u64> = looked.iter().flat_map(|step| [*step; 3]).collect();
        assert!(looked.len() > 1 && told == expected, "{looked:?} {told:?}");
        let ids: Vec<&str> = samples[..3].iter().map(|sample| sample["id"].as_str().unwrap()).collect();
        assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    }
}

#[test]
fn what_a_solver_writes_to_dev_questions_is_in_the_log() {
    for target in ["direct", "SE-A-direct"] {
        let bench = bench("");
        let recipe = recipe("eval_every = 2\n").replace("student:sd-r", "tiny");
        let recipe = recipe.replace("[\"tiny\", \"tiny\", \"teacher\"]", "[\"teacher\"]");
        bench.recipe(&recipe.replace("SD-R", target)).done(&["train", "recipe.toml"]);
        let files = files_below(&bench.file("runs").join("students"));
        let log = files.iter().find(|file| file.ends_with("samples.jsonl")).unwrap();
        let text = std::fs::read_to_string(log).unwrap();
        let samples: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(samples.len() >= 6 && samples.len().is_multiple_of(3), "{target}: three at each look: {samples:?}");
        assert!(samples.iter().all(|sample| sample["text"].is_string()), "{samples:?}");
    }
}

#[test]
fn what_is_chosen_by_dev_needs_dev() {
    let bench = bench("");
    for (lines, key) in
        [("learning_rate = [0.1, 0.2]\n", "learning_rate"), ("early_stop = { patience = 1 }\n", "early_stop")]
    {
        bench.recipe(&recipe(lines).replace("dev_rows = 3", "dev_rows = 0"));
        bench.run(&["run", "recipe.toml"]).complains(2, &[&format!("`students.sd-r.{key}`"), "write dev_rows = 100"]);
    }
}
