//! Stopped at any time, by force or by Ctrl-C, the same command goes on: no call that is in the store is made again, and
//! at most the calls that were in flight are.

#[cfg(unix)]
use std::process::Stdio;
use std::time::Duration;

use divvy_testkit::{
    script::Step,
    teacher::{Asked, Lesson},
};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, ended, interrupt, wait_for},
    school::{self, CONCURRENCY, RECIPE, REQUESTS, TEST, TRAIN},
};

/// Slow enough that a stop falls into the middle of things.
fn slow() -> Bench {
    let bench = Bench::new(Lesson { latency: Duration::from_millis(25), ..school::lesson() });
    bench.recipe(RECIPE);
    bench
}

/// What the store holds, with how often each was heard so far.
fn heard(bench: &Bench) -> Vec<(Value, usize)> {
    bench.committed().into_iter().map(|messages| (messages.clone(), bench.heard(&messages))).collect()
}

/// Runs to the end; what was committed at each stop has not been heard since.
#[track_caller]
fn finish(bench: &Bench, committed: &[(Value, usize)], stops: usize) {
    bench.done(&["run", "recipe.toml"]);
    for (messages, times) in committed {
        assert_eq!(bench.heard(messages), *times, "a committed call was repeated: {messages}");
    }
    assert!(bench.repeats() <= stops * CONCURRENCY, "{} repeats after {stops} stops", bench.repeats());
    assert_eq!(bench.teacher.asked().len() - bench.repeats(), REQUESTS);
    assert_eq!(bench.committed().len(), REQUESTS);
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let correct: Vec<&Value> = report["arms"].as_array().unwrap().iter().map(|arm| &arm["correct"]).collect();
    assert_eq!(correct, [&json!(TEST / 2), &json!(TEST), &json!(TEST)], "{report}");
}

#[test]
fn killed_at_several_places_no_committed_call_is_repeated() {
    let bench = slow();
    let mut committed = Vec::new();
    let places = [2, 9, 17, 30, 45];
    for place in places {
        let mut child = bench.run_until(place);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "killed, not finished");
        committed.extend(heard(&bench));
    }
    assert!(committed.len() > places.len(), "the kills came before anything was committed");
    finish(&bench, &committed, places.len());
}

/// The server's count against the store's, after each of fifty kills at moments that nobody chose.
#[test]
fn fifty_kills_cost_at_most_what_was_in_flight() {
    let bench = Bench::new(Lesson { latency: Duration::from_millis(25), ..Lesson::default() });
    bench.recipe(&RECIPE.replace("rows = 12", "rows = 90").replace("rows = 8", "rows = 60"));
    let (mut state, mut kills) = (2026_u64, 0);
    for _ in 0..50 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let asked = bench.teacher.asked().len();
        let mut child = bench.run_until(asked + 1);
        std::thread::sleep(Duration::from_micros((state >> 33) % 50_000));
        child.kill().unwrap();
        kills += usize::from(child.wait().unwrap().code().is_none());
        let (kept, asked) = (bench.kept(), bench.teacher.asked().len());
        assert!(asked <= kept + kills * CONCURRENCY, "{kept} replies of {asked} kept after {kills} kills");
        // What nobody heard is counted, and no more than was in flight.
        let lost = bench.spending().lost.calls as usize;
        assert!(asked <= kept + lost && lost <= kills * CONCURRENCY, "{lost} lost, {kept} of {asked} kept");
    }
    assert_eq!(kills, 50, "the run ended before all kills; it must be longer");
    let committed = heard(&bench);
    bench.done(&["run", "recipe.toml"]);
    assert!(committed.iter().all(|(messages, times)| bench.heard(messages) == *times), "a committed call was repeated");
    let asked = bench.teacher.asked().len();
    assert_eq!(bench.committed().len(), asked - bench.repeats());
    assert!(bench.repeats() <= kills * CONCURRENCY);
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), asked, "a finished run asks nothing");
}

#[test]
fn a_kill_in_each_stage_alone_loses_nothing() {
    for place in [5, 16, 40] {
        let bench = slow();
        let mut child = bench.run_until(place);
        child.kill().unwrap();
        child.wait().unwrap();
        let committed = heard(&bench);
        let kept = bench.kept();
        assert!(kept + CONCURRENCY >= place.min(bench.teacher.answered()), "{kept} of {place}");
        finish(&bench, &committed, 1);
    }
}

#[test]
fn a_report_of_a_half_finished_run_keeps_its_denominators() {
    let bench = slow();
    let mut child = bench.run_until(2 * TRAIN + 10);
    child.kill().unwrap();
    child.wait().unwrap();
    let status = bench.done(&["status", "recipe.toml"]).stdout;
    assert!(status.contains("a second in the last") && status.contains(", about "), "{status}");
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    let arms = report["arms"].as_array().unwrap();
    assert!(!arms.is_empty() && arms.iter().all(|arm| arm["n"] == json!(TEST)), "{report}");
    let correct: u64 = arms.iter().map(|arm| arm["correct"].as_u64().unwrap()).sum();
    assert!(correct < (2 * TEST + TEST / 2) as u64, "nothing was missing: {report}");
}

#[test]
fn ctrl_c_stops_cleanly_and_the_same_command_goes_on() {
    let bench = slow();
    for place in [6, 20] {
        let child = bench.run_until(place);
        interrupt(&child);
        let stopped = ended(child);
        stopped.complains(130, &["stopping", "interrupted", "run the same command to go on"]);
    }
    finish(&bench, &heard(&bench), 2);
}

