//! `divvy serve`: the running program with a local student and a scripted solver, and the clients that people have.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use divvy_testkit::{
    checkpoint,
    teacher::{Asked, Lesson},
};
use serde_json::{Value, json};

use crate::bench::{Bench, ended, interrupt};

pub(crate) const RECIPE: &str = r#"
name = "served"
seed = 7

[data.train]
dataset = "synth"
rows = 12

[data.test]
dataset = "synth"
rows = 4

[models.big]
source = "URL"
model = "teacher"
price = { input = "1.00", output = "2.00" }

[models.tiny]
source = "path:HERE/tiny"
concurrency = 4

[collect]
teacher = "recorded"

[students.sd]
base = "tiny"
target = "SD-T"
rank = 2
epochs = 1
batch_rows = 4
max_row_tokens = 3000

[evaluate]
solvers = ["big"]
strategies = ["cot", "two-stage"]
decomposers = ["student:sd", "big", "teacher"]
decompose_tokens = 16
"#;

/// A solver that answers, and a decomposer that decomposes.
fn says(asked: &Asked) -> String {
    let last = asked.last();
    if last.contains("Break the question") {
        "1. How many pens are in the boxes?\n2. How many are left?".to_owned()
    } else {
        "1. 3 * 12 = 36\n2. 36 - 7 = 29\nThe answer is: 29".to_owned()
    }
}

pub(crate) fn bench() -> Bench {
    bench_with(Duration::ZERO)
}

/// With a solver that takes its time.
pub(crate) fn bench_with(latency: Duration) -> Bench {
    let bench = Bench::new(Lesson { rule: Box::new(says), latency, ..Lesson::default() });
    checkpoint::write_tiny(&bench.file("tiny")).unwrap();
    bench.recipe(RECIPE);
    bench
}

/// A running service.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: String,
    /// What it said when it began.
    pub(crate) greeting: String,
    /// What it says after that.
    rest: Option<std::thread::JoinHandle<String>>,
}

impl Serving {
    pub(crate) fn start(bench: &Bench, arguments: &[&str]) -> Self {
        Self::begin(bench, &[&["recipe.toml"], arguments].concat())
    }

    /// With a recipe or a run among the arguments.
    pub(crate) fn begin(bench: &Bench, arguments: &[&str]) -> Self {
        Self::begin_with(bench, arguments, &[])
    }

    /// With these environment variables, too.
    pub(crate) fn begin_with(bench: &Bench, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let all = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        let mut child = bench.command(&all).envs(variables.iter().copied()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (mut greeting, mut address) = (String::new(), None);
        while address.is_none() {
            let before = greeting.len();
            assert!(lines.read_line(&mut greeting).unwrap() > 0, "it ended: {greeting}");
            let line = &greeting[before..];
            address =
                line.split_once("http://").and_then(|(_, rest)| rest.split_once('/')).map(|(at, _)| at.to_owned());
        }
        let rest = std::thread::spawn(move || {
            let mut rest = String::new();
            lines.read_to_string(&mut rest).unwrap();
            rest
        });
        let serving = Self { child, address: address.unwrap(), greeting, rest: Some(rest) };
        while serving.get("/readyz").0 != 200 {
            std::thread::sleep(Duration::from_millis(5));
        }
        serving
    }

    pub(crate) fn send(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}",
            self.address
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path}"), "")
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) fn ask(&self, model: &str) -> Value {
        let question = "Ann has 3 boxes of 12 pens and gives 7 away. How many are left?";
        let body = json!({"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": question}]});
        let (status, body) = self.send("POST /v1/chat/completions", &body.to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    #[track_caller]
    pub(crate) fn stop(self) {
        self.stopped();
    }

    /// Ctrl-C; what it has said since it began.
    #[track_caller]
    pub(crate) fn stopped(mut self) -> String {
        interrupt(&self.child);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        self.rest.take().unwrap().join().unwrap()
    }
}

/// A test that failed leaves no server behind.
impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already where the test has not failed.
        let _ = self.child.kill();
    }
}

