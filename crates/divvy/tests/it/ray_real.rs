//! Training and workers on Ray itself: a head and a second node on loopback, behind a token. Needs an environment with Ray:
//! `DIVVY_TEST_RAY=/path/to/venv`; for training one that has PyTorch, TRL and PEFT, too, and a model of which 12 steps take
//! their time, `DIVVY_TEST_TORCH_MODEL=/path/to/SmolLM2-135M.gguf`. Says so loudly where they are not named.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use divvy_testkit::{
    postgres::{PASSWORD, Postgres},
    teacher::Lesson,
    workspace::Workspace,
};
use serde_json::Value;

use crate::{
    bench::{Bench, ended, interrupt},
    machines::{TRAIN_ROWS, long},
    school::{self, CONCURRENCY},
};

const TOKEN: &str = "hush-hush-0123456789";
const DATABASE: &str = "runs";
const SHARDS: u32 = 4;
/// A cluster takes its time to come, and a job to be seen.
const PATIENCE: Duration = Duration::from_secs(300);

struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Node {
    /// With all of its processes. Jobs on it have half a minute to come to their end, which shards do not use.
    fn stop(&mut self) {
        if self.0.try_wait().ok().flatten().is_none() {
            let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
            let _ = self.0.wait();
        }
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
    }
}

