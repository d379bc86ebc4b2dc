//! How calls, attempts and raw replies are written as statements and read from rows.

use divvy_core::{
    chat::{Reply, Usage},
    digest::Digest,
};
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    body,
    codec::{blob, counted, digest, finish, finish_text, tokens, undecodable, unknown_usage},
    rows::{AttemptRecord, AttemptSum, AttemptTotal, CallRecord, CallTotal, CallUsage, RawReply},
    statement::{Sql, Statement},
    words::Texts,
};

/// One text, so that the by-key and the list query cannot drift apart.
macro_rules! call_query {
    ($rest:literal) => {
        concat!(
            "SELECT call.seq, reply.key AS key, name.text AS model_name, identity.text AS model_id, place.text AS endpoint,
                finish, tokens_in, tokens_cached, tokens_out, price_nanos, latency_ms, worked_us, created_ms,
                request, request_length, call.text AS text, text_length, reply.body AS raw, reply.length AS raw_length
             FROM call JOIN reply ON reply.seq = call.seq
             JOIN word AS name ON name.id = call.model_name
             JOIN word AS identity ON identity.id = call.model_id
             LEFT JOIN word AS place ON place.id = call.endpoint ",
            $rest
        )
    };
}

/// `?1` is a JSON array of replies that may have the key, `?2` the key.
pub(crate) const CALL_BY_KEY: &str =
    call_query!("WHERE call.seq IN (SELECT value FROM json_each(?1)) AND reply.key = ?2 ORDER BY call.seq LIMIT 1");
/// `?1` is a JSON array of replies. What came over the wire stays where it is: it is as long as all the rest. Words come as
/// their numbers, here and below: there are hundreds of thousands of rows, and a few words.
pub(crate) const CALLS_AT: &str =
    "SELECT reply.key AS key, call.model_name, call.model_id, call.endpoint, finish, tokens_in,
        tokens_cached, tokens_out, price_nanos, latency_ms, worked_us, created_ms, request,
        request_length, call.text AS text, text_length
    FROM call JOIN reply ON reply.seq = call.seq
    WHERE call.seq IN (SELECT value FROM json_each(?1)) ORDER BY call.seq";
pub(crate) const CALLS: &str = call_query!(
    "WHERE (?1 IS NULL OR name.text = ?1) AND (?2 IS NULL OR created_ms >= ?2)
        AND (?4 IS NULL OR lower(hex(reply.key)) LIKE ?4 || '%')
        AND (?5 IS NULL OR finish IN (?5, 'other:' || ?5))
     ORDER BY call.seq LIMIT ?3"
);
pub(crate) const NEWEST_CALLS: &str = call_query!(
    "WHERE (?1 IS NULL OR name.text = ?1) AND (?2 IS NULL OR created_ms >= ?2)
        AND (?4 IS NULL OR lower(hex(reply.key)) LIKE ?4 || '%')
        AND (?5 IS NULL OR finish IN (?5, 'other:' || ?5))
     ORDER BY call.seq DESC LIMIT ?3"
);
/// The first call of a key comes before any other.
pub(crate) const USAGES: &str = "SELECT reply.key AS key, call.model_id, call.endpoint,
        tokens_in, tokens_cached, tokens_out, price_nanos, latency_ms, worked_us, created_ms
    FROM call JOIN reply ON reply.seq = call.seq
    WHERE call.seq IN (SELECT value FROM json_each(?1)) ORDER BY call.seq";
pub(crate) const RAW_BY_KEY: &str = "SELECT seq, number, received_ms, took_ms, word.text AS endpoint, length, body
    FROM reply LEFT JOIN word ON word.id = reply.endpoint
    WHERE seq IN (SELECT value FROM json_each(?1)) AND key = ?2 AND body IS NOT NULL ORDER BY seq";
/// Rows are looked at from the newest on, no more than `?3` of each table.
pub(crate) const SENT: &str = concat!(
    "SELECT received_ms - coalesce(took_ms, 0) AS sent, ",
    counted!("tokens_in"),
    " + ",
    counted!("tokens_out"),
    " AS tokens
    FROM reply JOIN word ON word.id = reply.endpoint LEFT JOIN call ON call.seq = reply.seq
    WHERE reply.seq > (SELECT max(seq) FROM reply) - ?3 AND word.text = ?1 AND received_ms >= ?2
    UNION ALL SELECT started_ms AS sent, 0 AS tokens FROM attempt
    WHERE seq > (SELECT max(seq) FROM attempt) - ?3 AND outcome != 'ok' AND started_ms >= ?2
    ORDER BY sent"
);
/// One that was read and refused has a failed try of its number, which ended no earlier (times lose their
/// fractions); an earlier command counted its own tries.
pub(crate) const UNREAD: &str = "SELECT count(*) FROM reply
    WHERE seq > (SELECT max(seq) FROM reply) - ?1 AND body IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM call WHERE call.seq = reply.seq)
      AND NOT EXISTS (SELECT 1 FROM attempt
                      WHERE attempt.key = reply.key AND attempt.number = reply.number AND outcome != 'ok'
                        AND started_ms + latency_ms + 2 >= received_ms)";
