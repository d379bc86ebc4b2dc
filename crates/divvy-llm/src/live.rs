//! A model for people who wait: replies are heard while they are written, nothing is kept, and an endpoint that is down is
//! said to be down at once. The layers are the client's, without those that remember:
//!
//! retry → budget → route → limit → rate → backend

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use divvy_core::{chat::ChatRequest, cost::Prices};
use tokio_util::sync::CancellationToken;

use crate::{
    attempt::{Attempt, Keep},
    budget::Spend,
    chat::Told,
    client::{Call, ClientConfig, Endpoint},
    clock::Clock,
    error::ChatError,
    layer::{Job, Layer, Listener},
    limit::Limit,
    rate::Rate,
    retry::{Retry, RetryPolicy},
    route::{Rest, Route},
};

/// Somebody is waiting: what does not work soon is told.
const RETRY: RetryPolicy =
    RetryPolicy { attempts: 3, base: Duration::from_millis(100), most: Duration::from_millis(500) };
/// No further try begins later than this.
const LATEST_TRY: Duration = Duration::from_secs(3);

/// One model behind the layers that do not remember.
pub struct Live {
    stack: Retry<Spend<Route<Limit<Rate<Unkept>>>>>,
}

impl Live {
    /// A model that is served at one place or several. A local model (`config.local`) is asked once, and never rests.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, config: &ClientConfig) -> Self {
        let (policy, rest) =
            if config.local { (RetryPolicy::NEVER, Rest::Never) } else { (RETRY, Rest::Wait(Duration::ZERO)) };
        let lanes = endpoints.into_iter().map(|endpoint| (endpoint.weight, lane(endpoint, config))).collect();
        let spend = Spend {
            budget: Arc::clone(&config.budget),
            prices: config.prices,
            local: config.local,
            inner: Route::new(lanes, rest),
        };
        Self { stack: Retry { policy, deadline: LATEST_TRY, inner: spend } }
    }

    /// Asks, and tells `hears` every piece of the reply as it comes. Dropping the future stops the model.
    ///
    /// # Errors
    /// [`ChatError`]; nothing is tried again once a piece was heard.
    pub async fn ask(
        &self,
        request: ChatRequest,
        cancel: &CancellationToken,
        hears: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Call, ChatError> {
        self.stack.call(Job::new(request, cancel.clone(), Listener::new(hears))).await
    }
}

fn lane(endpoint: Endpoint, config: &ClientConfig) -> Limit<Rate<Unkept>> {
    let attempt = Attempt {
        backend: endpoint.backend,
        model_name: config.model_name.clone(),
        endpoint: endpoint.name,
        timeout: config.attempt_timeout,
        stall: config.stall,
    };
    let unkept = Unkept { attempt, clock: config.clock, prices: config.prices };
    Limit::new(endpoint.max_concurrency, endpoint.adaptive, Rate::new(endpoint.rates, unkept))
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
        let price_nanos = self.prices.and_then(|prices| prices.cost(&received.reply.usage));
        let latency_ms = self.clock.now_ms() - started_ms;
        Ok(Call { key: job.key, reply: received.reply, from_cache: false, price_nanos, latency_ms })
    }
}

impl Keep for Unkept {
    async fn keep(&self, _job: &Job, _body: &Bytes) -> Result<(), ChatError> {
        Ok(())
    }
}
