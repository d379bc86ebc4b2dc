//! Tries again what may work a little later: exponential backoff with full jitter (Brooker, "Exponential Backoff And
//! Jitter", 2015), never sooner than the endpoint asked, within one deadline for all tries of a call, the last one included. A refusal for the
//! endpoint's rate costs nothing, and is waited out within the deadline however often it comes; what an endpoint wants to hear
//! in its own word is asked again at once: neither is a try that the policy counts. What may have been charged is asked for three
//! times in all, whatever else happens in between, and a completion without text once more: each was paid for.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use divvy_core::digest::derive_seed;
use tokio::time::Instant;

use crate::{
    client::Call,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
    rate::WAY_OUT,
};

/// Tries of one call that may be charged: one that broke off may do so by chance, and by the third it is the rule.
const MOST_CHARGED: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one call, the first included. A client does not count those that an endpoint refused for its rate.
    pub attempts: u32,
    /// The first pause is drawn from 0 to this; every further one from twice as much.
    pub base: Duration,
    /// No pause is drawn longer than this. One that the endpoint asked for may be.
    pub most: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 6, base: Duration::from_secs(1), most: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// Tries once.
    pub const NEVER: Self = Self { attempts: 1, base: Duration::ZERO, most: Duration::ZERO };

    /// The pause after try `attempt` (1 is the first). `random` is uniform over all numbers.
    pub(crate) fn pause(&self, attempt: u32, asked: Option<Duration>, random: u64) -> Duration {
        let doubled = self.base.saturating_mul(1 << (attempt - 1).min(16));
        let drawn = doubled.min(self.most).mul_f64(random as f64 / u64::MAX as f64);
        asked.map_or(drawn, |asked| asked.max(drawn))
    }
}

pub(crate) struct Retry<L> {
    pub(crate) policy: RetryPolicy,
    /// A refusal for a rate is a try like any other: where somebody waits for the reply, or its next try is another batch.
    pub(crate) counts_refusals: bool,
    /// For all tries of one call together, time in line not counted.
    pub(crate) deadline: Duration,
    /// A try that is under way at the deadline is given up; else it is only that none begins after it.
    pub(crate) ends_tries: bool,
    pub(crate) inner: L,
}

impl<L: Layer> Layer for Retry<L> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let (deadline, mut tries) = (Instant::now() + self.deadline, Tries::default());
        let job = Job { deadline: self.ends_tries.then_some(deadline), ..job };
        loop {
            let (attempt, silent) = (tries.made + 1, tries.silent > 0);
            let error = match self.inner.call(Job { attempt, silent, ..job.clone() }).await {
                Ok(call) => return Ok(call),
                Err(error) => error,
            };
            // A row that its batch gave up is a request like any other.
            let alone = job.online.load(Relaxed) && self.policy.attempts > 1;
            tries.count(&error, self.counts_refusals && !alone);
            let late = job.until.is_some_and(|until| Instant::now() >= until);
            if tries.are_over(&error, self.policy.attempts) || job.listener.has_heard() || late {
                return Err(after(tries.with_cause(error), attempt));
            }
            let pause = self.pause(&job, &tries, &error);
            if Instant::now() + pause >= deadline + job.waited.so_far() {
                return Err(too_late(tries.with_cause(error), attempt, self.deadline));
            }
            tracing::debug!(%error, attempt, ?pause, "trying again");
            job.listener.failed_try(&error);
            tries.remember(&error);
            let slept = job.cancel.run_until_cancelled(tokio::time::sleep(pause)).await;
            slept.ok_or_else(ChatError::cancelled)?;
        }
    }
}

impl<L> Retry<L> {
    fn pause(&self, job: &Job, tries: &Tries, error: &ChatError) -> Duration {
        if error.kind == ErrorKind::OtherWord {
            return Duration::ZERO;
        }
        let number = tries.made - tries.reworded;
        // A draw from the key, not from a global generator: different calls spread out, the same one repeats.
        let random = derive_seed(job.key.seed(), &format!("retry/{number}"));
        self.policy.pause(number, error.retry_after, random)
    }
}

/// What came of a call so far.
#[derive(Default)]
struct Tries {
    made: u32,
    /// Of these, the endpoint wanted another word.
    reworded: u32,
    /// It refused for its rate.
    refused: u32,
    /// It said nothing, and was paid for it.
    silent: u32,
    /// It may have been paid, whatever it said.
    charged: u32,
    /// What was wrong with the last one that had its time.
    cause: Option<String>,
}

impl Tries {
    fn count(&mut self, error: &ChatError, counts_refusals: bool) {
        self.made += 1;
        self.reworded += u32::from(error.kind == ErrorKind::OtherWord);
        self.refused += u32::from(is_refusal(error) && !counts_refusals);
        self.silent += u32::from(error.kind == ErrorKind::Empty);
        self.charged += u32::from(error.may_be_charged());
    }

    fn remember(&mut self, error: &ChatError) {
        if error.kind != ErrorKind::OutOfTime {
            self.cause = Some(error.message.clone());
        }
    }

    /// A try that found its time used up tells nothing of the endpoint: the ones that used it do.
    fn with_cause(&self, error: ChatError) -> ChatError {
        match &self.cause {
            Some(cause) if error.kind == ErrorKind::OutOfTime => {
                ChatError { message: format!("{cause}; then {}", error.message), ..error }
            }
            _ => error,
        }
    }

    fn are_over(&self, error: &ChatError, most: u32) -> bool {
        let silent_again = error.kind == ErrorKind::Empty && self.silent > 1;
        let dear = silent_again || self.charged >= MOST_CHARGED;
        !error.is_retryable() || dear || self.made - self.reworded - self.refused >= most
    }
}

fn after(error: ChatError, attempts: u32) -> ChatError {
    if attempts == 1 {
        return error;
    }
    ChatError { message: format!("{} (after {attempts} tries){}", error.message, way_out(&error)), ..error }
}

fn too_late(error: ChatError, attempts: u32, deadline: Duration) -> ChatError {
    let (seconds, way_out) = (deadline.as_secs(), way_out(&error));
    let message =
        format!("{} ({attempts} tries, and the {seconds} s for one request are used up){way_out}", error.message);
    ChatError { message, ..error }
}

/// The endpoint itself refused, for its rate. Whoever was told so in line stood there for long enough.
fn is_refusal(error: &ChatError) -> bool {
    error.kind == ErrorKind::RateLimited && error.status.is_some()
}

fn way_out(error: &ChatError) -> String {
    if is_refusal(error) && error.retry_after.is_none() { format!("; {WAY_OUT}") } else { String::new() }
}

#[cfg(test)]
mod tests;
