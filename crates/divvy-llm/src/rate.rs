//! Requests and tokens a minute, as an endpoint's owner allows them. The minute slides: whatever moment it ends at, no
//! more than the limit was sent in it. What a request may take is held until its reply says what it took.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    budget::most_tokens,
    client::Call,
    error::ChatError,
    layer::{Job, Layer},
};

const MINUTE: Duration = Duration::from_mins(1);

/// What may be sent in any minute; `None`: no limit. Tokens are in and out together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
}

/// A request of the last minute.
struct Sent {
    number: u64,
    at: Instant,
    tokens: u64,
}

#[derive(Default)]
struct Window {
    sent: VecDeque<Sent>,
    /// Requests so far.
    count: u64,
}

pub(crate) struct Rate<L> {
    rates: Rates,
    window: Mutex<Window>,
    /// First come, first served: only who holds it waits for room.
    turn: tokio::sync::Mutex<()>,
    room: Notify,
    inner: L,
}

impl<L> Rate<L> {
    pub(crate) fn new(rates: Rates, inner: L) -> Self {
        Self { rates, window: Mutex::default(), turn: tokio::sync::Mutex::default(), room: Notify::new(), inner }
    }

    /// Waits until the request may be sent, and returns its number.
    async fn admit(&self, tokens: u64) -> u64 {
        let _turn = self.turn.lock().await;
        loop {
            match self.enter(tokens, Instant::now()) {
                Ok(number) => return number,
                // Room comes when the oldest request is a minute old, or when one took less than was held for it.
                Err(next) => drop(timeout_at(next, self.room.notified()).await),
            }
        }
    }

    /// Takes a place in the window that ends now, or says when the next place comes free.
    fn enter(&self, tokens: u64, now: Instant) -> Result<u64, Instant> {
        // A request that is larger than the limit goes alone: it would never fit.
        let tokens = self.rates.tokens.map_or(tokens, |most| tokens.min(most));
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        while window.sent.front().is_some_and(|sent| sent.at + MINUTE <= now) {
            window.sent.pop_front();
        }
        let held: u64 = window.sent.iter().map(|sent| sent.tokens).sum();
        let fits = self.rates.requests.is_none_or(|most| (window.sent.len() as u64) < most)
            && self.rates.tokens.is_none_or(|most| held + tokens <= most);
        match window.sent.front() {
            Some(oldest) if !fits => Err(oldest.at + MINUTE),
            _ => {
                window.count += 1;
                let number = window.count;
                window.sent.push_back(Sent { number, at: now, tokens });
                Ok(number)
            }
        }
    }

    fn settle(&self, number: u64, tokens: u64) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = window.sent.iter_mut().find(|sent| sent.number == number) {
            sent.tokens = tokens;
        }
        drop(window);
        self.room.notify_one();
    }
}

impl<L: Layer> Layer for Rate<L> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        if self.rates == Rates::default() {
            return self.inner.call(job).await;
        }
        let (tokens_in, tokens_out) = most_tokens(&job.request);
        let start = Instant::now();
        let admitted = job.cancel.run_until_cancelled(self.admit(tokens_in + tokens_out)).await;
        let number = admitted.ok_or_else(ChatError::cancelled)?;
        job.waited.since(start);
        let result = self.inner.call(job).await;
        if let Some(tokens) = taken(&result) {
            self.settle(number, tokens);
        }
        result
    }
}

/// Tokens that the endpoint counted; `None` where it does not say and may have counted some.
fn taken(result: &Result<Call, ChatError>) -> Option<u64> {
    let usage = match result {
        Ok(call) => call.reply.usage,
        Err(error) if error.may_be_charged() => error.usage,
        Err(_) => return Some(0),
    };
    Some(usage.tokens_in? + usage.tokens_out?)
}

#[cfg(test)]
mod tests;
