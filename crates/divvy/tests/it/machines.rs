//! Several workers on one PostgreSQL server: they share the work, the cache, the money and the rate, whatever happens to
//! any of them or to the server.

mod batches;
mod money;

use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};

use divvy_testkit::{
    postgres::{PASSWORD, Postgres},
    teacher::Lesson,
};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, Ended, calls_of_stages, ended, interrupt, stage, wait_for},
    school::{self, CONCURRENCY, RECIPE, REQUESTS, TEST},
};

const DATABASE: &str = "runs";
/// Short, so that the test need not wait long for one to pass.
const LEASE: Duration = Duration::from_secs(3);
pub(crate) const TRAIN_ROWS: usize = 90;
const TEST_ROWS: usize = 60;
/// Of a run of [`long`].
const ITEMS: usize = 2 * TRAIN_ROWS + 3 * TEST_ROWS;
const CALLS: usize = 2 * TRAIN_ROWS + 4 * TEST_ROWS;

struct Machines {
    bench: Bench,
    server: Postgres,
    url: String,
}

/// Enough for three workers, asked slowly enough that something can happen to them.
pub(crate) fn long() -> String {
    RECIPE.replace("rows = 12", &format!("rows = {TRAIN_ROWS}")).replace("rows = 8", &format!("rows = {TEST_ROWS}"))
}

impl Machines {
    fn new(lesson: Lesson) -> Option<Self> {
        let server = Postgres::start()?;
        let url = server.database(DATABASE);
        Some(Self { bench: Bench::new(lesson), server, url })
    }

