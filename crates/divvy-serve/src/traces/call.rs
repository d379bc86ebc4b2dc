//! The span of one call to a model, all its tries in one: each that came to nothing is an event. The endpoint is told which
//! span is its parent.

use std::sync::{Mutex, PoisonError};

use axum::http::Uri;
use divvy_core::chat::{ChatRequest, Finish, Message, Role};
use divvy_llm::{Call, ChatError, TraceHeaders};
use opentelemetry::{
    KeyValue,
    trace::{Span as _, SpanContext, SpanKind, Status, Tracer},
};
use opentelemetry_sdk::trace::Span;
use serde_json::{Value, json};

use super::{CANCELLED, OUTCOME, RequestSpan, TEXT_COMPLETION, Traces, dollars, finish_reasons, usage};
use crate::{menu::Voice, tally::Stage};

pub(crate) struct CallSpan {
    traces: Traces,
    headers: TraceHeaders,
    /// `None` once it has ended.
    span: Mutex<Option<Span>>,
}

impl RequestSpan {
    /// A call to a model begins.
    pub(crate) fn call(&self, stage: Stage, voice: &Voice, request: &ChatRequest) -> CallSpan {
        let traces = self.traces.clone();
        let tracer = &traces.0.tracer;
        // A model in this process is no other's service.
        let kind = if voice.local { SpanKind::Internal } else { SpanKind::Client };
        let operation = if self.operation == TEXT_COMPLETION { TEXT_COMPLETION } else { "chat" };
        let builder = tracer.span_builder(format!("{operation} {}", voice.called)).with_kind(kind);
        let mut span = tracer.build_with_context(builder, &self.context);
        if span.is_recording() {
            span.set_attribute(KeyValue::new("gen_ai.operation.name", operation));
            span.set_attributes(asked(stage, voice, request));
            if traces.0.content {
                span.set_attribute(messages("gen_ai.input.messages", request.messages.iter()));
            }
        }
        let headers = headers(span.span_context());
        CallSpan { traces, headers, span: Mutex::new(Some(span)) }
    }
}

impl CallSpan {
    /// A try goes out to this endpoint.
    pub(crate) fn trying(&self, endpoint: Option<&str>) -> TraceHeaders {
        self.with(|span| span.set_attributes(endpoint.into_iter().flat_map(address)));
        self.headers.clone()
    }

    /// A try came to nothing, and another follows.
    pub(crate) fn failed_try(&self, error: &ChatError) {
        self.with(|span| span.add_event("retry", failure(error).collect()));
    }

    pub(crate) fn ended(&self, result: &Result<Call, ChatError>, cost_nanos: Option<i64>) {
        self.with(|span| match result {
            Ok(call) => {
                span.set_attribute(KeyValue::new(OUTCOME, "ok"));
                span.set_attribute(finish_reasons(reason(&call.reply.finish)));
                span.set_attributes(usage(&call.reply.usage).chain(dollars(cost_nanos)));
                if self.traces.0.content {
                    let said = Message { role: Role::Assistant, content: call.reply.text.clone() };
                    span.set_attribute(messages("gen_ai.output.messages", std::iter::once(&said)));
                }
            }
            Err(error) => {
                span.set_attribute(KeyValue::new(OUTCOME, error.reason()));
                span.set_attributes(failure(error).chain(usage(&error.usage)));
                // The endpoint's own words may repeat the request.
                span.set_status(Status::error(error.reason()));
            }
        });
        self.end();
    }

    /// Does this while it is recorded and has not ended.
    fn with(&self, what: impl FnOnce(&mut Span)) {
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(span) = span.as_mut().filter(|span| span.is_recording()) {
            what(span);
        }
    }

    fn end(&self) {
        let span = self.span.lock().unwrap_or_else(PoisonError::into_inner).take();
        span.into_iter().for_each(|span| self.traces.end(span));
    }
}

impl Drop for CallSpan {
    /// Nobody waits for it any more.
    fn drop(&mut self) {
        self.with(|span| span.set_attribute(KeyValue::new(OUTCOME, CANCELLED)));
        self.end();
    }
}

/// What is known before it is asked.
fn asked(stage: Stage, voice: &Voice, request: &ChatRequest) -> [KeyValue; 6] {
    [
        KeyValue::new("gen_ai.provider.name", voice.provider.clone()),
        KeyValue::new("gen_ai.request.model", voice.called.clone()),
        KeyValue::new("gen_ai.request.max_tokens", i64::from(request.sampling.max_tokens)),
        KeyValue::new("gen_ai.request.temperature", request.sampling.temperature),
        KeyValue::new("divvy.stage", stage.name()),
        KeyValue::new("divvy.model", voice.name.clone()),
    ]
}

/// Host and port of a URL; its path and whoever is named before the host are nobody's business.
fn address(url: &str) -> Vec<KeyValue> {
    let Ok(url) = url.parse::<Uri>() else { return Vec::new() };
    let usual = if url.scheme_str() == Some("https") { 443 } else { 80 };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    vec![
        KeyValue::new("server.address", host.to_owned()),
        KeyValue::new("server.port", i64::from(url.port_u16().unwrap_or(usual))),
    ]
}

fn failure(error: &ChatError) -> impl Iterator<Item = KeyValue> {
    let status = error.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
    std::iter::once(KeyValue::new("error.type", error.reason())).chain(status)
}

fn reason(finish: &Finish) -> String {
    match finish {
        Finish::Stop => "stop".to_owned(),
        Finish::Length => "length".to_owned(),
        Finish::Other(reason) => reason.clone(),
    }
}

/// As the conventions write them: <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>.
fn messages<'m>(name: &'static str, messages: impl Iterator<Item = &'m Message>) -> KeyValue {
    let part =
        |message: &Message| json!({"role": message.role, "parts": [{"type": "text", "content": message.content}]});
    KeyValue::new(name, Value::from_iter(messages.map(part)).to_string())
}

fn headers(context: &SpanContext) -> TraceHeaders {
    let flags = context.trace_flags().to_u8();
    let parent = format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id());
    TraceHeaders { parent, state: context.trace_state().header() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_host_and_port_are_told() {
        for (url, host, port) in [
            ("https://api.example.com/v1", "api.example.com", 443),
            ("http://user:secret@10.0.0.1:8080/v1", "10.0.0.1", 8080),
            ("http://[::1]/v1", "::1", 80),
        ] {
            let expect = [KeyValue::new("server.address", host), KeyValue::new("server.port", port)];
            assert_eq!(address(url), expect, "{url}");
        }
        assert_eq!(address("no url"), []);
    }
}
