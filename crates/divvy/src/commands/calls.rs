//! `divvy calls`: what was asked and what came back, as it is in the store. API keys are nowhere in it.

use std::{path::Path, time::Duration};

use divvy_core::{chat::ChatRequest, cost::show_price};
use divvy_store::{AttemptRecord, CallFilter, CallRecord, RawReply, Store};
use serde_json::{Value, json};

use crate::{
    clock,
    home::Home,
    output::{Usage, print, say},
    session::{Access, short},
};

#[derive(Default)]
pub(crate) struct Wanted {
    /// The first digits of a call's key.
    pub(crate) key: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) finish: Option<String>,
    pub(crate) since: Option<Duration>,
    pub(crate) last: u32,
    pub(crate) failed: bool,
    pub(crate) json: bool,
}

pub(crate) async fn run(store: Option<&Path>, wanted: &Wanted) -> anyhow::Result<()> {
    let store = Home::new(store, None).open(Access::Look).await?;
    if wanted.failed {
        return failed(&store, wanted).await;
    }
    let calls = store.calls(&filter(wanted)?).await?;
    match (&wanted.key, &calls[..]) {
        (Some(key), []) => unanswered(&store, key, wanted).await,
        (Some(_), [call]) if !wanted.json => {
            let (attempts, raws) = (store.attempts(&call.key).await?, store.raw_replies(&call.key).await?);
            Ok(print(&(whole(call, &attempts)? + &raws.iter().map(as_received).collect::<String>()))?)
        }
        (Some(_), calls) if wanted.json => with_all_replies(&store, calls).await,
        _ => list(&calls, wanted),
    }
}

/// `90m`, `24h`, `7d`.
///
/// # Errors
/// What else stands there.
pub(crate) fn ago(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let minutes = match &text[digits.len()..] {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => return Err("a number of minutes, hours or days: 90m, 24h, 7d".to_owned()),
    };
    let many = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(minutes)?.checked_mul(60));
    many.map(Duration::from_secs).ok_or_else(|| format!("`{digits}` is no whole number that fits"))
}

pub(super) fn filter(wanted: &Wanted) -> anyhow::Result<CallFilter> {
    if let Some(key) = wanted.key.as_deref().filter(|key| !key.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Err(
            Usage(format!("`{key}` is no call's key: keys are hexadecimal digits; `divvy calls` lists them")).into()
        );
    }
    Ok(CallFilter {
        model_name: wanted.model.clone(),
        key_prefix: wanted.key.as_deref().map(str::to_lowercase),
        finish: wanted.finish.clone(),
        since_ms: wanted.since.map(|since| clock::now_ms() - i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        limit: Some(wanted.last),
        newest: true,
    })
}

/// Oldest first, so that the last line is the last call.
fn list(calls: &[CallRecord], wanted: &Wanted) -> anyhow::Result<()> {
    for call in calls.iter().rev() {
        print(&if wanted.json { as_json(call)?.to_string() } else { line(call) })?;
    }
    if calls.is_empty() {
        say("no calls; `divvy status RECIPE` tells what is still to be done");
    }
    Ok(())
}

fn line(call: &CallRecord) -> String {
    format!(
        "{}  {}  {:<16} {:>6} in {:>5} out {:>7} ms  {}",
        short(&call.key),
        clock::rfc3339(call.created_ms),
        call.model_name,
        count(call.reply.usage.tokens_in),
        count(call.reply.usage.tokens_out),
        call.latency_ms,
        beginning(&call.reply.text)
    )
}

fn count(tokens: Option<u64>) -> String {
    tokens.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string())
}

/// Enough to recognise a reply by, on one line.
pub(super) fn beginning(text: &str) -> String {
    const CHARACTERS: usize = 48;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let more = if line.chars().count() > CHARACTERS { "…" } else { "" };
    line.chars().take(CHARACTERS).collect::<String>() + more
}

/// Everything about one call.
fn whole(call: &CallRecord, attempts: &[AttemptRecord]) -> anyhow::Result<String> {
    let request: ChatRequest = serde_json::from_str(&call.request_json)?;
    let price = show_price(call.price_nanos);
    let at = call.endpoint.as_deref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    let mut text = format!(
        "call      {}\nmodel     {}{at}, id {}\nwhen      {}, {} ms\ntokens    {} in, {} out, {price}\n",
        call.key,
        call.model_name,
        short(&call.model_id),
        clock::rfc3339(call.created_ms),
        call.latency_ms,
        count(call.reply.usage.tokens_in),
        count(call.reply.usage.tokens_out),
    );
    text.push_str(&format!("sampling  {}\n", serde_json::to_string(&request.sampling)?));
    text.extend(attempts.iter().map(|attempt| format!("attempt   {}\n", ended(attempt))));
    for message in &request.messages {
        text.push_str(&format!("\n── {} ──\n{}\n", format!("{:?}", message.role).to_lowercase(), message.content));
    }
    text.push_str(&format!("\n── reply ({}) ──\n{}\n", finish(call), call.reply.text));
    Ok(text)
}

