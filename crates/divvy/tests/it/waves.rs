//! `[screen] until`: decompositions are bought as far as the screening needs them, and no further, whatever stops a run and
//! whoever shares the work.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
    time::Duration,
};

use divvy_core::{question::Split, synth};
use divvy_testkit::{
    checkpoint,
    teacher::{Lesson, Rule},
};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, wait_for},
    school::{self, CONCURRENCY, Manner, RECIPE},
};

const ROWS: usize = 60;
const UNTIL: usize = 20;
/// A group of twenty, in which some are wrong, and the smallest group, which is more than enough.
const NEEDED: usize = UNTIL + 16;

fn recipe() -> String {
    RECIPE.replace("rows = 12", &format!("rows = {ROWS}")).replace("[screen]", &format!("[screen]\nuntil = {UNTIL}"))
}

/// Knows all the training rows; of every four one is solved wrongly, and of every ten one is no decomposition.
fn lesson(latency: Duration) -> Lesson {
    let rule = school::rule_about(synth::generate(Split::Train, ROWS, 7), |question, manner| {
        match (manner, school::row(question) % 10) {
            (Manner::Decompose, 9) => "I cannot say.".to_owned(),
            (other, _) => school::answer(question, other),
        }
    });
    Lesson { rule, latency, ..Lesson::default() }
}

fn bench() -> Bench {
    let bench = Bench::new(lesson(Duration::ZERO));
    bench.recipe(&recipe());
    bench
}

fn stage(bench: &Bench, name: &str) -> Value {
    bench.stage(name)["states"].clone()
}

fn sum(states: &Value, of: impl Fn(&str) -> bool) -> u64 {
    let states = states.as_object().unwrap();
    states.iter().filter(|(state, _)| of(state)).map(|(_, items)| items.as_u64().unwrap()).sum()
}

fn settled(bench: &Bench, stage_name: &str) -> u64 {
    sum(&stage(bench, stage_name), |state| state != "pending")
}

/// What the teacher was asked, each request once.
fn requests(bench: &Bench) -> BTreeSet<String> {
    bench.teacher.asked().iter().map(|asked| asked.body.to_string()).collect()
}

#[test]
fn no_more_is_collected_than_the_screening_needs() {
    let bench = bench();
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(settled(&bench, "collect"), NEEDED as u64);
    let (collected, screened) = (stage(&bench, "collect"), stage(&bench, "screen"));
    let malformed = collected["rejected: malformed"].as_u64().unwrap();
    assert!(malformed > 0 && screened["done"].as_u64().unwrap() >= UNTIL as u64, "{collected} {screened}");
    assert_eq!(sum(&screened, |_| true), NEEDED as u64 - malformed);
    assert_eq!((&collected["pending"], &screened["pending"]), (&json!(0), &json!(0)), "nothing more is needed");
    let asked = bench.teacher.asked().len();
    assert_eq!(asked, 2 * NEEDED - malformed as usize);
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), asked, "a second run asks nothing");
    let times = bench.json(&["report", "recipe.toml", "--json"])["stages"].clone();
    let stages: Vec<&Value> = times.as_array().unwrap().iter().map(|time| &time["stage"]).collect();
    assert_eq!(stages, ["collect", "screen"], "each has its own time");
    // Collected beforehand or not: the same rows are screened.
    let other = self::bench();
    other.done(&["collect", "recipe.toml"]);
    assert_eq!((other.teacher.asked().len(), stage(&other, "collect")["pending"].clone()), (ROWS, json!(0)));
    other.done(&["screen", "recipe.toml"]);
    assert_eq!(stage(&other, "screen"), screened);
    assert!(requests(&bench).is_subset(&requests(&other)));
}

/// A question's third decomposition is always solved, the others in one of two tries.
fn ever_better() -> Lesson {
    let right = school::rule_about(synth::generate(Split::Train, ROWS, 7), |question, _| school::right(question));
    let heard = Mutex::new(HashMap::<String, usize>::new());
    let rule: Box<Rule> = Box::new(move |asked| {
        let mut heard = heard.lock().unwrap();
        let times = heard.entry(asked.last().to_owned()).or_default();
        *times += 1;
        match Manner::of(asked) {
            Manner::Decompose => format!("1. What is said in part {times}?\n2. What follows?"),
            _ if *times == 1 || asked.last().contains("said in part 3?") => right(asked),
            _ => "The answer is: 987654321".to_owned(),
        }
    });
    Lesson { rule, ..Lesson::default() }
}

#[test]
fn the_best_of_a_question_is_chosen_within_a_group() {
    let bench = Bench::new(ever_better());
    // Groups of forty and more decompositions, three a question.
    let best = format!("until = {}\nrule = \"best\"\nsamples = 2\ntemperature = 0.5", 2 * UNTIL);
    let recipe = recipe().replace(&format!("until = {UNTIL}"), &best).replace("concurrency = 4", "concurrency = 1");
    bench.recipe(&recipe.replace("[collect]", "[collect]\nsamples = 3\ntemperature = 0.7"));
    bench.done(&["screen", "recipe.toml"]);
    let (asked, collected, screened) = (requests(&bench), stage(&bench, "collect"), stage(&bench, "screen"));
    let kept = screened["done"].as_u64().unwrap();
    assert!(kept >= 2 * UNTIL as u64 && kept < ROWS as u64, "{screened}");
    assert_eq!(screened["rejected: not-the-best"], 2 * kept, "every question that was begun has all its samples");
    assert_eq!((&collected["pending"], &screened["pending"]), (&json!(0), &json!(0)), "nothing more is needed");
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(requests(&bench), asked, "a second run asks nothing");
    assert_eq!((stage(&bench, "collect"), stage(&bench, "screen")), (collected, screened));
}

