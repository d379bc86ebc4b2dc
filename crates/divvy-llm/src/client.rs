//! The layers put together around one model. This is what a stage holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use divvy_core::{
    chat::{ChatRequest, Reply},
    cost::Prices,
    digest::Digest,
};
use divvy_store::Store;
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::Attempt,
    batch::{Batches, InBatches},
    budget::{Budget, spend::Spend},
    cache::Cache,
    chat::Chat,
    clock::Clock,
    error::ChatError,
    lanes::{Lanes, Shared},
    layer::{Job, Layer, Listener},
    ledger::Ledger,
    limit::{Limit, Seats},
    rate::{LONGEST_HOLD, Minute, Rate, Rates},
    retry::{Retry, RetryPolicy},
    route::{Health, Rest, Route},
    single_flight::{Flights, SingleFlight},
};

/// A finished call, on record.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub key: Digest,
    pub reply: Reply,
    /// It cost nothing now: it was made before, or somebody else is paying for it.
    pub from_cache: bool,
    /// What it cost when it was made; `None` when a price or a token count is unknown.
    pub price_nanos: Option<i64>,
    pub latency_ms: i64,
}

/// One place where a model is served, with its own limits. None of it is part of the call key.
#[derive(Clone)]
pub struct Endpoint {
    pub backend: Arc<dyn Chat>,
    /// For records and messages: its URL; `None` for a model in this process.
    pub name: Option<String>,
    /// Whose limits these are: all who ask there under this name keep to them together ([`crate::HttpConfig::lane`]), those of
    /// whoever comes first. `None`: nobody else's.
    pub lane: Option<String>,
    /// Its share of the requests, against the other endpoints'.
    pub weight: u32,
    pub max_concurrency: usize,
    /// Fewer are sent at once when it refuses, slows down or lets tries time out.
    pub adaptive: bool,
    pub rates: Rates,
}

impl Endpoint {
    /// No rates, 32 requests at once, whatever happens.
    #[must_use]
    pub fn new(backend: Arc<dyn Chat>) -> Self {
        let (name, lane, rates) = (None, None, Rates::default());
        Self { backend, name, lane, weight: 1, max_concurrency: 32, adaptive: false, rates }
    }
}

#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// For records and messages; not part of the call key.
    pub model_name: String,
    /// It runs on this machine: a cap in money does not ask for its price.
    pub local: bool,
    /// The time that the machine works for it is kept with each call, unless it is paid by its tokens.
    pub timed: bool,
    pub retry: RetryPolicy,
    /// For one call, all tries and pauses included.
    pub deadline: Duration,
    /// For one try; never more than is left of the deadline, and than half of it where another try may follow.
    pub attempt_timeout: Duration,
    /// A streamed reply that stands still for so long is given up.
    pub stall: Option<Duration>,
    /// What has been sent is paid for: whoever cancels, it is waited for and kept, until somebody cancels this one.
    pub lands: Option<CancellationToken>,
    pub prices: Option<Prices>,
    /// Of a reply that comes in a batch.
    pub batch_prices: Option<Prices>,
    /// May be shared with other clients.
    pub budget: Arc<Budget>,
    /// May be shared with other clients on the same store.
    pub flights: Flights,
    /// The same.
    pub lanes: Lanes,
    pub clock: Clock,
}

impl ClientConfig {
    /// No caps, no price, ten minutes a call and five a try.
    #[must_use]
    pub fn new(model_name: impl Into<String>) -> Self {
        Self {
            model_name: model_name.into(),
            local: false,
            timed: false,
            retry: RetryPolicy::default(),
            deadline: Duration::from_mins(10),
            attempt_timeout: Duration::from_mins(5),
            stall: None,
            lands: None,
            prices: None,
            batch_prices: None,
            budget: Arc::default(),
            flights: Flights::default(),
            lanes: Lanes::default(),
            clock: Clock::system(),
        }
    }

    /// So long for a call, of which a try has half where another may follow.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, attempt_timeout: deadline, ..self }
    }

    /// A try that hangs must leave time for the next: half of what the call has.
    fn one_try(&self) -> Duration {
        let most = if self.retry.attempts > 1 { self.deadline / 2 } else { self.deadline };
        self.attempt_timeout.min(most)
    }
}

/// How long one try waits for an endpoint that rests.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

type Lane = Limit<Rate<Ledger>>;
type Stack = Cache<SingleFlight<Retry<Spend<InBatches<Route<Lane>>>>>>;

/// One model behind its layers. Share it by reference or `Arc`: its limits are its own.
pub struct Client {
    stack: Stack,
}

