//! Grading beside the questions' own scorers: further scorers, a judge, programs that are run.

use divvy_testkit::teacher::{Asked, Lesson};
use serde_json::{Value, json};

use crate::{
    bench::{self, Bench},
    school::{self, Manner, RECIPE, TEST},
    student,
};

/// Chain of thought is right; a direct answer names the right figure and then concludes with another.
fn lesson() -> Lesson {
    let rule = school::rule(|question, manner| match manner {
        Manner::Direct => format!("Of {} things:\nThe answer is: 987654321", question.golds[0].0.join(", ")),
        manner => school::answer(question, manner),
    });
    let judging = move |asked: &Asked| {
        let system = asked.body["messages"][0]["content"].as_str().unwrap_or_default();
        match system.contains("You compare") {
            false => rule(asked),
            true if asked.last().contains("Given: 987654321") => "Another number.\nVERDICT: INCORRECT".to_owned(),
            true if asked.last().contains("<passage>") => "It looks right to me.".to_owned(),
            true => "The same.\nVERDICT: CORRECT".to_owned(),
        }
    };
    Lesson { rule: Box::new(judging), ..Lesson::default() }
}

/// Evaluates two arms of one call each.
fn recipe(more: &str) -> String {
    let recipe = RECIPE.replace("\"direct\", \"cot\", \"two-stage\"", "\"direct\", \"cot\"");
    recipe.replace("[screen]\nsolver = \"big\"\n", "").replace("decomposers = [\"teacher\"]\n", more)
}

fn scoring(bench: &Bench) -> Value {
    bench.json(&["report", "recipe.toml", "--json"])["scoring"].clone()
}

fn scored<'a>(scoring: &'a Value, arm: &str, scorer: &str) -> &'a Value {
    let arms = scoring["arms"].as_array().unwrap();
    arms.iter().find(|row| row["arm"] == arm && row["scorer"] == scorer).unwrap()
}

#[test]
fn further_scorers_ask_nothing_and_show_the_gap() {
    let bench = Bench::new(lesson());
    bench.recipe(&recipe("")).done(&["eval", "recipe.toml"]);
    let asked = bench.teacher.asked().len();
    assert_eq!(scoring(&bench), Value::Null);
    bench.recipe(&recipe("scorers = [\"paper-compat\", \"exact\"]")).done(&["eval", "recipe.toml"]);
    let scoring = scoring(&bench);
    assert_eq!(bench.teacher.asked().len(), asked, "another scorer on the same answers asks nothing");
    assert_eq!(scored(&scoring, "direct/big", "own")["correct"], 0);
    let paper = scored(&scoring, "direct/big", "paper-compat");
    assert!(paper["n"] == TEST && paper["correct"].as_u64().unwrap() > 0, "{paper}");
    let rows = scoring["disagreements"].as_array().unwrap();
    let lenient: Vec<&Value> = rows.iter().filter(|row| row["arm"] == "direct/big").collect();
    assert_eq!(json!(lenient.len()), paper["correct"]);
    assert!(lenient.iter().all(|row| row["right_by"] == json!(["paper-compat"]) && row["answer"] == "987654321"));
    let twice = recipe("scorers = [\"exact\", \"exact\"]");
    bench.recipe(&twice).run(&["eval", "recipe.toml"]).complains(2, &["evaluate.scorers", "`exact` is named twice"]);
    bench.recipe(&recipe("scorers = [\"f1\"]")).run(&["eval", "recipe.toml"]).complains(2, &["f1", "paper-compat"]);
}

#[test]
fn a_judge_is_asked_once_and_read_strictly() {
    let bench = Bench::new(lesson());
    bench.recipe(&recipe("[evaluate.judge]\nmodel = \"big\"")).done(&["eval", "recipe.toml"]);
    let asked = bench.teacher.asked().len();
    assert!(asked > 3 * TEST, "each answer, and a verdict on each: {asked}");
    let scoring = scoring(&bench);
    assert_eq!(scored(&scoring, "direct/big", "judge")["correct"], 0);
    let cot = scored(&scoring, "cot/big", "judge");
    let (correct, unread) = (cot["correct"].as_u64().unwrap(), cot["unread"].as_u64().unwrap());
    assert!(unread > 0 && correct > 0 && correct + unread == TEST as u64, "{cot}");
    bench.done(&["eval", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), asked, "a second run asks nothing");
    let unknown = recipe("[evaluate.judge]\nmodel = \"jury\"");
    bench.recipe(&unknown).run(&["eval", "recipe.toml"]).complains(2, &["evaluate.judge.model", "jury"]);
}

