//! A model for people who wait: replies are heard while they are written, nothing is kept, and an endpoint that is down is
//! said to be down at once. The layers are the client's, without those that remember:
//!
//! retry → budget → route → limit → rate → backend

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64},
    },
    time::Duration,
};

use bytes::Bytes;
use divvy_core::{chat::ChatRequest, cost::Prices};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{Attempt, Keep},
    budget::spend::Spend,
    chat::Told,
    client::{Call, ClientConfig, Endpoint},
    clock::Clock,
    error::{ChatError, ErrorKind},
    lanes::Shared,
    layer::{Hear, Job, Layer, Listener},
    limit::{Limit, Seats},
    rate::{Minute, Rate},
    retry::{Retry, RetryPolicy},
    route::{BreakerState, Health, Rest, Route},
};

/// Somebody is waiting: what does not work soon is told.
const RETRY: RetryPolicy =
    RetryPolicy { attempts: 3, base: Duration::from_millis(100), most: Duration::from_millis(500) };
/// No further try begins later than this.
const LATEST_TRY: Duration = Duration::from_secs(3);

/// An endpoint that asks for a longer pause is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const A_MOMENT: Duration = Duration::from_millis(20);

/// One model behind the layers that do not remember.
pub struct Live {
    stack: Retry<Spend<Route<Limit<Rate<Unkept>>>>>,
    /// Its endpoints, as the route has them.
    names: Vec<Option<String>>,
}

/// How one endpoint does, for people who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// Its URL; `None` for a model in this process.
    pub name: Option<String>,
    pub standing: BreakerState,
    /// Requests sent its way that are not back, those in line included.
    pub running: usize,
    /// Requests that may be in flight there now.
    pub most: usize,
}

impl Live {
    /// A model that is served at one place or several. A local model (`config.local`) is asked once, and never rests.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, config: &ClientConfig) -> Self {
        let (policy, rest) = if config.local { (RetryPolicy::NEVER, Rest::Never) } else { (RETRY, Rest::Brief) };
        let names = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
        let several = endpoints.len() > 1;
        let health = || Health::new(several, rest);
        let lanes = endpoints.into_iter().map(|endpoint| lane(endpoint, config, health)).collect();
        let spend = Spend {
            budget: Arc::clone(&config.budget),
            prices: config.prices,
            batch_prices: config.prices,
            online_prices: config.prices,
            local: config.local,
            dearest: AtomicI64::new(0),
            first: tokio::sync::Mutex::default(),
            inner: Route::new(lanes, rest),
        };
        let stack = Retry { policy, counts_refusals: true, deadline: LATEST_TRY, ends_tries: false, inner: spend };
        Self { stack, names }
    }

    /// How its endpoints do now.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointState> {
        let states = self.stack.inner.inner.endpoints().zip(&self.names);
        let state = |((standing, running, limit), name): ((BreakerState, usize, &Limit<_>), &Option<String>)| {
            EndpointState { name: name.clone(), standing, running, most: limit.most() }
        };
        states.map(state).collect()
    }

    /// Asks, and tells `hears` every piece of the reply as it comes. Dropping the future stops the model.
    ///
    /// # Errors
    /// [`ChatError`]; nothing is tried again once a piece was heard, or after `until`.
    pub async fn ask(&self, request: ChatRequest, until: Instant, hears: Arc<dyn Hear>) -> Result<Call, ChatError> {
        let job = Job::new(request, CancellationToken::new(), Listener::new(hears));
        let asked = self.stack.call(Job { until: Some(until), ..job });
        // A try knows its end, and blames its endpoint; this is for those that stand in line.
        timeout_at(until + A_MOMENT, asked).await.unwrap_or_else(|_| Err(in_line()))
    }
}

fn lane(
    endpoint: Endpoint,
    config: &ClientConfig,
    health: impl FnOnce() -> Arc<Health>,
) -> (u32, Arc<Health>, Limit<Rate<Unkept>>) {
    let Shared { seats, minute, health, meter } = config.lanes.at(endpoint.lane.as_deref(), || Shared {
        seats: Seats::new(endpoint.max_concurrency, endpoint.adaptive.then_some(config.attempt_timeout)),
        minute: Arc::new(Minute::new(endpoint.rates)),
        health: health(),
        meter: Arc::default(),
    });
    let attempt = Attempt {
        backend: endpoint.backend,
        model_name: config.model_name.clone(),
        endpoint: endpoint.name,
        timeout: config.attempt_timeout,
        stall: config.stall,
        meter,
        lands: None,
        speaks: AtomicBool::new(false),
    };
    let unkept = Unkept { attempt, clock: config.clock, prices: config.prices };
    let rate = Rate::new(minute, LONGEST_PAUSE, unkept);
    (endpoint.weight, health, Limit::new(seats, config.attempt_timeout, false, rate))
}

fn in_line() -> ChatError {
    ChatError::new(ErrorKind::TimedOut, "no place came free at the endpoint in the time that the request had left")
}

/// Innermost layer: asks the backend and forgets.
struct Unkept {
    attempt: Attempt,
    clock: Clock,
    prices: Option<Prices>,
}

impl Layer for Unkept {
    fn told(&self) -> Told {
        self.attempt.backend.told()
    }

    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let started_ms = self.clock.now_ms();
        let received = self.attempt.run(&job, self).await?;
        let price_nanos = self.prices.and_then(|prices| prices.cost_of_call(&received.reply.usage, received.worked));
        let latency_ms = self.clock.now_ms() - started_ms;
        Ok(Call { key: job.key, reply: received.reply, from_cache: false, price_nanos, latency_ms })
    }
}

impl Keep for Unkept {
    async fn keep(&self, _job: &Job, _body: &Bytes, _took: Duration) -> Result<(), ChatError> {
        Ok(())
    }
}
