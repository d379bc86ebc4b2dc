//! Innermost layer: asks the backend and keeps everything. The raw reply is on disk before it is parsed, the call
//! before it is used, and every attempt that was sent is on record with its outcome. A reply that was paid for but could not be read
//! is read again the next time, at no cost.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use divvy_core::{chat::Usage, cost::Prices, digest::Digest, model::ModelId};
use divvy_store::{Amount, AttemptRecord, CallRecord, RawReply, Store};
use tokio::time::Instant;

use crate::{
    attempt::{Attempt, Keep, Received},
    budget::{
        Budget,
        spend::{of_failure, of_reply},
    },
    chat::Told,
    client::{Call, ClientConfig},
    clock::Clock,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
};

pub(crate) struct Ledger {
    pub(crate) attempt: Attempt,
    store: Store,
    clock: Clock,
    prices: Option<Prices>,
    /// Of a reply that came in a batch.
    batch_prices: Option<Prices>,
    /// A call's time on the machine is kept.
    timed: bool,
    /// It runs on this machine: nobody charges for a call that is cut off.
    local: bool,
    budget: Arc<Budget>,
}

/// Behind an endpoint's address in records: a reply came by its Batch API.
pub(crate) const IN_BATCH: &str = "/batches";

impl Layer for Ledger {
    fn told(&self) -> Told {
        self.attempt.backend.told()
    }

    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        // On a server one trip says that the try goes out, or that a reply is there to be read.
        let on_server = !self.local && self.budget.account().is_some();
        if !(on_server && self.goes_out(&job, job.attempt == 1).await?) {
            if let Some(call) = self.kept(&job).await? {
                return Ok(call);
            }
            self.goes_out(&job, false).await?;
        }
        let started_ms = self.clock.now_ms();
        if job.place_ends.is_some_and(|end| Instant::now() >= end) {
            let overdue = ChatError::new(ErrorKind::Overdue, "its place in the minute that workers share was over");
            return self.settle(&job, Err(overdue), started_ms).await;
        }
        let outcome = self.attempt.run(&job, self).await;
        if outcome.as_ref().is_ok_and(|received| !received.raw.is_empty()) {
            self.came_back(&job);
        }
        self.settle(&job, outcome, started_ms).await
    }
}

impl Keep for Ledger {
    async fn keep(&self, job: &Job, body: &Bytes, took: Duration) -> Result<(), ChatError> {
        let raw = RawReply {
            key: job.key.clone(),
            number: job.attempt,
            bytes: body.to_vec(),
            endpoint: self.attempt.endpoint.clone(),
            received_ms: self.clock.now_ms(),
            latency_ms: Some(i64::try_from(took.as_millis()).unwrap_or(i64::MAX)),
        };
        let start = Instant::now();
        let kept = self.store.record_raw(&raw).await;
        // Our own disk's time says nothing about the endpoint.
        job.waited.since(start);
        Ok(kept?)
    }
}

impl Ledger {
    pub(crate) fn new(attempt: Attempt, store: &Store, config: &ClientConfig) -> Self {
        let ClientConfig { clock, prices, batch_prices, local, .. } = *config;
        // What is paid by its tokens is not paid by its time as well.
        let timed = prices.map_or(config.timed, |prices| prices.machine_hour > 0);
        Self {
            attempt,
            store: store.clone(),
            clock,
            prices,
            batch_prices,
            timed,
            local,
            budget: Arc::clone(&config.budget),
        }
    }

    async fn goes_out(&self, job: &Job, unless_replied: bool) -> Result<bool, ChatError> {
        self.budget.check_time()?;
        // Nobody charges for what runs here.
        if self.local { Ok(true) } else { self.budget.goes_out(&job.key, &job.held, unless_replied).await }
    }

    /// Its reply is on disk: a kill no longer loses it. On a server it stands as out until it is recorded.
    fn came_back(&self, job: &Job) {
        if self.store.shared().is_none() {
            self.budget.came_back(&job.held);
            job.slot.iter().for_each(|slot| _ = slot.leave());
        }
    }

