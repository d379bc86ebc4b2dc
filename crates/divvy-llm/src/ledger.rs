//! Innermost layer: asks the backend and keeps everything. The raw reply is on disk before it is parsed, the call
//! before it is used, and every attempt is on record with its outcome. A reply that was paid for but could not be read
//! is read again the next time, at no cost.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use divvy_core::{chat::Usage, cost::Prices, model::ModelId};
use divvy_store::{AttemptRecord, CallRecord, RawReply, Store};

use crate::{
    attempt::{Attempt, Keep, Received},
    chat::Told,
    client::Call,
    clock::Clock,
    error::ChatError,
    layer::{Job, Layer},
    meter::Meter,
};

pub(crate) struct Ledger {
    pub(crate) attempt: Attempt,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) prices: Option<Prices>,
    pub(crate) meter: Arc<Meter>,
}

impl Layer for Ledger {
    fn told(&self) -> Told {
        self.attempt.backend.told()
    }

    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        if job.attempt == 1
            && let Some(received) = self.read_again(&job).await?
        {
            let call = self.record(&job, received, self.clock.now_ms(), 0, Duration::ZERO);
            self.store.record_call(call.clone()).await?;
            return Ok(paid(call, true));
        }
        let started_ms = self.clock.now_ms();
        let work = self.meter.begin();
        let outcome = self.attempt.run(&job, self).await;
        let worked = work.end();
        let latency_ms = self.clock.now_ms() - started_ms;
        match outcome {
            Ok(received) => {
                let attempt = of_attempt(&job, None, received.reply.usage, started_ms, latency_ms);
                let call = self.record(&job, received, started_ms, latency_ms, worked);
                self.store.record_call_with_attempt(&call, &attempt).await?;
                Ok(paid(call, false))
            }
            Err(error) => {
                self.store.record_attempt(&of_attempt(&job, Some(&error), error.usage, started_ms, latency_ms)).await?;
                Err(error)
            }
        }
    }
}

impl Keep for Ledger {
    async fn keep(&self, job: &Job, body: &Bytes) -> Result<(), ChatError> {
        let raw = RawReply {
            key: job.key.clone(),
            number: job.attempt,
            bytes: body.to_vec(),
            endpoint: self.attempt.endpoint.clone(),
            received_ms: self.clock.now_ms(),
        };
        Ok(self.store.record_raw(&raw).await?)
    }
}

impl Ledger {
    /// A reply kept by an earlier run that can be read now.
    async fn read_again(&self, job: &Job) -> Result<Option<Received>, ChatError> {
        for raw in self.store.raw_replies(&job.key).await? {
            if let Some(Ok(reply)) = self.attempt.backend.reread(&raw.bytes) {
                return Ok(Some(Received { raw: raw.bytes.into(), reply }));
            }
        }
        Ok(None)
    }

    fn record(&self, job: &Job, received: Received, created_ms: i64, latency_ms: i64, worked: Duration) -> CallRecord {
        let ModelId(model_id) = job.request.model.clone();
        CallRecord {
            key: job.key.clone(),
            model_name: self.attempt.model_name.clone(),
            model_id,
            request_json: serde_json::to_string(&*job.request).expect("a request is plain JSON"),
            price_nanos: self.prices.and_then(|prices| prices.cost_of_call(&received.reply.usage, worked)),
            reply: received.reply,
            raw_reply: received.raw.to_vec(),
            latency_ms,
            created_ms,
            endpoint: self.attempt.endpoint.clone(),
        }
    }
}

fn of_attempt(job: &Job, error: Option<&ChatError>, usage: Usage, started_ms: i64, latency_ms: i64) -> AttemptRecord {
    AttemptRecord {
        key: job.key.clone(),
        number: job.attempt,
        outcome: error.map_or("ok", ChatError::reason).to_owned(),
        http_status: error.and_then(|error| error.status),
        message: error.map_or_else(String::new, |error| error.message.clone()),
        usage,
        started_ms,
        latency_ms,
    }
}

fn paid(call: CallRecord, from_cache: bool) -> Call {
    Call { key: call.key, reply: call.reply, from_cache, price_nanos: call.price_nanos, latency_ms: call.latency_ms }
}