    fn slow() -> Option<Self> {
        let machines = Self::new(Lesson { latency: Duration::from_millis(50), ..school::lesson() })?;
        machines.bench.recipe(&long());
        Some(machines)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bench.command(arguments);
        command.env("DIVVY_STORE", &self.url).env("DIVVY_LEASE_SECONDS", LEASE.as_secs().to_string());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).spawn().unwrap())
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.done(&["status", "recipe.toml", "--json"]).stdout).unwrap()
    }

    /// Three workers, as on three machines.
    fn workers(&self) -> [Child; 3] {
        [(); 3].map(|()| self.command(&["eval", "recipe.toml"]).spawn().unwrap())
    }

    fn heard(&self) -> usize {
        self.bench.teacher.asked().len()
    }

    #[track_caller]
    fn until(&self, child: &mut Child, requests: usize) {
        wait_for(child, || self.heard() >= requests);
    }

    fn count(&self, what: &str) -> usize {
        self.server.query(DATABASE, &format!("SELECT count(*) FROM divvy.{what}")).parse().unwrap()
    }

    /// Every item has one outcome, every call one record, and the report is whole.
    #[track_caller]
    fn assert_finished(&self) {
        assert_eq!(self.count("item WHERE state IN ('done', 'rejected') AND worker IS NULL"), ITEMS);
        assert_eq!(self.count("item_history"), ITEMS, "an outcome was written twice");
        assert_eq!(self.count("call"), CALLS);
        assert_eq!(self.heard() - self.bench.repeats(), CALLS);
        let report = self.done(&["report", "recipe.toml", "--json"]).stdout;
        let report: Value = serde_json::from_str(&report).unwrap();
        assert!(report["arms"].as_array().unwrap().iter().all(|arm| arm["n"] == json!(TEST_ROWS)), "{report}");
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[track_caller]
fn assert_silent_about_the_password(ended: &Ended) {
    assert!(!ended.stdout.contains(PASSWORD) && !ended.stderr.contains(PASSWORD), "{ended:?}");
}

#[test]
fn one_of_three_is_killed_and_one_paused_and_nothing_is_done_twice() {
    one_is_killed_and_one_paused("[budget]\ncalls = 100000\n");
}

#[test]
fn without_a_budget_it_is_the_same() {
    one_is_killed_and_one_paused("");
}

fn one_is_killed_and_one_paused(budget: &str) {
    let Some(machines) = Machines::slow() else { return };
    machines.bench.recipe(&format!("{}\n{budget}", long()));
    let [mut killed, mut paused, steady] = machines.workers();
    machines.until(&mut killed, 60);
    killed.kill().unwrap();
    killed.wait().unwrap();
    machines.until(&mut paused, 120);
    let status = machines.done(&["status", "recipe.toml"]).stdout;
    assert!(status.contains(&format!("worker process {}: ", paused.id())), "{status}");
    signal(&paused, "-STOP");
    let stopped = Instant::now();
    let its = format!("item WHERE worker = (SELECT id FROM divvy.worker WHERE name = 'process {}')", paused.id());
    assert!(machines.count(&its) > 0, "it had nothing in work when it was stopped");
    // The third alone brings it to its end, what the others had in work included.
    let steady = ended(steady);
    assert_eq!(steady.code, Some(0), "{steady:?}");
    assert!(stopped.elapsed() > LEASE, "{:?}", stopped.elapsed());
    machines.assert_finished();
    signal(&paused, "-CONT");
    let paused = ended(paused);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    machines.assert_finished();
    [&steady, &paused].into_iter().for_each(assert_silent_about_the_password);
    // What was paid is on record, but for what the killed one had in flight; a late reply is kept beside the first. More may be
    // on record than was heard: a connection that broke while its worker stood still.
    let (attempts, repeats) = (machines.count("attempt"), machines.bench.repeats());
    assert!(machines.heard() <= attempts + CONCURRENCY, "{} heard, {attempts} on record", machines.heard());
    assert!(repeats <= 2 * CONCURRENCY, "{repeats} repeats: more than two workers had in flight");
    // The kill may have fallen between a reply and what was read from it.
    let (failed, further) = (machines.count("attempt") - machines.count("call"), machines.count("raw_reply") - CALLS);
    assert!(
        failed <= further + CONCURRENCY && further <= failed + CONCURRENCY,
        "{failed} failed, {further} more replies"
    );
    assert_eq!(machines.count("flight"), 0);
    // It is charged, too; of the killed one what it had in flight is lost, and nothing else.
    let spending = machines.status()["spending"].clone();
    let calls = |of: &str| spending[of]["calls"].as_u64().unwrap() as usize;
    assert!(calls("spent") + calls("lost") >= machines.heard(), "{} heard, {spending}", machines.heard());
    assert!(calls("lost") <= CONCURRENCY && calls("spent") <= attempts, "{attempts} on record, {spending}");
    assert_eq!(machines.count("outstanding"), calls("lost"), "those alone are not back");
    let asked = machines.heard();
    machines.done(&["eval", "recipe.toml"]);
    assert_eq!(machines.heard(), asked, "a finished run asks nothing");
}

/// Each begins with another question, so that their trials would be different calls.
#[test]
fn of_workers_that_begin_together_one_tries_a_schema() {
    let Some(machines) = Machines::slow() else { return };
    machines.bench.recipe(&long().replace("concurrency = 4", "concurrency = 4\nstructured = \"auto\""));
    let begin = |shard| machines.command(&["collect", "recipe.toml", "--shard", shard]).spawn().unwrap();
    let told = ["1/3", "2/3", "3/3"].map(begin).map(ended);
    assert!(told.iter().all(|worker| worker.code == Some(0)), "{told:?}");
    let finders = told.iter().filter(|worker| worker.stderr.contains("does not keep to a JSON schema")).count();
    let asked = machines.bench.teacher.asked();
    let trials = asked.iter().filter(|asked| !asked.body["response_format"].is_null()).count();
    assert_eq!((finders, trials, asked.len()), (1, 1, TRAIN_ROWS + 1));
    let calls = &stage(&machines.status(), "collect")["calls"];
    assert_eq!((&calls["calls"], &calls["schema_trials"]), (&json!(TRAIN_ROWS + 1), &json!(1)));
    assert_eq!(machines.count("flight"), 0);
}

#[test]
fn a_server_that_restarts_in_mid_run_costs_time_and_no_call() {
    let Some(mut machines) = Machines::slow() else { return };
    let [mut first, second, third] = machines.workers();
    machines.until(&mut first, 60);
    machines.server.stop();
    std::thread::sleep(Duration::from_millis(500));
    machines.server.go_on();
    for worker in [first, second, third] {
        let ended = ended(worker);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("the store does not answer"), "{ended:?}");
        assert_silent_about_the_password(&ended);
    }
    machines.assert_finished();
    assert_eq!(machines.bench.repeats(), 0);
}

