//! What earlier commands on a store in a file have sent in the minute before this one began: an endpoint's limit does not know
//! of commands.

use divvy_store::SqliteStore;
use tokio::{sync::OnceCell, time::Instant};

use super::{MINUTE, State};
use crate::{clock::Clock, error::ChatError};

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
                let minute = MINUTE.as_millis() as i64;
                let sent = self.store.sent_since(&self.endpoint, self.began_ms - minute).await?;
                let before = sent.into_iter().filter(|(sent_ms, _)| *sent_ms < self.began_ms);
                let at = |(sent_ms, tokens): (i64, i64)| {
                    let ago = std::time::Duration::from_millis((now_ms - sent_ms).max(0).unsigned_abs());
                    Some((now.checked_sub(ago)?, tokens.unsigned_abs()))
                };
                let before: Vec<(Instant, u64)> = before.filter_map(at).collect();
                let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                state.window.precede(before.into_iter());
                Ok(())
            })
            .await
            .map(|_| ())
    }
}