    /// A reply that was kept and not read, if it can be read now.
    pub(crate) async fn kept(&self, job: &Job) -> Result<Option<Call>, ChatError> {
        if job.attempt > 1 {
            return Ok(None);
        }
        for raw in self.store.raw_replies(&job.key).await? {
            if let Some(Ok(reply)) = self.attempt.backend.reread(&raw.bytes) {
                let received = Received { raw: raw.bytes.into(), reply, worked: Duration::ZERO };
                let unknown = (self.clock.now_ms(), 0);
                let times = raw.latency_ms.map_or(unknown, |latency_ms| (raw.received_ms - latency_ms, latency_ms));
                let call = self.record(job, received, raw.endpoint, times);
                // A row of a batch that came while nobody asked for it is paid for, and was never counted.
                let counted = !in_batch(call.endpoint.as_deref());
                let cost = if counted { Amount::default() } else { self.cost(job, &call) };
                // On the heap, as it is rare: every request holds room for what it may wait for.
                match self.budget.account() {
                    Some(account) => Box::pin(account.book(&job.key, cost, Some(&call), None)).await?,
                    None => Box::pin(self.store.record_call(call.clone())).await?,
                }
                return Ok(Some(paid(call, counted)));
            }
        }
        Ok(None)
    }

    /// Keeps what a try came to.
    pub(crate) async fn settle(
        &self,
        job: &Job,
        outcome: Result<Received, ChatError>,
        started_ms: i64,
    ) -> Result<Call, ChatError> {
        let latency_ms = self.clock.now_ms() - started_ms;
        match outcome {
            Ok(received) => {
                let attempt = of_attempt((&job.key, job.attempt), None, received.reply.usage, (started_ms, latency_ms));
                let call = self.record(job, received, self.attempt.endpoint.clone(), (started_ms, latency_ms));
                match self.budget.account() {
                    Some(account) => {
                        let cost = self.cost(job, &call);
                        Box::pin(account.book(&job.key, cost, Some(&call), Some(&attempt))).await?;
                    }
                    None => self.store.record_call_with_attempt(&call, &attempt).await?,
                }
                Ok(paid(call, false))
            }
            Err(error) => {
                let attempt = self.in_vain((&job.key, job.attempt), &error, (started_ms, latency_ms));
                // What was never sent is no try: nobody worked or waited for it.
                let attempt = Some(attempt).filter(|_| !matches!(error.kind, ErrorKind::Unsent | ErrorKind::Overdue));
                match self.budget.account() {
                    Some(account) => {
                        let prices = self.prices_at(self.attempt.endpoint.as_deref());
                        let most = job.held.cost();
                        // There was no place for its answer.
                        let unkept = error.kind == ErrorKind::Store;
                        let cost = if unkept { most } else { of_failure(&error, prices, most) };
                        Box::pin(account.book(&job.key, cost, None, attempt.as_ref())).await?;
                    }
                    None => {
                        if let Some(attempt) = &attempt {
                            self.store.record_attempt(attempt).await?;
                        }
                    }
                }
                Err(error)
            }
        }
    }

    /// A row of a batch that was refused while nobody waited for it is on record as one that somebody waited for.
    pub(crate) async fn came_to_nothing(
        &self,
        key: &Digest,
        error: &ChatError,
        started_ms: i64,
    ) -> Result<(), ChatError> {
        let latency_ms = self.clock.now_ms() - started_ms;
        Ok(self.store.record_attempt(&self.in_vain((key, 1), error, (started_ms, latency_ms))).await?)
    }

    fn in_vain(&self, call: (&Digest, u32), error: &ChatError, times: (i64, i64)) -> AttemptRecord {
        let attempt = of_attempt(call, Some(error), error.usage, times);
        AttemptRecord { price_nanos: self.lost(&error.usage), ..attempt }
    }