#[test]
fn a_server_that_crashes_in_mid_run_loses_nothing_that_was_paid() {
    let Some(mut machines) = Machines::slow() else { return };
    let [mut first, second, third] = machines.workers();
    machines.until(&mut first, 60);
    machines.server.crash();
    machines.server.go_on();
    for worker in [first, second, third] {
        let ended = ended(worker);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    machines.assert_finished();
    assert_eq!(machines.count("attempt"), machines.heard(), "every reply is on record");
    // A crash may forget the newest leases, never a reply.
    assert!(machines.bench.repeats() <= 2 * CONCURRENCY, "{} repeats", machines.bench.repeats());
}

#[test]
fn workers_screen_in_the_same_groups_as_one_alone() {
    let until =
        long().replace("[screen]", "[screen]\nuntil = 30\nrule = \"agreement\"\nsamples = 2\ntemperature = 0.7");
    let slow = Lesson { latency: Duration::from_millis(20), ..school::lesson() };
    let Some(machines) = Machines::new(slow) else { return };
    machines.bench.recipe(&until);
    let workers = [(); 3].map(|()| machines.command(&["screen", "recipe.toml"]).spawn().unwrap());
    for worker in workers {
        let ended = ended(worker);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    // Thirty, all of which agree: none is collected beyond.
    assert_eq!(machines.count("item WHERE stage = 'collect' AND state = 'done'"), 30);
    assert_eq!(machines.count("item WHERE stage = 'screen' AND state = 'done'"), 30);
    assert_eq!((machines.heard(), machines.bench.repeats()), (3 * 30, 0));
}

#[test]
fn a_rate_holds_for_all_workers_together() {
    let Some(machines) = Machines::slow() else { return };
    machines.bench.recipe(&long().replace("concurrency = 4", "concurrency = 4\nrequests_per_minute = 7"));
    let mut workers = machines.workers();
    machines.until(&mut workers[0], 7);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(machines.heard(), 7);
    for worker in workers {
        interrupt(&worker);
        ended(worker).complains(130, &["interrupted"]);
    }
    assert_eq!(machines.count("item WHERE worker IS NOT NULL"), 0, "who was interrupted gives back what it had");
}

#[test]
fn every_command_takes_a_server_for_a_store() {
    let Some(machines) = Machines::new(school::lesson()) else { return };
    machines.bench.recipe(RECIPE);
    machines.run(&["status", "recipe.toml"]).complains(1, &["no store at postgres://divvy@"]);
    let run = machines.done(&["run", "recipe.toml"]);
    assert!(run.stderr.contains("store postgres://divvy@") && run.stdout.contains("two-stage"), "{run:?}");
    assert_silent_about_the_password(&run);
    assert_eq!(machines.heard(), REQUESTS);
    let status = machines.status();
    assert_eq!(status["stages"][2]["states"]["done"], json!(3 * TEST), "{status}");
    let calls = machines.done(&["calls", "--last", "3", "--json"]).stdout;
    assert_eq!(calls.lines().count(), 3);
    let last: Value = serde_json::from_str(calls.lines().last().unwrap()).unwrap();
    let one = machines.done(&["calls", &last["key"].as_str().unwrap()[..12]]).stdout;
    assert!(one.contains("── reply"), "{one}");
    let redone = machines.done(&["redo", "recipe.toml", "--where", "stage=screen", "--where", "state=rejected"]);
    assert!(redone.stderr.contains("screen: 3 items put back"), "{redone:?}");
    let screened = machines.count("item_history WHERE stage = 'screen'");
    machines.done(&["screen", "recipe.toml"]);
    assert_eq!(machines.count("item_history WHERE stage = 'screen'"), screened + 3);
    assert_eq!(calls_of_stages(&machines.status()), machines.count("call"), "the replaced ones, too");
    let help = machines.done(&["collect", "--help"]).stdout;
    assert!(help.contains("DIVVY_STORE") && !help.contains(PASSWORD), "{help}");
    // The recipe may name the server, and where it is changes no digest.
    let name = machines.url.replace(&format!(":{PASSWORD}"), "");
    machines.bench.recipe(&format!("store = \"{name}\"\n{RECIPE}"));
    let mut named = machines.bench.command(&["status", "recipe.toml", "--json"]);
    let named = ended(named.env("PGPASSWORD", PASSWORD).spawn().unwrap());
    let named: Value = serde_json::from_str(&named.stdout).unwrap();
    assert_eq!(named["plan"], status["plan"]);
    assert_eq!(machines.count(&format!("plan WHERE json LIKE '%postgres%' OR json LIKE '%{PASSWORD}%'")), 0);
}

/// A worker knows what was put back before its stage began, and would settle the rest with the old replies.
#[test]
fn nothing_is_put_back_while_others_are_at_work() {
    let Some(machines) = Machines::slow() else { return };
    let redo = ["redo", "recipe.toml", "--where", "stage=collect", "--where", "state=done"];
    let mut worker = machines.command(&["eval", "recipe.toml"]).spawn().unwrap();
    machines.until(&mut worker, 20);
    let told = format!("process {}", worker.id());
    machines.run(&redo).complains(1, &["others are at work", &told, "Wait for them or stop them"]);
    interrupt(&worker);
    ended(worker).complains(130, &["interrupted"]);
    // Neither the worker nor the command that was refused is still told of.
    assert!(machines.done(&redo).stderr.contains("collect: "), "the items that were collected are put back");
}

#[test]
fn one_worker_trains_and_others_use_what_it_made_or_say_where_it_is() {
    let Some(machines) = Machines::new(school::lesson()) else { return };
    divvy_testkit::checkpoint::write_tiny(&machines.bench.file("tiny")).unwrap();
    machines.bench.recipe(crate::student::RECIPE);
    let workers = [(); 2].map(|()| machines.command(&["train", "recipe.toml"]).spawn().unwrap());
    for worker in workers {
        let ended = ended(worker);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert_eq!(
        (machines.count("artefact WHERE kind = 'student'"), machines.count("item WHERE worker IS NOT NULL")),
        (1, 0)
    );
    machines.done(&["eval", "recipe.toml"]);
    machines.done(&["export", "recipe.toml", "--student", "sd-r", "--rows", "messages", "--out", "rows.jsonl"]);
    machines.done(&["export", "recipe.toml", "--student", "sd-r", "--out", "adapter"]);
    assert!(machines.bench.file("rows.jsonl").exists() && machines.bench.file("adapter/adapter_config.json").exists());
    // As on a machine that has the store and not the files.
    std::fs::rename(machines.bench.file("runs"), machines.bench.file("elsewhere")).unwrap();
    machines.run(&["eval", "recipe.toml"]).complains(1, &["it is trained", "runs/students", "copy that folder"]);
    // A shard has a part of the rows: no student comes of it.
    let store = ["--store", "a-store-of-its-own"];
    let shard = machines.run(&[&["eval", "recipe.toml", "--shard", "1/2"][..], &store].concat());
    shard.complains(2, &["sd-r is not trained", "without --shard"]);
}

#[test]
fn a_server_that_cannot_be_used_is_one_clear_message() {
    let bench = Bench::new(school::lesson());
    bench.recipe(RECIPE);
    let run = |store: &str| bench.run(&["collect", "recipe.toml", "--store", store]);
    for (store, word) in [
        ("postgres://ann:hush-hush@localhost/runs?host=/nowhere", "does not answer"),
        ("postgres://ann:hush-hush@localhost", "names no database"),
        ("postgres://ann:hush-hush@localhost/runs?sslmod=require", "sslmod"),
    ] {
        let ended = run(store);
        ended.complains(1, &[word]);
        assert!(!ended.stderr.contains("hush-hush"), "{ended:?}");
    }
    bench.recipe(&format!("store = \"postgres://ann:hush-hush@db/runs\"\n{RECIPE}"));
    let ended = bench.run(&["collect", "recipe.toml"]);
    ended.complains(2, &["store", "PGPASSWORD"]);
    let mut lease = bench.recipe(RECIPE).command(&["collect", "recipe.toml", "--store", "postgres://a@localhost/b"]);
    ended_with(&mut lease, "DIVVY_LEASE_SECONDS", "soon").complains(2, &["DIVVY_LEASE_SECONDS is `soon`"]);
    assert_eq!(bench.teacher.asked().len(), 0);
}

fn ended_with(command: &mut Command, name: &str, value: &str) -> Ended {
    ended(command.env(name, value).spawn().unwrap())
}

#[test]
fn shards_are_the_whole_and_share_nothing() {
    let bench = Bench::new(school::lesson());
    bench.recipe(&long());
    let mut parts = Vec::new();
    for shard in ["1/3", "2/3", "3/3"] {
        let before = bench.teacher.asked().len();
        bench.done(&["screen", "recipe.toml", "--shard", shard]);
        parts.push(bench.teacher.asked().len() - before);
    }
    assert!(parts.iter().all(|part| *part > 0), "{parts:?}");
    assert_eq!((parts.iter().sum::<usize>(), bench.repeats()), (2 * TRAIN_ROWS, 0));
    bench.done(&["run", "recipe.toml"]);
    assert_eq!(bench.teacher.asked().len(), CALLS);
    for shard in ["0/3", "4/3", "1/0", "one/two", "2"] {
        let refused = bench.run(&["collect", "recipe.toml", "--shard", shard]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("second of five"), "{refused:?}");
    }
}
