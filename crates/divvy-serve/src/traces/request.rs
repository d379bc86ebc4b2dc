//! The span of one request: from its head to its end, whatever that is. It is the server's, and the parent of its calls'.

use std::time::Duration;

use divvy_core::chat::Usage;
use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::Span;

use super::{CANCELLED, OUTCOME, Traces, count, dollars, finish_reasons, usage};
use crate::menu::Served;

pub(crate) struct RequestSpan {
    pub(super) traces: Traces,
    /// What calls are children of.
    pub(super) context: Context,
    pub(super) operation: &'static str,
    /// `None` once it has ended.
    span: Option<Span>,
}

/// How a request came out.
#[derive(Default)]
pub(crate) struct Conclusion<'c> {
    /// HTTP status; `None` where the client went away.
    pub(crate) status: Option<u16>,
    /// What went wrong, as the error body calls it.
    pub(crate) error: Option<&'static str>,
    pub(crate) finish: Option<&'static str>,
    pub(crate) fallback: Option<&'static str>,
    pub(crate) calls: usize,
    pub(crate) usage: Usage,
    pub(crate) cost_nanos: Option<i64>,
    pub(crate) in_line: Duration,
    pub(crate) first_piece: Option<Duration>,
    /// Name of the caller's key.
    pub(crate) key: Option<&'c str>,
}

impl RequestSpan {
    pub(super) fn start(traces: Traces, caller: &Context, operation: &'static str) -> Self {
        let tracer = &traces.0.tracer;
        let builder = tracer.span_builder(operation).with_kind(SpanKind::Server);
        let span = tracer.build_with_context(builder, caller);
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        Self { traces, context, operation, span: Some(span) }
    }

    /// It is known what answers it.
    pub(crate) fn answered_by(&mut self, served: &Served, id: &str) {
        let Some(span) = self.span.as_mut().filter(|span| span.is_recording()) else { return };
        let name = served.name();
        if let Served::Arm(served) = served {
            self.operation = "invoke_agent";
            span.set_attribute(KeyValue::new("gen_ai.agent.name", name.clone()));
            span.set_attribute(KeyValue::new("divvy.strategy", served.arm.strategy.to_string()));
            span.set_attribute(KeyValue::new("divvy.solver", served.arm.solver.clone()));
            let decomposer = served.arm.decomposer.clone();
            span.set_attributes(decomposer.map(|name| KeyValue::new("divvy.decomposer", name)));
        }
        span.update_name(format!("{} {name}", self.operation));
        span.set_attribute(KeyValue::new("gen_ai.request.model", name));
        span.set_attribute(KeyValue::new("gen_ai.response.id", id.to_owned()));
    }

    pub(crate) fn end(mut self, conclusion: &Conclusion<'_>) {
        self.conclude(conclusion);
    }

    /// No model was asked.
    pub(crate) fn refused(self, status: u16, error: &'static str) {
        self.end(&Conclusion { status: Some(status), error: Some(error), ..Conclusion::default() });
    }

    fn conclude(&mut self, conclusion: &Conclusion<'_>) {
        let Some(mut span) = self.span.take() else { return };
        if span.is_recording() {
            span.set_attribute(KeyValue::new("gen_ai.operation.name", self.operation));
            span.set_attribute(KeyValue::new("gen_ai.provider.name", "divvy"));
            span.set_attributes(attributes(conclusion));
            if conclusion.status.is_some_and(|status| status >= 500) {
                span.set_status(Status::error(conclusion.error.unwrap_or_default()));
            }
        }
        self.traces.end(span);
    }
}

impl Drop for RequestSpan {
    /// Its client went away before it was known what it wants.
    fn drop(&mut self) {
        self.conclude(&Conclusion::default());
    }
}

fn attributes(conclusion: &Conclusion<'_>) -> impl Iterator<Item = KeyValue> {
    let outcome = conclusion.status.map_or_else(|| CANCELLED.to_owned(), |status| status.to_string());
    let seconds = |name, time: Duration| KeyValue::new(name, time.as_secs_f64());
    let known = [
        Some(KeyValue::new(OUTCOME, outcome)),
        count("http.response.status_code", conclusion.status.map(u64::from)),
        conclusion.error.map(|error| KeyValue::new("error.type", error)),
        conclusion.finish.map(|finish| finish_reasons(finish.to_owned())),
        conclusion.fallback.map(|why| KeyValue::new("divvy.fallback", why)),
        count("divvy.calls", Some(conclusion.calls as u64)),
        dollars(conclusion.cost_nanos),
        (!conclusion.in_line.is_zero()).then(|| seconds("divvy.in_line_seconds", conclusion.in_line)),
        conclusion.first_piece.map(|time| seconds("gen_ai.response.time_to_first_chunk", time)),
        conclusion.key.map(|key| KeyValue::new("divvy.key", key.to_owned())),
    ];
    known.into_iter().flatten().chain(usage(&conclusion.usage))
}
