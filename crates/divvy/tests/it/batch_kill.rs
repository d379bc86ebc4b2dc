//! Batches and a process that dies at the worst moments: the same command finds what it handed in, and hands in nothing
//! twice. What the endpoint was told is counted there.

use std::{collections::BTreeSet, process::Child, time::Duration};

use divvy_testkit::teacher::{Asked, Bureau, Door, Fate, Mishap, RowFate};
use serde_json::json;

use crate::{
    bench::{Bench, ended, interrupt, wait_for},
    school::{self, RECIPE, REQUESTS, TRAIN, bureau, in_batches},
};

fn start(bench: &Bench, so: impl Fn() -> bool) -> Child {
    let mut child = bench.command(&["collect", "recipe.toml"]).spawn().unwrap();
    wait_for(&mut child, so);
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "killed, not finished");
}

fn status(bench: &Bench) -> Option<&'static str> {
    bench.teacher.handed_in().first().map(|batch| batch.status)
}

/// Goes on to the end: every question is answered, by the batches that there were, and nobody was asked online.
#[track_caller]
fn goes_on(bench: &Bench, batches: &[usize]) {
    bench.done(&["collect", "recipe.toml"]);
    assert_eq!(bench.batches(), batches);
    assert_eq!((bench.committed().len(), bench.teacher.asked().len()), (TRAIN, 0));
    assert_eq!(bench.json(&["status", "recipe.toml", "--json"])["batches"], json!([]), "nothing is left open");
}

/// The answer to the creation never arrives, so that no id is on record; the list has it on its third page, with our name for it or
/// without.
#[test]
fn killed_between_creation_and_record() {
    for nameless in [false, true] {
        let mishaps = vec![(Door::Create, Mishap::Mute); 3];
        let bench = Bench::new(bureau(Bureau { mishaps, page: 1, nameless, ..Bureau::default() }));
        bench.recipe(&in_batches(", rows = 5, at_once = 12"));
        kill(start(&bench, || bench.teacher.handed_in().len() == 3));
        goes_on(&bench, &[5, 5, 2]);
    }
}

#[test]
fn killed_between_upload_and_creation() {
    for mishap in [(Door::Upload, Mishap::Mute), (Door::Create, Mishap::Deaf)] {
        let bench = Bench::new(bureau(Bureau { mishaps: vec![mishap], ..Bureau::default() }));
        bench.recipe(&in_batches(""));
        kill(start(&bench, || bench.teacher.mishaps_left() == 0));
        assert_eq!(bench.batches(), [0; 0]);
        goes_on(&bench, &[TRAIN]);
    }
}

#[test]
fn killed_while_it_waits() {
    let bench = Bench::new(bureau(Bureau { fates: vec![Fate::Hold { answered: 0 }], ..Bureau::default() }));
    bench.recipe(&in_batches(", deadline_hours = 9"));
    for _ in 0..3 {
        kill(start(&bench, || status(&bench) == Some("in_progress")));
    }
    let told = bench.done(&["status", "recipe.toml"]).stdout;
    for word in
        ["batches that are out", "12 rows of teacher at http://127.0.0.1", "batch_1, 0 answered", "8 h to the deadline"]
    {
        assert!(told.contains(word), "`{word}` is not in: {told}");
    }
    let open = &bench.json(&["status", "recipe.toml", "--json"])["batches"][0];
    assert_eq!((&open["batch"], &open["rows"]), (&json!("batch_1"), &json!(TRAIN)), "{open}");
    let elsewhere = in_batches("").replace("\"URL\"", "\"URL/other\"");
    let elsewhere = bench.recipe(&elsewhere).run(&["collect", "recipe.toml"]);
    assert!(elsewhere.stderr.contains("is still out and nobody waits for it"), "{elsewhere:?}");
    let online = bench.recipe(RECIPE).command(&["collect", "recipe.toml"]).spawn().unwrap();
    let online = ended(online);
    assert!(
        online.stderr.contains("of `teacher` at http://127.0.0.1") && online.stderr.contains("nobody waits for it"),
        "{online:?}"
    );
}

