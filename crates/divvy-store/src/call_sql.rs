//! How calls, attempts and raw replies are written as statements and read from rows.

use divvy_core::{
    chat::{Reply, Usage},
    digest::Digest,
};
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    body,
    codec::{blob, digest, finish, finish_text, undecodable},
    rows::{AttemptRecord, AttemptTotal, CallRecord, CallTotal, CallUsage, RawReply},
    statement::Statement,
};

/// One text, so that the by-key and the list query cannot drift apart.
macro_rules! call_query {
    ($rest:literal) => {
        concat!(
            "SELECT call.*,
                request_body.encoding AS request_encoding, request_body.length AS request_length,
                request_body.bytes AS request_bytes,
                reply_body.encoding AS reply_encoding, reply_body.length AS reply_length,
                reply_body.bytes AS reply_bytes,
                raw_body.encoding AS raw_encoding, raw_body.length AS raw_length, raw_body.bytes AS raw_bytes
             FROM call
             JOIN body AS request_body ON request_body.digest = call.request
             JOIN body AS reply_body ON reply_body.digest = call.reply
             LEFT JOIN body AS raw_body ON raw_body.digest = call.raw ",
            $rest
        )
    };
}

pub(crate) const CALL_BY_KEY: &str = call_query!("WHERE call.key = ?");
pub(crate) const CALLS: &str = call_query!(
    "WHERE (?1 IS NULL OR model_name = ?1) AND (?2 IS NULL OR created_ms >= ?2)
        AND (?4 IS NULL OR lower(hex(call.key)) LIKE ?4 || '%')
     ORDER BY iif(?5, -created_ms, created_ms), iif(?5, -call.rowid, call.rowid) LIMIT ?3"
);
pub(crate) const TOTALS: &str = "SELECT model_name, count(*) AS calls, sum(coalesce(tokens_in, 0)) AS tokens_in,
        sum(coalesce(tokens_out, 0)) AS tokens_out,
        sum(tokens_in IS NULL OR tokens_out IS NULL) AS unknown_usage,
        CASE WHEN count(price_nanos) = count(*) THEN sum(price_nanos) END AS price_nanos
    FROM call GROUP BY model_name ORDER BY model_name";

pub(crate) const ATTEMPTS: &str = "SELECT outcome, count(*) AS attempts, sum(coalesce(tokens_in, 0)) AS tokens_in,
        sum(coalesce(tokens_out, 0)) AS tokens_out
    FROM attempt GROUP BY outcome ORDER BY attempts DESC, outcome";

/// `raw_is_kept`: the raw reply was written before, as every reply from a wire is.
pub(crate) fn call_statements(call: &CallRecord, raw_is_kept: bool) -> Vec<Statement> {
    let (keep_request, request) = body::keep(call.request_json.as_bytes());
    let (keep_reply, reply) = body::keep(call.reply.text.as_bytes());
    let mut statements = vec![keep_request, keep_reply];
    let raw = (!call.raw_reply.is_empty()).then(|| {
        if raw_is_kept {
            return body::digest_of(&call.raw_reply);
        }
        let (keep_raw, raw) = body::keep(&call.raw_reply);
        statements.push(keep_raw);
        raw
    });
    let usage = call.reply.usage;
    statements.push(
        Statement::new(
            "INSERT INTO call (key, model_name, model_id, request, reply, raw, finish, tokens_in, tokens_cached, tokens_out,
                               price_nanos, latency_ms, created_ms, endpoint)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        )
        .blob(blob(&call.key))
        .text(call.model_name.clone())
        .blob(blob(&call.model_id))
        .blob(request)
        .blob(reply)
        .blob(raw)
        .text(finish_text(&call.reply.finish))
        .int(signed(usage.tokens_in))
        .int(signed(usage.tokens_cached))
        .int(signed(usage.tokens_out))
        .int(call.price_nanos)
        .int(call.latency_ms)
        .int(call.created_ms)
        .text_or_null(call.endpoint.clone()),
    );
    statements
}