#[test]
fn arms_and_models_are_served_after_a_run_and_beside_one() {
    let bench = bench();
    bench.done(&["run", "recipe.toml"]);
    let serving = Serving::start(&bench, &[]);
    assert!(serving.greeting.contains("two-stage/teacher/big is not served"), "{}", serving.greeting);
    let list = serving.json("/v1/models");
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["cot/big", "two-stage/sd/big", "two-stage/big/big", "big", "student:sd"]);
    assert_eq!(list["data"][0]["divvy"]["measured"]["n"], 4);
    let reply = serving.ask("two-stage/big/big");
    assert_eq!(reply["divvy"]["subquestions"][1]["answer"], "36 - 7 = 29");
    assert!(reply["divvy"]["usage"]["cost_dollars"].as_str().unwrap().starts_with("0.000"), "{reply}");
    // A student of some thousand parameters babbles: whatever it writes, there is an answer.
    let reply = serving.ask("two-stage/sd/big");
    assert_eq!(reply["divvy"]["answer"], "29");
    let usage = &reply["divvy"]["usage"];
    assert_eq!(usage["calls"][0]["model"], "student:sd");
    assert_eq!(usage["calls"][0]["cost_dollars"], "0", "a student of one's own sends no bill");
    assert_eq!(usage["cost_dollars"], usage["calls"][1]["cost_dollars"]);
    assert!(serving.ask("student:sd")["usage"]["completion_tokens"].as_u64().unwrap() <= 8);
    // It goes on with a text, too; an arm and a remote model do not.
    let complete = |model: &str, stream: bool| {
        let body = json!({"model": model, "prompt": "Ann has 3", "max_tokens": 4, "temperature": 0, "stream": stream});
        serving.send("POST /v1/completions", &body.to_string())
    };
    let (status, body) = complete("student:sd", false);
    let reply: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &reply["object"]), (200, &json!("text_completion")), "{body}");
    assert!(reply["usage"]["completion_tokens"].as_u64().unwrap() <= 4 && reply["choices"][0]["text"].is_string());
    assert!(complete("student:sd", true).1.contains("data: [DONE]"));
    assert_eq!((complete("big", false).0, complete("cot/big", false).0, complete("none", false).0), (400, 400, 404));
    // The store is only read: a run goes on beside it.
    bench.done(&["run", "recipe.toml"]);
    serving.stop();
}

#[test]
fn the_page_reads_the_store() {
    let bench = bench();
    bench.done(&["run", "recipe.toml"]);
    let serving = Serving::start(&bench, &[]);
    assert!(serving.get("/").1.contains("<title>divvy</title>"));
    assert!(
        serving.get("/page.js").0 == 200 && serving.get("/page/rows.js").0 == 200 && serving.get("/page.css").0 == 200
    );
    assert!(serving.get("/api/report").1.contains("cot/big"));
    let rows = serving.json("/api/rows?arm=cot/big&count=3");
    assert_eq!((rows["total"].as_u64(), rows["rows"].as_array().unwrap().len()), (Some(4), 3));
    let page = |query: &str| serving.json(&format!("/api/rows?arm=cot/big&{query}"));
    let id = |page: &Value, row: usize| page["rows"][row]["id"].as_str().unwrap().to_owned();
    assert_eq!(id(&page("from=1&count=2"), 0), id(&rows, 1), "pages follow one another");
    assert_eq!(page("from=4&count=2")["rows"], json!([]));
    let collected = serving.json("/api/rows?stage=collect&count=50");
    assert_eq!((collected["total"].as_u64(), &collected["rows"][0]["state"]), (Some(12), &json!("done")));
    assert!(collected["rows"][0]["subquestions"].as_array().unwrap().len() > 1);
    assert_eq!((serving.get("/api/rows?stage=bake").0, serving.get("/api/rows?plan=x").0), (400, 500));
    let key = rows["rows"][0]["calls"][0].as_str().unwrap();
    let call = serving.json(&format!("/api/calls?key={key}"));
    assert_eq!(call[0]["key"], key);
    assert_eq!(serving.json("/api/calls?last=2").as_array().unwrap().len(), 2);
    serving.stop();
}

#[test]
fn what_is_not_trained_is_not_served_and_the_rest_is() {
    let bench = bench();
    let serving = Serving::start(&bench, &[]);
    assert!(serving.greeting.contains("two-stage/sd/big is not served"), "{}", serving.greeting);
    assert!(serving.greeting.contains("run `divvy train`"), "{}", serving.greeting);
    assert_eq!(serving.ask("cot/big")["divvy"]["answer"], "29");
    serving.stop();
}

#[test]
fn mistakes_are_told_with_the_way_out() {
    let bench = bench();
    let with = |text: &str| {
        bench.recipe(&format!("{RECIPE}\n[serve]\n{text}\n"));
        bench.run(&["serve", "recipe.toml", "--listen", "127.0.0.1:0"])
    };
    with("arms = [\"two-stage/sd/bog\"]").complains(2, &["serve.arms", "did you mean `two-stage/sd/big`?"]);
    with("arms = [\"two-stage/sd/big\"]").complains(1, &["serve.arms", "is not trained yet", "divvy train"]);
    with("queues = 3").complains(2, &["queues", "queue"]);
    bench.recipe(RECIPE);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    bench.run(&["serve", "recipe.toml", "--listen", &address]).complains(1, &["cannot listen", "--listen"]);
    bench.run(&["serve", "recipe.toml", "--keys", "none.toml"]).complains(2, &["none.toml"]);
    let short = bench.command(&["serve", "recipe.toml"]).env("DIVVY_SERVE_KEY", "x").spawn().unwrap();
    ended(short).complains(2, &["DIVVY_SERVE_KEY is too short", "--new-key"]);
    let made = bench.done(&["serve", "--new-key", "team"]);
    assert!(made.stdout.starts_with("divvy-") && made.stderr.contains("[[keys]]\nname = \"team\""), "{made:?}");
}

