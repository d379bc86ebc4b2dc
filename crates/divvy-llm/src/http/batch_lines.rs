//! Lines of the files that a Batch API gives back, one a row.

use divvy_core::{chat::Reply, digest::Digest};
use serde::Deserialize;
use serde_json::Value;

use super::{ApiKey, refusal::Place, wire};
use crate::error::{ChatError, ErrorKind, UNCHARGED};

#[derive(Deserialize)]
struct Id {
    custom_id: String,
}

#[derive(Deserialize)]
struct Line {
    response: Option<Response>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Response {
    status_code: u16,
    #[serde(default)]
    body: Value,
}

/// The call that a line answers; nothing else of the line is read.
pub(crate) fn key(line: &[u8]) -> Option<Digest> {
    let Id { custom_id } = serde_json::from_slice(line).ok()?;
    Digest::from_hex(&custom_id)
}

/// A completion on its own has no `custom_id`.
pub(super) fn looks_like(raw: &[u8]) -> bool {
    serde_json::from_slice::<Id>(raw).is_ok()
}

/// The reply of a row, or why it has none: the same as if it had been asked for online.
pub(super) fn read(line: &[u8], place: &Place) -> Result<Reply, ChatError> {
    let parsed: Line = serde_json::from_slice(line).map_err(|error| place.unreadable(line, &error.to_string()))?;
    match (parsed.response, parsed.error.filter(|error| !error.is_null())) {
        (Some(Response { status_code: 200, body }), None) => wire::read(body.to_string().as_bytes(), place),
        (Some(Response { status_code, body }), _) if status_code != 200 => {
            Err(place.refused(status_code, None, body.to_string().as_bytes(), None))
        }
        (_, Some(error)) => Err(failed(&error, place)),
        (_, None) => Err(place.unreadable(line, "it has neither a response nor an error")),
    }
}

/// The row's turn never came: its batch expired or was cancelled first.
pub(crate) fn is_left_over(line: &[u8]) -> bool {
    let Ok(Line { response: None, error: Some(error) }) = serde_json::from_slice(line) else { return false };
    matches!(code(&error), Some("batch_expired" | "batch_cancelled"))
}

fn code(error: &Value) -> Option<&str> {
    error.get("code").and_then(Value::as_str)
}

/// A row that never came to an answer. It is not charged.
fn failed(error: &Value, place: &Place) -> ChatError {
    let told = place.refused(500, None, error.to_string().as_bytes(), None);
    let message = told.message.replacen("HTTP 500", "the row failed", 1);
    ChatError { kind: ErrorKind::ServerError, message, status: None, usage: UNCHARGED, ..told }
}

/// Whatever the line is: for property tests and `fuzz/`.
pub(crate) fn read_or_refused(line: &[u8]) {
    let place = Place::new("http://x/v1", "m".into(), ApiKey::None).expect("it is a URL, and needs no key");
    let read = read(line, &place);
    assert!(read.as_ref().err().is_none_or(|error| !error.message.is_empty()));
    assert!(read.is_err() || !is_left_over(line), "a reply whose turn never came");
    assert!(key(line).is_none() || looks_like(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Reply, ChatError> {
        super::read(line.as_bytes(), &Place::new("http://x/v1", "m".into(), ApiKey::None).unwrap())
    }

    #[test]
    fn a_row_is_a_reply_or_the_error_that_online_would_have_been() {
        let body = r#"{"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]}"#;
        let row = format!(r#"{{"custom_id": "a", "response": {{"status_code": 200, "body": {body}}}, "error": null}}"#);
        assert_eq!(read(&row).unwrap().text, "4");
        for (line, kind, words) in [
            (row.replace("200", "429"), ErrorKind::RateLimited, "HTTP 429"),
            (row.replace("200", "400"), ErrorKind::BadRequest, "HTTP 400"),
            (row.replace("\"4\"", "\"\""), ErrorKind::Empty, "empty"),
            (row.replace("stop", "cancelled"), ErrorKind::CutOff, "broke its reply off"),
            (r#"{"error": {"code": "odd", "message": "Hm."}}"#.into(), ErrorKind::ServerError, "the row failed: Hm"),
            (r#"{"response": null}"#.into(), ErrorKind::Unreadable, "neither a response nor an error"),
            ("{".into(), ErrorKind::Unreadable, "no chat completion"),
        ] {
            let error = read(&line).unwrap_err();
            assert!(error.kind == kind && error.message.contains(words), "{line}: {error:?}");
        }
    }

    #[test]
    fn thoughts_that_only_the_total_counts_are_counted_in_a_row_too() {
        let usage = r#"{"prompt_tokens": 20, "completion_tokens": 424, "total_tokens": 1016}"#;
        let body = format!(r#"{{"choices": [{{"message": {{"content": "4"}}}}], "usage": {usage}}}"#);
        let row = format!(r#"{{"custom_id": "a", "response": {{"status_code": 200, "body": {body}}}, "error": null}}"#);
        assert_eq!(read(&row).unwrap().usage.tokens_out, Some(996));
    }

    #[test]
    fn a_row_whose_turn_never_came_is_left_over() {
        let expired = r#"{"response": null, "error": {"code": "batch_expired", "message": "Too late."}}"#;
        assert!(is_left_over(expired.as_bytes()));
        for other in [r#"{"error": {"code": "odd"}}"#, r#"{"response": {"status_code": 500}}"#, "{"] {
            assert!(!is_left_over(other.as_bytes()), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read_or_refused(
            id in "(\"custom_id\": \"[0-9a-f]{0,64}\",)?",
            response in r#"(null|3|\{"status_code": (200|429|99999|-1), "body": (null|"x"|\{"choices": \[\{\}\]\})\})"#,
            error in r#"(null|"x"|\{"code": "(batch_expired|odd)", "message": null\})"#,
            ends in 0_usize..12,
        ) {
            let line = format!("{{{id}\"response\": {response}, \"error\": {error}}}");
            read_or_refused(&line.as_bytes()[..line.len() - ends]);
        }
    }

    #[test]
    fn the_key_of_a_row_is_its_custom_id() {
        let digest = Digest::of_bytes(b"x");
        assert_eq!(key(format!(r#"{{"custom_id": "{}", "error": 1}}"#, digest.hex()).as_bytes()), Some(digest));
        for other in ["", "{", r#"{"custom_id": "mine"}"#, r#"{"choices": []}"#] {
            assert_eq!(key(other.as_bytes()), None, "{other}");
        }
    }
}
