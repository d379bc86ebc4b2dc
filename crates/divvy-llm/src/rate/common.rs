//! The minute of an endpoint that all workers on a store ask, kept on the server. A worker is lent a share for a moment,
//! some requests at a time, and what it has not sent by then is void: the server counts a share for that much longer, so
//! that no minute holds more than the limit, whatever worker sent when. Later the server hears what was used.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use divvy_store::{Lent, LentBefore, PostgresStore, Share};
use tokio::time::Instant;

use super::{MINUTE, PLACES, Rates};
use crate::{budget::signed, error::ChatError};

/// How long a share may be used, by this machine's clock, from before it was asked for.
const GOOD_FOR: Duration = Duration::from_secs(2);
const WINDOW: Duration = MINUTE.saturating_add(GOOD_FOR);
/// Requests of a share where only tokens are limited.
const MANY: i64 = 64;
/// Others may give room back without our hearing of it.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Common {
    store: PostgresStore,
    lane: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    now: Option<Current>,
    /// Shares of the last minute as they were used, with when they were lent.
    used: BTreeMap<i64, (Instant, LentBefore)>,
    /// Those that the server does not know yet.
    unsaid: Vec<i64>,
    /// Answers in a row that came when their share was over.
    late: u32,
}

struct Current {
    id: i64,
    lent: Instant,
    requests: i64,
    tokens: i64,
}

/// What a request holds of its share.
#[derive(Clone, Copy)]
pub(super) struct Held {
    id: i64,
    tokens: i64,
    /// It is used before then, or not at all.
    pub(super) ends: Instant,
}

impl Common {
    pub(super) fn new(store: PostgresStore, lane: String) -> Self {
        Self { store, lane, state: Mutex::default() }
    }

    /// A place for a request of so many tokens, or when to ask again.
    pub(super) async fn enter(&self, rates: Rates, tokens: u64) -> Result<Result<Held, Instant>, ChatError> {
        // A request that is larger than the limit goes alone: it would never fit.
        let tokens = signed(rates.tokens.map_or(tokens, |most| tokens.min(most)));
        let asked = Instant::now();
        if let Some(held) = self.state().take(tokens, asked) {
            return Ok(Ok(held));
        }
        let before = self.state().end(asked);
        let share = share(rates, tokens);
        let answer = self.store.lend(&self.lane, &share, &before).await;
        if answer.is_err() {
            self.state().unsaid.extend(before.iter().map(|used| used.id));
        }
        match answer? {
            Lent::Wait(wait) => Ok(Err(asked + wait.clamp(Duration::from_millis(5), LONGEST_WAIT))),
            Lent::Some(lent) => {
                let (mut state, now) = (self.state(), Instant::now());
                let tokens_left = if rates.tokens.is_some() { lent.tokens } else { i64::MAX };
                let current = Current { id: lent.id, lent: asked, requests: lent.requests, tokens: tokens_left };
                state.begin(current, now);
                // A slow answer leaves nothing to use; then it is asked for again.
                Ok(state.take(tokens, now).ok_or(now))
            }
        }
    }

    /// Requests that no share was asked for, since nobody knew of a limit: they count as if they were sent now.
    pub(super) async fn sent_before(&self, requests: u64, tokens: u64) -> Result<(), ChatError> {
        let share = Share {
            window: WINDOW,
            most_requests: None,
            most_tokens: None,
            want_requests: signed(requests),
            need_tokens: signed(tokens),
            want_tokens: signed(tokens),
        };
        self.store.lend(&self.lane, &share, &[]).await?;
        Ok(())
    }

    pub(super) fn settle(&self, held: Held, tokens: u64) {
        let mut state = self.state();
        if let Some((_, used)) = state.used.get_mut(&held.id) {
            used.tokens += signed(tokens) - held.tokens;
            state.unsaid.push(held.id);
        }
    }

    /// It was not used, and nobody else here can use it: its share is over.
    pub(super) fn give_back(&self, held: Held) {
        let mut state = self.state();
        if let Some((_, used)) = state.used.get_mut(&held.id) {
            used.requests -= 1;
            used.tokens -= held.tokens;
            state.unsaid.push(held.id);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A server that is slow for long would let nobody in: then what it lends is used from when it is heard of, and a minute may
    /// hold as much more of the limit as the answer was late.
    fn begin(&mut self, current: Current, now: Instant) {
        self.late = if now >= current.lent + GOOD_FOR { self.late + 1 } else { 0 };
        let lent = if self.late > PLACES { now } else { current.lent };
        self.now = Some(Current { lent, ..current });
    }

    fn take(&mut self, tokens: i64, now: Instant) -> Option<Held> {
        let current = self.now.as_mut()?;
        let ends = current.lent + GOOD_FOR;
        if now >= ends || current.requests == 0 || current.tokens < tokens {
            return None;
        }
        current.requests -= 1;
        current.tokens -= tokens;
        let id = current.id;
        let unused = LentBefore { id, requests: 0, tokens: 0 };
        let (_, used) = self.used.entry(id).or_insert((current.lent, unused));
        used.requests += 1;
        used.tokens += tokens;
        Some(Held { id, tokens, ends })
    }

    /// The share at hand is over. Returns what the server is to hear.
    fn end(&mut self, now: Instant) -> Vec<LentBefore> {
        let unused = |id| LentBefore { id, requests: 0, tokens: 0 };
        if let Some(Current { id, lent, .. }) = self.now.take() {
            self.used.entry(id).or_insert((lent, unused(id)));
            self.unsaid.push(id);
        }
        self.used.retain(|_, (lent, _)| *lent + WINDOW > now);
        let unsaid: BTreeSet<i64> = std::mem::take(&mut self.unsaid).into_iter().collect();
        unsaid.iter().filter_map(|id| Some(self.used.get(id)?.1)).collect()
    }
}

/// As many requests as fit into the time for which a share is good, at an even pace.
fn share(rates: Rates, tokens: i64) -> Share {
    let ahead = |most: u64| (signed(most) * GOOD_FOR.as_secs() as i64 / MINUTE.as_secs() as i64).max(1);
    Share {
        window: WINDOW,
        most_requests: rates.requests.map(signed),
        most_tokens: rates.tokens.map(signed),
        want_requests: rates.requests.map_or(MANY, ahead),
        need_tokens: tokens,
        want_tokens: rates.tokens.map_or(tokens, ahead).max(tokens),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_always_late_lets_somebody_in() {
        let (mut state, asked) = (State::default(), Instant::now());
        let mut answer = |seconds| {
            let now = asked + Duration::from_secs(seconds);
            state.begin(Current { id: 1, lent: asked, requests: 1, tokens: 9 }, now);
            state.take(9, now).is_some()
        };
        assert!(answer(1), "in time");
        assert_eq!([3, 3, 3, 3, 9].map(&mut answer), [false, false, false, true, true]);
        assert!(answer(1) && !answer(3), "it was in time again");
    }
}
