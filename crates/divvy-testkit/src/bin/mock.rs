//! A bare endpoint for benchmarks: `mock PORT LATENCY_MS REFUSED_PER_MILLE`. Every reply is the same decomposition; a fixed
//! share of requests, spread evenly, gets a 429. `GET /count` tells how many were served and refused. It reads no body,
//! so that what is measured is the client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};

const REPLY: &str = r#"{"id":"x","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":{"role":"assistant","content":"1. How many were there at first?\n2. How many came and went?\n3. How many are left?"},"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":25,"total_tokens":145}}"#;
const REFUSAL: &str = r#"{"error":{"message":"too many requests","type":"rate_limit","code":"rate_limit"}}"#;

struct Mock {
    latency: Duration,
    refused_per_mille: u64,
    served: AtomicU64,
    refused: AtomicU64,
}

async fn complete(State(mock): State<Arc<Mock>>, _body: Bytes) -> Response {
    if !mock.latency.is_zero() {
        tokio::time::sleep(mock.latency).await;
    }
    let number = mock.served.load(Relaxed) + mock.refused.load(Relaxed);
    if (number * 617) % 1000 < mock.refused_per_mille {
        mock.refused.fetch_add(1, Relaxed);
        return (StatusCode::TOO_MANY_REQUESTS, [(CONTENT_TYPE, "application/json")], REFUSAL).into_response();
    }
    mock.served.fetch_add(1, Relaxed);
    ([(CONTENT_TYPE, "application/json")], REPLY).into_response()
}

async fn count(State(mock): State<Arc<Mock>>) -> String {
    format!("{} {}", mock.served.load(Relaxed), mock.refused.load(Relaxed))
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [port, latency, refused_per_mille] = numbers[..] else {
        panic!("usage: mock PORT LATENCY_MS REFUSED_PER_MILLE");
    };
    let latency = Duration::from_millis(latency);
    let mock = Mock { latency, refused_per_mille, served: AtomicU64::new(0), refused: AtomicU64::new(0) };
    let app = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/count", get(count))
        .with_state(Arc::new(mock));
    // One thread: the other cores are the client's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let port = u16::try_from(port).expect("a port has 16 bits");
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        axum::serve(listener, app).await.expect("serving on loopback does not fail");
    });
}
