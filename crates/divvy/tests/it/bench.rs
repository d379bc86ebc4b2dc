//! A workspace of its own for each test, with a teacher on a free port, and the program run inside it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use divvy_core::{
    digest::Digest,
    question::{Question, QuestionId},
};
use divvy_store::{CallFilter, Spending, Store};
use divvy_testkit::{
    collector::Collector,
    teacher::{Lesson, Teacher},
    tls::{Front, Proxy},
    workspace::Workspace,
};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Longest wait for anything; a test that meets it fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) teacher: Teacher,
    pub(crate) workspace: Workspace,
    runtime: Runtime,
}

/// A stage in what `divvy status --json` has printed.
#[track_caller]
pub(crate) fn stage(status: &Value, name: &str) -> Value {
    let mut stages = status["stages"].as_array().unwrap().iter();
    stages.find(|stage| stage["stage"] == name).unwrap_or_else(|| panic!("no {name} in {status}")).clone()
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new(lesson: Lesson) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let teacher = runtime.block_on(Teacher::start(lesson)).unwrap();
        Self { teacher, workspace: Workspace::new(), runtime }
    }

    /// For tests in which nobody is asked.
    pub(crate) fn idle() -> Self {
        Self::new(Lesson::default())
    }

    /// Writes `recipe.toml`; `URL` in the text becomes the teacher's address, `HERE` the workspace.
    pub(crate) fn recipe(&self, text: &str) -> &Self {
        let here = self.workspace.path().display().to_string();
        self.workspace.write("recipe.toml", &text.replace("URL", &self.teacher.url()).replace("HERE", &here));
        self
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.workspace.file(name)
    }

    /// The program in the workspace, as a person would start it there. A backtrace is asked for, so that one which
    /// shows is noticed.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_divvy"));
        command.args(arguments).current_dir(self.workspace.path());
        command.env("DIVVY_CACHE", self.file("cache")).env("RUST_BACKTRACE", "1");
        command.env_remove("DIVVY_LOG").env_remove("DIVVY_STORE").env_remove("RAY_AUTH_TOKEN");
        command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").env_remove("OTEL_TRACES_EXPORTER");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Another teacher, for as long as the test.
    pub(crate) fn another(&self, lesson: Lesson) -> Teacher {
        self.runtime.block_on(Teacher::start(lesson)).unwrap()
    }

    /// A collector of traces, for as long as the test.
    pub(crate) fn collector(&self) -> Collector {
        self.runtime.block_on(Collector::start()).unwrap()
    }

    /// TLS before the teacher, for as long as the test.
    pub(crate) fn front(&self) -> Front {
        self.runtime.block_on(Front::start(self.teacher.address())).unwrap()
    }

    /// A proxy that tunnels, for as long as the test.
    pub(crate) fn proxy(&self) -> Proxy {
        self.runtime.block_on(Proxy::start()).unwrap()
    }

    /// A cluster of Ray, or what looks like one, for as long as the test.
    #[cfg(unix)]
    pub(crate) fn ray(&self, setup: divvy_testkit::ray::Setup) -> divvy_testkit::ray::Cluster {
        let folder = self.file("cluster");
        std::fs::create_dir(&folder).unwrap();
        self.runtime.block_on(divvy_testkit::ray::Cluster::start(&folder, setup)).unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).spawn().unwrap())
    }

    /// Runs and expects success.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended
    }

    /// Runs and expects JSON on stdout.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.done(arguments);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// A stage, as `divvy status` tells programs of it.
    #[track_caller]
    pub(crate) fn stage(&self, name: &str) -> Value {
        stage(&self.json(&["status", "recipe.toml", "--json"]), name)
    }

    /// Starts `divvy run recipe.toml` and comes back when the teacher has heard `requests` requests in all.
    #[track_caller]
    pub(crate) fn run_until(&self, requests: usize) -> Child {
        let mut child = self.command(&["run", "recipe.toml"]).spawn().unwrap();
        wait_for(&mut child, || self.teacher.asked().len() >= requests);
        child
    }

    /// Rows of every batch that was handed in.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.teacher.handed_in().iter().map(|batch| batch.asked.len()).collect()
    }

    /// The messages of every call that is committed in the store.
    pub(crate) fn committed(&self) -> Vec<Value> {
        self.runtime.block_on(async {
            let store = Store::open_read(&self.file("runs/divvy.db")).await.unwrap();
            let calls = store.calls(&CallFilter::default()).await.unwrap();
            store.close().await.unwrap();
            let messages = |json: &str| serde_json::from_str::<Value>(json).unwrap()["messages"].clone();
            calls.iter().map(|call| messages(&call.request_json)).collect()
        })
    }

    /// Replies that need never be paid for again: those of calls, and those that are on disk and still to be read.
    pub(crate) fn kept(&self) -> usize {
        let unread = self.runtime.block_on(async {
            let store = Store::open_read(&self.file("runs/divvy.db")).await.unwrap();
            store.unread_replies().await.unwrap()
        });
        self.committed().len() + unread as usize
    }

    /// What was spent for the last run's plan, and what was lost.
    pub(crate) fn spending(&self) -> Spending {
        self.runtime.block_on(async {
            let store = Store::open_read(&self.file("runs/divvy.db")).await.unwrap();
            let plan = store.runs().await.unwrap().remove(0).plan;
            store.spending(&plan).await.unwrap()
        })
    }

    /// Waits for something with the path of the store.
    pub(crate) fn wait(&self, what: impl AsyncFnOnce(PathBuf)) {
        self.runtime.block_on(what(self.file("runs/divvy.db")));
    }

    /// Outcomes of all attempts in the store, with how often each occurred.
    pub(crate) fn attempts(&self) -> Vec<(String, u64)> {
        self.runtime.block_on(async {
            let store = Store::open_read(&self.file("runs/divvy.db")).await.unwrap();
            let totals = store.attempt_totals().await.unwrap();
            totals.into_iter().map(|total| (total.outcome, total.sum.attempts)).collect()
        })
    }

    /// When each call was made, and how long it took, in milliseconds.
    pub(crate) fn call_times(&self) -> Vec<(i64, i64)> {
        self.runtime.block_on(async {
            let store = Store::open_read(&self.file("runs/divvy.db")).await.unwrap();
            let calls = store.calls(&CallFilter::default()).await.unwrap();
            calls.iter().map(|call| (call.created_ms, call.latency_ms)).collect()
        })
    }

    /// When each run that is over began and ended.
    pub(crate) fn run_times(&self) -> Vec<(i64, i64)> {
        self.runtime.block_on(async {
            let store = Store::open_read(&self.file("runs/divvy.db")).await.unwrap();
            let runs = store.runs().await.unwrap();
            runs.iter().filter_map(|run| Some((run.started_ms, run.ended_ms?))).collect()
        })
    }

    /// A question as the store keeps it for a plan.
    pub(crate) fn stored(&self, plan: &Value, id: QuestionId) -> Option<Question> {
        let plan = Digest::from_hex(plan.as_str().unwrap()).unwrap();
        self.runtime.block_on(async {
            let store = Store::open_read(&self.file("runs/divvy.db")).await.unwrap();
            store.question(&plan, &id).await.unwrap()
        })
    }

    /// How often the teacher heard these messages.
    pub(crate) fn heard(&self, messages: &Value) -> usize {
        self.teacher.asked().iter().filter(|asked| asked.body["messages"] == *messages).count()
    }

    /// Requests that the teacher had heard before.
    pub(crate) fn repeats(&self) -> usize {
        let asked = self.teacher.asked();
        let bodies: std::collections::BTreeSet<String> = asked.iter().map(|asked| asked.body.to_string()).collect();
        asked.len() - bodies.len()
    }
}

impl Ended {
    /// One clear message on stderr that names what is wrong and the way out; no data, no panic, no backtrace.
    #[track_caller]
    pub(crate) fn complains(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{self:?}");
        assert!(!self.stderr.contains("panicked") && !self.stderr.to_lowercase().contains("backtrace"), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in: {}", self.stderr);
        }
    }
}

pub(crate) fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Polls until something is so. Fails when the program ends before, or nothing happens for a minute.
#[track_caller]
pub(crate) fn wait_for(child: &mut Child, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        if let Some(status) = child.try_wait().unwrap() {
            let mut stderr = String::new();
            std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut stderr).unwrap();
            assert!(so(), "the program ended with {status} before it was to be stopped: {stderr}");
            return;
        }
        assert!(began.elapsed() < PATIENCE, "nothing happens");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What Ctrl-C sends.
pub(crate) fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// What `status --json` says that all stages together were answered.
pub(crate) fn calls_of_stages(status: &Value) -> usize {
    let stages = status["stages"].as_array().unwrap().iter();
    stages.map(|stage| stage["calls"]["calls"].as_u64().unwrap() as usize).sum()
}

/// Every file below a folder, by name.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}
