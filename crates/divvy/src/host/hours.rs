//! How an engine's time went: how long it had requests, how long it had none between the first of them and the last, and how much of its
//! batch they took. It is looked at once a step, so that it costs nothing.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

#[derive(Default)]
pub(super) struct Hours(Mutex<Book>);

#[derive(Clone, Copy, Default)]
struct Book {
    busy: Duration,
    idle: Duration,
    /// Since when there are requests, or none; neither before the first.
    working: Option<Instant>,
    resting: Option<Instant>,
    /// Of all steps, and the same times the sequences in each.
    stepped: Duration,
    taken: Duration,
}

impl Hours {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came before does not count.
    pub(super) fn begin_anew(&self, now: Instant) {
        let mut book = self.book();
        let working = book.working.map(|_| now);
        *book = Book { working, ..Book::default() };
    }

    /// A request came, and there was none.
    pub(super) fn work(&self, now: Instant) {
        let mut book = self.book();
        let rested = book.resting.take().map_or(Duration::ZERO, |since| now - since);
        book.idle += rested;
        book.working = Some(now);
    }

    /// The last request was answered.
    pub(super) fn rest(&self, now: Instant) {
        let mut book = self.book();
        let worked = book.working.take().map_or(Duration::ZERO, |since| now - since);
        book.busy += worked;
        book.resting = Some(now);
    }

    pub(super) fn step(&self, took: Duration, sequences: usize) {
        let mut book = self.book();
        book.stepped += took;
        book.taken += took.saturating_mul(u32::try_from(sequences).unwrap_or(u32::MAX));
    }

    /// For people; `None` where nothing was asked. What is still at work, since the command was ended early, has worked until now.
    pub(super) fn told(&self, now: Instant, name: &str, batch: usize) -> Option<String> {
        let Book { busy, idle, working, stepped, taken, .. } = *self.book();
        if stepped.is_zero() {
            return None;
        }
        let busy = busy + working.map_or(Duration::ZERO, |since| now - since);
        let share = 100.0 * idle.as_secs_f64() / (busy + idle).as_secs_f64();
        let places = taken.as_secs_f64() / stepped.as_secs_f64();
        Some(format!(
            "the engine of {name} had nothing to do for {:.1} s of the {:.1} s from its first request to its last ({share:.0} %); \
             {places:.1} of its {batch} places were taken while it worked",
            idle.as_secs_f64(),
            (busy + idle).as_secs_f64()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_requests_is_idle() {
        let (hours, began) = (Hours::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(hours.told(at(0), "small", 4), None, "nothing was asked");
        // An earlier stage, and a long rest after it.
        hours.work(at(0));
        hours.step(Duration::from_secs(9), 1);
        hours.rest(at(10));
        hours.begin_anew(at(500));
        assert_eq!(hours.told(at(500), "small", 4), None);
        hours.work(at(510));
        hours.step(Duration::from_secs(6), 4);
        hours.step(Duration::from_secs(2), 2);
        hours.rest(at(518));
        hours.work(at(520));
        hours.step(Duration::from_secs(8), 1);
        hours.rest(at(530));
        let told = hours.told(at(600), "small", 4).unwrap();
        let words = "small had nothing to do for 2.0 s of the 20.0 s from its first request to its last (10 %); 2.2 of its 4 places";
        assert!(told.contains(words), "{told}");
    }

    #[test]
    fn what_is_still_at_work_has_worked_until_now() {
        let (hours, began) = (Hours::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let told = |now| hours.told(at(now), "small", 4).unwrap();
        hours.work(at(0));
        hours.step(Duration::from_secs(3), 2);
        assert!(told(4).contains("for 0.0 s of the 4.0 s from its first request to its last (0 %)"), "{}", told(4));
        hours.rest(at(6));
        hours.work(at(8));
        assert!(told(10).contains("for 2.0 s of the 10.0 s from its first request to its last (20 %)"), "{}", told(10));
    }
}
