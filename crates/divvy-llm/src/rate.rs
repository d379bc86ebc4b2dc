//! Requests and tokens a minute, as an endpoint's owner allows them: from the recipe, or as the endpoint itself says with
//! its replies. The minute slides: whatever moment it ends at, no more than the limit was sent in it, what went out before
//! the limit was known included (`window`). What a request may take is held until its reply says what it took. An endpoint
//! that asks for a pause gets it, from all requests, and so does one that keeps refusing without a
//! word (`refusals`). On a store that workers share, the minute is theirs together (`common`); on one in a file, what
//! earlier commands sent counts (`earlier`).

mod common;
mod earlier;
mod refusals;
mod window;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use divvy_core::digest::derive_seed;
use divvy_store::Store;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

pub(crate) use self::refusals::WAY_OUT;
use self::{common::Common, earlier::Earlier, refusals::Refusals, window::Window};
use crate::{
    chat::{Quota, Told},
    client::Call,
    clock::Clock,
    error::{ChatError, ErrorKind, UNCHARGED},
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
    Own(window::Held),
    Common(common::Held),
}

impl Place {
    /// Until when it may be used.
    fn ends(self) -> Option<Instant> {
        if let Self::Common(held) = self { Some(held.ends) } else { None }
    }

    /// No place may be used for longer.
    fn is_longest(self) -> bool {
        matches!(self, Self::Common(held) if held.is_longest())
    }
}

#[derive(Default)]
struct State {
    window: Window,
    /// The endpoint asked to be left alone until then, or is.
    paused_until: Option<Instant>,
    refusals: Refusals,
}

/// The minute of an endpoint, for all who ask it.
pub(crate) struct Minute {
    rates: Rates,
    state: Mutex<State>,
    /// The window of all workers, in place of our own once there is a limit.
    common: Option<Common>,
    /// On a store in a file.
    earlier: Option<Earlier>,
    /// First come, first served: only who holds it waits for room.
    turn: tokio::sync::Mutex<()>,
    room: Notify,
}

pub(crate) struct Rate<L> {
    minute: Arc<Minute>,
    /// Longer nobody waits for an endpoint that asked for a pause, or refuses everything.
    longest_hold: Duration,
    inner: L,
}

