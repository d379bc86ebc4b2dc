//! A service, its upstream, and a plain HTTP/1.1 client.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use divvy_core::{
    arm::{Arm, Strategy, Variant},
    cost::Prices,
    model::ModelId,
    plan::{EvaluatePlan, PartSampling},
    prompts::{Prompts, decompose::Style},
    question::ScorerKind,
    recipe::{EvalSplit, Price},
};
use divvy_llm::{ApiKey, ClientConfig, Endpoint, HttpChat, HttpConfig, Live, Transfer};
use divvy_serve::{
    Desk, Keys, Traces,
    menu::{Menu, Served, ServedArm, Voice},
    settings::Settings,
};
use divvy_testkit::teacher::{Asked, Lesson, Teacher};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

pub(crate) const STEPS: &str = "1. How many pens does Ann buy?\n2. How many has she then?";
pub(crate) const SOLVED: &str = "1. 3 * 2 = 6\n2. 3 + 6 = 9\nThe answer is: 9";

pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) teacher: Teacher,
    pub(crate) stop: CancellationToken,
}

/// What a model says by its prompt alone; asked to think aloud, it does.
pub(crate) fn rule(asked: &Asked) -> String {
    let thinks = asked.last().contains("Think aloud") && !asked.last().contains("Break the question");
    let thoughts = if thinks { "<think>\nThe answer is: 5?</think>" } else { "" };
    format!("{thoughts}{}", said(asked))
}

fn said(asked: &Asked) -> String {
    let last = asked.last();
    if last.contains("one at a time") {
        let known = last.matches("\nAnswer: ").count();
        ["How many pens does Ann buy?", "How many has she then?", "Enough"][known.min(2)].to_owned()
    } else if last.contains("Break the question") {
        STEPS.to_owned()
    } else if last.contains("Answer this subquestion only") {
        "The answer is: 6".to_owned()
    } else if last.contains("Subquestions:") {
        SOLVED.to_owned()
    } else {
        "The answer is: 9".to_owned()
    }
}

pub(crate) async fn teacher(script: Vec<divvy_testkit::script::Step>) -> Teacher {
    Teacher::start(Lesson { script, rule: Box::new(rule), ..Lesson::default() }).await.expect("a port is free")
}

fn voice(url: &str, name: &str) -> Voice {
    let config = HttpConfig {
        url: url.to_owned(),
        model: "teacher".to_owned(),
        api_key: ApiKey::None,
        transfer: Transfer::Streamed,
    };
    let chat = HttpChat::new(config).expect("a plain client");
    let price = Price { input: Some("1".to_owned()), output: Some("2".to_owned()), ..Price::default() };
    let prices = Some(Prices::parse(&price).expect("prices"));
    let endpoint = Endpoint { name: Some(url.to_owned()), ..Endpoint::new(Arc::new(chat)) };
    let live = Live::new(vec![endpoint], &ClientConfig { prices, ..ClientConfig::new(name) });
    Voice {
        name: name.to_owned(),
        id: ModelId::remote("test", name),
        called: "teacher".into(),
        provider: "openai".into(),
        live: Arc::new(live),
        raw: None,
        local: false,
        prices,
    }
}

fn served(strategy: Strategy, url: &str) -> Served {
    let decomposer = strategy.needs_decomposer().then(|| "student:sd".to_owned());
    Served::Arm(Box::new(ServedArm {
        decomposer: decomposer.as_ref().map(|_| voice(url, "student:sd")),
        arm: Arm { strategy, variant: Variant::default(), decomposer, solver: "qwen".to_owned() },
        style: Style::Free,
        most: None,
        prompts: Prompts::default(),
        shots: Vec::new(),
        solving: Vec::new(),
        solver: voice(url, "qwen"),
        measured: None,
    }))
}

pub(crate) fn menu(url: &str) -> Menu {
    let strategies = [Strategy::Direct, Strategy::Cot, Strategy::TwoStage, Strategy::Sequential, Strategy::SelfAsk];
    let mut all: Vec<Served> = strategies.map(|strategy| served(strategy, url)).into();
    all.push(Served::Model(voice(url, "qwen")));
    let plan = EvaluatePlan {
        split: EvalSplit::Test,
        arms: Vec::new(),
        direct_tokens: 16,
        solve_tokens: 200,
        decompose_tokens: 100,
        max_subquestions: 5,
        repetition_penalty: 1.0,
        solving: PartSampling::default(),
        decomposing: PartSampling::default(),
        repeats: 1,
        comparisons: Vec::new(),
        scorers: Vec::new(),
        code: None,
        judge: None,
    };
    Menu {
        served: all.into_iter().map(Arc::new).collect(),
        plan,
        seed: 1,
        scorer: ScorerKind::Numeric,
        recipe: "test".into(),
        created: 1_700_000_000,
    }
}

/// Before an upstream with this script.
pub(crate) async fn open(script: Vec<divvy_testkit::script::Step>) -> House {
    open_with(script, Settings::default(), Keys::default()).await
}

pub(crate) async fn open_with(script: Vec<divvy_testkit::script::Step>, settings: Settings, keys: Keys) -> House {
    let teacher = teacher(script).await;
    let desk = Desk::new(menu(&teacher.url()), settings, keys, None, None);
    begin(teacher, desk).await
}

/// Before an upstream with this script, and with spans that go to `collector`.
pub(crate) async fn open_traced(script: Vec<divvy_testkit::script::Step>, collector: &str, content: bool) -> House {
    let traces = Some(Traces::to(collector, content).expect("it is an address"));
    open_with(script, Settings { traces, ..Settings::default() }, Keys::default()).await
}

pub(crate) async fn open_recording(recorder: divvy_serve::Recorder) -> House {
    let teacher = teacher(vec![]).await;
    let desk = Desk::new(menu(&teacher.url()), Settings::default(), Keys::default(), None, Some(recorder));
    begin(teacher, desk).await
}

async fn begin(teacher: Teacher, desk: Arc<Desk>) -> House {
    desk.set_ready(true);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let (address, stop) = (listener.local_addr().expect("it is bound"), CancellationToken::new());
    let stopped = stop.clone();
    tokio::spawn(divvy_serve::serve(listener, Arc::clone(&desk), async move { stopped.cancelled().await }));
    House { address, teacher, stop }
}

pub(crate) fn question(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Ann has 3 pens and buys twice as many. How many?"}]})
}

pub(crate) fn streamed(model: &str) -> Value {
    let mut body = question(model);
    body["stream"] = json!(true);
    body
}

/// Status, head and body of a response.
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Heard {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The JSON of every event, and the comments.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect(data)).collect()
    }
}

impl House {
    pub(crate) async fn post(&self, body: &Value) -> Heard {
        self.send("POST", "/v1/chat/completions", "", body.to_string().as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Heard {
        self.send("GET", path, "", b"").await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Heard {
        let mut stream = self.begin(method, path, headers, body).await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("a response");
        read(&bytes)
    }

    /// A connection with a request on it.
    pub(crate) async fn begin(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        stream.write_all(body).await.expect("it reads");
        stream
    }

    /// Waits until the upstream has been asked so often.
    pub(crate) async fn asked(&self, count: usize) {
        while self.teacher.asked().len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn read(bytes: &[u8]) -> Heard {
    let text = String::from_utf8_lossy(bytes);
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(rest) } else { rest.to_owned() };
    Heard { status, head: head.to_owned(), body }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        body.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").unwrap_or("");
    }
    body
}
