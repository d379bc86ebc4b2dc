//! Training and workers on a stand-in of a Ray cluster, which answers as Ray 2.60 does.

use std::{fs, process::Command, time::Duration};

use divvy_testkit::{
    postgres::{PASSWORD, Postgres},
    ray::{Cluster, Setup},
    teacher::Lesson,
};

use crate::{
    bench::{Bench, Ended, ended, files_below, interrupt, wait_for},
    launching,
    machines::{TRAIN_ROWS, long},
    school::{self, CONCURRENCY},
};

const DATABASE: &str = "runs";
const SHARDS: usize = 3;

fn training(python: &str) -> (Bench, Cluster) {
    let bench = launching::bench("", python);
    let path = format!("{}:/usr/bin:/bin", bench.workspace.path().display());
    let cluster = bench.ray(Setup { token: Some("hush-hush".into()), environment: vec![("PATH".into(), path)] });
    let more = format!("launch = \"ray\"\naddress = \"{}\"\ntoken_env = \"CLUSTER\"\nshared = true\n", cluster.url());
    bench.recipe(&format!("{}{more}", launching::RECIPE));
    (bench, cluster)
}

fn train(bench: &Bench) -> Command {
    let mut command = bench.command(&["train", "recipe.toml"]);
    command.env("CLUSTER", "hush-hush");
    command
}

#[test]
fn a_student_is_trained_by_a_job_that_is_found_again() {
    let waits = format!("while [ ! -e HERE/go ]; do sleep 0.02; done\n{}", launching::TRAINS);
    let (bench, cluster) = training(&waits);
    let mut child = train(&bench).spawn().unwrap();
    wait_for(&mut child, || cluster.states().values().any(|state| state == "RUNNING"));
    interrupt(&child);
    ended(child).complains(130, &["ray job divvy-", "goes on", "ray job stop"]);
    fs::write(bench.file("go"), "").unwrap();
    let again = ended(train(&bench).spawn().unwrap());
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(cluster.submitted().len(), 1, "it was submitted twice");
    let report = bench.json(&["report", "recipe.toml", "--json"]);
    assert_eq!(report["training"][0]["curve"][0]["dev_loss"], serde_json::json!(2.0));
    let kept: String = files_below(&bench.file("runs"))
        .iter()
        .map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned())
        .collect();
    assert!(!kept.contains("hush-hush") && !cluster.submitted()[0].to_string().contains("hush-hush"));
}

#[test]
fn a_job_that_fails_and_a_cluster_that_is_closed_are_told() {
    let (bench, _cluster) = training("echo torch.OutOfMemoryError >&2; exit 1");
    ended(train(&bench).spawn().unwrap())
        .complains(1, &["as ray job divvy-", "| torch.OutOfMemoryError", "micro_tokens", "begins anew"]);
    ended(train(&bench).env("CLUSTER", "wrong").spawn().unwrap())
        .complains(1, &["Invalid authentication token", "token_env"]);
    ended(train(&bench).env_remove("CLUSTER").spawn().unwrap()).complains(1, &["CLUSTER is not set"]);
}

struct Crowd {
    bench: Bench,
    server: Postgres,
    cluster: Cluster,
}

impl Crowd {
    /// Nodes on which these variables are set.
    fn new(has: &[&str]) -> Option<Self> {
        let server = Postgres::start()?;
        let store = server.database(DATABASE);
        let bench = Bench::new(Lesson {
            latency: Duration::from_secs(1),
            api_key: Some("school-key".into()),
            ..school::lesson()
        });
        let all = [("DIVVY_STORE", store.as_str()), ("SCHOOL_KEY", "school-key"), ("DIVVY_LEASE_SECONDS", "3")];
        let here = all.iter().filter(|(name, _)| has.contains(name));
        let environment = here.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let cluster = bench.ray(Setup { environment, ..Setup::default() });
        bench.recipe(&long().replace("concurrency = 4", "concurrency = 4\napi_key_env = \"SCHOOL_KEY\""));
        Some(Self { bench, server, cluster })
    }

    fn submit(&self, more: &[&str]) -> Command {
        let url = self.cluster.url();
        let mut command = self.bench.command(&[&["submit", "recipe.toml", "--ray", &url][..], more].concat());
        // Only what it says of the store is read here.
        command.env("DIVVY_STORE", "postgres://divvy@db/x");
        command
    }

