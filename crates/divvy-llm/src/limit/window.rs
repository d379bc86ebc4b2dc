//! How many requests an endpoint takes at once: additive increase, multiplicative decrease (Chiu and Jain, 1989), with
//! TCP's slow start (RFC 5681) before the first decrease. A decrease is due when the endpoint refuses more than a few for
//! its rate, when it answers much slower than it can, and when tries time out: servers that never refuse (vLLM,
//! llama-server) let requests queue.

use std::time::Duration;

use tokio::time::Instant;

/// Sent at once before anything is known.
const FIRST: usize = 16;
/// Share of refusals that an endpoint may have for reasons of its own; more of them mean that too much is sent.
const TOLERATED: f64 = 0.1;
/// The share of refusals is taken over this many round trips and results: over fewer, chance alone passes the tolerance.
const ROUNDS: f64 = 4.0;
const RESULTS: f64 = 50.0;
/// What is left of the window after too many refusals, after slow answers, and after tries that timed out, for which the
/// endpoint may have worked all the while.
const REFUSED: f64 = 0.5;
const SLOW: f64 = 0.8;
const LATE: f64 = 0.5;
/// A try that times out after so many answers in a row has met with an accident: it says nothing about the queue.
const ACCIDENT: u32 = 20;
/// After so many the window may grow again, however long answers take: after a hang replies that are long by themselves would
/// keep it small for ever. A server that only queues, at half a minute each, loses one try more in a hundred for it (of 3,000
/// requests that are tried twice, none; after 200 answers they were ten).
const FORGIVEN: u32 = 1000;
/// Answers this many times slower than the fastest seen wait in a queue there, mostly.
const TOO_SLOW: f64 = 4.0;
/// Weight of the newest answer in the running mean of the pace.
const NEWEST: f64 = 0.1;
/// The fastest pace follows faster answers by this share, so that a single one (a cached one, say) does not set it, and
/// is forgotten little by little, since an endpoint may become slower for good.
const FOLLOW: f64 = 0.1;
const FORGET: f64 = 1.001;
/// Answers after a decrease before the pace is looked at again.
const SETTLE: u32 = 20;
/// A reply's first token takes about as long as so many further ones.
const FIRST_TOKEN: u64 = 20;

pub(super) struct Window {
    size: f64,
    most: f64,
    /// How long a try may take.
    patience: Duration,
    /// The queue was longer than that, of late.
    too_long: bool,
    /// Answers since a try timed out.
    since_late: u32,
    slow_start: bool,
    last_cut: Option<Instant>,
    /// Seconds a token, the least seen and the running mean.
    fastest: f64,
    pace: f64,
    /// Answers whose pace is known.
    paces: u32,
    since_cut: u32,
    /// Running share of refusals.
    refusals: f64,
}