/// Neither Ctrl-C nor an endpoint that suddenly wants money costs a reply that is on its way.
#[test]
fn what_is_in_flight_when_the_run_stops_is_kept() {
    let bench = slow();
    let child = bench.run_until(9);
    interrupt(&child);
    ended(child).complains(130, &["replies that endpoints have under way are waited for"]);
    assert_eq!((bench.kept(), bench.teacher.abandoned()), (bench.teacher.asked().len(), 0));
    assert_eq!(bench.spending().spent.calls as usize, bench.kept());

    let answers = school::lesson().rule;
    let slowly = move |asked: &Asked| {
        std::thread::sleep(Duration::from_millis(200));
        answers(asked)
    };
    let script = vec![Step::status(402)];
    let bench = Bench::new(Lesson { script, rule: Box::new(slowly), ..Lesson::default() });
    let ended = bench.recipe(RECIPE).run(&["run", "recipe.toml"]);
    ended.complains(1, &["HTTP 402", "no credit left"]);
    let asked = bench.teacher.asked().len();
    assert_eq!((bench.kept(), bench.teacher.abandoned()), (asked - 1, 0));
    let spending = bench.spending();
    assert_eq!((spending.spent.calls, spending.lost.calls), (asked as i64 - 1, 0), "a refusal costs nothing");
    assert!(asked < TRAIN, "nothing further was sent");
}

#[test]
fn ctrl_c_keeps_what_had_come_of_the_reply_that_it_gives_up() {
    let script = vec![Step::drip("Half an answer", 600_000)];
    let bench = Bench::new(Lesson { script, ..school::lesson() });
    bench.recipe(&RECIPE.replace("concurrency = 4", "concurrency = 4\nstall_seconds = 300"));
    let mut child = bench.command(&["run", "recipe.toml"]).spawn().unwrap();
    // By the time that all others are answered, the first word of that one has long come.
    wait_for(&mut child, || bench.teacher.answered() == TRAIN - 1);
    interrupt(&child);
    // It is waited for: once more gives it up.
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "the reply is on its way, and paid for");
    interrupt(&child);
    ended(child).complains(130, &["stopping", "giving up the replies that are under way", "interrupted"]);
    let spending = bench.spending();
    assert_eq!((spending.spent.calls, spending.lost.calls), (TRAIN as i64, 0), "{spending:?}");
    let failed = bench.done(&["calls", "--failed"]).stdout;
    let key = failed.split_whitespace().next().unwrap();
    let told = bench.done(&["calls", key]).stdout;
    assert!(failed.lines().count() == 1 && told.contains("cancelled: interrupted"), "{told}");
    assert!(told.contains("as received") && told.contains("Half ") && !told.contains("answer"), "{told}");
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), REQUESTS + 1);
}

#[test]
fn ctrl_c_in_the_evaluation_keeps_what_is_finished_and_the_rest_is_asked_next() {
    let bench = slow();
    let place = 2 * TRAIN + 12;
    let child = bench.run_until(place);
    interrupt(&child);
    ended(child).complains(130, &["stopping", "interrupted", "run the same command to go on"]);
    let kept = bench.kept();
    assert!(kept + CONCURRENCY >= place && kept < REQUESTS, "{kept} of {place} and more");
    let states = bench.stage("evaluate")["states"].clone();
    assert!(states["done"].as_u64() > Some(0) && states["pending"].as_u64() > Some(0), "{states}");
    let (heard, asked) = (heard(&bench), bench.teacher.asked().len());
    finish(&bench, &heard, 1);
    assert_eq!(bench.teacher.asked().len(), asked + REQUESTS - kept, "only the rest");
}

/// The shell limits the size of files and has the signal ignored, so that writing fails as it does on a full disk; each run has
/// a little more room than the one before.
#[cfg(unix)]
#[test]
fn a_full_disk_costs_at_most_what_was_in_flight_and_all_of_it_is_counted() {
    let bench = slow();
    let (mut committed, mut stops) = (Vec::new(), 0);
    for room in (300..).step_by(60) {
        let asked = bench.teacher.asked().len();
        if run_with(&bench, room).code == Some(0) {
            break;
        }
        if bench.teacher.asked().len() == asked {
            continue;
        }
        stops += 1;
        let (asked, spending) = (bench.teacher.asked().len(), bench.spending());
        let counted = spending.spent.calls + spending.lost.calls;
        assert!(counted as usize >= asked, "{asked} asked with room for {room}: {spending:?}");
        committed.extend(heard(&bench));
    }
    assert!(stops > 0, "the disk was never full in the middle of a run");
    finish(&bench, &committed, stops);
}

/// In blocks of 512 bytes or 1 KiB, as the shell counts.
#[cfg(unix)]
fn run_with(bench: &Bench, room: usize) -> crate::bench::Ended {
    let program = bench.command(&["run", "recipe.toml"]);
    let limited = format!("trap '' XFSZ; ulimit -f {room}; exec \"$0\" \"$@\"");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &limited]).arg(program.get_program()).args(program.get_args());
    shell.current_dir(bench.workspace.path()).env("DIVVY_CACHE", bench.file("cache"));
    shell.env_remove("DIVVY_STORE").env_remove("DIVVY_LOG");
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(shell.spawn().unwrap())
}

#[test]
fn a_second_run_on_a_store_in_use_is_refused_and_reading_is_not() {
    let bench = Bench::new(Lesson { latency: Duration::from_secs(600), ..school::lesson() });
    bench.recipe(RECIPE);
    let mut first = bench.run_until(1);
    let second = bench.run(&["run", "recipe.toml"]);
    let status = bench.run(&["status", "recipe.toml", "--json"]);
    first.kill().unwrap();
    first.wait().unwrap();
    second.complains(1, &["divvy.db", "in use by another divvy", "name another store"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(bench.teacher.asked().len() <= CONCURRENCY, "the second run asked too");
}
