//! What was sent in the last minute. Under a limit each request stands by itself. Where none is known yet, those of a second
//! stand together: a limit that the endpoint tells later then counts them, and one that tells none costs next to nothing.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{MINUTE, Rates};

/// Without a limit, what is sent in so long is one entry; a minute has no more than sixty-one of them.
const TOGETHER: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Window {
    sent: VecDeque<Sent>,
    /// Sums over `sent`.
    requests: u64,
    tokens: u64,
    /// Entries so far.
    count: u64,
}

/// A request, or several that were sent between two moments.
struct Sent {
    number: u64,
    first: Instant,
    last: Instant,
    requests: u64,
    tokens: u64,
}

/// What a request holds of the window.
#[derive(Clone, Copy)]
pub(super) struct Held {
    number: u64,
    tokens: u64,
}

impl Window {
    /// Takes a place in the window that ends now, or says when the next place comes free.
    pub(super) fn enter(&mut self, rates: Rates, tokens: u64, now: Instant) -> Result<Held, Instant> {
        // A request that is larger than the limit goes alone: it would never fit.
        let tokens = rates.tokens.map_or(tokens, |most| tokens.min(most));
        self.forget(now);
        let fits = rates.requests.is_none_or(|most| self.requests < most)
            && rates.tokens.is_none_or(|most| self.tokens + tokens <= most);
        match self.sent.front() {
            Some(oldest) if !fits => Err(oldest.last + MINUTE),
            _ => Ok(self.add(rates, tokens, now)),
        }
    }

    fn add(&mut self, rates: Rates, tokens: u64, now: Instant) -> Held {
        let joins = |last: &Sent| rates == Rates::default() && now < last.first + TOGETHER;
        if !self.sent.back().is_some_and(joins) {
            self.count += 1;
            self.sent.push_back(Sent { number: self.count, first: now, last: now, requests: 0, tokens: 0 });
        }
        let sent = self.sent.back_mut().expect("one was put there if there was none");
        (sent.last, sent.requests, sent.tokens) = (now, sent.requests + 1, sent.tokens + tokens);
        (self.requests, self.tokens) = (self.requests + 1, self.tokens + tokens);
        Held { number: sent.number, tokens }
    }

    fn forget(&mut self, now: Instant) {
        while let Some(old) = self.sent.pop_front_if(|sent| sent.last + MINUTE <= now) {
            (self.requests, self.tokens) = (self.requests - old.requests, self.tokens - old.tokens);
        }
    }

    /// What went out before anything that is known here, oldest first.
    pub(super) fn precede(&mut self, sent: impl DoubleEndedIterator<Item = (Instant, u64)>) {
        for (at, tokens) in sent.rev() {
            self.sent.push_front(Sent { number: 0, first: at, last: at, requests: 1, tokens });
            (self.requests, self.tokens) = (self.requests + 1, self.tokens + tokens);
        }
    }

    /// A request took so many tokens in the end.
    pub(super) fn settle(&mut self, held: Held, tokens: u64) {
        if let Ok(at) = self.sent.binary_search_by_key(&held.number, |sent| sent.number) {
            let sent = &mut self.sent[at];
            sent.tokens = sent.tokens + tokens - held.tokens;
            self.tokens = self.tokens + tokens - held.tokens;
        }
    }

    /// Requests and tokens of the minute that ends now.
    pub(super) fn sums(&mut self, now: Instant) -> (u64, u64) {
        self.forget(now);
        (self.requests, self.tokens)
    }

    /// Somebody else counts what was sent. No entry to come has the number of one before: who still holds that settles nothing.
    pub(super) fn empty(&mut self) {
        *self = Self { count: self.count, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_without_a_limit_is_kept_in_sixty_one_entries_at_most() {
        let (mut window, begin) = (Window::default(), Instant::now());
        for ms in 0..90_000 {
            assert!(window.enter(Rates::default(), 3, begin + Duration::from_millis(ms)).is_ok());
        }
        assert!(window.sent.len() <= 61, "{}", window.sent.len());
        let (requests, tokens) = window.sums(begin + Duration::from_millis(89_999));
        assert!((60_000..=61_000).contains(&requests) && tokens == 3 * requests, "{requests} with {tokens} tokens");
        assert_eq!(window.sums(begin + 3 * MINUTE), (0, 0));
    }

    #[test]
    fn what_stands_together_is_settled_one_by_one() {
        let (mut window, now) = (Window::default(), Instant::now());
        let held = [10, 20].map(|tokens| window.enter(Rates::default(), tokens, now).ok().unwrap());
        window.settle(held[0], 4);
        assert_eq!(window.sums(now), (2, 24));
        window.settle(held[1], 50);
        assert_eq!((window.sums(now), window.sent.len()), ((2, 54), 1));
        // Its second is over by the time it is known.
        window.sums(now + MINUTE);
        window.settle(held[1], 5);
        assert_eq!(window.sums(now + MINUTE), (0, 0));
    }

    #[test]
    fn what_went_out_before_counts_until_it_is_a_minute_old() {
        let (mut window, now) = (Window::default(), Instant::now() + MINUTE);
        let rates = Rates { requests: Some(3), tokens: None };
        let held = window.enter(rates, 5, now).ok().unwrap();
        window.precede([(now - MINUTE / 2, 40), (now - MINUTE / 4, 2)].into_iter());
        assert_eq!(window.enter(rates, 5, now).err(), Some(now + MINUTE / 2));
        window.settle(held, 1);
        assert_eq!((window.sums(now), window.sums(now + MINUTE / 2)), ((3, 43), (2, 3)));
    }

    #[test]
    fn what_was_in_flight_when_the_window_was_emptied_settles_no_strangers_place() {
        let (mut window, now) = (Window::default(), Instant::now());
        let old = window.enter(Rates::default(), 90, now).ok().unwrap();
        window.empty();
        assert_eq!(window.sums(now), (0, 0));
        let new = window.enter(Rates::default(), 20, now).ok().unwrap();
        window.settle(old, 0);
        assert_eq!(window.sums(now), (1, 20));
        window.settle(new, 7);
        assert_eq!(window.sums(now), (1, 7));
    }
}
