//! The time that records carry: read from the system once, then counted by tokio's monotonic clock. A jump of the
//! system clock bends no latency, and a test that pauses tokio's time pauses this one too.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin_ms: i64,
    origin: Instant,
}

impl Clock {
    /// Starts at the system's time.
    #[must_use]
    pub fn system() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Starts at the given millisecond since 1970 UTC.
    #[must_use]
    pub fn starting_at(origin_ms: i64) -> Self {
        Self { origin_ms, origin: Instant::now() }
    }

    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.origin_ms + i64::try_from(self.origin.elapsed().as_millis()).unwrap_or(i64::MAX / 2)
    }
}
