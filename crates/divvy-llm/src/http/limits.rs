//! What an endpoint says about its limits, in the headers of every reply: OpenAI's `x-ratelimit-…-requests` and
//! `…-tokens` (platform.openai.com/docs/guides/rate-limits, "Rate limits in headers"), and the plain `ratelimit-…` of
//! draft-ietf-httpapi-ratelimit-headers for requests.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::refusal::{retry_after, their_time};
use crate::chat::{Quota, Told};

/// `None` where the headers say nothing.
pub(super) fn told(headers: &HeaderMap) -> Option<Told> {
    // Most endpoints say nothing, and each name below is looked for by itself.
    if !headers.keys().any(|name| name.as_str().contains("ratelimit-")) {
        return None;
    }
    let requests = quota(headers, "x-ratelimit-", "-requests")
        .or_else(|| quota(headers, "ratelimit-", ""))
        .or_else(|| quota(headers, "x-ratelimit-", ""));
    let tokens = quota(headers, "x-ratelimit-", "-tokens");
    let said = requests.is_some() || tokens.is_some();
    said.then(|| Told { requests: requests.unwrap_or_default(), tokens: tokens.unwrap_or_default() })
}

fn quota(headers: &HeaderMap, before: &str, after: &str) -> Option<Quota> {
    let text = |part: &str| headers.get(format!("{before}{part}{after}"))?.to_str().ok();
    let number = |part: &str| text(part)?.trim().parse().ok();
    let quota = Quota {
        // Without a suffix nobody says whether it is a second's, a minute's or a day's.
        limit: number("limit").filter(|limit| *limit > 0 && !after.is_empty()),
        remaining: number("remaining"),
        resets: text("reset")
            .and_then(|text| wait(text, their_time(headers)))
            .and_then(|wait| Instant::now().checked_add(wait)),
    };
    (quota != Quota::default()).then_some(quota)
}

/// `6m0s`, `120ms`, `1.5` seconds, or a moment in seconds or milliseconds since 1970.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    const A_YEAR: f64 = 3.2e7;
    const MILLISECONDS: f64 = 1e11;
    let Ok(number) = text.trim().parse::<f64>() else { return spelled(text.trim()) };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
    let seconds = match number {
        _ if number < A_YEAR => number,
        _ if number < MILLISECONDS => number - now,
        _ => number / 1000.0 - now,
    };
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

/// Numbers with units, as Go prints a duration.
fn spelled(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |next| digits + next);
        let seconds = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            _ => return None,
        };
        total += rest[..digits].parse::<f64>().ok()? * seconds;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok())?
}

/// Whatever the headers say, `name: value` a line: for property tests and `fuzz/`.
pub(crate) fn heard_of(lines: &str) {
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().parse::<HeaderName>().ok()?, HeaderValue::from_str(value.trim()).ok()?))
    };
    // No more than a client takes.
    let headers: HeaderMap = lines.lines().filter_map(header).take(100).collect();
    let nothing = Quota::default();
    if let Some(Told { requests, tokens }) = told(&headers) {
        assert!(requests != nothing || tokens != nothing, "it says nothing");
        assert!([&requests, &tokens].iter().all(|quota| quota.limit != Some(0)), "nobody could ever ask");
    }
    assert!(retry_after(&headers).is_none_or(|wait| Instant::now().checked_add(wait).is_some()));
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn limits_are_limits_or_are_not_heard(
            lines in proptest::collection::vec(
                "(x-)?ratelimit-(limit|remaining|reset)(-requests|-tokens)?: (-?[0-9]{1,20}|[0-9]{0,3}(e|\\.)[0-9]{0,3}|[0-9]{1,3}(h|m|ms|x)[0-9]{0,3}s?)",
                0..8,
            ),
            wait in "retry-after(-ms)?: (-?[0-9]{1,20}(e[0-9]{1,3})?|inf|nan|Thu, 01 Jan 1970 00:00:00 GMT)",
        ) {
            heard_of(&format!("{}\n{wait}", lines.join("\n")));
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn durations_in_every_dialect() {
        for (text, ms) in [("6m0s", 360_000), ("120ms", 120), ("1h2m3.5s", 3_723_500), ("0.5", 500), ("30", 30_000)] {
            assert_eq!(wait(text, SystemTime::now()), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "soon", "5x", "s", "1m2"] {
            assert_eq!(wait(bad, SystemTime::now()), None, "{bad}");
        }
        let in_a_minute = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 60;
        for moment in [format!("{in_a_minute}"), format!("{in_a_minute}000")] {
            let wait = wait(&moment, SystemTime::now()).unwrap().as_secs_f64();
            assert!((55.0..=60.0).contains(&wait), "{moment}: {wait}");
        }
    }

    #[tokio::test]
    async fn limits_of_both_kinds_and_none() {
        let told = told(&headers(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]));
        let told = told.unwrap();
        assert_eq!((told.requests.limit, told.requests.remaining), (Some(60), Some(0)));
        assert_eq!((told.tokens.limit, told.tokens.remaining), (Some(150_000), Some(149_984)));
        assert!(told.requests.resets.unwrap() <= Instant::now() + Duration::from_secs(1));
        let plain = super::told(&headers(&[("ratelimit-limit", "100"), ("ratelimit-remaining", "7")])).unwrap();
        assert_eq!((plain.requests.limit, plain.requests.remaining, plain.requests.resets), (None, Some(7), None));
        assert_eq!(super::told(&headers(&[("content-type", "application/json")])), None);
    }
}