#[test]
fn programs_are_run_only_where_the_recipe_says_so() {
    let program = |asked: &Asked| match asked.last().contains("Double") {
        true => "The answer is: below\n```python\ndef f(n):\n    return 2 * n\n```".to_owned(),
        false => "The answer is: below\n```python\ndef f(n):\n    return n\n```".to_owned(),
    };
    let bench = Bench::new(Lesson { rule: Box::new(program), ..Lesson::default() });
    let row = |asked: &str, test: &str| format!("{}\n", json!({ "q": asked, "t": [test] }));
    let rows = row("Double n in f(n).", "assert f(2) == 4") + &row("Triple n in f(n).", "assert f(2) == 6");
    bench.workspace.write("rows.jsonl", &rows);
    let mine = |more: &str| {
        let data = "dataset = \"rows\"\nfiles = [\"rows.jsonl\"]\ncolumns = { question = \"q\", tests = \"t\" }";
        recipe(more).replace("dataset = \"synth\"\nrows = 8", data)
    };
    for silent in ["", "[evaluate.code]\nrun = false"] {
        let ended = bench.recipe(&mine(silent)).run(&["eval", "recipe.toml"]);
        ended.complains(2, &["rows/test/0", "[evaluate.code]", "run = true"]);
    }
    let ended = bench.recipe(&mine("[evaluate.code]\nrun = true\nseconds = 5")).run(&["eval", "recipe.toml"]);
    if ended.stderr.contains("`prlimit`") || ended.stderr.contains("there is no program `python3`") {
        println!("SKIPPED: {}", ended.stderr);
        return;
    }
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("code is run for at most 5 s"), "{ended:?}");
    one_is_right(&bench);
}

/// Tests are no answer, and a student of gold would learn to write them.
#[test]
fn no_student_learns_the_tests_of_a_program_for_an_answer() {
    let bench = Bench::idle();
    bench.workspace.write("rows.jsonl", &format!("{}\n", json!({ "q": "Double n.", "t": ["assert f(2) == 4"] })));
    let code = "dataset = \"rows\"\nfiles = [\"rows.jsonl\"]\ncolumns = { question = \"q\", tests = \"t\" }";
    let sets = format!("[[data.train]]\ndataset = \"synth\"\nrows = 12\n\n[[data.train]]\n{code}");
    let mixed = student::RECIPE.replace("[data.train]\ndataset = \"synth\"\nrows = 12", &sets);
    let (mixed, _) = mixed.split_once("[evaluate]").unwrap();
    let taught = |target: &str, data: &str| {
        let recipe = mixed.replace("[screen]\nsolver = \"big\"\n", "").replace("\"recorded\"", "\"big\"");
        let line = format!("target = \"{target}\"\ndata = [{data}]");
        bench.recipe(&recipe.replace("target = \"SD-R\"", &line)).run(&["run", "recipe.toml", "--dry-run"])
    };
    for target in ["direct", "SE-A-direct", "joint"] {
        let ended = taught(target, "\"synth\", \"rows\"");
        ended.complains(2, &["students.sd-r", target, "rows/train/0", "the tests of a program", "SD-T", "`rows` out"]);
    }
    for ended in [taught("SD-T", "\"synth\", \"rows\""), taught("direct", "\"synth\"")] {
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

/// A machine that cannot run programs for a while: what was answered is graded later, and not asked again.
#[test]
fn a_program_that_could_not_be_run_is_run_by_the_next_command() {
    let program = |_: &Asked| "The answer is: below\n```python\ndef f(n):\n    return 2 * n\n```".to_owned();
    let bench = Bench::new(Lesson { rule: Box::new(program), ..Lesson::default() });
    let row = |asked: &str, test: &str| format!("{}\n", json!({ "q": asked, "t": [test] }));
    bench
        .workspace
        .write("rows.jsonl", &(row("Double n.", "assert f(2) == 4") + &row("Triple n.", "assert f(2) == 6")));
    let data = "dataset = \"rows\"\nfiles = [\"rows.jsonl\"]\ncolumns = { question = \"q\", tests = \"t\" }";
    let allowed = recipe("[evaluate.code]\nrun = true\nseconds = 5");
    bench.recipe(&allowed.replace("dataset = \"synth\"\nrows = 8", data));
    let without_room = bench.command(&["eval", "recipe.toml"]).env("TMPDIR", bench.file("nowhere")).spawn().unwrap();
    let ended = bench::ended(without_room);
    if ended.stderr.contains("`prlimit`") || ended.stderr.contains("there is no program `python3`") {
        println!("SKIPPED: {}", ended.stderr);
        return;
    }
    ended.complains(1, &["the program that answers rows/test/", "could not be run"]);
    assert_eq!(bench.json(&["report", "recipe.toml", "--json"])["arms"][0]["errors"], json!(2));
    let asked = bench.teacher.asked().len();
    bench.done(&["eval", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), asked, "it was answered already");
    one_is_right(&bench);
}

fn one_is_right(bench: &Bench) {
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    assert_eq!((&report["arms"][0]["correct"], &report["arms"][0]["errors"]), (&json!(1), &json!(0)), "{report}");
}
