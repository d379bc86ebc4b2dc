//! An endpoint that refuses for its rate and does not say for how long: the pause is ours to choose. A few refusals among
//! answers are no reason for one, many endpoints have those (see `limit/window`). Several in a row mean that a quota is used
//! up: then the whole lane waits, for longer each time that it is refused again, and for less with each answer.

use std::time::Duration;

use tokio::time::Instant;

use super::{MINUTE, spoken};
use crate::{
    error::{ChatError, ErrorKind},
    retry::RetryPolicy,
};

/// Refusals with no answer in between that begin the first pause.
const IN_A_ROW: u32 = 5;
/// How pauses are drawn. Most quotas are a minute's.
const PAUSES: RetryPolicy = RetryPolicy { attempts: u32::MAX, base: Duration::from_secs(1), most: MINUTE };
/// The step from which a pause is drawn from a whole minute.
const LAST_STEP: u32 = 7;

pub(crate) const WAY_OUT: &str =
    "if it allows only so many requests a minute, say so as `requests_per_minute` of the model";

#[derive(Default)]
pub(super) struct Refusals {
    in_a_row: u32,
    /// When the first of them came.
    since: Option<Instant>,
    /// What the endpoint said last.
    last: String,
    /// Pauses so far, less the answers since: the bound of the next one.
    step: u32,
    /// When the last pause began.
    began: Option<Instant>,
}

impl Refusals {
    /// A request that went out at `sent` was refused. Returns for how long the endpoint is to be left alone. `random` is
    /// uniform over all numbers.
    pub(super) fn refused(&mut self, sent: Instant, error: &ChatError, random: u64) -> Duration {
        let now = Instant::now();
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.since.get_or_insert(now);
        self.last.clone_from(&error.message);
        // What was on its way when the pause began says nothing about its length.
        let is_old = self.began.is_some_and(|began| sent <= began);
        if is_old || (self.step == 0 && self.in_a_row < IN_A_ROW) {
            return Duration::ZERO;
        }
        if self.began.is_none() {
            // Its own words may repeat the request.
            tracing::warn!("an endpoint refuses requests for their rate and does not say for how long; {WAY_OUT}");
            tracing::debug!(%error, "what it said");
        }
        (self.step, self.began) = ((self.step + 1).min(LAST_STEP), Some(now));
        PAUSES.pause(self.step, None, random)
    }

    pub(super) fn answered(&mut self, sent: Instant) {
        (self.in_a_row, self.since) = (0, None);
        if self.began.is_none_or(|began| sent > began) {
            self.step = self.step.saturating_sub(1);
        }
    }

    /// Why nobody waits any more for an endpoint that has refused everything for so long.
    pub(super) fn for_longer_than(&self, longest: Duration) -> Option<ChatError> {
        let time = self.since?.elapsed();
        // A few refusals among long answers are no pause.
        (self.step > 0 && time > longest).then(|| {
            let message = format!(
                "{}; it has refused every request for {}; {WAY_OUT}, or run the same command later",
                self.last,
                spoken(time)
            );
            ChatError::new(ErrorKind::RateLimited, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(refusals: &mut Refusals, sent: Instant) -> Duration {
        refusals.refused(sent, &ChatError::new(ErrorKind::RateLimited, "no"), u64::MAX)
    }

    /// Refused so often that a pause begins.
    async fn paused() -> Refusals {
        let mut refusals = Refusals::default();
        let pauses = [(); 5].map(|()| refused(&mut refusals, Instant::now()));
        assert_eq!(pauses, [Duration::ZERO, Duration::ZERO, Duration::ZERO, Duration::ZERO, SECOND]);
        advance(SECOND).await;
        refusals
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_grows_while_the_endpoint_refuses_and_shrinks_with_each_answer() {
        let mut refusals = paused().await;
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(refused(&mut refusals, Instant::now()), seconds * SECOND);
            advance(seconds * SECOND).await;
        }
        (0..3).for_each(|_| refusals.answered(Instant::now()));
        assert_eq!(refused(&mut refusals, Instant::now()), 16 * SECOND);
        advance(16 * SECOND).await;
        (0..9).for_each(|_| refusals.answered(Instant::now()));
        assert_eq!(refused(&mut refusals, Instant::now()), Duration::ZERO, "it is as it was at first");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_on_its_way_when_a_pause_began_changes_nothing() {
        let sent = Instant::now();
        let mut refusals = paused().await;
        for _ in 0..20 {
            assert_eq!(refused(&mut refusals, sent), Duration::ZERO);
            refusals.answered(sent);
        }
        assert_eq!(refused(&mut refusals, Instant::now()), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn one_refusal_in_ten_is_no_reason_for_a_pause() {
        let (mut refusals, mut state) = (Refusals::default(), 7_u64);
        for _ in 0..10_000 {
            advance(Duration::from_millis(1)).await;
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if (state >> 33).is_multiple_of(10) {
                assert_eq!(refused(&mut refusals, Instant::now()), Duration::ZERO);
            } else {
                refusals.answered(Instant::now());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_refuses_everything_is_told_of_with_the_way_out() {
        let mut refusals = paused().await;
        assert_eq!(refusals.for_longer_than(MINUTE), None);
        advance(2 * MINUTE).await;
        let error = refusals.for_longer_than(MINUTE).unwrap();
        let told = "no; it has refused every request for 2 minutes; if it allows only so many";
        assert!(error.message.starts_with(told) && error.message.contains("`requests_per_minute`"), "{error}");
        refusals.answered(Instant::now());
        assert_eq!(refusals.for_longer_than(MINUTE), None);
    }
}
