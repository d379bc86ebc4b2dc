//! Tokens of prompts that may wait at the endpoint, in all batches together. Many endpoints have such a limit and name it
//! only when they refuse a batch.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(super) struct Queue {
    state: Mutex<State>,
    room: Notify,
}

struct State {
    limit: Option<u64>,
    waiting: u64,
    /// Refusals since a batch was let in.
    refusals: u32,
}

impl Queue {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { state: Mutex::new(State { limit, waiting: 0, refusals: 0 }), room: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limit(&self) -> Option<u64> {
        self.state().limit
    }

    /// Waits for room; a batch that is larger than the limit goes when no other is out.
    pub(super) async fn enter(&self, tokens: u64) -> Place<'_> {
        loop {
            let changed = self.room.notified();
            {
                let mut state = self.state();
                if state.waiting == 0 || state.limit.is_none_or(|limit| state.waiting + tokens <= limit) {
                    state.waiting += tokens;
                    return Place { queue: self, tokens };
                }
            }
            changed.await;
        }
    }

    pub(super) fn let_in(&self) {
        self.state().refusals = 0;
    }

    /// The endpoint took a batch back since too much waits there. Returns how often it did so in a row.
    pub(super) fn refused(&self, stated: Option<u64>) -> u32 {
        let mut state = self.state();
        // Of a batch that an earlier process handed in we do not know how much waits.
        let guess = (state.waiting > 1).then_some(state.waiting / 2);
        state.limit = state.limit.into_iter().chain(stated.or(guess)).min();
        state.refusals += 1;
        state.refusals
    }
}

pub(super) struct Place<'q> {
    queue: &'q Queue,
    tokens: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.state().waiting -= self.tokens;
        self.queue.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn no_more_waits_than_the_limit_but_for_one_that_is_larger() {
        let queue = Queue::new(Some(100));
        let (first, second) = (queue.enter(60).await, queue.enter(40).await);
        let mut third = pin!(queue.enter(500));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "too large to go beside another");
        drop(second);
        let third = third.await;
        assert!(queue.enter(1).now_or_never().is_none());
        drop(third);
    }

    #[tokio::test]
    async fn a_limit_is_learnt_and_never_grows() {
        let queue = Queue::new(None);
        assert_eq!((queue.refused(None), queue.limit()), (1, None), "nothing is known to wait");
        let _place = queue.enter(1000).await;
        assert_eq!((queue.refused(None), queue.limit()), (2, Some(500)));
        assert_eq!((queue.refused(Some(90)), queue.limit()), (3, Some(90)));
        queue.let_in();
        assert_eq!((queue.refused(Some(400)), queue.limit()), (1, Some(90)));
    }
}