impl Client {
    /// A model that is served at one place or several.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, store: Store, config: ClientConfig) -> Self {
        Self::with(endpoints, store, config, None)
    }

    /// The same, asked in batches; `endpoints` answer what no batch brings back in time.
    #[must_use]
    pub fn batched(endpoints: Vec<Endpoint>, store: Store, config: ClientConfig, batches: Arc<Batches>) -> Self {
        Self::with(endpoints, store, config, Some(batches))
    }

    fn with(endpoints: Vec<Endpoint>, store: Store, config: ClientConfig, batches: Option<Arc<Batches>>) -> Self {
        let (once, several) = (config.retry.attempts <= 1, endpoints.len() > 1);
        let rest = if once { Rest::Never } else { Rest::Wait(LONGEST_WAIT) };
        let health = || Health::new(several, rest);
        let route = Route::new(endpoints.into_iter().map(|place| lane(place, &store, &config, health)).collect(), rest);
        // Nothing is tried again, or the next try is a row of another batch.
        let counts_refusals = once || batches.is_some();
        // What may still be asked online is held at the online price.
        let cheap = batches.as_ref().is_some_and(|batches| !batches.falls_back());
        let batch_prices = if batches.is_some() { config.batch_prices } else { config.prices };
        let spend = Spend {
            budget: Arc::clone(&config.budget),
            prices: if cheap { batch_prices } else { config.prices },
            batch_prices,
            online_prices: config.prices,
            local: config.local,
            dearest: AtomicI64::new(0),
            first: tokio::sync::Mutex::default(),
            inner: InBatches { batches, inner: route },
        };
        let (policy, deadline) = (config.retry, config.deadline);
        // An only try has all of that time, and says how much it was.
        let retry = Retry { policy, counts_refusals, deadline, ends_tries: !once, inner: spend };
        let single_flight = SingleFlight::new(store.clone(), config.flights, retry);
        Self { stack: Cache { store, inner: single_flight } }
    }

    /// Asks once, whatever it takes: a finished call is free, one in flight is shared, a failed try is repeated.
    ///
    /// # Errors
    /// [`ChatError`] when it cannot be had; cancelling the token ends the wait at once, or when what was sent has come
    /// ([`ClientConfig::lands`]).
    pub async fn complete(&self, request: ChatRequest, cancel: &CancellationToken) -> Result<Call, ChatError> {
        self.ask(Job::new(request, cancel.clone(), Listener::default())).await
    }

    /// The same, and never in a batch: something waits for the answer.
    ///
    /// # Errors
    /// As [`Client::complete`].
    pub async fn complete_online(&self, request: ChatRequest, cancel: &CancellationToken) -> Result<Call, ChatError> {
        let job = Job::new(request, cancel.clone(), Listener::default());
        job.online.store(true, Relaxed);
        self.ask(job).await
    }

    async fn ask(&self, job: Job) -> Result<Call, ChatError> {
        if job.cancel.is_cancelled() {
            return Err(ChatError::cancelled());
        }
        let key = job.key.clone();
        self.stack.call(job).await.map_err(|error| ChatError { calls: Box::new([key]), ..error })
    }
}

/// The layers that belong to one endpoint, its weight, and how it does.
fn lane(
    endpoint: Endpoint,
    store: &Store,
    config: &ClientConfig,
    health: impl FnOnce() -> Arc<Health>,
) -> (u32, Arc<Health>, Lane) {
    let Shared { seats, minute, health, meter } = config.lanes.at(endpoint.lane.as_deref(), || Shared {
        seats: Seats::new(endpoint.max_concurrency, endpoint.adaptive.then(|| config.one_try())),
        minute: Arc::new(minute(&endpoint, store, config)),
        health: health(),
        meter: Arc::default(),
    });
    let attempt = Attempt {
        backend: endpoint.backend,
        model_name: config.model_name.clone(),
        endpoint: endpoint.name,
        timeout: config.one_try(),
        stall: config.stall,
        meter,
        lands: config.lands.clone(),
        speaks: AtomicBool::new(false),
    };
    let rate = Rate::new(minute, LONGEST_HOLD, Ledger::new(attempt, store, config));
    (endpoint.weight, health, Limit::new(seats, config.one_try(), true, rate))
}

fn minute(endpoint: &Endpoint, store: &Store, config: &ClientConfig) -> Minute {
    let (minute, url) = (Minute::new(endpoint.rates), endpoint.name.as_deref());
    // What runs on this machine is nobody else's.
    if config.local {
        return minute;
    }
    let lane = endpoint.lane.clone().unwrap_or_else(|| format!("{} {}", url.unwrap_or_default(), config.model_name));
    minute.shared(store, url, lane, config.clock)
}

/// Identity of a call: model, messages, every sampling setting, seed and sample index. Not who serves it.
#[must_use]
pub fn call_key(request: &ChatRequest) -> Digest {
    key_and_json(request).0
}

/// The key, and the canonical JSON that it is the digest of.
pub(crate) fn key_and_json(request: &ChatRequest) -> (Digest, String) {
    Digest::with_text("call/1", request)
}