pub(crate) const TOTALS: &str = concat!(
    "SELECT word.text AS model_name, count(*) AS calls, sum(",
    counted!("tokens_in"),
    ") AS tokens_in, sum(",
    counted!("tokens_out"),
    ") AS tokens_out, sum(",
    unknown_usage!(),
    ") AS unknown_usage,
        CASE WHEN count(price_nanos) = count(*) THEN sum(price_nanos) END AS price_nanos
    FROM call JOIN word ON word.id = call.model_name GROUP BY word.text ORDER BY word.text"
);

/// What attempts took, by a column. A try that brought a reply is paid for as its call.
macro_rules! attempt_query {
    ($by:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $by,
            ", count(*) AS attempts, sum(",
            counted!("tokens_in"),
            ") AS tokens_in, sum(",
            counted!("tokens_out"),
            ") AS tokens_out, sum(price_nanos) AS price_nanos, sum(outcome != 'ok' AND price_nanos IS NULL AND ",
            counted!("tokens_in"),
            " + ",
            counted!("tokens_out"),
            " > 0) AS unpriced
             FROM ",
            $rest
        )
    };
}

/// A try that brought its reply without more ado has no row: its call says everything.
pub(crate) const ATTEMPTS: &str = attempt_query!(
    "outcome",
    "(SELECT outcome, tokens_in, tokens_out, price_nanos FROM attempt
      UNION ALL SELECT 'ok', tokens_in, tokens_out, NULL FROM call WHERE attempt IS NOT NULL)
     GROUP BY outcome ORDER BY attempts DESC, outcome"
);
pub(crate) const FAILED: &str = "SELECT * FROM attempt WHERE outcome != 'ok' AND (?1 IS NULL OR lower(hex(key)) LIKE ?1 || '%') AND (?2 IS NULL OR started_ms >= ?2) ORDER BY seq DESC LIMIT ?3";
pub(crate) const FAILED_BY_KEY: &str =
    attempt_query!("key", "attempt WHERE outcome != 'ok' AND started_ms >= ?1 GROUP BY key");
pub(crate) const PLAIN_ATTEMPT: &str =
    "SELECT attempt AS number, 'ok' AS outcome, NULL AS http_status, '' AS message, tokens_in, tokens_cached, tokens_out,
        NULL AS price_nanos, created_ms AS started_ms, latency_ms
    FROM call JOIN reply ON reply.seq = call.seq
    WHERE call.seq IN (SELECT value FROM json_each(?1)) AND reply.key = ?2 AND attempt IS NOT NULL ORDER BY call.seq LIMIT 1";

/// No call of this key may be there, whatever is on its way: the writer sees what was sent before.
macro_rules! unless_called {
    ($columns:literal, $values:literal) => {
        concat!(
            "INSERT INTO ",
            $columns,
            " SELECT ",
            $values,
            " WHERE NOT EXISTS (
                SELECT 1 FROM call JOIN reply ON reply.seq = call.seq
                WHERE call.seq IN (SELECT value FROM json_each(?)) AND reply.key = ?)"
        )
    };
}

const REPLY: Sql = Sql::new(
    "INSERT INTO reply (seq, key, number, received_ms, took_ms, endpoint, length, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
);
const REPLY_UNLESS_CALLED: Sql = Sql::new(unless_called!(
    "reply (seq, key, number, received_ms, took_ms, endpoint, length, body)",
    "?, ?, ?, ?, ?, ?, ?, ?"
));
const CALL: Sql = Sql::new(
    "INSERT INTO call (seq, model_name, model_id, endpoint, finish, tokens_in, tokens_cached, tokens_out, price_nanos,
                       latency_ms, worked_us, created_ms, attempt, request_length, request, text_length, text)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
);
const CALL_UNLESS_CALLED: Sql = Sql::new(unless_called!(
    "call (seq, model_name, model_id, endpoint, finish, tokens_in, tokens_cached, tokens_out, price_nanos,
           latency_ms, worked_us, created_ms, attempt, request_length, request, text_length, text)",
    "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
));

/// Replies that may have a key, for the queries above.
pub(crate) fn listed(seqs: &[i64]) -> String {
    serde_json::to_string(seqs).expect("numbers are plain JSON")
}

/// Where a call goes, and what must not be there already.
pub(crate) struct Slot<'a> {
    pub(crate) seq: i64,
    /// Replies that may have the same key; usually none.
    pub(crate) earlier: &'a [i64],
}

