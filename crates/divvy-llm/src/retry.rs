//! Tries again what may work a little later: exponential backoff with full jitter (Brooker, "Exponential Backoff And
//! Jitter", 2015), never sooner than the endpoint asked, within one deadline for all tries of a call. What an endpoint wants to
//! hear in its own word is asked again at once, and is no try that the policy counts. A completion without text is asked for
//! once more: each was paid for.

use std::time::Duration;

use divvy_core::digest::derive_seed;
use tokio::time::Instant;

use crate::{
    client::Call,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one call, the first included.
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
    /// For all tries of one call together, time in line not counted.
    pub(crate) deadline: Duration,
    pub(crate) inner: L,
}

impl<L: Layer> Layer for Retry<L> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let deadline = Instant::now() + self.deadline;
        let (mut attempt, mut reworded, mut silent) = (1, 0, false);
        loop {
            let error = match self.inner.call(Job { attempt, silent, ..job.clone() }).await {
                Ok(call) => return Ok(call),
                Err(error) => error,
            };
            let (other_word, says_nothing) = (error.kind == ErrorKind::OtherWord, error.kind == ErrorKind::Empty);
            reworded += u32::from(other_word);
            let (tries, late) = (attempt - reworded, job.until.is_some_and(|until| Instant::now() >= until));
            let hopeless = !error.is_retryable() || (says_nothing && silent);
            if hopeless || tries >= self.policy.attempts || job.listener.has_heard() || late {
                return Err(after(error, attempt));
            }
            let pause = if other_word { Duration::ZERO } else { self.pause(&job, tries, &error) };
            if Instant::now() + pause >= deadline + job.waited.so_far() {
                return Err(too_late(error, attempt, self.deadline));
            }
            tracing::debug!(%error, attempt, ?pause, "trying again");
            job.listener.failed_try(&error);
            let slept = job.cancel.run_until_cancelled(tokio::time::sleep(pause)).await;
            slept.ok_or_else(ChatError::cancelled)?;
            (attempt, silent) = (attempt + 1, silent || says_nothing);
        }
    }
}

impl<L> Retry<L> {
    fn pause(&self, job: &Job, tries: u32, error: &ChatError) -> Duration {
        // A draw from the key, not from a global generator: different calls spread out, the same one repeats.
        let random = derive_seed(job.key.seed(), &format!("retry/{tries}"));
        self.policy.pause(tries, error.retry_after, random)
    }
}

fn after(error: ChatError, attempts: u32) -> ChatError {
    if attempts == 1 {
        return error;
    }
    ChatError { message: format!("{} (after {attempts} tries)", error.message), ..error }
}

fn too_late(error: ChatError, attempts: u32, deadline: Duration) -> ChatError {
    let seconds = deadline.as_secs();
    ChatError {
        message: format!("{} ({attempts} tries, and the {seconds} s for one request are used up)", error.message),
        ..error
    }
}

#[cfg(test)]
mod tests;