#[test]
fn killed_while_it_waits_and_taken_up_again() {
    let bench = Bench::new(bureau(Bureau { fates: vec![Fate::Hold { answered: 0 }], ..Bureau::default() }));
    bench.recipe(&in_batches(""));
    kill(start(&bench, || status(&bench) == Some("in_progress")));
    bench.teacher.release();
    goes_on(&bench, &[TRAIN]);
}

/// The batch is over, and its file on the way down.
#[test]
fn killed_while_it_takes_in() {
    let mishaps = vec![(Door::Content, Mishap::Deaf)];
    let bench = Bench::new(bureau(Bureau { mishaps, ..Bureau::default() }));
    bench.recipe(&in_batches(""));
    kill(start(&bench, || bench.teacher.mishaps_left() == 0));
    goes_on(&bench, &[TRAIN]);
}

#[test]
fn ctrl_c_leaves_a_batch_where_it_is() {
    let bench = Bench::new(bureau(Bureau { fates: vec![Fate::Hold { answered: 0 }], ..Bureau::default() }));
    // As many calls as there are rows: none is paid for twice.
    bench.recipe(&format!("{}\n[budget]\ncalls = {TRAIN}\n", in_batches("")));
    let child = start(&bench, || status(&bench) == Some("in_progress"));
    interrupt(&child);
    ended(child).complains(130, &["interrupted", "a batch (12 rows) goes on at the endpoint", "the same command"]);
    assert_eq!(bench.spending(), divvy_store::Spending::default(), "nothing came back yet");
    bench.teacher.release();
    goes_on(&bench, &[TRAIN]);
    assert_eq!(bench.spending().spent.calls as usize, TRAIN);
}

/// Its rows come in before anybody asks for them: another question file, say, was on its way at the time.
#[test]
fn rows_that_nobody_asks_for_any_more_wait_in_the_store() {
    let bench = Bench::new(bureau(Bureau { fates: vec![Fate::Hold { answered: 0 }], ..Bureau::default() }));
    bench.recipe(&in_batches(""));
    kill(start(&bench, || status(&bench) == Some("in_progress")));
    bench.teacher.release();
    let fewer = in_batches("").replace("rows = 12", "rows = 8");
    bench.recipe(&fewer).done(&["collect", "recipe.toml"]);
    assert!(bench.committed().len() < TRAIN, "{}", bench.committed().len());
    let before = bench.batches();
    bench.recipe(&in_batches("")).done(&["collect", "recipe.toml"]);
    assert_eq!(bench.batches(), before, "the other rows had come with the first batch");
}

/// Of the four rows that nobody asks for, two are refused: whoever asks for them has to ask the endpoint. The first row, which
/// somebody waits for, is to come again, so that the command ends when the batch is through.
#[test]
fn what_was_refused_while_nobody_waited_is_no_reply_that_costs_nothing() {
    let questions = school::questions();
    let row = move |asked: &Asked, batch: usize| {
        let place = questions.iter().position(|question| asked.last().contains(&question.text));
        match place {
            Some(0) if batch == 1 => RowFate::Status(429, "slower".to_owned()),
            Some(10 | 11) => RowFate::Status(400, "I will not hear that.".to_owned()),
            _ => RowFate::Answered,
        }
    };
    let fates = vec![Fate::Hold { answered: 0 }];
    let bench = Bench::new(bureau(Bureau { row: Box::new(row), fates, ..Bureau::default() }));
    bench.recipe(&in_batches(""));
    kill(start(&bench, || status(&bench) == Some("in_progress")));
    bench.teacher.release();
    bench.recipe(&in_batches("").replace("rows = 12", "rows = 8")).done(&["collect", "recipe.toml"]);
    assert_eq!(bench.json(&["status", "recipe.toml", "--json"])["unread_replies"], 2);
    assert!(bench.attempts().contains(&("bad-request".to_owned(), 2)), "{:?}", bench.attempts());
    let told = bench.done(&["status", "recipe.toml"]).stdout;
    assert!(told.contains("2 replies on disk that a command did not live to read"), "{told}");
}

