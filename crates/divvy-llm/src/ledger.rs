//! Innermost layer: asks the backend and keeps everything. The raw reply is on disk before it is parsed, the call
//! before it is used, and every attempt is on record with its outcome. A reply that was paid for but could not be read
//! is read again the next time, at no cost.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use divvy_core::{
    chat::{Reply, Usage},
    cost::Prices,
    model::ModelId,
};
use divvy_store::{AttemptRecord, CallRecord, RawReply, Store};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::{
    chat::{Chat, Delta, Told},
    client::Call,
    clock::Clock,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
};

pub(crate) struct Ledger {
    pub(crate) backend: Arc<dyn Chat>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) model_name: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) prices: Option<Prices>,
    /// For one attempt.
    pub(crate) timeout: Duration,
    /// Between two pieces of a reply, and before the first.
    pub(crate) stall: Option<Duration>,
}

/// A reply as it came, before it is a record.
struct Received {
    raw: Bytes,
    reply: Reply,
}

impl Layer for Ledger {
    fn told(&self) -> Told {
        self.backend.told()
    }

    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        if job.attempt == 1
            && let Some(received) = self.read_again(&job).await?
        {
            let call = self.record(&job, received, self.clock.now_ms(), 0);
            self.store.record_call(call.clone()).await?;
            return Ok(paid(call, true));
        }
        let started_ms = self.clock.now_ms();
        let outcome = self.ask(&job).await;
        let latency_ms = self.clock.now_ms() - started_ms;
        match outcome {
            Ok(received) => {
                let attempt = attempt(&job, None, received.reply.usage, started_ms, latency_ms);
                let call = self.record(&job, received, started_ms, latency_ms);
                self.store.record_call_with_attempt(&call, &attempt).await?;
                Ok(paid(call, false))
            }
            Err(error) => {
                self.store.record_attempt(&attempt(&job, Some(&error), error.usage, started_ms, latency_ms)).await?;
                Err(error)
            }
        }
    }
}

impl Ledger {
    /// A reply kept by an earlier run that can be read now.
    async fn read_again(&self, job: &Job) -> Result<Option<Received>, ChatError> {
        for raw in self.store.raw_replies(&job.key).await? {
            if let Some(Ok(reply)) = self.backend.reread(&raw.bytes) {
                return Ok(Some(Received { raw: raw.bytes.into(), reply }));
            }
        }
        Ok(None)
    }

    async fn ask(&self, job: &Job) -> Result<Received, ChatError> {
        let deadline = Instant::now() + self.timeout;
        let mut deltas = self.backend.start((*job.request).clone(), job.cancel.clone());
        let (mut raw, mut text) = (Bytes::new(), String::new());
        loop {
            let stalls = self.stall.map_or(deadline, |stall| deadline.min(Instant::now() + stall));
            let next = timeout_at(stalls, job.cancel.run_until_cancelled(deltas.next())).await;
            let next = next.map_err(|_| if stalls < deadline { self.stalled() } else { self.timed_out() })?;
            match next.ok_or_else(ChatError::cancelled)? {
                Some(Ok(Delta::Raw(bytes))) => {
                    self.keep_raw(job, &bytes).await?;
                    raw = bytes;
                }
                Some(Ok(Delta::Text(piece))) => text.push_str(&piece),
                Some(Ok(Delta::Done { finish, usage })) => {
                    return Ok(Received { raw, reply: Reply { text, finish, usage } });
                }
                Some(Err(error)) => return Err(error),
                None => return Err(self.cut_off()),
            }
        }
    }

    async fn keep_raw(&self, job: &Job, bytes: &Bytes) -> Result<(), ChatError> {
        let raw = RawReply {
            key: job.key.clone(),
            number: job.attempt,
            bytes: bytes.to_vec(),
            endpoint: self.endpoint.clone(),
            received_ms: self.clock.now_ms(),
        };
        Ok(self.store.record_raw(&raw).await?)
    }

    fn record(&self, job: &Job, received: Received, created_ms: i64, latency_ms: i64) -> CallRecord {
        let ModelId(model_id) = job.request.model.clone();
        CallRecord {
            key: job.key.clone(),
            model_name: self.model_name.clone(),
            model_id,
            request_json: serde_json::to_string(&*job.request).expect("a request is plain JSON"),
            price_nanos: self.prices.and_then(|prices| prices.cost(&received.reply.usage)),
            reply: received.reply,
            raw_reply: received.raw.to_vec(),
            latency_ms,
            created_ms,
            endpoint: self.endpoint.clone(),
        }
    }

    fn timed_out(&self) -> ChatError {
        let (who, seconds) = (self.who(), self.timeout.as_secs());
        let message = format!(
            "{who} did not finish its reply in {seconds} s; raise `timeout_seconds` of the model, or lower `concurrency`"
        );
        ChatError::new(ErrorKind::TimedOut, message)
    }

    fn stalled(&self) -> ChatError {
        let seconds = self.stall.unwrap_or_default().as_secs_f64();
        let message = format!("{} sent nothing for {seconds} s; raise `stall_seconds` of the model", self.who());
        ChatError::new(ErrorKind::TimedOut, message)
    }

    fn cut_off(&self) -> ChatError {
        ChatError::new(ErrorKind::CutOff, format!("{} stopped in the middle of a reply", self.who()))
    }

    fn who(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("model `{}` at {endpoint}", self.model_name),
            None => format!("model `{}`", self.model_name),
        }
    }
}

fn attempt(job: &Job, error: Option<&ChatError>, usage: Usage, started_ms: i64, latency_ms: i64) -> AttemptRecord {
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