impl Minute {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            rates,
            state: Mutex::default(),
            common: None,
            earlier: None,
            turn: tokio::sync::Mutex::default(),
            room: Notify::new(),
        }
    }

    /// All workers on this store share it, under the name `lane`, or one command after another at `endpoint`.
    pub(crate) fn shared(self, store: &Store, endpoint: Option<&str>, lane: String, clock: Clock) -> Self {
        match store {
            Store::Postgres(server) => Self { common: Some(Common::new(server.clone(), lane)), ..self },
            Store::Sqlite(file) => {
                let endpoint = endpoint.unwrap_or_default().to_owned();
                Self { earlier: Some(Earlier::new(file.clone(), endpoint, clock)), ..self }
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, place: Place, tokens: u64) {
        match (place, &self.common) {
            (Place::Own(held), _) => self.state().window.settle(held, tokens),
            (Place::Common(held), Some(common)) => common.settle(held, tokens),
            (Place::Common(_), None) => {}
        }
    }

    /// It was over before it could be used.
    fn over_unused(&self, place: Place) {
        match (place, &self.common) {
            (Place::Common(held), Some(common)) => common.over_unused(held),
            _ => self.settle(place, 0),
        }
    }
}

impl<L> Rate<L> {
    pub(crate) fn new(minute: Arc<Minute>, longest_hold: Duration, inner: L) -> Self {
        Self { minute, longest_hold, inner }
    }
}

impl<L: Layer> Rate<L> {
    /// Waits until the request may be sent, and returns its place.
    async fn admit(&self, tokens_in: u64, tokens_out: u64) -> Result<Place, ChatError> {
        let minute = &*self.minute;
        let _turn = minute.turn.lock().await;
        loop {
            let (now, told) = (Instant::now(), self.inner.told());
            let rates = minute.rates.and(told);
            let next = match minute.held(&told, tokens_in).filter(|until| *until > now) {
                Some(until) if until - now > self.longest_hold => return Err(held_for_long(until - now)),
                Some(until) => match minute.state().refusals.for_longer_than(self.longest_hold) {
                    Some(error) => return Err(ChatError { retry_after: Some(until - now), ..error }),
                    None => until,
                },
                None => match minute.enter_any(rates, tokens_in + tokens_out, now).await? {
                    Ok(place) => return Ok(place),
                    Err(next) => next,
                },
            };
            // Room comes when the oldest request is a minute old, or when one took less than was held for it.
            drop(timeout_at(next, minute.room.notified()).await);
        }
    }
}

impl Minute {
    /// A place in the window of all workers, or in our own; else when to ask again.
    async fn enter_any(&self, rates: Rates, tokens: u64, now: Instant) -> Result<Result<Place, Instant>, ChatError> {
        match &self.common {
            Some(common) if rates != Rates::default() => {
                self.tell_what_was_sent(common, now).await?;
                Ok(common.enter(rates, tokens).await?.map(Place::Common))
            }
            _ => {
                if let Some(earlier) = self.earlier.as_ref().filter(|_| rates != Rates::default()) {
                    earlier.count(&self.state).await?;
                }
                Ok(self.state().window.enter(rates, tokens, now).map(Place::Own))
            }
        }
    }

    /// What went out while there was no limit counts for all workers once there is one.
    async fn tell_what_was_sent(&self, common: &Common, now: Instant) -> Result<(), ChatError> {
        let (requests, tokens) = self.state().window.sums(now);
        if requests > 0 {
            common.sent_before(requests, tokens).await?;
            self.state().window.empty();
        }
        Ok(())
    }

    /// When the endpoint is ready again, by its own word.
    fn held(&self, told: &Told, tokens_in: u64) -> Option<Instant> {
        let used_up =
            |quota: Quota, need: u64| quota.resets.filter(|_| quota.remaining.is_some_and(|left| left < need));
        let limit = told.tokens.limit.unwrap_or(u64::MAX);
        [self.state().paused_until, used_up(told.requests, 1), used_up(told.tokens, tokens_in.min(limit))]
            .into_iter()
            .flatten()
            .max()
    }

    /// What the result of a request says about the next ones.
    fn learn(&self, sent: Instant, random: impl FnOnce() -> u64, result: &Result<Call, ChatError>) {
        match result {
            Ok(call) if !call.from_cache => self.state().refusals.answered(sent),
            Err(error) if error.kind == ErrorKind::RateLimited => {
                let mut state = self.state();
                let chosen = state.refusals.refused(sent, error, random());
                let until = Instant::now() + error.retry_after.unwrap_or_default().max(chosen);
                state.paused_until = state.paused_until.max(Some(until));
            }
            _ => {}
        }
    }
}

/// A time as people say it.
fn spoken(time: Duration) -> String {
    if time < MINUTE { format!("{} s", time.as_secs()) } else { format!("{} minutes", time.as_secs() / 60) }
}

/// A quota by the day, or an endpoint that is closed for hours: an error that says so is worth more than silence.
fn held_for_long(hold: Duration) -> ChatError {
    let message = format!(
        "the endpoint takes no more requests for {}, by its own word (its quota is used up); run the same command then",
        spoken(hold)
    );
    ChatError { retry_after: Some(hold), ..ChatError::new(ErrorKind::RateLimited, message) }
}

/// Nothing was sent.
fn slow_store() -> ChatError {
    const MESSAGE: &str = "the store did not say in time that the request may go out; is the PostgreSQL server slow, or far away? \
        Where it cannot be helped, raise `timeout_seconds` of the model";
    ChatError { usage: UNCHARGED, ..ChatError::new(ErrorKind::OutOfTime, MESSAGE) }
}

impl<L: Layer> Layer for Rate<L> {
    fn held_until(&self) -> Option<Instant> {
        self.minute.held(&self.inner.told(), 1)
    }

    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let (tokens_in, tokens_out) = job.most_tokens();
        let (place, sent, result) = loop {
            let start = Instant::now();
            let place = job.in_line(self.admit(tokens_in, tokens_out)).await??;
            job.waited.since(start);
            job.sent.note();
            let sent = Instant::now();
            let result = self.inner.call(Job { place_ends: place.ends(), ..job.clone() }).await;
            if !result.as_ref().is_err_and(|error| error.kind == ErrorKind::Overdue) {
                break (place, sent, result);
            }
            // The way through the store took too long. The next place lasts longer.
            job.sent.not_yet();
            self.minute.over_unused(place);
            if place.is_longest() || !job.outlasts(Duration::ZERO) {
                return Err(slow_store());
            }
        };
        if let Some(tokens) = taken(&result) {
            self.minute.settle(place, tokens);
        }
        self.minute.learn(sent, || derive_seed(job.key.seed(), &format!("pause/{}", job.attempt)), &result);
        // It may have taken less than was held for it, and have brought better news of the endpoint's limits.
        self.minute.room.notify_one();
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
    Some(usage.tokens_in?.saturating_add(usage.tokens_out?))
}

#[cfg(test)]
mod tests;
