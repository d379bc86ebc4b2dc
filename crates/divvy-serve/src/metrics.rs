//! What Prometheus reads at `/metrics`. Labels hold names from the menu only, so that their number is bounded. How
//! endpoints do is asked when it is read ([`endpoints`]).

mod endpoints;

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::menu::Menu;
use endpoints::Endpoints;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByModel {
    pub(crate) model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByOutcome {
    pub(crate) model: String,
    /// HTTP status, or `cancelled`.
    pub(crate) outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByStage {
    pub(crate) model: String,
    pub(crate) stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByDirection {
    pub(crate) model: String,
    pub(crate) stage: &'static str,
    pub(crate) direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByCache {
    /// The model that was asked, not the arm.
    pub(crate) model: String,
    /// `hit` where a part of the prompt was known, or `miss`.
    pub(crate) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByReason {
    pub(crate) reason: &'static str,
}

pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<ByOutcome, Counter>,
    pub(crate) seconds: Family<ByModel, Histogram>,
    pub(crate) overhead: Family<ByModel, Histogram>,
    pub(crate) first_piece: Family<ByModel, Histogram>,
    pub(crate) stage_seconds: Family<ByStage, Histogram>,
    pub(crate) tokens: Family<ByDirection, Counter>,
    pub(crate) dollars: Family<ByModel, Counter<f64, std::sync::atomic::AtomicU64>>,
    pub(crate) refused: Family<ByReason, Counter>,
    pub(crate) fallbacks: Family<ByModel, Counter>,
    cache: Family<ByCache, Counter>,
    cached_tokens: Family<ByModel, Counter>,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
}

/// From a tenth of a millisecond to a minute and a half: what divvy adds is far below what models take.
const BUCKETS: [f64; 19] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 45.0, 90.0,
];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Metrics {
    pub(crate) fn new(menu: &Menu) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("divvy"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            overhead: Family::new_with_constructor(histogram),
            first_piece: Family::new_with_constructor(histogram),
            stage_seconds: Family::new_with_constructor(histogram),
            tokens: Family::default(),
            dollars: Family::default(),
            refused: Family::default(),
            fallbacks: Family::default(),
            cache: Family::default(),
            cached_tokens: Family::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
        };
        metrics.register();
        metrics.registry.register_collector(Box::new(Endpoints::of(menu)));
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests that came to an end", self.requests.clone());
        let times = [
            ("request", "Whole request, waiting for its turn included", &self.seconds),
            ("overhead", "Request less the time in line and the time of its models: what divvy adds", &self.overhead),
            ("first_piece", "From the request to the first piece of a model's reply", &self.first_piece),
        ];
        for (name, help, family) in times {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
        registry.register_with_unit("stage", "One call to a model", Unit::Seconds, self.stage_seconds.clone());
        registry.register("tokens", "Tokens as the models counted them", self.tokens.clone());
        registry.register(
            "cost_dollars",
            "Money, where prices are known; estimated for calls that broke off",
            self.dollars.clone(),
        );
        registry.register("refused", "Requests refused before any model was asked", self.refused.clone());
        registry.register("fallbacks", "Requests that the solver answered alone", self.fallbacks.clone());
        registry.register(
            "prompt_cache",
            "Calls by whether a part of their prompt was known, where the model tells",
            self.cache.clone(),
        );
        registry.register("cached_tokens", "Prompt tokens that were known", self.cached_tokens.clone());
        registry.register("running", "Requests being answered", self.running.clone());
        registry.register("waiting", "Requests waiting for their turn", self.waiting.clone());
    }

    /// A call to this model, whose prompt had so many tokens that were known.
    pub(crate) fn cached(&self, model: &str, tokens: u64) {
        let (model, result) = (model.to_owned(), if tokens > 0 { "hit" } else { "miss" });
        self.cached_tokens.get_or_create(&ByModel { model: model.clone() }).inc_by(tokens);
        self.cache.get_or_create(&ByCache { model, result }).inc();
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

pub(crate) fn observe<L>(family: &Family<L, Histogram>, labels: &L, time: Duration)
where
    L: Clone + std::hash::Hash + Eq,
{
    family.get_or_create(labels).observe(time.as_secs_f64());
}
