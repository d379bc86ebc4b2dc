//! The minute of an endpoint that all workers on a store ask, kept on the server. A worker is lent a share for a moment,
//! some requests at a time, and what it has not sent by then is void: the server counts a share for that much longer, so
//! that no minute holds more than the limit, whatever worker sent when. Where the way through the store takes longer than the
//! moment, the next one is longer. Later the server hears what was used.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use divvy_store::{Lent, LentBefore, PostgresStore, Share};
use tokio::time::Instant;

use super::{MINUTE, Rates, slow_store};
use crate::{budget::signed, error::ChatError};

/// How long a share may be used, by this machine's clock, from before it was asked for.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// The most of it, where the store is slow. Half of what is counted is then the waiting.
const LONGEST: Duration = MINUTE;
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
    /// Shares of the last minute as they were used, with when they end.
    used: BTreeMap<i64, (Instant, LentBefore)>,
    /// Those that the server does not know yet.
    unsaid: Vec<i64>,
    /// When a share was over last before it could be used, and the longest time that was too short of late.
    late: Option<(Instant, Duration)>,
}

struct Current {
    id: i64,
    ends: Instant,
    good_for: Duration,
    /// When it was there to be used.
    came: Instant,
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
    good_for: Duration,
    /// It was taken while most of its share's time was left, but for what the answer took.
    is_fresh: bool,
}

impl Held {
    /// No other would last longer.
    pub(super) fn is_longest(self) -> bool {
        self.is_fresh && self.good_for >= LONGEST
    }
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
        let (before, good_for) = self.state().end(asked);
        let share = share(rates, tokens, good_for);
        let answer = self.store.lend(&self.lane, &share, &before).await;
        if answer.is_err() {
            self.state().unsaid.extend(before.iter().map(|used| used.id));
        }
        match answer? {
            Lent::Wait(wait) => Ok(Err(asked + wait.clamp(Duration::from_millis(5), LONGEST_WAIT))),
            Lent::Some(lent) => {
                let (mut state, now) = (self.state(), Instant::now());
                let tokens_left = if rates.tokens.is_some() { lent.tokens } else { i64::MAX };
                let (requests, ends) = (lent.requests, asked + good_for);
                state.now = Some(Current { id: lent.id, ends, good_for, came: now, requests, tokens: tokens_left });
                match state.take(tokens, now) {
                    Some(held) => Ok(Ok(held)),
                    None if good_for >= LONGEST => Err(slow_store()),
                    // A slow answer leaves nothing to use; then it is asked for again.
                    None => {
                        state.was_late(good_for, now);
                        Ok(Err(now))
                    }
                }
            }
        }
    }

    /// Requests that no share was asked for, since nobody knew of a limit: they count as if they were sent now.
    pub(super) async fn sent_before(&self, requests: u64, tokens: u64) -> Result<(), ChatError> {
        let share = Share {
            window: MINUTE,
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
    pub(super) fn over_unused(&self, held: Held) {
        let mut state = self.state();
        // One that was nearly over when it was taken says nothing of the store.
        if held.is_fresh {
            state.was_late(held.good_for, Instant::now());
        }
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
    fn take(&mut self, tokens: i64, now: Instant) -> Option<Held> {
        let current = self.now.as_mut()?;
        let Current { id, ends, good_for, came, .. } = *current;
        if now >= ends || current.requests == 0 || current.tokens < tokens {
            return None;
        }
        current.requests -= 1;
        current.tokens -= tokens;
        let unused = LentBefore { id, requests: 0, tokens: 0 };
        let (_, used) = self.used.entry(id).or_insert((ends, unused));
        used.requests += 1;
        used.tokens += tokens;
        Some(Held { id, tokens, ends, good_for, is_fresh: 2 * (now - came) < good_for })
    }

    /// The share at hand is over. Returns what the server is to hear, and how long the next share is to be good for.
    fn end(&mut self, now: Instant) -> (Vec<LentBefore>, Duration) {
        let unused = |id| LentBefore { id, requests: 0, tokens: 0 };
        if let Some(Current { id, ends, .. }) = self.now.take() {
            self.used.entry(id).or_insert((ends, unused(id)));
            self.unsaid.push(id);
        }
        self.used.retain(|_, (ends, _)| *ends + MINUTE > now);
        let unsaid: BTreeSet<i64> = std::mem::take(&mut self.unsaid).into_iter().collect();
        let before = unsaid.iter().filter_map(|id| Some(self.used.get(id)?.1)).collect();
        (before, self.too_short(now).map_or(GOOD_FOR, |time| (2 * time).min(LONGEST)))
    }

    /// The longest time that was too short in the last minute.
    fn too_short(&self, now: Instant) -> Option<Duration> {
        self.late.filter(|(at, _)| now < *at + MINUTE).map(|(_, time)| time)
    }

    /// A share was good for this time, which was over before it could be used.
    fn was_late(&mut self, time: Duration, now: Instant) {
        self.late = Some((now, self.too_short(now).map_or(time, |longest| longest.max(time))));
    }
}

/// As many requests as fit into the time for which a share is good at the least, at an even pace.
fn share(rates: Rates, tokens: i64, good_for: Duration) -> Share {
    let ahead = |most: u64| (signed(most) * GOOD_FOR.as_secs() as i64 / MINUTE.as_secs() as i64).max(1);
    Share {
        window: MINUTE + good_for,
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
    fn shares_that_are_over_too_soon_become_longer_for_a_while() {
        let (mut state, began) = (State::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut asked = 0;
        let good_for = [2, 4, 8, 16, 32, 60, 60].map(|seconds| {
            let (_, good_for) = state.end(at(asked));
            asked += seconds;
            state.was_late(good_for, at(asked));
            good_for.as_secs()
        });
        assert_eq!(good_for, [2, 4, 8, 16, 32, 60, 60]);
        // Late ones of before do not make it shorter, and what is long ago is forgotten.
        state.was_late(GOOD_FOR, at(asked));
        assert_eq!(state.end(at(asked + 59)).1, LONGEST);
        assert_eq!(state.end(at(asked + 60)).1, GOOD_FOR);
    }

    #[test]
    fn nothing_of_a_share_is_used_after_its_end() {
        let (mut state, asked) = (State::default(), Instant::now());
        let (ends, good_for) = (asked + 2 * GOOD_FOR, 2 * GOOD_FOR);
        state.now = Some(Current { id: 1, ends, good_for, came: asked, requests: 9, tokens: 9 });
        let just_in_time = ends - Duration::from_millis(1);
        assert_eq!(state.take(1, just_in_time).map(|held| (held.ends, held.is_longest())), Some((ends, false)));
        assert!(state.take(1, ends).is_none());
        // It is told of as long as the server counts it.
        state.end(ends);
        state.unsaid.push(1);
        assert_eq!(state.end(ends + MINUTE - Duration::from_millis(1)).0.len(), 1);
    }
}