impl Slot<'_> {
    fn insert(&self, plain: Sql, guarded: Sql) -> Statement {
        Statement::new(if self.earlier.is_empty() { plain } else { guarded })
    }

    fn guard(&self, statement: Statement, key: &Digest) -> Statement {
        if self.earlier.is_empty() { statement } else { statement.text(listed(self.earlier)).blob(blob(key)) }
    }
}

/// `body` is empty for a model that has no wire format.
pub(crate) fn reply_statement(slot: &Slot<'_>, raw: &RawReply, endpoint: Option<i64>) -> Statement {
    let (length, body) = body::pack(&raw.bytes);
    let insert = slot
        .insert(REPLY, REPLY_UNLESS_CALLED)
        .int(slot.seq)
        .blob(blob(&raw.key))
        .int(i64::from(raw.number))
        .int(raw.received_ms)
        .int(raw.latency_ms)
        .int(endpoint)
        .int(length)
        .blob(body);
    slot.guard(insert, &raw.key)
}

/// The numbers of a call's words.
pub(crate) struct CallWords {
    pub(crate) model_name: i64,
    pub(crate) model_id: i64,
    pub(crate) endpoint: Option<i64>,
}

/// `attempt`: the try that brought it, if the call says all about it.
pub(crate) fn call_statement(slot: &Slot<'_>, call: &CallRecord, words: &CallWords, attempt: Option<u32>) -> Statement {
    let (request_length, request) = body::pack(call.request_json.as_bytes());
    let (text_length, text) = body::pack(call.reply.text.as_bytes());
    let usage = call.reply.usage;
    let insert = slot
        .insert(CALL, CALL_UNLESS_CALLED)
        .int(slot.seq)
        .int(words.model_name)
        .int(words.model_id)
        .int(words.endpoint)
        .text(finish_text(&call.reply.finish))
        .int(signed(usage.tokens_in))
        .int(signed(usage.tokens_cached))
        .int(signed(usage.tokens_out))
        .int(call.price_nanos)
        .int(call.latency_ms)
        .int(call.worked_us)
        .int(call.created_ms)
        .int(attempt.map(i64::from))
        .int(request_length)
        .blob(request)
        .int(text_length)
        .blob(text);
    slot.guard(insert, &call.key)
}

/// Whether the call says everything about the try that brought it.
pub(crate) fn is_plain(call: &CallRecord, attempt: &AttemptRecord) -> bool {
    attempt.outcome == "ok"
        && (&attempt.key, attempt.usage) == (&call.key, call.reply.usage)
        && (attempt.http_status, attempt.message.as_str(), attempt.price_nanos) == (None, "", None)
        && (attempt.started_ms, attempt.latency_ms) == (call.created_ms, call.latency_ms)
}

pub(crate) fn attempt_statement(attempt: &AttemptRecord) -> Statement {
    Statement::new(
        "INSERT INTO attempt (key, number, outcome, http_status, message, tokens_in, tokens_cached, tokens_out,
                              price_nanos, started_ms, latency_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .blob(blob(&attempt.key))
    .int(i64::from(attempt.number))
    .text(attempt.outcome.as_str())
    .int(attempt.http_status.map(i64::from))
    .text(attempt.message.as_str())
    .int(signed(attempt.usage.tokens_in))
    .int(signed(attempt.usage.tokens_cached))
    .int(signed(attempt.usage.tokens_out))
    .int(attempt.price_nanos)
    .int(attempt.started_ms)
    .int(attempt.latency_ms)
}

/// SQLite has no unsigned integers; a token count never comes near the limit.
fn signed(tokens: Option<u64>) -> Option<i64> {
    tokens.map(|n| i64::try_from(n).unwrap_or(i64::MAX))
}

fn usage(row: &SqliteRow) -> Result<Usage, sqlx::Error> {
    Ok(Usage {
        tokens_in: tokens(row.try_get("tokens_in")?),
        tokens_cached: tokens(row.try_get("tokens_cached")?),
        tokens_out: tokens(row.try_get("tokens_out")?),
    })
}

/// Columns with numbers of words.
pub(crate) const WORDS_OF_CALL: &[&str] = &["model_name", "model_id", "endpoint"];
pub(crate) const WORDS_OF_USAGE: &[&str] = &["model_id", "endpoint"];

pub(crate) fn words_in(rows: &[SqliteRow], columns: &'static [&str]) -> impl Iterator<Item = i64> {
    rows.iter().flat_map(|row| columns.iter().filter_map(|column| row.try_get(column).ok()?))
}

fn word<'t>(row: &SqliteRow, texts: &'t Texts, column: &str) -> Result<&'t str, sqlx::Error> {
    let number: i64 = row.try_get(column)?;
    texts.get(&number).map(String::as_str).ok_or_else(|| undecodable(format!("there is no word {number}")))
}