    fn said(&self, more: &[&str]) -> Ended {
        let ended = ended(self.submit(more).spawn().unwrap());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    fn shard(&self, number: u32) -> String {
        let end = format!("-{number}-1");
        self.cluster.states().into_keys().find(|id| id.ends_with(&end)).unwrap()
    }
}

#[test]
fn a_shard_that_is_killed_is_submitted_again_and_nothing_is_done_twice() {
    let Some(crowd) = Crowd::new(&["DIVVY_STORE", "SCHOOL_KEY", "DIVVY_LEASE_SECONDS"]) else { return };
    let mut following = crowd.submit(&["--follow", "--", "collect", "--shards", "3"]).spawn().unwrap();
    wait_for(&mut following, || crowd.bench.teacher.asked().len() >= 20);
    crowd.cluster.kill(&crowd.shard(2));
    let told = ended(following);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.stderr.contains("3 of 3 shards are done") && told.stderr.contains("(try 2)"), "{told:?}");
    let states = crowd.cluster.states();
    let count = |wanted: &str| states.values().filter(|state| *state == wanted).count();
    assert_eq!((count("SUCCEEDED"), count("FAILED")), (SHARDS, 1), "{states:?}");
    let rows =
        crowd.server.query(DATABASE, "SELECT count(*), count(DISTINCT question) FROM divvy.item WHERE state = 'done'");
    assert_eq!(rows, format!("{TRAIN_ROWS}|{TRAIN_ROWS}"));
    assert!(crowd.bench.repeats() <= CONCURRENCY, "{} repeats", crowd.bench.repeats());
    let described: String = crowd.cluster.submitted().iter().map(ToString::to_string).collect();
    for secret in ["school-key", PASSWORD] {
        assert!(!described.contains(secret) && !format!("{told:?}").contains(secret), "{secret} is told");
    }
    assert!(described.contains("SCHOOL_KEY") && crowd.cluster.uploads() == 1, "{described}");
    let status = crowd.said(&["--status"]).stdout;
    assert_eq!(status.lines().filter(|line| line.contains("done")).count(), SHARDS, "{status}");
}

#[test]
fn shards_are_stopped_and_submitted_again_by_the_same_command() {
    let Some(crowd) = Crowd::new(&["DIVVY_STORE", "SCHOOL_KEY"]) else { return };
    let words = ["--workers", "2", "--binary", env!("CARGO_BIN_EXE_divvy")];
    assert!(crowd.said(&["--status"]).stdout.contains("no shard"));
    crowd.said(&words);
    let mut watch = Command::new("sleep").arg("60").spawn().unwrap();
    wait_for(&mut watch, || crowd.bench.teacher.asked().len() >= 10);
    assert!(crowd.said(&words).stderr.contains("0 shards submitted"));
    assert!(crowd.said(&["--stop"]).stderr.contains("2 shards are told to stop"));
    wait_for(&mut watch, || crowd.cluster.states().values().all(|state| state == "STOPPED"));
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(crowd.server.query(DATABASE, "SELECT count(*) FROM divvy.item WHERE worker IS NOT NULL"), "0");
    let told = crowd.said(&[&words[..], &["--follow"]].concat());
    assert!(told.stderr.contains("2 shards submitted, 2 of them again"), "{told:?}");
    assert!(crowd.bench.repeats() <= 2 * CONCURRENCY, "{} repeats", crowd.bench.repeats());
}

#[test]
fn a_node_without_a_key_is_told_and_not_tried_again() {
    let Some(crowd) = Crowd::new(&["DIVVY_STORE"]) else { return };
    let words = ["--workers", "1", "--binary", env!("CARGO_BIN_EXE_divvy"), "--follow"];
    ended(crowd.submit(&words).spawn().unwrap()).complains(1, &["SCHOOL_KEY is not set on this node", "ray start"]);
    assert_eq!((crowd.cluster.submitted().len(), crowd.bench.teacher.asked().len()), (1, 0));
    let refused = ended(crowd.submit(&["--workers", "1", "--with", "/etc/hosts"]).spawn().unwrap());
    refused.complains(2, &["--with", "/etc/hosts"]);
}
