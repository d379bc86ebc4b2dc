//! Evaluation on dev rows, to choose by: the test set stays closed, and no figure can be taken for a result.

use serde_json::json;

use crate::{
    bench::Bench,
    school::{self, RECIPE, TEST},
};

const DEV: usize = 4;

fn recipe(split: &str) -> String {
    RECIPE
        .replace("[data.train]", &format!("[data]\ndev_rows = {DEV}\n\n[data.train]"))
        .replace("[screen]\nsolver = \"big\"\n", "")
        .replace("\"direct\", \"cot\", \"two-stage\"", "\"direct\", \"cot\"")
        .replace("decomposers = [\"teacher\"]", split)
}

#[test]
fn dev_rows_are_scored_said_to_be_dev_and_open_no_test_set() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&recipe("split = \"dev\"")).done(&["eval", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    assert_eq!((&report["split"], &report["arms"][0]["n"]), (&json!("dev"), &json!(DEV)));
    let opened = |report: &serde_json::Value| {
        let sets = report["datasets"].as_array().unwrap();
        sets.iter().find(|used| used["split"] == "test").unwrap()["opened_by"].clone()
    };
    assert_eq!(opened(&report), 0);
    let headline = report["verdict"]["headline"].as_str().unwrap();
    assert!(headline.starts_with("On dev rows: "), "{headline}");
    let text = bench.done(&["report", "recipe.toml"]).stdout;
    assert!(text.contains("**On dev rows: "), "{text}");
    assert!(text.contains("synth (dev, 4 rows)") && text.contains("no test row was looked at"), "{text}");
    assert!(text.contains("n is every dev question"), "{text}");
    let html = bench.file("page.html");
    bench.done(&["report", "recipe.toml", "--html", html.to_str().unwrap()]);
    assert!(std::fs::read_to_string(html).unwrap().contains("On dev rows: "));
    let latex = bench.done(&["report", "recipe.toml", "--format", "latex"]).stdout;
    assert!(latex.contains("the same dev questions"), "{latex}");

    bench.recipe(&recipe("split = \"test\"")).done(&["eval", "recipe.toml"]);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    assert_eq!((&report["split"], &report["arms"][0]["n"]), (&json!("test"), &json!(TEST)));
    assert_eq!(opened(&report), 1, "one plan, and not the one that looked at dev");
    let text = bench.done(&["report", "recipe.toml"]).stdout;
    assert!(!text.contains("On dev rows") && text.contains("synth (test, 8 rows)"), "{text}");
}
