//! OpenTelemetry traces: a span for each request and, below it, one for each call to a model. Names are those of the
//! semantic conventions for generative AI, version 1.41.0 (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>); what
//! they have no word for is called `divvy.…`. Nothing is traced unless the environment asks for it, and no text of
//! anybody's is in a span unless the environment asks for that too. How spans travel is in [`export`].

mod call;
mod environment;
mod export;
mod request;

use std::{sync::Arc, time::Duration};

use axum::http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::Span as _,
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider, Span},
};

pub(crate) use call::CallSpan;
pub use environment::TracesError;
use environment::Wanted;
use export::Sent;
pub(crate) use request::{Conclusion, RequestSpan};

/// At the end, spans that are not sent yet have so long.
const FLUSH: Duration = Duration::from_secs(5);
/// An operation: a model goes on with a text.
pub(crate) const TEXT_COMPLETION: &str = "text_completion";
/// An attribute that every span has.
const OUTCOME: &str = "divvy.outcome";
/// What became of a request or a call whose client went away.
const CANCELLED: &str = "cancelled";

/// Where spans go. A clone is the same place.
#[derive(Clone, Debug)]
pub struct Traces(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    /// What models are asked, and what they answer, stands in their spans.
    content: bool,
    sent: Arc<Sent>,
}

impl Traces {
    /// As the environment variables of OpenTelemetry ask for it; `None` where they do not.
    ///
    /// # Errors
    /// [`TracesError`]: a variable that asks for what is not there.
    pub fn from_env() -> Result<Option<Self>, TracesError> {
        let wanted = Wanted::read(&|name| std::env::var(name).ok())?;
        wanted.map(|wanted| export::open(&wanted)).transpose()
    }

    /// To the collector at this address, whatever the environment says of addresses.
    ///
    /// # Errors
    /// [`TracesError`]: it is no address.
    pub fn to(endpoint: &str, content: bool) -> Result<Self, TracesError> {
        export::open(&Wanted { content, ..Wanted::at(endpoint) })
    }

    /// A request has come. It continues the caller's trace, where its headers name one.
    pub(crate) fn request(&self, headers: &HeaderMap, operation: &'static str) -> RequestSpan {
        let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        RequestSpan::start(self.clone(), &caller, operation)
    }

    /// Sends what is left, as far as that can be done in five seconds.
    pub(crate) async fn flush(&self) {
        let traces = self.clone();
        let shut = move || traces.0.provider.shutdown_with_timeout(FLUSH);
        let _ = tokio::task::spawn_blocking(shut).await;
        self.0.sent.tell_lost();
    }

    /// The last that is done with a span.
    fn end(&self, mut span: Span) {
        if span.span_context().is_sampled() {
            self.0.sent.ended();
        }
        span.end();
    }
}

/// The headers of a request, as the propagator reads them.
struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// An attribute for a count, where it is known.
fn count(name: &'static str, count: Option<u64>) -> Option<KeyValue> {
    count.map(|count| KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX)))
}

/// Tokens as the models counted them.
fn usage(usage: &divvy_core::chat::Usage) -> impl Iterator<Item = KeyValue> {
    [
        count("gen_ai.usage.input_tokens", usage.tokens_in),
        count("gen_ai.usage.cache_read.input_tokens", usage.tokens_cached),
        count("gen_ai.usage.output_tokens", usage.tokens_out),
    ]
    .into_iter()
    .flatten()
}

/// Money, where prices are known.
fn dollars(nanos: Option<i64>) -> Option<KeyValue> {
    nanos.map(|nanos| KeyValue::new("divvy.cost_dollars", nanos as f64 / 1e9))
}

/// The conventions want a list, with a reason for each choice.
fn finish_reasons(reason: String) -> KeyValue {
    let reasons = opentelemetry::Array::String(vec![reason.into()]);
    KeyValue::new("gen_ai.response.finish_reasons", opentelemetry::Value::Array(reasons))
}
