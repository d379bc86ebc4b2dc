//! A bare endpoint for benchmarks: `mock PORT LATENCY_MS REFUSED_PER_MILLE`. Every reply is the same decomposition; a fixed
//! share of requests, spread evenly, gets a 429. `GET /count` tells how many were served and refused. It parses no body,
//! so that what is measured is the client. Where a stream is asked for, a decomposition has eight lines, any other reply
//! is one answer. A question that says HOLD gets a beginning and no end, one that says HANG gets nothing, LATER the same
//! once it is decomposed; `GET /abandoned` tells how many of these were given up by their client. Traces are taken at
//! `POST /v1/traces` and forgotten.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};

const REPLY: &str = r#"{"id":"x","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":{"role":"assistant","content":"1. How many were there at first?\n2. How many came and went?\n3. How many are left?"},"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":25,"total_tokens":145}}"#;
const REFUSAL: &str = r#"{"error":{"message":"too many requests","type":"rate_limit","code":"rate_limit"}}"#;

const HEAD: &str = r#"data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"mock","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const TAIL: &str = r#"data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"mock","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"mock","choices":[],"usage":{"prompt_tokens":120,"completion_tokens":25,"total_tokens":145}}

data: [DONE]

"#;

/// An event for each piece.
fn events(pieces: &[&str]) -> String {
    let event = |piece: &&str| {
        let piece = piece.replace('\n', "\\n");
        format!(
            r#"data: {{"id":"x","object":"chat.completion.chunk","created":1,"model":"mock","choices":[{{"index":0,"delta":{{"content":"{piece}"}},"finish_reason":null}}]}}"#
        )
    };
    let middle: Vec<String> = pieces.iter().map(event).collect();
    format!("{HEAD}\n\n{}\n\n", middle.join("\n\n"))
}

fn says(body: &[u8], words: &str) -> bool {
    body.windows(words.len()).any(|window| window == words.as_bytes())
}

/// All in one piece of bytes: what is measured is not this end.
async fn stream(mock: Arc<Mock>, body: &[u8]) -> Response {
    let steps: Vec<String> = (1..=8).map(|step| format!("{step}. What is known at step {step}?\n")).collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let decomposes = says(body, "Break the question");
    if says(body, "HANG") || (says(body, "LATER") && !decomposes) {
        let _held = Held(mock);
        return std::future::pending().await;
    }
    let body = if says(body, "HOLD") && !decomposes {
        let held = Held(mock);
        let first = futures::stream::once(async { Ok::<_, std::convert::Infallible>(Bytes::from(events(&["Well"]))) });
        let never = futures::stream::once(async move {
            let _held = held;
            std::future::pending().await
        });
        Body::from_stream(futures::StreamExt::chain(first, never))
    } else if decomposes {
        Body::from(events(&steps) + TAIL)
    } else {
        Body::from(events(&["The answer", " is: ", "6"]) + TAIL)
    };
    ([(CONTENT_TYPE, "text/event-stream")], body).into_response()
}

struct Mock {
    latency: Duration,
    refused_per_mille: u64,
    served: AtomicU64,
    refused: AtomicU64,
    abandoned: AtomicU64,
}

/// Counts a request that is dropped: those it is held for never end by themselves.
struct Held(Arc<Mock>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abandoned.fetch_add(1, Relaxed);
    }
}

async fn complete(State(mock): State<Arc<Mock>>, body: Bytes) -> Response {
    if !mock.latency.is_zero() {
        tokio::time::sleep(mock.latency).await;
    }
    let number = mock.served.load(Relaxed) + mock.refused.load(Relaxed);
    if (number * 617) % 1000 < mock.refused_per_mille {
        mock.refused.fetch_add(1, Relaxed);
        return (StatusCode::TOO_MANY_REQUESTS, [(CONTENT_TYPE, "application/json")], REFUSAL).into_response();
    }
    mock.served.fetch_add(1, Relaxed);
    if says(&body, r#""stream":true"#) {
        return stream(mock, &body).await;
    }
    ([(CONTENT_TYPE, "application/json")], REPLY).into_response()
}

async fn count(State(mock): State<Arc<Mock>>) -> String {
    format!("{} {}", mock.served.load(Relaxed), mock.refused.load(Relaxed))
}

async fn abandoned(State(mock): State<Arc<Mock>>) -> String {
    mock.abandoned.load(Relaxed).to_string()
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [port, latency, refused_per_mille] = numbers[..] else {
        panic!("usage: mock PORT LATENCY_MS REFUSED_PER_MILLE");
    };
    let latency = Duration::from_millis(latency);
    let mock = Mock {
        latency,
        refused_per_mille,
        served: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        abandoned: AtomicU64::new(0),
    };
    let app = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/count", get(count))
        .route("/abandoned", get(abandoned))
        // A collector of traces that keeps none.
        .route("/v1/traces", post(async |_: Bytes| ()))
        .route("/v1/models", get(async || r#"{"object":"list","data":[{"id":"mock","object":"model"}]}"#))
        .with_state(Arc::new(mock));
    // One thread: the other cores are the client's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let port = u16::try_from(port).expect("a port has 16 bits");
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        axum::serve(listener, app).await.expect("serving on loopback does not fail");
    });
}
