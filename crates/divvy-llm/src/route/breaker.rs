//! A circuit breaker: an endpoint that failed several times in a row is left alone for a while, then one request tries
//! whether it is back (Nygard, "Release It!", 2007).

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const PATIENCE: u32 = 5;
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Breaker {
    /// Failures since the last answer.
    failures: u32,
    /// Times it was left alone since then.
    rests: u32,
    /// Nobody asks before this moment.
    rests_until: Option<Instant>,
    /// One request is on its way to see whether the endpoint is back.
    probing: bool,
    /// An endpoint that never answered has a wrong address, most likely: where there is no other, better to say so soon.
    may_rest: bool,
    /// It never rests.
    off: bool,
    /// After a rest one request goes ahead of the others. Not where a reply may take minutes and people wait: there a few
    /// that fail again cost less.
    one_probe: bool,
}

/// How far an endpoint is trusted, for people who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests go to it.
    Closed,
    /// It rested, and the next requests show whether it is back.
    HalfOpen,
    /// It failed several times in a row and is left alone.
    Open,
}

/// Whether an endpoint may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    Well,
    /// The last request failed, or it rested and may be tried.
    Doubtful,
    /// It is well, and asked for a pause until then.
    Held(Instant),
    /// Not before this moment.
    Resting(Instant),
}

impl Breaker {
    pub(super) fn new(may_rest: bool, on: bool) -> Self {
        Self { failures: 0, rests: 0, rests_until: None, probing: false, may_rest, off: !on, one_probe: true }
    }

    pub(super) fn probed_by_one(self, one_probe: bool) -> Self {
        Self { one_probe, ..self }
    }

    pub(super) fn fitness(&self, now: Instant) -> Fitness {
        match self.rests_until {
            Some(until) if now < until => Fitness::Resting(until),
            // Somebody is asking already; that takes a moment.
            Some(_) if self.probing && self.one_probe => Fitness::Resting(now + FIRST_REST),
            Some(_) => Fitness::Doubtful,
            None if self.failures > 0 => Fitness::Doubtful,
            None => Fitness::Well,
        }
    }

    pub(super) fn standing(&self, now: Instant) -> BreakerState {
        match self.rests_until {
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
            None => BreakerState::Closed,
        }
    }

    /// A request goes out. Returns whether it is the probe of a rested endpoint.
    pub(super) fn sent(&mut self) -> bool {
        let probe = self.rests_until.is_some() && !self.probing;
        self.probing |= probe;
        probe
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::new(true, !self.off).probed_by_one(self.one_probe);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures < PATIENCE || self.off || !self.may_rest || self.rests_until.is_some_and(|until| now < until) {
            return; // what was on its way when the rest began does not make it longer
        }
        let rest = FIRST_REST.saturating_mul(1 << self.rests.min(8)).min(LONGEST_REST);
        (self.rests, self.rests_until, self.probing) = (self.rests + 1, Some(now + rest), false);
    }

    /// The probe ended without saying anything about the endpoint.
    pub(super) fn probe_lost(&mut self) {
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_opens_after_five_failures_in_a_row_and_lets_one_probe_through() {
        let (mut breaker, start) = (Breaker::new(true, true), Instant::now());
        (0..4).for_each(|_| breaker.failed(start));
        assert_eq!(breaker.fitness(start), Fitness::Doubtful);
        (0..20).for_each(|_| breaker.failed(start));
        assert_eq!(breaker.fitness(start + SECOND), Fitness::Resting(start + 5 * SECOND), "no longer for many at once");
        let later = start + 5 * SECOND;
        assert_eq!(breaker.fitness(later), Fitness::Doubtful);
        assert_eq!([start, later].map(|now| breaker.standing(now)), [BreakerState::Open, BreakerState::HalfOpen]);
        assert!(breaker.sent());
        assert!(matches!(breaker.fitness(later), Fitness::Resting(_)), "one probe at a time");
        breaker.failed(later);
        assert_eq!(breaker.fitness(later + 9 * SECOND), Fitness::Resting(later + 10 * SECOND), "twice as long");
        assert!(breaker.sent());
        breaker.succeeded();
        assert_eq!((breaker.fitness(later), breaker.standing(later)), (Fitness::Well, BreakerState::Closed));
    }

    #[test]
    fn a_success_starts_the_count_anew_and_rests_end_at_a_minute() {
        let (mut breaker, mut now) = (Breaker::new(false, true), Instant::now());
        (0..40).for_each(|_| breaker.failed(now));
        assert_eq!(breaker.fitness(now), Fitness::Doubtful, "the only endpoint, and it never answered");
        breaker.succeeded();
        (0..4).for_each(|_| breaker.failed(now));
        assert_eq!(breaker.fitness(now), Fitness::Doubtful);
        for _ in 0..9 {
            breaker.failed(now);
            let Fitness::Resting(until) = breaker.fitness(now) else { panic!("it rests") };
            assert!(until <= now + 60 * SECOND);
            now = until;
        }
        breaker.failed(now);
        assert_eq!(breaker.fitness(now), Fitness::Resting(now + 60 * SECOND));
    }

    #[test]
    fn a_lost_probe_lets_another_one_through() {
        let (mut breaker, start) = (Breaker::new(true, true), Instant::now());
        (0..5).for_each(|_| breaker.failed(start));
        assert!(breaker.sent());
        breaker.probe_lost();
        assert_eq!(breaker.fitness(start + 5 * SECOND), Fitness::Doubtful);
    }
}
