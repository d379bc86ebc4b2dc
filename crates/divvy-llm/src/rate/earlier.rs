//! What earlier commands on a store in a file have sent in the minute before this one began: an endpoint's limit does not know
//! of commands. What one had in flight when it was killed counts as well, at every endpoint, since it is not on record where
//! it went.

use divvy_store::{Amount, SqliteStore};
use tokio::{sync::OnceCell, time::Instant};

use super::{MINUTE, State};
use crate::{clock::Clock, error::ChatError};

/// From writing down that a request goes out to its coming to the endpoint it takes less.
const ON_ITS_WAY_MS: i64 = 2_000;

pub(super) struct Earlier {
    store: SqliteStore,
    endpoint: String,
    clock: Clock,
    began_ms: i64,
    counted: OnceCell<()>,
}

impl Earlier {
    pub(super) fn new(store: SqliteStore, endpoint: String, clock: Clock) -> Self {
        Self { store, endpoint, clock, began_ms: clock.now_ms(), counted: OnceCell::new() }
    }

    /// Puts it into the window, the first time that there is a limit.
    pub(super) async fn count(&self, state: &std::sync::Mutex<State>) -> Result<(), ChatError> {
        self.counted
            .get_or_try_init(|| async {
                let (now_ms, now) = (self.clock.now_ms(), Instant::now());
                let since_ms = self.began_ms - MINUTE.as_millis() as i64;
                let mut before = self.store.sent_since(&self.endpoint, since_ms).await?;
                before.retain(|(sent_ms, _)| *sent_ms < self.began_ms);
                before.extend(self.cut_off(since_ms).await?);
                before.sort_unstable();
                let at = |(sent_ms, tokens): (i64, i64)| {
                    let ago = std::time::Duration::from_millis((now_ms - sent_ms).max(0).unsigned_abs());
                    Some((now.checked_sub(ago)?, tokens.unsigned_abs()))
                };
                let before: Vec<(Instant, u64)> = before.into_iter().filter_map(at).collect();
                let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                state.window.precede(before.into_iter());
                Ok(())
            })
            .await
            .map(|_| ())
    }

    /// Requests that were in flight when their command was killed: as late as they can have come to the endpoint, which was
    /// before this command began.
    async fn cut_off(&self, since_ms: i64) -> Result<Vec<(i64, i64)>, ChatError> {
        let left = self.store.left_in_flight(since_ms - ON_ITS_WAY_MS).await?;
        let each = |(left_ms, out): (i64, Amount)| {
            let sent_ms = self.began_ms.min(left_ms + ON_ITS_WAY_MS);
            // Of their tokens only the sum is known.
            let others = std::iter::repeat_n((sent_ms, 0), usize::try_from(out.calls - 1).unwrap_or(0));
            others.chain([(sent_ms, out.tokens)])
        };
        Ok(left.into_iter().flat_map(each).collect())
    }
}
