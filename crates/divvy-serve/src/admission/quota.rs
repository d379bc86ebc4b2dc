//! What one key may use: requests and tokens in any minute, money in a day (UTC). Kept in memory: a restart forgets.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::error::ApiError;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) requests_per_minute: Option<u64>,
    pub(crate) tokens_per_minute: Option<u64>,
    pub(crate) nanos_per_day: Option<i64>,
}

#[derive(Debug, Default)]
pub(crate) struct Used {
    requests: VecDeque<Instant>,
    tokens: VecDeque<(Instant, u64)>,
    day: u64,
    nanos: i64,
}

fn until_tomorrow() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Duration::from_secs(86_400 - now % 86_400)
}

/// Days since the epoch.
pub(crate) fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400
}

impl Used {
    /// Lets a request begin. Tokens and money are known only when it ends: one that begins under its limit may go past it.
    ///
    /// # Errors
    /// 429, with the time after which it may come back.
    pub(crate) fn begin(&mut self, limits: &Limits, now: Instant, today: u64) -> Result<(), ApiError> {
        self.forget(now, today);
        if let Some(most) = limits.requests_per_minute
            && self.requests.len() as u64 >= most
        {
            let wait = self.requests.front().map_or(MINUTE, |first| MINUTE - (now - *first));
            return Err(ApiError::limited(
                "requests_per_minute",
                format!("This key may send {most} requests a minute"),
                wait,
            ));
        }
        let used: u64 = self.tokens.iter().map(|(_, tokens)| tokens).sum();
        if let Some(most) = limits.tokens_per_minute
            && used >= most
        {
            let wait = self.tokens.front().map_or(MINUTE, |(first, _)| MINUTE - (now - *first));
            return Err(ApiError::limited(
                "tokens_per_minute",
                format!("This key may use {most} tokens a minute"),
                wait,
            ));
        }
        if limits.nanos_per_day.is_some_and(|most| self.nanos >= most) {
            let message = "This key has used up its money for today (UTC)";
            return Err(ApiError::limited("dollars_per_day", message, until_tomorrow()));
        }
        if limits.requests_per_minute.is_some() {
            self.requests.push_back(now);
        }
        Ok(())
    }

    pub(crate) fn settle(&mut self, limits: &Limits, now: Instant, today: u64, tokens: u64, nanos: i64) {
        self.forget(now, today);
        if limits.tokens_per_minute.is_some() && tokens > 0 {
            self.tokens.push_back((now, tokens));
        }
        self.nanos += nanos;
    }

    fn forget(&mut self, now: Instant, today: u64) {
        let old = |then: Instant| now.duration_since(then) >= MINUTE;
        while self.requests.front().is_some_and(|then| old(*then)) {
            self.requests.pop_front();
        }
        while self.tokens.front().is_some_and(|(then, _)| old(*then)) {
            self.tokens.pop_front();
        }
        if self.day != today {
            (self.day, self.nanos) = (today, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides_and_a_day_begins_anew() {
        let limits = Limits { requests_per_minute: Some(2), tokens_per_minute: Some(100), nanos_per_day: Some(10) };
        let (mut used, start) = (Used::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(used.begin(&limits, at(0), 1).is_ok());
        assert!(used.begin(&limits, at(30), 1).is_ok());
        assert_eq!(used.begin(&limits, at(59), 1).unwrap_err().code, "requests_per_minute");
        assert!(used.begin(&limits, at(60), 1).is_ok(), "the first has left the window");
        used.settle(&limits, at(61), 1, 150, 4);
        assert_eq!(used.begin(&limits, at(110), 1).unwrap_err().code, "tokens_per_minute");
        used.settle(&limits, at(121), 1, 0, 6);
        assert_eq!(used.begin(&limits, at(122), 1).unwrap_err().code, "dollars_per_day");
        assert!(used.begin(&limits, at(123), 2).is_ok(), "it is tomorrow");
    }
}
