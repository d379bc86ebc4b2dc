//! Demonstrations outside arms: before a teacher that collects, before the solver that screens, and in a student's prompts.

use std::collections::BTreeSet;

use divvy_core::question::Question;
use divvy_testkit::{checkpoint, teacher::Asked};
use serde_json::Value;

use crate::{
    bench::Bench,
    school::{self, Manner, RECIPE, TEST, TRAIN},
    student,
};

fn with_role<'m>(messages: &'m Value, role: &str) -> Vec<&'m str> {
    let of = messages.as_array().unwrap().iter().filter(|message| message["role"] == role);
    of.map(|message| message["content"].as_str().unwrap()).collect()
}

fn shown(asked: &Asked) -> Vec<&str> {
    with_role(&asked.body["messages"], "assistant")
}

/// The training question that a prompt asks.
fn question_in(prompt: &str) -> Option<Question> {
    let mut train = school::questions().into_iter().take(TRAIN);
    train.rfind(|question| prompt.contains(&format!("Question: {}", question.text)))
}

#[test]
fn a_teacher_and_a_screening_solver_see_other_training_questions() {
    let bench = Bench::new(school::lesson());
    let recipe = RECIPE
        .replace("[collect]\n", "[collect]\nshots = 2\n")
        .replace("[screen]\n", "[screen]\nshots = 1\n")
        .replace("\"direct\", \"cot\", \"two-stage\"", "\"two-stage\"");
    bench.recipe(&recipe).done(&["run", "recipe.toml"]);
    let asked = bench.teacher.asked();
    let of = |manner: Manner, shots: usize| {
        let alike = asked.iter().filter(move |asked| Manner::of(asked) == manner && shown(asked).len() == shots);
        alike.collect::<Vec<_>>()
    };
    let (collected, screened) = (of(Manner::Decompose, 2), of(Manner::TwoStage, 1));
    assert_eq!((collected.len(), screened.len()), (TRAIN, TRAIN));
    assert_eq!((of(Manner::Decompose, 0).len(), of(Manner::TwoStage, 0).len()), (TEST, TEST), "arms say it themselves");
    let mut sets = BTreeSet::new();
    for asked in collected.iter().chain(&screened) {
        let prompts = with_role(&asked.body["messages"], "user");
        let (own, others) = prompts.split_last().unwrap();
        let own = question_in(own).unwrap();
        for (prompt, reply) in others.iter().zip(shown(asked)) {
            let other = question_in(prompt).expect("a training question");
            assert_ne!(other.id, own.id, "it is asked what it was shown");
            let first = &other.recorded.as_ref().unwrap().steps()[0].text;
            match Manner::of(asked) {
                Manner::Decompose => assert!(reply.starts_with(&format!("1. {first}\n")), "{reply}"),
                _ => {
                    assert!(prompt.contains(&format!("Subquestions:\n1. {first}")), "{prompt}");
                    assert!(reply.starts_with(&format!("1. {}\n", other.worked[0].text)), "{reply}");
                    assert!(reply.ends_with(&format!("\nThe answer is: {}", other.golds[0])), "{reply}");
                }
            }
        }
        sets.insert(shown(asked).join("\n"));
    }
    // The first two, and with the third for each of them; of one, and the second for it.
    assert_eq!(sets.len(), 3 + 2, "{sets:?}");
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), asked.len());
}

/// Rows that a student is taught, and the calls that it was asked in, as messages.
fn taught_and_asked(bench: &Bench, student: &str) -> (Vec<Value>, Vec<Value>) {
    bench.done(&["export", "recipe.toml", "--student", student, "--rows", "messages", "--out", "rows.jsonl"]);
    let rows = std::fs::read_to_string(bench.file("rows.jsonl")).unwrap();
    let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let calls = bench.done(&["calls", "--last", "1000", "--json"]).stdout;
    let calls = calls.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own = calls.filter(|call| call["model"] == *student);
    (rows.collect(), own.map(|call| call["request"]["messages"].clone()).collect())
}

