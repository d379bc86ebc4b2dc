//! A collector on loopback that takes OpenTelemetry traces by OTLP over HTTP (`POST /v1/traces`, protobuf), so that a test
//! can read the spans that a program sent.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1 as wire,
};
use prost::Message;
use serde_json::{Value, json};

/// A span as it arrived; ids are hex, and empty where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub name: String,
    pub kind: &'static str,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub attributes: BTreeMap<String, Value>,
    pub events: Vec<(String, BTreeMap<String, Value>)>,
    /// Whether its status is an error.
    pub failed: bool,
    /// What its sender says of itself.
    pub resource: BTreeMap<String, Value>,
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// Serves until it is dropped.
pub struct Collector {
    spans: Spans,
    address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Collector {
    /// # Errors
    /// When no port is free.
    pub async fn start() -> std::io::Result<Self> {
        let spans = Spans::default();
        // A batch with prompts in it is large.
        let most = axum::extract::DefaultBodyLimit::max(64 << 20);
        let app = Router::new().route("/v1/traces", post(take)).layer(most).with_state(Arc::clone(&spans));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("serving on loopback does not fail");
        });
        Ok(Self { spans, address, server })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many spans are there.
    pub async fn wait(&self, count: usize) -> Vec<Span> {
        while self.spans().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.spans()
    }
}

async fn take(State(spans): State<Spans>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    for sender in request.resource_spans {
        let resource = sender.resource.map(|resource| attributes(resource.attributes)).unwrap_or_default();
        let sent = sender.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(sent.map(|span| read(span, &resource)));
    }
    StatusCode::OK
}

fn read(span: wire::Span, resource: &BTreeMap<String, Value>) -> Span {
    let failed = span.status.as_ref().is_some_and(|status| status.code() == wire::status::StatusCode::Error);
    Span {
        kind: span.kind().as_str_name(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        events: span.events.into_iter().map(|event| (event.name, attributes(event.attributes))).collect(),
        name: span.name,
        attributes: attributes(span.attributes),
        failed,
        resource: resource.clone(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, Value> {
    pairs.into_iter().map(|pair| (pair.key, value(pair.value))).collect()
}

fn value(value: Option<AnyValue>) -> Value {
    use any_value::Value as Kind;
    match value.and_then(|value| value.value) {
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::BoolValue(value)) => json!(value),
        Some(Kind::IntValue(value)) => json!(value),
        Some(Kind::DoubleValue(value)) => json!(value),
        Some(Kind::ArrayValue(list)) => list.values.into_iter().map(|item| self::value(Some(item))).collect(),
        _ => Value::Null,
    }
}