/// Many small batches, and a kill every few hundred milliseconds, wherever it falls.
#[test]
fn killed_at_moments_that_nobody_chose() {
    let bench = Bench::new(bureau(Bureau { looks: 4, page: 2, ..Bureau::default() }));
    let hurried = "poll_seconds = 0.02, gather_seconds = 0.05, rows = 3, at_once = 6";
    bench.recipe(&in_batches("").replace("poll_seconds = 0.01, gather_seconds = 0.5", hurried));
    let (mut state, mut kills) = (2026_u64, 0);
    for _ in 0..20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut child = bench.command(&["run", "recipe.toml"]).spawn().unwrap();
        std::thread::sleep(Duration::from_micros((state >> 33) % 300_000));
        child.kill().unwrap();
        kills += usize::from(child.wait().unwrap().code().is_none());
    }
    assert!(kills >= 10, "the run ended before the kills: {kills}");
    bench.done(&["run", "recipe.toml"]);
    let handed_in = bench.teacher.handed_in();
    let rows: Vec<String> =
        handed_in.iter().flat_map(|batch| &batch.asked).map(|asked| asked.body.to_string()).collect();
    let distinct: BTreeSet<&String> = rows.iter().collect();
    assert_eq!((rows.len(), distinct.len()), (REQUESTS, REQUESTS), "a row was handed in twice, or never");
    assert_eq!((bench.committed().len(), bench.teacher.asked().len()), (REQUESTS, 0));
}

/// An error that is no verdict on the batch ends the command, and not the batch.
#[test]
fn a_batch_that_the_endpoint_does_not_know_stays_on_record() {
    let mishaps = vec![(Door::Look, Mishap::Status(404, None))];
    let bench = Bench::new(bureau(Bureau { mishaps, ..Bureau::default() }));
    let ended = bench.recipe(&in_batches("")).run(&["run", "recipe.toml"]);
    ended.complains(1, &["does not know batch batch_1", "HTTP 404", "another account", "(12 rows) goes on"]);
    assert!(!ended.stderr.contains("check `model`"), "{}", ended.stderr);
    goes_on(&bench, &[TRAIN]);
}

/// It may be a moment behind its batch, or be seen with another key alone.
#[test]
fn a_file_that_the_endpoint_does_not_have_is_asked_for_again_and_then_stays_on_record() {
    let missing = |times| vec![(Door::Content, Mishap::Status(404, None)); times];
    let bench = Bench::new(bureau(Bureau { mishaps: missing(2), ..Bureau::default() }));
    bench.recipe(&in_batches(""));
    goes_on(&bench, &[TRAIN]);

    let bench = Bench::new(bureau(Bureau { mishaps: missing(3), ..Bureau::default() }));
    let ended = bench.recipe(&in_batches("")).run(&["run", "recipe.toml"]);
    ended.complains(1, &["does not have file-", "batch batch_1", "HTTP 404", "another account", "(12 rows) goes on"]);
    goes_on(&bench, &[TRAIN]);
}

#[test]
fn a_deadline_that_passes_while_nobody_runs_is_a_deadline() {
    let bench = Bench::new(bureau(Bureau { fates: vec![Fate::Hold { answered: 5 }], ..Bureau::default() }));
    bench.recipe(&in_batches(", deadline_hours = 0.0005"));
    kill(start(&bench, || status(&bench) == Some("in_progress")));
    bench.done(&["collect", "recipe.toml"]);
    assert_eq!((bench.batches(), bench.teacher.asked().len()), (vec![TRAIN], TRAIN - 5));
    assert_eq!(bench.committed().len(), TRAIN);
}