#[test]
fn killed_at_several_places_the_same_rows_are_screened() {
    let whole = bench();
    whole.done(&["screen", "recipe.toml"]);
    let bench = Bench::new(lesson(Duration::from_millis(25)));
    bench.recipe(&recipe());
    let places = [3, 12, 21, 30, 38, 45];
    for place in places {
        let mut child = bench.command(&["screen", "recipe.toml"]).spawn().unwrap();
        wait_for(&mut child, || bench.teacher.asked().len() >= place);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "killed, not finished");
    }
    bench.done(&["screen", "recipe.toml"]);
    assert_eq!(requests(&bench), requests(&whole));
    assert_eq!(stage(&bench, "screen"), stage(&whole, "screen"));
    assert!(bench.repeats() <= places.len() * CONCURRENCY, "{} repeats", bench.repeats());
}

#[test]
fn dev_rows_and_a_student_of_all_rows_get_what_they_need() {
    let bench = bench();
    bench
        .recipe(&recipe().replace("[data.train]", "[data]\ndev_rows = 5\n[data.train]"))
        .done(&["screen", "recipe.toml"]);
    assert_eq!(settled(&bench, "collect"), NEEDED as u64 + 5);
    assert_eq!(stage(&bench, "collect")["pending"], 0);

    let all = self::bench();
    checkpoint::write_tiny(&all.file("tiny")).unwrap();
    let students = |target: &str| {
        format!("[models.tiny]\nsource = \"path:HERE/tiny\"\n[students.s]\nbase = \"tiny\"\ntarget = \"{target}\"\n")
    };
    all.recipe(&format!("{}\n{}", recipe(), students("SD-T"))).done(&["screen", "recipe.toml"]);
    assert_eq!(settled(&all, "collect"), ROWS as u64);
    let screened = settled(&all, "screen");
    assert!(screened < ROWS as u64 / 2 + 10, "{screened}: only the screening stops early");

    let few = self::bench();
    checkpoint::write_tiny(&few.file("tiny")).unwrap();
    let recipe = recipe().replace(&format!("until = {UNTIL}"), "rows = 25");
    few.recipe(&format!("{recipe}\n{}", students("SD-R"))).done(&["screen", "recipe.toml"]);
    assert_eq!(
        (settled(&few, "collect"), stage(&few, "collect")["pending"].clone()),
        (25, json!(0)),
        "the rest nobody learns"
    );
}

#[test]
fn what_is_left_is_told_as_it_is() {
    let bench = bench();
    let dry = bench.done(&["run", "recipe.toml", "--dry-run"]).stderr;
    let line =
        |stage: &str| dry.lines().find(|line| line.starts_with(stage)).unwrap_or_else(|| panic!("{dry}")).to_owned();
    assert_eq!(line("collect").split_whitespace().nth(2), Some("60"), "at most: {dry}");
    let told = bench.json(&["run", "recipe.toml", "--estimate=8", "--json"]);
    let asked = requests(&bench).len();
    let pending = stage(&bench, "collect")["pending"].as_u64().unwrap();
    assert_eq!(pending, ROWS as u64 - 8, "all of it may be needed");
    let left = |stage: &str| {
        let lines = told["lines"].as_array().unwrap();
        let line = lines.iter().find(|line| line["stage"] == stage).unwrap_or_else(|| panic!("{told}"));
        line["left"]["calls"]["estimate"].as_f64().unwrap()
    };
    // At the rate of the eight, about thirty questions are enough for twenty rows.
    assert!(left("collect") > 5.0 && left("collect") < 40.0, "{told}");
    bench.done(&["screen", "recipe.toml"]);
    let after = bench.json(&["run", "recipe.toml", "--estimate=8", "--json"]);
    let lines = after["lines"].as_array().unwrap();
    let idle = |stage: &str| {
        let mut of_stage = lines.iter().filter(|line| line["stage"] == stage).peekable();
        of_stage.peek().is_some() && of_stage.all(|line| line["left"]["calls"]["estimate"] == 0.0)
    };
    assert!(idle("collect") && idle("screen") && asked < requests(&bench).len(), "{after}");
    assert_eq!(
        (stage(&bench, "collect")["pending"].clone(), stage(&bench, "screen")["pending"].clone()),
        (json!(0), json!(0))
    );
}

#[test]
fn each_shard_keeps_its_part() {
    let bench = bench();
    let kept = || stage(&bench, "screen")["done"].as_u64().unwrap_or(0);
    let mut before = 0;
    for shard in ["1/2", "2/2"] {
        bench.done(&["screen", "recipe.toml", "--shard", shard]);
        let now = kept() - before;
        assert!((UNTIL as u64 / 2..UNTIL as u64).contains(&now), "{shard}: {now} kept");
        before = kept();
    }
    assert!(settled(&bench, "collect") < ROWS as u64, "no shard collects all of its questions");
    let asked = bench.teacher.asked().len();
    bench.done(&["screen", "recipe.toml", "--shard", "1/2"]);
    assert_eq!(bench.teacher.asked().len(), asked, "a finished shard asks nothing");
    bench.done(&["screen", "recipe.toml"]);
    let whole = self::bench();
    whole.done(&["screen", "recipe.toml"]);
    assert!(requests(&whole).is_subset(&requests(&bench)), "the whole has what it would have had without shards");
    assert_eq!(bench.repeats(), 0);
}