struct Cluster {
    second: Node,
    _head: Node,
    address: String,
    venv: PathBuf,
    folder: Workspace,
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn venv() -> Option<PathBuf> {
    let venv = std::env::var_os("DIVVY_TEST_RAY").map(PathBuf::from);
    if venv.is_none() {
        eprintln!("SKIPPED: nothing is run on Ray; name an environment that has it in DIVVY_TEST_RAY");
    }
    venv
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    fn start(venv: PathBuf, cpus: u32, environment: &[(&str, &str)]) -> Self {
        let folder = Workspace::new();
        let [port, dashboard] = [free_port(), free_port()];
        let start = |more: &[String]| {
            let mut ray = Command::new(venv.join("bin/ray"));
            ray.args(["start", "--block", "--disable-usage-stats", "--object-store-memory=80000000"]);
            ray.args(["--node-ip-address=127.0.0.1", &format!("--num-cpus={cpus}")]);
            ray.arg(format!("--dashboard-agent-listen-port={}", free_port())).args(more);
            ray.env("RAY_AUTH_MODE", "token").env("RAY_AUTH_TOKEN", TOKEN).envs(environment.iter().copied());
            ray.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
            Node(ray.spawn().unwrap())
        };
        let temp = format!("--temp-dir={}", folder.path().display());
        let head = start(&["--head".into(), format!("--port={port}"), format!("--dashboard-port={dashboard}"), temp]);
        let address = format!("http://127.0.0.1:{dashboard}");
        until("the head", || std::net::TcpStream::connect(("127.0.0.1", dashboard)).is_ok());
        std::thread::sleep(Duration::from_secs(5));
        let second = start(&[format!("--address=127.0.0.1:{port}")]);
        let cluster = Self { second, _head: head, address, venv, folder };
        until("the second node", || cluster.nodes() == 2);
        cluster
    }

    fn asks(&self, path: &str) -> Value {
        let header = format!("Authorization: Bearer {TOKEN}");
        let told =
            Command::new("curl").args(["-s", "-H", &header, &format!("{}{path}", self.address)]).output().unwrap();
        serde_json::from_slice(&told.stdout).unwrap_or_default()
    }

    fn nodes(&self) -> usize {
        let told = self.asks("/nodes?view=summary");
        let nodes = told["data"]["summary"].as_array().cloned().unwrap_or_default();
        nodes.iter().filter(|node| node["raylet"]["state"] == "ALIVE").count()
    }

    /// Jobs with their states, and the node that each is on.
    fn jobs(&self) -> Vec<Value> {
        self.asks("/api/jobs/").as_array().cloned().unwrap_or_default()
    }
}

#[track_caller]
fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "{what}: nothing happens");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn four_shards_one_killed_and_one_node_stopped_lose_and_repeat_nothing() {
    let Some(venv) = venv() else { return };
    let Some(server) = Postgres::start() else { return };
    let store = server.database(DATABASE);
    let key = "school-key";
    let bench =
        Bench::new(Lesson { latency: Duration::from_millis(800), api_key: Some(key.into()), ..school::lesson() });
    let environment = [("DIVVY_STORE", store.as_str()), ("SCHOOL_KEY", key), ("DIVVY_LEASE_SECONDS", "5")];
    let mut cluster = Cluster::start(venv, 3, &environment);
    let rows = 5 * TRAIN_ROWS;
    // Enough for every row, and for what those that die had borrowed.
    let cap = rows + 80;
    let keyed = "concurrency = 2\napi_key_env = \"SCHOOL_KEY\"\nprice = { input = \"10\", output = \"100\" }";
    let recipe =
        long().replace("concurrency = 4", keyed).replace(&format!("rows = {TRAIN_ROWS}"), &format!("rows = {rows}"));
    bench.recipe(&format!("{recipe}\n[budget]\ncalls = {cap}\n"));
    let (count, address) = (SHARDS.to_string(), cluster.address.clone());
    let submit = |more: &[&str]| {
        let behind = ["--", "collect", "recipe.toml", "--shards", &count];
        let mut command = bench.command(&[&["submit", "--ray", &address], more, &behind].concat());
        command.env("RAY_AUTH_TOKEN", TOKEN).env("DIVVY_STORE", "postgres://divvy@elsewhere/x");
        command
    };
    let following = submit(&["--follow"]).spawn().unwrap();
    until("the shards", || bench.teacher.asked().len() >= 20);
    let running = || cluster.jobs().into_iter().filter(|job| job["status"] == "RUNNING").collect::<Vec<_>>();
    until("all of them", || running().len() == SHARDS as usize);
    let described = format!("{:?}", cluster.jobs());
    // A process of a shard, by the folder that it works in.
    let found = Command::new("pgrep").args(["-f", "^./divvy collect recipe.toml$"]).output().unwrap();
    let pids = String::from_utf8(found.stdout).unwrap();
    let mine = |pid: &&str| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(cluster.folder.path()))
    };
    let pids: Vec<&str> = pids.lines().filter(mine).collect();
    assert_eq!(pids.len(), SHARDS as usize, "{pids:?}");
    assert!(Command::new("kill").args(["-KILL", pids[0]]).status().unwrap().success());
    let heard = bench.teacher.asked().len();
    until("what comes after the kill", || bench.teacher.asked().len() >= heard + 20);
    let status = ended(submit(&["--status"]).spawn().unwrap());
    let on_second = {
        let jobs = cluster.jobs();
        let nodes: std::collections::BTreeSet<_> = jobs.iter().map(|job| job["driver_node_id"].to_string()).collect();
        nodes.len()
    };
    cluster.second.stop();
    let told = ended(following);
    eprintln!("status in between:\n{}\nfollowed:\n{}", status.stdout, told.stderr);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(on_second, 2, "all shards were on one node");
    assert!(
        told.stderr.contains(&format!("{SHARDS} of {SHARDS} shards are done")) && told.stderr.contains("(try 2)"),
        "{told:?}"
    );
    let counted =
        server.query(DATABASE, "SELECT count(*), count(DISTINCT question) FROM divvy.item WHERE state = 'done'");
    assert_eq!(counted, format!("{rows}|{rows}"));
    assert_eq!(
        server.query(DATABASE, "SELECT count(*) FROM divvy.item_history"),
        rows.to_string(),
        "an outcome was written twice"
    );
    // No committed call is paid twice: what is asked again was in flight at one that was killed.
    let committed = server.query(DATABASE, "SELECT count(*) FROM divvy.call");
    assert_eq!(committed, rows.to_string());
    let repeats = bench.repeats();
    eprintln!("{} requests, {repeats} of them repeated, {committed} calls committed", bench.teacher.asked().len());
    assert!(repeats <= 4 * CONCURRENCY, "{repeats} repeats");
    let booked = "SELECT calls + (SELECT coalesce(sum(unbooked_calls), 0) FROM divvy.slice)
                         + (SELECT count(*) FROM divvy.outstanding) FROM divvy.account";
    let booked: usize = server.query(DATABASE, booked).parse().unwrap();
    eprintln!("{booked} calls spent or lost, of {cap}");
    assert!((rows..=cap).contains(&booked), "{booked} of {cap}");
    for secret in [key, PASSWORD, TOKEN] {
        assert!(!described.contains(secret) && !format!("{told:?}").contains(secret), "a secret is told");
    }
    let stopped = ended(submit(&["--status"]).spawn().unwrap());
    assert_eq!(stopped.stdout.lines().filter(|line| line.contains("done")).count(), SHARDS as usize, "{stopped:?}");
}

