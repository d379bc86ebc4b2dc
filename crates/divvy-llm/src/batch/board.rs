//! Who waits for which row. A key stands here from the moment somebody asks for it, or an earlier process handed it in,
//! until it is answered: as long as it does, nobody hands it in again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use divvy_core::digest::Digest;
use tokio::sync::oneshot;

use super::Answer;
use crate::{client::Call, error::ChatError, layer::Job};

type Said = Result<Answer, ChatError>;

pub(super) struct Waiter {
    pub(super) job: Job,
    answer: oneshot::Sender<Said>,
}

#[derive(Default)]
pub(super) struct Board(Mutex<HashMap<Digest, Vec<Waiter>>>);

impl Board {
    fn rows(&self) -> MutexGuard<'_, HashMap<Digest, Vec<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a row. `true`: nobody did, and it is in no batch.
    pub(super) fn join(&self, job: &Job) -> (oneshot::Receiver<Said>, bool) {
        let (answer, seat) = oneshot::channel();
        let mut rows = self.rows();
        let first = !rows.contains_key(&job.key);
        // Few rows have two who wait, and many rows wait.
        rows.entry(job.key.clone()).or_insert_with(|| Vec::with_capacity(1)).push(Waiter { job: job.clone(), answer });
        (seat, first)
    }

    /// Rows of a batch that is out already.
    pub(super) fn expect(&self, keys: &[Digest]) {
        let mut rows = self.rows();
        for key in keys {
            rows.entry(key.clone()).or_default();
        }
    }

    /// Those who wait for a row, which is about to be answered.
    pub(super) fn take(&self, key: &Digest) -> Vec<Waiter> {
        self.rows().remove(key).unwrap_or_default()
    }

    /// The request of a row that somebody still waits for; any other row is struck off.
    pub(super) fn wanted(&self, key: &Digest) -> Option<Job> {
        let mut rows = self.rows();
        let waiters = rows.get_mut(key)?;
        waiters.retain(|waiter| !waiter.answer.is_closed());
        match waiters.first() {
            Some(waiter) => Some(waiter.job.clone()),
            None => {
                rows.remove(key);
                None
            }
        }
    }

    pub(super) fn answer(&self, key: &Digest, said: Said) {
        answer(self.take(key), said);
    }
}

/// Only the first has paid.
pub(super) fn answer(waiters: Vec<Waiter>, said: Said) {
    let again = |said: &Said| match said {
        Ok(Answer::Call(call)) => Ok(Answer::Call(Call { from_cache: true, ..call.clone() })),
        Ok(Answer::Online) => Ok(Answer::Online),
        Err(error) => Err(error.clone()),
    };
    let mut said = Some(said);
    let mut waiters = waiters.into_iter().peekable();
    while let Some(waiter) = waiters.next() {
        let next = waiters.peek().and_then(|_| said.as_ref().map(again));
        // Whoever has gone needs no answer; the call is kept all the same.
        if let Some(said) = std::mem::replace(&mut said, next) {
            let _ = waiter.answer.send(said);
        }
    }
}

#[cfg(test)]
mod tests {
    use divvy_core::chat::{Finish, Reply, Usage};

    use super::*;
    use crate::layer::testing::job;

    fn call(job: &Job) -> Call {
        let reply = Reply { text: "4".to_owned(), finish: Finish::Stop, usage: Usage::default() };
        Call { key: job.key.clone(), reply, from_cache: false, price_nanos: Some(7), latency_ms: 1 }
    }

    #[tokio::test]
    async fn of_those_who_wait_for_a_row_the_first_has_paid() {
        let (board, job) = (Board::default(), job(5));
        let ((first, fresh), (second, again)) = (board.join(&job), board.join(&job));
        assert!(fresh && !again);
        board.answer(&job.key, Ok(Answer::Call(call(&job))));
        let free = |said: Said| matches!(said, Ok(Answer::Call(Call { from_cache: true, .. })));
        assert!(!free(first.await.unwrap()) && free(second.await.unwrap()));
        assert!(board.join(&job).1, "it is answered and gone");
    }

    #[tokio::test]
    async fn a_row_is_wanted_as_long_as_somebody_waits() {
        let (board, job) = (Board::default(), job(5));
        let (first, _) = board.join(&job);
        let (second, _) = board.join(&job);
        drop(first);
        assert!(board.wanted(&job.key).is_some());
        drop(second);
        assert!(board.wanted(&job.key).is_none());
        board.expect(std::slice::from_ref(&job.key));
        assert!(!board.join(&job).1, "an earlier process has handed it in");
    }
}