#[test]
fn a_student_is_asked_with_the_demonstrations_that_it_learnt() {
    let bench = Bench::new(school::lesson());
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    let recipe = student::RECIPE
        // The tiny model's context has no room for two passages.
        .replace("dataset = \"synth\"", "dataset = \"synth\"\nstyle = \"stories\"")
        .replace("[students.sd-r]", "[students.both]\nshots = 1")
        .replace("target = \"SD-R\"", "target = \"joint\"")
        .replace("epochs = 6", "epochs = 1")
        .replace("[screen]\nsolver = \"big\"\n", "")
        .replace("max_row_tokens = 3000", "max_row_tokens = 4000")
        .replace("solvers = [\"tiny\"]", "solvers = [\"student:both\"]")
        .replace("\"direct\", \"two-stage\"", "\"two-stage\"")
        .replace("\"tiny\", \"student:sd-r\", \"teacher\"", "\"student:both\", \"teacher\"");
    bench.recipe(&recipe).done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), 0);
    let (rows, asked) = taught_and_asked(&bench, "both");
    assert_eq!((rows.len(), asked.len() >= 2 * TEST), (2 * TRAIN, true), "{}", asked.len());
    // Behind the system message the demonstration: the same for all but the question that it is about.
    let demonstration = |messages: &Value| messages.as_array().unwrap()[..3].to_vec();
    let learnt: Vec<_> = rows.iter().map(|row| demonstration(&row["messages"])).collect();
    let known: BTreeSet<String> =
        asked.iter().map(|messages| serde_json::to_string(&demonstration(messages)).unwrap()).collect();
    assert_eq!(known.len(), 2, "one to decompose, one to solve");
    for demonstration in &known {
        let messages: Vec<Value> = serde_json::from_str(demonstration).unwrap();
        let times = learnt.iter().filter(|row| **row == messages).count();
        assert_eq!(times, TRAIN - 1, "{demonstration}");
    }
    let list = bench.done(&["prompts", "recipe.toml"]).stdout;
    let line =
        |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{list}")).to_owned();
    assert!(line("decompose+shots=1 ").contains("students.both, two-stage/both/both"), "{list}");
    assert!(line("two-stage+shots=1 ").contains("students.both, two-stage/both/both"), "{list}");
    let shown = bench.done(&["prompts", "recipe.toml", "--show", "two-stage+shots=1"]).stdout;
    assert_eq!(shown.matches("[assistant]\n1. ").count(), 1, "{shown}");

    let plain = recipe.replace("[students.both]\nshots = 1", "[students.both]");
    bench.recipe(&plain).done(&["train", "recipe.toml"]);
    let again = bench.json(&["status", "recipe.toml", "--json"]);
    assert_eq!(again["students"][0]["trained"], true);
    let adapters = crate::bench::files_below(&bench.file("runs/students"));
    let adapters = adapters.iter().filter(|file| file.ends_with("adapter_model.safetensors")).count();
    assert_eq!(adapters, 2, "a student without shots is another student");
}

#[test]
fn stages_that_lack_demonstrations_are_refused_with_their_key() {
    let refused = |recipe: &str, words: &[&str]| {
        let bench = Bench::idle();
        bench.workspace.write("rows.jsonl", "{\"q\": \"Who?\", \"a\": \"Ann\"}\n{\"q\": \"When?\", \"a\": \"1999\"}\n");
        bench.recipe(recipe).run(&["collect", "recipe.toml"]).complains(2, words);
    };
    let with = |table: &str, line: &str| RECIPE.replace(table, &format!("{table}\n{line}"));
    let rows = "dataset = \"rows\"\nfiles = [\"rows.jsonl\"]\ncolumns = { question = \"q\", answer = \"a\" }";
    let own = with("[collect]", "shots = 1").replace("dataset = \"synth\"\nrows = 12", rows);
    refused(&own, &["collect.shots", "1 training questions", "there are 0", "[[prompts.decompose.demonstrations]]"]);
    let recorded = with("[collect]", "shots = 1").replace("teacher = \"big\"", "teacher = \"recorded\"");
    refused(&recorded, &["collect.shots", "a recorded teacher is not asked"]);
    let written = "\n[[prompts.two-stage.demonstrations]]\nquestion = \"Who?\"\nreply = \"The answer is: Ann\"\n\
                   steps = [{ subquestion = \"When?\", answer = \"1999\" }]\n";
    refused(&format!("{RECIPE}{written}"), &["prompts.two-stage.demonstrations", "write shots = 1 under [screen]"]);
    let two = format!("{}{written}", with("[screen]", "shots = 2"));
    refused(&two, &["1 are written, and `screen.shots` wants 2"]);
}

#[test]
fn what_a_teacher_was_shown_is_told_apart_from_what_it_wrote() {
    let bench = Bench::new(school::lesson());
    let recipe = RECIPE
        .replace("[collect]\n", "[collect]\nshots = 2\n")
        .replace("\"direct\", \"cot\", \"two-stage\"", "\"two-stage+shots=2\"");
    bench.recipe(&recipe).done(&["run", "recipe.toml"]);
    let shown = |name: &str| bench.done(&["prompts", "recipe.toml", "--show", name]).stdout;
    let (recorded, own) = (shown("decompose+shots=2+recorded"), shown("decompose+shots=2"));
    assert!(recorded.contains("asked by  collect\n"), "{recorded}");
    assert!(!recorded.contains("Which facts matter here?"), "{recorded}");
    assert_eq!(own.matches("[assistant]\n1. Which facts matter here?").count(), 2, "{own}");
}