pub(crate) fn attempt_statement(attempt: &AttemptRecord) -> Statement {
    Statement::new(
        "INSERT INTO attempt (key, number, outcome, http_status, message, tokens_in, tokens_cached, tokens_out,
                              started_ms, latency_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .blob(blob(&attempt.key))
    .int(i64::from(attempt.number))
    .text(attempt.outcome.clone())
    .int(attempt.http_status.map(i64::from))
    .text(attempt.message.clone())
    .int(signed(attempt.usage.tokens_in))
    .int(signed(attempt.usage.tokens_cached))
    .int(signed(attempt.usage.tokens_out))
    .int(attempt.started_ms)
    .int(attempt.latency_ms)
}

/// SQLite has no unsigned integers; a token count never comes near the limit.
fn signed(tokens: Option<u64>) -> Option<i64> {
    tokens.map(|n| i64::try_from(n).unwrap_or(i64::MAX))
}

fn usage(row: &SqliteRow) -> Result<Usage, sqlx::Error> {
    let tokens = |column: &str| row.try_get::<Option<i64>, _>(column).map(|n| n.map(i64::unsigned_abs));
    Ok(Usage {
        tokens_in: tokens("tokens_in")?,
        tokens_cached: tokens("tokens_cached")?,
        tokens_out: tokens("tokens_out")?,
    })
}

pub(crate) fn call_usage(key: &Digest, row: &SqliteRow) -> Result<CallUsage, sqlx::Error> {
    Ok(CallUsage {
        key: key.clone(),
        usage: usage(row)?,
        price_nanos: row.try_get("price_nanos")?,
        latency_ms: row.try_get("latency_ms")?,
    })
}

pub(crate) fn attempt_total(row: &SqliteRow) -> Result<AttemptTotal, sqlx::Error> {
    let count = |column| count(row, column);
    Ok(AttemptTotal {
        outcome: row.try_get("outcome")?,
        attempts: count("attempts")?,
        tokens_in: count("tokens_in")?,
        tokens_out: count("tokens_out")?,
    })
}

fn count(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(i64::unsigned_abs)
}

pub(crate) fn call_total(row: &SqliteRow) -> Result<CallTotal, sqlx::Error> {
    let count = |column| count(row, column);
    Ok(CallTotal {
        model_name: row.try_get("model_name")?,
        calls: count("calls")?,
        tokens_in: count("tokens_in")?,
        tokens_out: count("tokens_out")?,
        unknown_usage: count("unknown_usage")?,
        price_nanos: row.try_get("price_nanos")?,
    })
}

/// [`attempt`] of any call.
pub(crate) fn any_attempt(row: &SqliteRow) -> Result<AttemptRecord, sqlx::Error> {
    attempt(&digest(row.try_get("key")?)?, row)
}

pub(crate) fn attempt(key: &Digest, row: &SqliteRow) -> Result<AttemptRecord, sqlx::Error> {
    Ok(AttemptRecord {
        key: key.clone(),
        number: row.try_get("number")?,
        outcome: row.try_get("outcome")?,
        http_status: row.try_get("http_status")?,
        message: row.try_get("message")?,
        usage: usage(row)?,
        started_ms: row.try_get("started_ms")?,
        latency_ms: row.try_get("latency_ms")?,
    })
}

pub(crate) fn raw_reply(key: &Digest, row: &SqliteRow) -> Result<RawReply, sqlx::Error> {
    Ok(RawReply {
        key: key.clone(),
        number: row.try_get("number")?,
        bytes: body::unpack(row.try_get("encoding")?, row.try_get("length")?, row.try_get("bytes")?)?,
        endpoint: row.try_get("endpoint")?,
        received_ms: row.try_get("received_ms")?,
    })
}

pub(crate) fn call_record(row: &SqliteRow) -> Result<CallRecord, sqlx::Error> {
    let raw: Option<&str> = row.try_get("raw_encoding")?;
    let reply = Reply {
        text: text(row, "reply_encoding", "reply_length", "reply_bytes")?,
        finish: finish(row.try_get("finish")?)?,
        usage: usage(row)?,
    };
    Ok(CallRecord {
        key: digest(row.try_get("key")?)?,
        model_name: row.try_get("model_name")?,
        model_id: digest(row.try_get("model_id")?)?,
        request_json: text(row, "request_encoding", "request_length", "request_bytes")?,
        reply,
        raw_reply: match raw {
            Some(encoding) => body::unpack(encoding, row.try_get("raw_length")?, row.try_get("raw_bytes")?)?,
            None => Vec::new(),
        },
        price_nanos: row.try_get("price_nanos")?,
        latency_ms: row.try_get("latency_ms")?,
        created_ms: row.try_get("created_ms")?,
        endpoint: row.try_get("endpoint")?,
    })
}

fn text(row: &SqliteRow, encoding: &str, length: &str, bytes: &str) -> Result<String, sqlx::Error> {
    let bytes = body::unpack(row.try_get(encoding)?, row.try_get(length)?, row.try_get(bytes)?)?;
    String::from_utf8(bytes).map_err(|_| undecodable("a text is not UTF-8".to_owned()))
}