/// A reply before anything read it, also one that nobody could.
fn as_received(raw: &RawReply) -> String {
    format!("\n── as received, {} ──\n{}\n", clock::rfc3339(raw.received_ms), String::from_utf8_lossy(&raw.bytes))
}

/// With every reply that came, the unreadable ones before the one that was read included.
async fn with_all_replies(store: &Store, calls: &[CallRecord]) -> anyhow::Result<()> {
    for call in calls.iter().rev() {
        let mut value = as_json(call)?;
        value["raw_replies"] = store.raw_replies(&call.key).await?.iter().map(raw_value).collect();
        print(&value.to_string())?;
    }
    Ok(())
}

fn raw_value(raw: &RawReply) -> Value {
    json!({ "received": clock::rfc3339(raw.received_ms), "text": String::from_utf8_lossy(&raw.bytes) })
}

fn finish(call: &CallRecord) -> String {
    format!("{:?}", call.reply.finish).to_lowercase()
}

fn ended(attempt: &AttemptRecord) -> String {
    let status = attempt.http_status.map_or_else(String::new, |status| format!(" ({status})"));
    let message = if attempt.message.is_empty() { String::new() } else { format!(": {}", attempt.message) };
    format!("{}  {}{status}{message}", clock::rfc3339(attempt.started_ms), attempt.outcome)
}

pub(super) fn as_json(call: &CallRecord) -> anyhow::Result<Value> {
    let request: Value = serde_json::from_str(&call.request_json)?;
    Ok(json!({
        "key": call.key.hex(), "model": call.model_name, "model_id": call.model_id.hex(), "endpoint": call.endpoint,
        "created": clock::rfc3339(call.created_ms), "latency_ms": call.latency_ms, "cost_nanos": call.price_nanos,
        "request": request, "reply": call.reply, "raw_reply": String::from_utf8_lossy(&call.raw_reply),
    }))
}

/// A call that never brought a reply that could be read: its attempts, and what came over the wire.
async fn unanswered(store: &Store, key: &str, wanted: &Wanted) -> anyhow::Result<()> {
    let attempts = store.failed_attempts(Some(&key.to_lowercase()), None, u32::MAX).await?;
    let Some(first) = attempts.first() else {
        return Err(Usage(format!("no call's key begins with `{key}`; `divvy calls` lists them")).into());
    };
    list_attempts(&attempts, wanted)?;
    if wanted.json || attempts.iter().any(|attempt| attempt.key != first.key) {
        return Ok(());
    }
    for raw in store.raw_replies(&first.key).await? {
        print(&as_received(&raw))?;
    }
    Ok(())
}

/// Oldest first.
fn list_attempts(attempts: &[AttemptRecord], wanted: &Wanted) -> anyhow::Result<()> {
    for attempt in attempts.iter().rev() {
        let value = json!({
            "key": attempt.key.hex(), "number": attempt.number, "outcome": attempt.outcome, "status": attempt.http_status,
            "message": attempt.message, "started": clock::rfc3339(attempt.started_ms), "latency_ms": attempt.latency_ms,
            "cost_nanos": attempt.price_nanos,
        });
        print(&if wanted.json { value.to_string() } else { format!("{}  {}", short(&attempt.key), ended(attempt)) })?;
    }
    Ok(())
}

/// Attempts that came to nothing: what the endpoint said.
async fn failed(store: &Store, wanted: &Wanted) -> anyhow::Result<()> {
    let CallFilter { key_prefix, since_ms, .. } = filter(wanted)?;
    let attempts = store.failed_attempts(key_prefix.as_deref(), since_ms, wanted.last).await?;
    list_attempts(&attempts, wanted)?;
    if attempts.is_empty() {
        say("no attempt failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_numbers_of_minutes_hours_or_days() {
        assert_eq!(ago("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!((ago("24h"), ago("1d")), (Ok(Duration::from_hours(24)), Ok(Duration::from_hours(24))));
        for bad in ["", "h", "1.5h", "3", "2 weeks", "-1d", "99999999999999999999d"] {
            assert!(ago(bad).is_err(), "{bad}");
        }
    }
}
