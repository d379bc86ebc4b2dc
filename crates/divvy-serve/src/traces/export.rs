//! How spans travel: the SDK's batches, on threads of their own, by OTLP over HTTP. Nobody's answer waits for a collector:
//! one that cannot be reached is said once, and what does not fit into the queue meanwhile is lost, and counted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use divvy_core::model::host;
use opentelemetry::{InstrumentationScope, Key, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};

use super::{Inner, Traces, TracesError, environment::Wanted};

/// The version of the conventions that names are taken from.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.41.0";
/// Spans of one parcel, where `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` does not say. OpenTelemetry's 512 are packed in one go,
/// which would hold up answers where the service has one core.
const PARCEL: usize = 64;
const PARCEL_VARIABLE: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";

/// A collector: spans that ended, spans that it has, and whether it takes any now.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Host of the collector, for messages.
    collector: String,
    ended: AtomicU64,
    delivered: AtomicU64,
    failing: AtomicBool,
}

impl Sent {
    pub(super) fn ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    pub(super) fn tell_lost(&self) {
        let lost = self.ended.load(Relaxed).saturating_sub(self.delivered.load(Relaxed));
        if lost > 0 {
            tracing::warn!(lost, "spans did not reach the collector");
        }
    }

    fn note(&self, count: usize, result: &OTelSdkResult) {
        match result {
            Ok(()) => {
                self.delivered.fetch_add(count as u64, Relaxed);
                if self.failing.swap(false, Relaxed) {
                    tracing::info!(collector = self.collector, "the collector takes spans again");
                }
            }
            Err(error) if !self.failing.swap(true, Relaxed) => {
                tracing::warn!(collector = self.collector, %error, "the collector takes no spans; requests are answered all the same");
            }
            Err(error) => tracing::debug!(%error, "the collector takes no spans"),
        }
    }
}

/// Sends, and keeps count.
#[derive(Debug)]
struct Counting {
    inner: opentelemetry_otlp::SpanExporter,
    sent: Arc<Sent>,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.inner.export(batch).await;
        self.sent.note(count, &result);
        result
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The way to a collector. Whether one is there shows with the first spans.
pub(super) fn open(wanted: &Wanted) -> Result<Traces, TracesError> {
    let client = divvy_llm::blocking_client(&wanted.address, wanted.timeout);
    let client = client.map_err(|error| TracesError::Collector(error.to_string()))?;
    let mut builder =
        opentelemetry_otlp::SpanExporter::builder().with_http().with_http_client(client).with_timeout(wanted.timeout);
    if wanted.fixed {
        builder = builder.with_endpoint(format!("{}/v1/traces", wanted.address));
    }
    let inner = builder.build().map_err(|error| TracesError::Collector(error.to_string()))?;
    let sent = Arc::new(Sent { collector: host(&wanted.address).to_owned(), ..Sent::default() });
    let exporter = Counting { inner, sent: Arc::clone(&sent) };
    let provider =
        SdkTracerProvider::builder().with_resource(resource()).with_span_processor(batches(exporter)).build();
    let scope = InstrumentationScope::builder("divvy").with_version(env!("CARGO_PKG_VERSION")).with_schema_url(SCHEMA);
    let tracer = provider.tracer_with_scope(scope.build());
    Ok(Traces(Arc::new(Inner { provider, tracer, content: wanted.content, sent })))
}

fn batches(exporter: Counting) -> BatchSpanProcessor {
    let mut config = BatchConfigBuilder::default();
    if std::env::var_os(PARCEL_VARIABLE).is_none() {
        config = config.with_max_export_batch_size(PARCEL);
    }
    BatchSpanProcessor::builder(exporter).with_batch_config(config.build()).build()
}

/// What the environment says of this service, and its name where it does not say.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let named = found.get(&Key::from_static_str("service.name"));
    let nameless = named.is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if nameless { builder.with_service_name("divvy") } else { builder }.build()
}
