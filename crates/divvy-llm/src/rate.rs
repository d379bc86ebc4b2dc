//! Requests and tokens a minute, as an endpoint's owner allows them: from the recipe, or as the endpoint itself says with
//! its replies. The minute slides: whatever moment it ends at, no more than the limit was sent in it. What a request may
//! take is held until its reply says what it took. An endpoint that asks for a pause gets it, from all requests. On a
//! store that workers share, the minute is theirs together (`common`).

mod common;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use divvy_store::Store;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use self::common::Common;
use crate::{
    budget::most_tokens,
    chat::{Quota, Told},
    client::Call,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
};

const MINUTE: Duration = Duration::from_mins(1);
/// An endpoint that wants a longer pause is not waited for.
pub(crate) const LONGEST_HOLD: Duration = Duration::from_mins(5);

/// What may be sent in any minute; `None`: no limit. Tokens are in and out together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
}

impl Rates {
    /// The stricter of the recipe's and the endpoint's own. One that counts by the day gives a larger number, which limits
    /// nothing here; what remains of it does.
    fn and(self, told: Told) -> Self {
        let least = |ours: Option<u64>, theirs: Option<u64>| ours.into_iter().chain(theirs).min();
        let (requests, tokens) = (told.requests.limit, told.tokens.limit);
        Self { requests: least(self.requests, requests), tokens: least(self.tokens, tokens) }
    }
}

/// A request's place in the window.
#[derive(Clone, Copy)]
enum Place {
    Own(u64),
    Common(common::Held),
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
    /// The endpoint asked to be left alone until then.
    paused_until: Option<Instant>,
}

pub(crate) struct Rate<L> {
    rates: Rates,
    /// Longer nobody waits for an endpoint that asked for a pause.
    longest_hold: Duration,
    window: Mutex<Window>,
    /// The window of all workers, in place of our own.
    common: Option<Common>,
    /// First come, first served: only who holds it waits for room.
    turn: tokio::sync::Mutex<()>,
    room: Notify,
    inner: L,
}

impl<L> Rate<L> {
    pub(crate) fn new(rates: Rates, longest_hold: Duration, inner: L) -> Self {
        Self {
            rates,
            longest_hold,
            window: Mutex::default(),
            common: None,
            turn: tokio::sync::Mutex::default(),
            room: Notify::new(),
            inner,
        }
    }

    /// The endpoint called `lane` is asked by all workers on this store.
    pub(crate) fn shared(self, store: &Store, lane: String) -> Self {
        let common = store.shared().map(|store| Common::new(store.clone(), lane));
        Self { common, ..self }
    }

    /// Takes a place in the window that ends now, or says when the next place comes free.
    fn enter(&self, rates: Rates, tokens: u64, now: Instant) -> Result<u64, Instant> {
        // A request that is larger than the limit goes alone: it would never fit.
        let tokens = rates.tokens.map_or(tokens, |most| tokens.min(most));
        let mut window = self.window();
        while window.sent.front().is_some_and(|sent| sent.at + MINUTE <= now) {
            window.sent.pop_front();
        }
        let held: u64 = window.sent.iter().map(|sent| sent.tokens).sum();
        let fits = rates.requests.is_none_or(|most| (window.sent.len() as u64) < most)
            && rates.tokens.is_none_or(|most| held + tokens <= most);
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

    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, place: Place, tokens: u64) {
        let number = match (place, &self.common) {
            (Place::Own(number), _) => number,
            (Place::Common(held), Some(common)) => return common.settle(held, tokens),
            (Place::Common(_), None) => return,
        };
        let mut window = self.window();
        if let Some(sent) = window.sent.iter_mut().find(|sent| sent.number == number) {
            sent.tokens = tokens;
        }
    }
}

impl<L: Layer> Rate<L> {
    /// Waits until the request may be sent, and returns its place; `None` where nothing limits.
    async fn admit(&self, tokens_in: u64, tokens_out: u64) -> Result<Option<Place>, ChatError> {
        let _turn = self.turn.lock().await;
        loop {
            let (now, told) = (Instant::now(), self.inner.told());
            let rates = self.rates.and(told);
            let next = match self.held(&told, tokens_in).filter(|until| *until > now) {
                Some(until) if until - now > self.longest_hold => return Err(held_for_long(until - now)),
                Some(until) => until,
                None if rates == Rates::default() => return Ok(None),
                None => match self.enter_any(rates, tokens_in + tokens_out, now).await? {
                    Ok(place) => return Ok(Some(place)),
                    Err(next) => next,
                },
            };
            // Room comes when the oldest request is a minute old, or when one took less than was held for it.
            drop(timeout_at(next, self.room.notified()).await);
        }
    }

    /// A place in the window of all workers, or in our own; else when to ask again.
    async fn enter_any(&self, rates: Rates, tokens: u64, now: Instant) -> Result<Result<Place, Instant>, ChatError> {
        match &self.common {
            Some(common) => Ok(common.enter(rates, tokens).await?.map(Place::Common)),
            None => Ok(self.enter(rates, tokens, now).map(Place::Own)),
        }
    }

    /// When the endpoint is ready again, by its own word.
    fn held(&self, told: &Told, tokens_in: u64) -> Option<Instant> {
        let used_up =
            |quota: Quota, need: u64| quota.resets.filter(|_| quota.remaining.is_some_and(|left| left < need));
        let limit = told.tokens.limit.unwrap_or(u64::MAX);
        [self.window().paused_until, used_up(told.requests, 1), used_up(told.tokens, tokens_in.min(limit))]
            .into_iter()
            .flatten()
            .max()
    }

    fn pause(&self, asked: Duration) {
        let until = Instant::now() + asked;
        let mut window = self.window();
        window.paused_until = Some(window.paused_until.map_or(until, |already| already.max(until)));
    }
}

/// A quota by the day, or an endpoint that is closed for hours: an error that says so is worth more than silence.
fn held_for_long(hold: Duration) -> ChatError {
    let time = if hold < MINUTE { format!("{} s", hold.as_secs()) } else { format!("{} minutes", hold.as_secs() / 60) };
    let message = format!(
        "the endpoint takes no more requests for {time}, by its own word (its quota is used up); run the same command then"
    );
    ChatError { retry_after: Some(hold), ..ChatError::new(ErrorKind::RateLimited, message) }
}

impl<L: Layer> Layer for Rate<L> {
    fn held_until(&self) -> Option<Instant> {
        self.held(&self.inner.told(), 1)
    }

    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let (tokens_in, tokens_out) = most_tokens(&job.request);
        let start = Instant::now();
        let admitted = job.cancel.run_until_cancelled(self.admit(tokens_in, tokens_out)).await;
        let place = admitted.ok_or_else(ChatError::cancelled)??;
        job.waited.since(start);
        let result = self.inner.call(job).await;
        if let Some((place, tokens)) = place.zip(taken(&result)) {
            self.settle(place, tokens);
        }
        // It may have taken less than was held for it, and have brought better news of the endpoint's limits.
        self.room.notify_one();
        if let Err(ChatError { kind: ErrorKind::RateLimited, retry_after: Some(asked), .. }) = &result {
            self.pause(*asked);
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
