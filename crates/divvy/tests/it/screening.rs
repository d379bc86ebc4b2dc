//! Rules of the screening: another rule asks nothing, enough is enough, the best of several, agreement without gold.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use divvy_testkit::{checkpoint, teacher::Lesson};

use crate::{
    bench::Bench,
    school::{self, Manner, RECIPE, SUBQUESTIONS, TRAIN},
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
    bench.recipe(&recipe(1, enough).replace("rows = 12", "rows = 60"));
    let told = bench.done(&["collect", "recipe.toml"]).stderr;
    assert!(told.contains("every decomposition") && told.contains("no more than [screen] asks for"), "{told}");
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), 60 + 2 * 16, "one group of sixteen, all of which agree");
    assert_eq!(bench.stage("screen")["states"]["pending"], 0, "nothing is left to do");
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), 60 + 2 * 16, "a second run asks nothing");
}

/// The solver is right whatever the decomposition.
fn all_right() -> Lesson {
    let rule = school::rule(|question, manner| match manner {
        Manner::TwoStage => school::right(question),
        other => school::answer(question, other),
    });
    Lesson { rule, ..school::lesson() }
}

#[test]
fn of_several_decompositions_the_best_is_kept() {
    let bench = Bench::new(all_right());
    bench.recipe(&recipe(3, "rule = \"best\"")).done(&["screen", "recipe.toml"]);
    assert_eq!(reasons(&bench), json!([["not-the-best", 2 * TRAIN], ["correct", TRAIN]]));
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(reasons(&bench), json!([["not-the-best", 2 * TRAIN], ["correct", TRAIN]]), "and stays so");
}

/// Fifteen of thirty-six decompositions are screened, all of them right: questions in their order, three of each, which are alike and
/// solved in one call.
#[test]
fn of_several_decompositions_the_best_is_kept_where_a_budget_ends_the_screening() {
    let bench = Bench::new(all_right());
    let capped = |calls: usize| format!("{}\n[budget]\ncalls = {calls}\n", recipe(3, "rule = \"best\""));
    bench.recipe(&capped(3 * TRAIN + 5)).run(&["screen", "recipe.toml"]).complains(3, &["budget"]);
    let rows = |state: &str| -> Vec<String> {
        let asked = ["status", "recipe.toml", "--rows", "--json", "--where", "stage=screen", "--where", state];
        let told = bench.done(&asked);
        let rows = told.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| row["question"].to_string()).collect()
    };
    let (kept, rejected) = (rows("state=done"), rows("state=rejected"));
    assert_eq!(kept.len() + rejected.len(), 15, "{kept:?} {rejected:?}");
    assert_eq!(kept.iter().collect::<BTreeSet<_>>().len(), kept.len(), "one of each question: {kept:?}");
    assert!(rejected.iter().all(|question| kept.contains(question)), "{kept:?} {rejected:?}");
    // With more to spend the rest follows, and what was kept for want of a better one counts as any other.
    bench.recipe(&capped(6 * TRAIN)).done(&["screen", "recipe.toml"]);
    assert_eq!(reasons(&bench), json!([["not-the-best", 2 * TRAIN], ["correct", TRAIN]]));
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

/// Of every three training rows one is decomposed as it should be, one twice the same, and one gives its answer away.
fn of_every_form() -> Lesson {
    let rule = school::rule(|question, manner| match (manner, school::row(question) % 3) {
        (Manner::Decompose, 1) => format!("{SUBQUESTIONS}\n3. what follows from them"),
        (Manner::Decompose, 2) => format!("1. Is it {}?\n2. Are you sure of #1?", question.golds[0].0.join(", ")),
        (other, _) => school::answer(question, other),
    });
    Lesson { rule, ..school::lesson() }
}

fn by_form(more: &str) -> String {
    RECIPE.replace("[screen]\nsolver = \"big\"", &format!("[screen]\nrule = \"format\"\n{more}"))
}

#[test]
fn by_form_nobody_is_asked_and_a_student_learns_what_is_well_formed() {
    let bench = Bench::new(of_every_form());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let student = "[models.tiny]\nsource = \"path:HERE/tiny\"\n[students.sd-r]\nbase = \"tiny\"\ntarget = \"SD-R\"\n\
                   rank = 2\nepochs = 1\nmax_row_tokens = 3000\n";
    bench.recipe(&format!("{}\n{student}", by_form(""))).done(&["train", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), TRAIN, "the teacher alone");
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let screening = &report["screening"];
    let third = TRAIN / 3;
    assert_eq!(screening["solver"], Value::Null);
    let of = |reason: &str| {
        let reasons = screening["reasons"].as_array().unwrap();
        reasons.iter().find(|told| told[0] == reason).map_or(0, |told| told[1].as_u64().unwrap()) as usize
    };
    // An answer that the question states itself, as "yes", is no news.
    let (kept, leaks) = (of("well-formed"), of("leaks-answer"));
    assert_eq!((of("repeats"), kept + leaks), (third, 2 * third), "{screening}");
    assert!(leaks > 0 && report["training"][0]["rows"] == kept, "{screening}");
    let text = bench.done(&["report", "recipe.toml"]).stdout;
    assert!(text.contains("Screening funnel, by form alone"), "{text}");
    bench.recipe(&by_form("format = { repeats = true, leaks = true }")).done(&["screen", "recipe.toml"]);
    assert_eq!(reasons(&bench), json!([["well-formed", TRAIN]]));
    assert_eq!(bench.teacher.asked().len(), TRAIN, "another form asks nothing");
    let se = format!("{}\n{}", by_form(""), student.replace("SD-R", "SE-T"));
    bench
        .recipe(&se)
        .run(&["train", "recipe.toml"])
        .complains(2, &["students.sd-r.target", "SE-T", "`format` asks none"]);
}

#[test]
fn what_is_rejected_by_its_form_is_rejected_before_the_solver_is_paid() {
    let bench = Bench::new(of_every_form());
    let form = |keys: &str| recipe(1, &format!("format = {{ {keys} }}"));
    bench.recipe(&form("leaks = true")).done(&["screen", "recipe.toml"]);
    let third = TRAIN / 3;
    assert_eq!(bench.teacher.asked().len(), TRAIN + 2 * third, "nothing for those with a line twice");
    let told = reasons(&bench);
    assert!(told.as_array().unwrap().contains(&json!(["repeats", third])), "{told}");
    let quality = bench.json(&["report", "recipe.toml", "--json"])["quality"][0].clone();
    assert_eq!((&quality["pass"]["n"], &quality["pass"]["solver"]), (&json!(2 * third), &json!("big")), "{quality}");
    bench.recipe(&form("leaks = true, max_steps = 1")).done(&["screen", "recipe.toml"]);
    assert_eq!(reasons(&bench), json!([["too-many-steps", TRAIN]]));
    assert_eq!(bench.teacher.asked().len(), TRAIN + 2 * third, "another form asks nothing");
    bench.recipe(&recipe(1, "")).done(&["screen", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), 2 * TRAIN, "any form: those that were left out are asked, and no other");
}