const TRAINING: &str = r#"
name = "real"
seed = 7

[data]
dev_rows = 4

[data.train]
dataset = "synth"
rows = 16

[models.small]
source = "path:MODEL"

[collect]
teacher = "recorded"

[students.sd]
base = "small"
target = "SD-T"
rank = 8
epochs = 1
batch_rows = 4
learning_rate = 0.001
checkpoint_every = 1
eval_every = 4
max_row_tokens = 600

[train]
engine = "torch"
python = "PYTHON"
precision = "f32"
launch = "ray"
address = "ADDRESS"
token_env = "CLUSTER"
"#;

fn curve(bench: &Bench, store: &str) -> Vec<Value> {
    let report = bench.json(&["report", "recipe.toml", "--store", store, "--json"]);
    report["training"][0]["curve"].as_array().unwrap().clone()
}

#[test]
fn a_real_student_is_trained_by_two_nodes_and_by_one_that_shares_nothing() {
    let (Some(venv), Ok(model)) = (venv(), std::env::var("DIVVY_TEST_TORCH_MODEL")) else { return };
    let bench = Bench::idle();
    let cluster = Cluster::start(venv, 1, &[]);
    let python = cluster.venv.join("bin/python").display().to_string();
    let recipe = TRAINING.replace("MODEL", &model).replace("PYTHON", &python).replace("ADDRESS", &cluster.address);
    let train = |store: &str| {
        let mut command = bench.command(&["train", "recipe.toml", "--store", store]);
        command.env("CLUSTER", TOKEN);
        command
    };
    bench.recipe(&format!("{recipe}shared = true\nnodes = 2\n"));
    let child = train("crew").spawn().unwrap();
    let steps = || {
        std::fs::read_dir(bench.file("crew/students"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|student| student.path().join("torch/checkpoint/checkpoint-1/whole").exists())
    };
    until("the first step", steps);
    interrupt(&child);
    let told = ended(child);
    eprintln!("left:\n{}", told.stderr);
    assert!(told.code == Some(130) && told.stderr.contains("ray job stop divvy-"), "{told:?}");
    let told = ended(train("crew").spawn().unwrap());
    eprintln!("found again:\n{}", told.stderr);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.stderr.contains("under way already"), "{told:?}");
    bench.recipe(&recipe);
    let told = ended(train("sent").spawn().unwrap());
    eprintln!("sent:\n{}", told.stderr);
    assert_eq!(told.code, Some(0), "{told:?}");
    let [crew, sent] = ["crew", "sent"].map(|store| curve(&bench, store));
    assert_eq!((crew.len(), sent.len()), (4, 4), "{crew:?} {sent:?}");
    for (crew, sent) in crew.iter().zip(&sent) {
        let [one, two] = [crew, sent].map(|point| point["loss"].as_f64().unwrap());
        eprintln!("step {}: {one:.4} on two nodes, {two:.4} on one", crew["step"]);
        assert!((one - two).abs() < 1e-3, "{one} {two}");
    }
    assert_eq!(cluster.jobs().len(), 2);
    bench.done(&["export", "recipe.toml", "--store", "sent", "--student", "sd", "--out", "out"]);
}
