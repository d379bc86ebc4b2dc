//! How long an endpoint worked for each call, where it is paid by the hour: at every moment its time is shared equally by the
//! calls under way, so that the shares add up to the time in which it worked at all, however many calls were in its batch. A
//! model in this process knows better ([`crate::Delta::Worked`]).

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// One endpoint.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Hand>);

#[derive(Debug, Default)]
struct Hand {
    running: u32,
    /// What a call that ran from the beginning would have got.
    share: Duration,
    /// When `share` was right; `None` before the first call.
    at: Option<Instant>,
}

impl Hand {
    fn advance(&mut self) -> Duration {
        let now = Instant::now();
        if let Some(since) = self.at.filter(|_| self.running > 0) {
            self.share += (now - since) / self.running;
        }
        self.at = Some(now);
        self.share
    }
}

impl Meter {
    pub(crate) fn begin(&self) -> Work<'_> {
        let mut hand = self.hand();
        let from = hand.advance();
        hand.running += 1;
        Work { meter: self, from }
    }

    fn hand(&self) -> std::sync::MutexGuard<'_, Hand> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way. Dropped or ended, it leaves the machine to the others.
pub(crate) struct Work<'m> {
    meter: &'m Meter,
    from: Duration,
}

impl Work<'_> {
    /// The machine's time that went to it.
    pub(crate) fn end(self) -> Duration {
        self.meter.hand().advance() - self.from
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let mut hand = self.meter.hand();
        hand.advance();
        hand.running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_shares_add_up_to_the_time_of_work() {
        let meter = Meter::default();
        let first = meter.begin();
        tokio::time::advance(SECOND).await; // alone
        let second = meter.begin();
        tokio::time::advance(SECOND).await; // two
        let first = first.end();
        tokio::time::advance(SECOND).await; // the other alone
        let second = second.end();
        assert_eq!((first, second), (SECOND * 3 / 2, SECOND * 3 / 2));
        tokio::time::advance(10 * SECOND).await; // nobody pays for a machine that waits
        let third = meter.begin();
        tokio::time::advance(SECOND).await;
        assert_eq!(third.end(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_leaves_its_share() {
        let meter = Meter::default();
        let (stays, goes) = (meter.begin(), meter.begin());
        tokio::time::advance(2 * SECOND).await;
        drop(goes);
        tokio::time::advance(SECOND).await;
        assert_eq!(stays.end(), 2 * SECOND);
    }
}