#[test]
fn what_was_asked_is_the_next_training_set() {
    let bench = bench();
    let serving = Serving::start(&bench, &["--record=traffic.jsonl"]);
    serving.ask("two-stage/big/big");
    serving.ask("cot/big");
    let recorded = || std::fs::read_to_string(bench.file("traffic.jsonl")).unwrap();
    while recorded().lines().count() < 2 {
        std::thread::sleep(Duration::from_millis(2));
    }
    serving.stop();
    let columns = "{ question = \"question\", premise = \"premise\", decomposition = \"decomposition\" }";
    let train = format!("[data.train]\ndataset = \"rows\"\nfiles = [\"traffic.jsonl\"]\ncolumns = {columns}\n");
    bench.workspace.write("next.toml", &format!("name = \"next\"\n{train}\n[collect]\nteacher = \"recorded\"\n"));
    let shown = bench.done(&["data", "next.toml"]).stdout;
    assert!(shown.contains("Ann has 3 boxes") && shown.contains("How many are left?"), "{shown}");
    bench.done(&["collect", "next.toml"]);
}

/// Programs beside `examples/clients`.
fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clients").join(name)
}

#[track_caller]
fn passes(command: &mut Command, serving: &Serving) {
    let output = command.args([&serving.base_url(), "two-stage/big/big"]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).ends_with("ok\n"), "{}", text(&output.stdout));
}

#[test]
fn the_clients_that_people_have() {
    let bench = bench();
    let serving = Serving::start(&bench, &[]);
    if Command::new("curl").arg("--version").output().is_ok() {
        passes(Command::new("bash").arg(client("curl.sh")), &serving);
    } else {
        eprintln!("SKIPPED: there is no curl");
    }
    let Some(folder) = clients() else { return serving.stop() };
    let python = folder.join("venv/bin/python");
    passes(Command::new(&python).arg(client("openai_python.py")), &serving);
    passes(Command::new(&python).arg(client("langchain_chat.py")), &serving);
    // Node looks for packages from the program's own folder upwards.
    let copy = folder.join("openai_node.mjs");
    std::fs::copy(client("openai_node.mjs"), &copy).unwrap();
    passes(Command::new("node").arg(&copy), &serving);
    serving.stop();
}

/// The folder with clients that are no part of this repository, if there is one.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn clients() -> Option<PathBuf> {
    let folder = std::env::var_os("DIVVY_TEST_CLIENTS").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: DIVVY_TEST_CLIENTS names no folder with the clients, see examples/clients/README.md");
    }
    folder
}

/// A program beside this test, which needs a package of the clients' environment, says ok.
#[track_caller]
pub(crate) fn says_ok(folder: &Path, script: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let output = Command::new(folder.join("venv/bin/python")).arg(script).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).ends_with("ok\n"), "{}", text(&output.stdout));
}

/// Every form of reply, by the strict types of OpenAI's own package.
#[test]
fn replies_are_of_openais_types() {
    let Some(folder) = clients() else { return };
    let bench = bench();
    bench.done(&["train", "recipe.toml"]);
    let serving = Serving::start(&bench, &[]);
    says_ok(&folder, "schema.py", &[&serving.base_url(), "two-stage/big/big", "student:sd"]);
    serving.stop();
}

/// In headless Chromium: ask, compare, browse runs, rows and calls, errors, the dark, the phone.
#[test]
fn the_page_in_a_browser() {
    let Some(folder) = clients() else { return };
    let bench = bench();
    let many = RECIPE.replace("rows = 12", "rows = 24");
    bench.recipe(&many).done(&["run", "recipe.toml"]);
    let other = many.replace("seed = 7", "seed = 8").replace("\"served\"", "\"other\"");
    bench.recipe(&other).done(&["run", "recipe.toml"]);
    let serving = Serving::start(bench.recipe(&many), &[]);
    let shots = std::env::var_os("DIVVY_TEST_SHOTS").map_or_else(|| bench.file("shots"), PathBuf::from);
    says_ok(&folder, "page.py", &[&format!("http://{}/", serving.address), &shots.to_string_lossy()]);
    serving.stop();
}

/// A job that goes on while somebody watches.
#[test]
fn a_job_at_work_in_a_browser() {
    let Some(folder) = clients() else { return };
    let bench = bench_with(Duration::from_millis(300));
    let slow = RECIPE.replace("model = \"teacher\"", "model = \"teacher\"\nconcurrency = 1");
    bench.recipe(&slow.replace("rows = 4", "rows = 40"));
    let serving = Serving::start(&bench, &[]);
    let mut job = bench.command(&["run", "recipe.toml"]).spawn().unwrap();
    let shots = std::env::var_os("DIVVY_TEST_SHOTS").map_or_else(|| bench.file("shots"), PathBuf::from);
    says_ok(&folder, "page.py", &[&format!("http://{}/", serving.address), &shots.to_string_lossy(), "at-work"]);
    job.kill().unwrap();
    job.wait().unwrap();
    serving.stop();
}