fn endpoint(row: &SqliteRow, texts: &Texts) -> Result<Option<String>, sqlx::Error> {
    let is_known = row.try_get::<Option<i64>, _>("endpoint")?.is_some();
    is_known.then(|| word(row, texts, "endpoint").map(str::to_owned)).transpose()
}

/// A row of [`USAGES`].
pub(crate) fn call_usage(row: &SqliteRow, texts: &Texts) -> Result<CallUsage, sqlx::Error> {
    Ok(CallUsage {
        key: digest(row.try_get("key")?)?,
        model_id: identity(word(row, texts, "model_id")?)?,
        usage: usage(row)?,
        price_nanos: row.try_get("price_nanos")?,
        latency_ms: row.try_get("latency_ms")?,
        worked_us: row.try_get("worked_us")?,
        endpoint: endpoint(row, texts)?,
        created_ms: row.try_get("created_ms")?,
    })
}

pub(crate) fn attempt_total(row: &SqliteRow) -> Result<AttemptTotal, sqlx::Error> {
    Ok(AttemptTotal { outcome: row.try_get("outcome")?, sum: attempt_sum(row)? })
}

pub(crate) fn failed_by_key(row: &SqliteRow) -> Result<(Digest, AttemptSum), sqlx::Error> {
    Ok((digest(row.try_get("key")?)?, attempt_sum(row)?))
}

fn attempt_sum(row: &SqliteRow) -> Result<AttemptSum, sqlx::Error> {
    let count = |column| count(row, column);
    Ok(AttemptSum {
        attempts: count("attempts")?,
        tokens_in: count("tokens_in")?,
        tokens_out: count("tokens_out")?,
        price_nanos: row.try_get("price_nanos")?,
        unpriced: count("unpriced")?,
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
        price_nanos: row.try_get("price_nanos")?,
        started_ms: row.try_get("started_ms")?,
        latency_ms: row.try_get("latency_ms")?,
    })
}

pub(crate) fn row_number(row: &SqliteRow) -> Result<i64, sqlx::Error> {
    row.try_get("seq")
}

pub(crate) fn raw_reply(key: &Digest, row: &SqliteRow) -> Result<RawReply, sqlx::Error> {
    Ok(RawReply {
        key: key.clone(),
        number: row.try_get("number")?,
        bytes: body::unpack(row.try_get("length")?, row.try_get("body")?)?,
        endpoint: row.try_get("endpoint")?,
        received_ms: row.try_get("received_ms")?,
        latency_ms: row.try_get("took_ms")?,
    })
}

pub(crate) fn call_record(row: &SqliteRow) -> Result<CallRecord, sqlx::Error> {
    let raw: Option<Vec<u8>> = row.try_get("raw")?;
    let mut call = call(row, (row.try_get("model_name")?, row.try_get("model_id")?, row.try_get("endpoint")?))?;
    if let Some(bytes) = raw {
        call.raw_reply = body::unpack(row.try_get("raw_length")?, bytes)?;
    }
    Ok(call)
}

/// A row of [`CALLS_AT`]: with no body as it was received.
pub(crate) fn call_without_raw(row: &SqliteRow, texts: &Texts) -> Result<CallRecord, sqlx::Error> {
    call(row, (word(row, texts, "model_name")?, word(row, texts, "model_id")?, endpoint(row, texts)?))
}

fn call(
    row: &SqliteRow,
    (model_name, model_id, endpoint): (&str, &str, Option<String>),
) -> Result<CallRecord, sqlx::Error> {
    let reply =
        Reply { text: text(row, "text_length", "text")?, finish: finish(row.try_get("finish")?)?, usage: usage(row)? };
    Ok(CallRecord {
        key: digest(row.try_get("key")?)?,
        model_name: model_name.to_owned(),
        model_id: identity(model_id)?,
        request_json: text(row, "request_length", "request")?,
        reply,
        raw_reply: Vec::new(),
        price_nanos: row.try_get("price_nanos")?,
        latency_ms: row.try_get("latency_ms")?,
        worked_us: row.try_get("worked_us")?,
        created_ms: row.try_get("created_ms")?,
        endpoint,
    })
}

fn identity(identity: &str) -> Result<Digest, sqlx::Error> {
    Digest::from_hex(identity).ok_or_else(|| undecodable(format!("`{identity}` is no digest")))
}

fn text(row: &SqliteRow, length: &str, bytes: &str) -> Result<String, sqlx::Error> {
    let bytes = body::unpack(row.try_get(length)?, row.try_get(bytes)?)?;
    String::from_utf8(bytes).map_err(|_| undecodable("a text is not UTF-8".to_owned()))
}
