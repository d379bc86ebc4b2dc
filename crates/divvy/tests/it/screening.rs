//! Rules of the screening: another rule asks nothing, enough is enough, the best of several, agreement without gold.

use serde_json::{Value, json};

use crate::{
    bench::Bench,
    school::{self, Manner, RECIPE, TRAIN},
};

fn recipe(samples: u32, screen: &str) -> String {
    let collect = format!("[collect]\nsamples = {samples}\ntemperature = 0.7");
    RECIPE.replace("[collect]", &collect).replace("[screen]", &format!("[screen]\n{screen}"))
}

fn reasons(bench: &Bench) -> Value {
    bench.json(&["report", "recipe.toml", "--json"])["screening"]["reasons"].clone()
}

#[test]
fn another_rule_asks_nothing() {
    let bench = Bench::new(school::lesson());
    let rule = |rule: &str| recipe(1, &format!("samples = 2\ntemperature = 0.5\n{rule}"));
    bench.recipe(&rule("rule = \"any\"")).done(&["screen", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), TRAIN + 2 * TRAIN);
    for other in ["rule = \"all\"", "rule = \"threshold\"\nthreshold = 0.5", "rule = \"agreement\"", "rule = \"best\""]
    {
        bench.recipe(&rule(other)).done(&["screen", "recipe.toml"]);
        assert_eq!(bench.teacher.asked().len(), 3 * TRAIN, "{other}");
    }
}

#[test]
fn screening_stops_when_enough_is_kept() {
    let bench = Bench::new(school::lesson());
    let enough = "until = 10\nrule = \"agreement\"\nsamples = 2\ntemperature = 0.7";
    bench.recipe(&recipe(1, enough).replace("rows = 12", "rows = 60")).done(&["screen", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), 60 + 2 * 16, "one group of sixteen, all of which agree");
    let status = bench.json(&["status", "recipe.toml", "--json"]);
    let stage = status["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "screen").unwrap();
    assert_eq!(stage["states"]["pending"], 0, "nothing is left to do: {stage}");
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), 60 + 2 * 16, "a second run asks nothing");
}

#[test]
fn of_several_decompositions_the_best_is_kept() {
    // The solver is right with every second sample, but the first question's second decomposition is never right.
    let lesson = divvy_testkit::teacher::Lesson {
        rule: school::rule(|question, manner| match manner {
            Manner::TwoStage => school::right(question),
            other => school::answer(question, other),
        }),
        ..school::lesson()
    };
    let bench = Bench::new(lesson);
    bench.recipe(&recipe(3, "rule = \"best\"")).done(&["screen", "recipe.toml"]);
    assert_eq!(reasons(&bench), json!([["not-the-best", 2 * TRAIN], ["correct", TRAIN]]));
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(reasons(&bench), json!([["not-the-best", 2 * TRAIN], ["correct", TRAIN]]), "and stays so");
}

#[test]
fn agreement_needs_no_gold_and_several_samples() {
    let bench = Bench::new(school::lesson());
    let rows: String = (0..4).map(|k| format!("{{\"q\": \"How many are {k} and {k}?\"}}\n")).collect();
    bench.workspace.write("rows.jsonl", &rows);
    let mine = |screen: &str| {
        let data = "dataset = \"rows\"\nfiles = [\"rows.jsonl\"]\ncolumns = { question = \"q\" }";
        recipe(1, screen).replace("dataset = \"synth\"\nrows = 12", data)
    };
    bench.recipe(&mine("rule = \"any\"")).run(&["screen", "recipe.toml"]).complains(2, &["`agreement`"]);
    bench.recipe(&mine("rule = \"agreement\"")).run(&["screen", "recipe.toml"]).complains(2, &["needs several"]);
    let several = "rule = \"agreement\"\nsamples = 3\ntemperature = 0.7";
    bench.recipe(&mine(several)).done(&["screen", "recipe.toml"]);
    assert_eq!(reasons(&bench), json!([["agreed", 4]]), "the teacher says 42 to all it does not know");
}