    /// As the layer of the budget settles it.
    fn cost(&self, job: &Job, call: &CallRecord) -> Amount {
        of_reply(&call.reply.usage, call.price_nanos, job.held.cost())
    }

    fn record(
        &self,
        job: &Job,
        received: Received,
        endpoint: Option<String>,
        (created_ms, latency_ms): (i64, i64),
    ) -> CallRecord {
        let ModelId(model_id) = job.request.model.clone();
        let (prices, worked) = (self.prices_at(endpoint.as_deref()), received.worked);
        CallRecord {
            key: job.key.clone(),
            model_name: self.attempt.model_name.clone(),
            model_id,
            request_json: job.json.to_string(),
            price_nanos: prices.and_then(|prices| prices.cost_of_call(&received.reply.usage, worked)),
            reply: received.reply,
            raw_reply: received.raw.to_vec(),
            latency_ms,
            worked_us: self.microseconds(worked),
            created_ms,
            endpoint,
        }
    }

    fn prices_at(&self, endpoint: Option<&str>) -> Option<Prices> {
        if in_batch(endpoint) { self.batch_prices } else { self.prices }
    }

    /// What a try cost that brought no reply. What is paid by the machine's hour has no price for its tokens.
    fn lost(&self, usage: &Usage) -> Option<i64> {
        let prices = self.prices_at(self.attempt.endpoint.as_deref());
        prices.filter(|prices| prices.machine_hour == 0)?.cost(usage)
    }

    /// A reply that is read again was worked for at another time, which nobody knows.
    fn microseconds(&self, worked: Duration) -> Option<i64> {
        let known = self.timed && !worked.is_zero();
        known.then(|| i64::try_from(worked.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Whether a call that `endpoint` served came in a batch: it took as long as the batch did.
#[must_use]
pub fn in_batch(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.ends_with(IN_BATCH))
}

fn of_attempt(
    (key, number): (&Digest, u32),
    error: Option<&ChatError>,
    usage: Usage,
    (started_ms, latency_ms): (i64, i64),
) -> AttemptRecord {
    AttemptRecord {
        key: key.clone(),
        number,
        outcome: error.map_or("ok", ChatError::reason).to_owned(),
        http_status: error.and_then(|error| error.status),
        message: error.map_or_else(String::new, |error| error.message.clone()),
        usage,
        price_nanos: None,
        started_ms,
        latency_ms,
    }
}

fn paid(call: CallRecord, from_cache: bool) -> Call {
    Call { key: call.key, reply: call.reply, from_cache, price_nanos: call.price_nanos, latency_ms: call.latency_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scripted, Step, layer::testing::job};

    #[tokio::test]
    async fn a_request_that_is_cancelled_or_late_before_it_is_sent_is_no_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.db")).await.unwrap();
        let model = Arc::new(Scripted::rule(|_| Step::Say("yes".into())));
        let config = ClientConfig::new("teacher");
        let attempt = Attempt {
            backend: model.clone(),
            model_name: "teacher".into(),
            endpoint: None,
            timeout: config.attempt_timeout,
            stall: None,
            meter: Arc::default(),
            lands: None,
            speaks: false.into(),
        };
        let ledger = Ledger::new(attempt, &store, &config);
        let job = job(9);
        job.cancel.cancel();
        assert!(ledger.call(job.clone()).await.unwrap_err().is_cancelled());
        let late = Job { cancel: Default::default(), place_ends: Some(Instant::now()), ..job.clone() };
        assert_eq!(ledger.call(late).await.unwrap_err().kind, ErrorKind::Overdue);
        assert_eq!((store.attempts(&job.key).await.unwrap(), model.asked().len()), (vec![], 0));
        ledger.call(Job { cancel: Default::default(), ..job.clone() }).await.unwrap();
        assert_eq!((store.attempts(&job.key).await.unwrap().len(), model.asked().len()), (1, 1));
    }
}