impl Window {
    pub(super) fn new(most: usize, patience: Duration) -> Self {
        let size = most.min(FIRST) as f64;
        let (fastest, pace) = (f64::INFINITY, 0.0);
        Self {
            size,
            most: most as f64,
            patience,
            too_long: false,
            since_late: 0,
            slow_start: true,
            last_cut: None,
            fastest,
            pace,
            paces: 0,
            since_cut: 0,
            refusals: 0.0,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    /// A reply of so many tokens came; where nobody counts them it says nothing about the pace. `busy`: all slots were in
    /// use, so that more could have been.
    pub(super) fn answered(&mut self, started: Instant, now: Instant, tokens_out: Option<u64>, busy: bool) {
        if let Some(tokens) = tokens_out {
            let seconds = now.duration_since(started).max(Duration::from_micros(1)).as_secs_f64();
            self.keep_pace(seconds / (tokens + FIRST_TOKEN) as f64);
        }
        self.since_cut += 1;
        self.since_late = self.since_late.saturating_add(1);
        self.too_long &= self.since_late < FORGIVEN;
        self.count(0.0);
        if self.since_cut >= SETTLE && self.pace > TOO_SLOW * self.fastest {
            self.cut(SLOW, started, now);
        } else if busy && !self.is_near_the_end(now - started) {
            self.size += if self.slow_start { 1.0 } else { 1.0 / self.size };
            self.size = self.size.min(self.most);
        }
    }

    /// Where the queue has been too long before, an answer that took more than half of the time for one says that it soon
    /// will be again.
    fn is_near_the_end(&self, took: Duration) -> bool {
        self.too_long && took > self.patience / 2
    }

    fn keep_pace(&mut self, pace: f64) {
        if self.pace == 0.0 {
            (self.fastest, self.pace) = (pace, pace);
        }
        self.pace += NEWEST * (pace - self.pace);
        self.paces = self.paces.saturating_add(1);
        let step = FOLLOW * (pace - self.fastest);
        // At first in both directions, so that the very first answer counts for no more than the others.
        self.fastest += if self.paces < SETTLE { step } else { step.min(0.0) };
        self.fastest *= if self.paces < SETTLE { 1.0 } else { FORGET };
    }

    pub(super) fn refused(&mut self, started: Instant, now: Instant) {
        self.count(1.0);
        if self.refusals > TOLERATED {
            self.cut(REFUSED, started, now);
        }
    }

    /// A try timed out.
    pub(super) fn late(&mut self, started: Instant, now: Instant) {
        if std::mem::take(&mut self.since_late) < ACCIDENT {
            self.too_long = true;
            self.cut(LATE, started, now);
        }
    }

    fn count(&mut self, refused: f64) {
        self.refusals += (refused - self.refusals) / (RESULTS + ROUNDS * self.size);
    }

    /// Once a round trip: requests sent before the last cut say nothing about the window after it.
    fn cut(&mut self, share: f64, started: Instant, now: Instant) {
        if self.last_cut.is_some_and(|last| started <= last) {
            return;
        }
        self.size = (self.size * share).max(1.0);
        (self.slow_start, self.last_cut, self.since_cut, self.refusals) = (false, Some(now), 0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn window(most: usize) -> Window {
        Window::new(most, Duration::from_mins(5))
    }

    /// Windows full of answers of 100 tokens, of which the `k`-th takes `latency(k)`; returns the sizes.
    fn rounds(window: &mut Window, count: usize, latency: impl Fn(usize) -> Duration) -> Vec<usize> {
        let mut now = Instant::now();
        (0..count)
            .map(|_| {
                let (size, started) = (window.size(), now + MS);
                (1..=size).for_each(|k| window.answered(started, started + latency(k), Some(100), true));
                now = started + latency(size);
                window.size()
            })
            .collect()
    }

    #[test]
    fn it_doubles_up_to_the_most_while_answers_stay_fast() {
        let mut window = window(1000);
        assert_eq!(rounds(&mut window, 7, |_| 200 * MS), [32, 64, 128, 256, 512, 1000, 1000]);
    }

    #[test]
    fn a_refusal_halves_it_once_a_round_trip_and_then_it_grows_by_one_a_round() {
        let mut window = window(64);
        let start = Instant::now();
        (0..16).for_each(|_| window.refused(start, start + MS));
        assert_eq!(window.size(), 8);
        (0..12).for_each(|_| window.refused(start + 2 * MS, start + 3 * MS));
        assert_eq!(window.size(), 4);
        assert_eq!(rounds(&mut window, 4, |_| 200 * MS), [4, 5, 6, 7]);
        (0..200).for_each(|k| window.refused(start + k * 9 * MS, start + k * 9 * MS + MS));
        assert_eq!(window.size(), 1, "one request is always allowed");
    }

    #[test]
    fn an_answer_that_a_cache_gave_does_not_set_the_pace() {
        let (mut window, mut now) = (window(500), Instant::now());
        for k in 0..20_000 {
            now += MS;
            let latency = if k % 100 == 0 { 5 * MS } else { 200 * MS };
            window.answered(now, now + latency, Some(100), true);
        }
        assert_eq!(window.size(), 500);
    }

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn a_few_refusals_whatever_is_sent_do_not_shrink_it() {
        let (mut window, mut now, mut state) = (window(1000), Instant::now(), 7);
        for _ in 0..100_000 {
            now += MS;
            if random(&mut state).is_multiple_of(20) {
                window.refused(now, now + MS)
            } else {
                window.answered(now, now + 200 * MS, Some(100), true)
            }
        }
        assert_eq!(window.size(), 1000);
    }

    #[test]
    fn one_try_that_times_out_among_many_answers_changes_nothing_and_a_few_halve_it() {
        let (mut window, mut now) = (window(1000), Instant::now());
        for _ in 0..200 {
            now += MS;
            (0..100).for_each(|_| window.answered(now, now + 200 * MS, Some(100), true));
            window.late(now, now + 300_000 * MS);
        }
        assert_eq!(window.size(), 1000);
        window.late(now + MS, now + 300_001 * MS);
        assert_eq!(window.size(), 500);
        window.late(now + 2 * MS, now + 300_002 * MS);
        assert_eq!(window.size(), 500, "once a round trip");
    }

    #[test]
    fn once_tries_have_timed_out_it_grows_with_answers_that_come_in_good_time_alone() {
        let (mut window, mut now) = (window(64), Instant::now());
        assert_eq!(rounds(&mut window, 2, |_| 200_000 * MS), [32, 64], "long answers are no reason to send less");
        window.late(now, now + 300_000 * MS);
        assert_eq!(window.size(), 64, "an accident");
        (0..30).for_each(|_| window.late(now, now + 300_000 * MS));
        assert_eq!(window.size(), 32);
        now += 300_001 * MS;
        (0..320).for_each(|_| window.answered(now, now + 151_000 * MS, Some(100), true));
        assert_eq!(window.size(), 32);
        (0..320).for_each(|_| window.answered(now, now + 149_000 * MS, Some(100), true));
        assert!((40..=42).contains(&window.size()), "{}", window.size());
    }

    #[test]
    fn a_hang_does_not_keep_it_small_where_every_reply_takes_long() {
        let (mut window, mut now) = (window(64), Instant::now());
        let mut answers = |window: &mut Window, count: usize| {
            (0..count).for_each(|_| window.answered(now, now + 200_000 * MS, Some(100), true));
            now += 200_001 * MS;
            (window.size(), now)
        };
        let (size, now) = answers(&mut window, 100);
        assert_eq!(size, 64);
        (0..64).for_each(|_| window.late(now, now + 300_000 * MS));
        assert_eq!(window.size(), 32);
        assert_eq!(answers(&mut window, 999).0, 32);
        assert_eq!(answers(&mut window, 2000).0, 64);
    }

    #[test]
    fn it_shrinks_where_a_server_only_queues() {
        // Four at once, the others wait: an answer takes as many turns as stand in line.
        let mut window = window(256);
        let sizes = rounds(&mut window, 300, |k| 100 * MS * k.div_ceil(4) as u32);
        assert!(sizes[100..].iter().all(|size| (8..=40).contains(size)), "{sizes:?}");
    }
}
