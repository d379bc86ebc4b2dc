//! How rows of the server are read.

use divvy_core::{
    chat::{Reply, Usage},
    digest::Digest,
    question::QuestionId,
};
use sqlx::{Row, postgres::PgRow};

use super::body;
use crate::{
    codec::{digest, digests, finish, stage, state, status, tokens, undecodable},
    rows::{
        ArtefactRow, AttemptRecord, AttemptSum, AttemptTotal, CallRecord, CallTotal, CallUsage, ItemCount, ItemRow,
        PutBack, RawReply, RunId, RunRow, TestOpening, Unit,
    },
};

type Read<T> = Result<T, sqlx::Error>;

/// The server has no unsigned integers.
fn count(row: &PgRow, column: &str) -> Read<u64> {
    row.try_get::<i64, _>(column).map(i64::unsigned_abs)
}

pub(super) fn small<T: TryFrom<i64>>(row: &PgRow, column: &str) -> Read<T> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| undecodable(format!("`{column}` is {number}")))
}

fn usage(row: &PgRow) -> Read<Usage> {
    Ok(Usage {
        tokens_in: tokens(row.try_get("tokens_in")?),
        tokens_cached: tokens(row.try_get("tokens_cached")?),
        tokens_out: tokens(row.try_get("tokens_out")?),
    })
}

pub(super) fn call_usage(row: &PgRow) -> Read<CallUsage> {
    Ok(CallUsage {
        key: digest(row.try_get("key")?)?,
        model_id: digest(row.try_get("model_id")?)?,
        usage: usage(row)?,
        price_nanos: row.try_get("price_nanos")?,
        latency_ms: row.try_get("latency_ms")?,
        worked_us: row.try_get("worked_us")?,
        endpoint: row.try_get("endpoint")?,
        created_ms: row.try_get("created_ms")?,
    })
}

pub(super) fn call_total(row: &PgRow) -> Read<CallTotal> {
    Ok(CallTotal {
        model_name: row.try_get("model_name")?,
        calls: count(row, "calls")?,
        tokens_in: count(row, "tokens_in")?,
        tokens_out: count(row, "tokens_out")?,
        unknown_usage: count(row, "unknown_usage")?,
        price_nanos: row.try_get("price_nanos")?,
    })
}

pub(super) fn call_record(row: &PgRow) -> Read<CallRecord> {
    let raw: Option<&str> = row.try_get("raw_encoding")?;
    let mut call = call_without_raw(row)?;
    if let Some(encoding) = raw {
        call.raw_reply = body::unpack(encoding, row.try_get("raw_length")?, row.try_get("raw_bytes")?)?;
    }
    Ok(call)
}

/// With no body as it was received.
pub(super) fn call_without_raw(row: &PgRow) -> Read<CallRecord> {
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
        raw_reply: Vec::new(),
        price_nanos: row.try_get("price_nanos")?,
        latency_ms: row.try_get("latency_ms")?,
        worked_us: row.try_get("worked_us")?,
        created_ms: row.try_get("created_ms")?,
        endpoint: row.try_get("endpoint")?,
    })
}

fn text(row: &PgRow, encoding: &str, length: &str, bytes: &str) -> Read<String> {
    let bytes = body::unpack(row.try_get(encoding)?, row.try_get(length)?, row.try_get(bytes)?)?;
    String::from_utf8(bytes).map_err(|_| undecodable("a text is not UTF-8".to_owned()))
}

pub(super) fn raw_reply(key: &Digest, row: &PgRow) -> Read<RawReply> {
    Ok(RawReply {
        key: key.clone(),
        number: small(row, "number")?,
        bytes: body::unpack(row.try_get("encoding")?, row.try_get("length")?, row.try_get("bytes")?)?,
        endpoint: row.try_get("endpoint")?,
        received_ms: row.try_get("received_ms")?,
        latency_ms: row.try_get("took_ms")?,
    })
}

pub(super) fn attempt(row: &PgRow) -> Read<AttemptRecord> {
    let status: Option<i64> = row.try_get("http_status")?;
    Ok(AttemptRecord {
        key: digest(row.try_get("key")?)?,
        number: small(row, "number")?,
        outcome: row.try_get("outcome")?,
        http_status: status.and_then(|status| u16::try_from(status).ok()),
        message: row.try_get("message")?,
        usage: usage(row)?,
        price_nanos: row.try_get("price_nanos")?,
        started_ms: row.try_get("started_ms")?,
        latency_ms: row.try_get("latency_ms")?,
    })
}

pub(super) fn attempt_total(row: &PgRow) -> Read<AttemptTotal> {
    Ok(AttemptTotal { outcome: row.try_get("outcome")?, sum: attempt_sum(row)? })
}

pub(super) fn failed_by_key(row: &PgRow) -> Read<(Digest, AttemptSum)> {
    Ok((digest(row.try_get("key")?)?, attempt_sum(row)?))
}

fn attempt_sum(row: &PgRow) -> Read<AttemptSum> {
    Ok(AttemptSum {
        attempts: count(row, "attempts")?,
        tokens_in: count(row, "tokens_in")?,
        tokens_out: count(row, "tokens_out")?,
        price_nanos: row.try_get("price_nanos")?,
        unpriced: count(row, "unpriced")?,
    })
}

pub(super) fn unit(row: &PgRow) -> Read<Unit> {
    Ok(Unit { question: QuestionId(row.try_get("question")?), sample: small(row, "sample")?, arm: row.try_get("arm")? })
}

pub(super) fn item(row: &PgRow) -> Read<ItemRow> {
    Ok(ItemRow {
        plan: digest(row.try_get("plan")?)?,
        stage: stage(row.try_get("stage")?)?,
        question: QuestionId(row.try_get("question")?),
        sample: small(row, "sample")?,
        arm: row.try_get("arm")?,
        state: state(row.try_get("state")?, row.try_get("reason")?)?,
        payload_json: row.try_get("payload")?,
        calls: digests(row.try_get("calls")?)?,
        updated_ms: row.try_get("updated_ms")?,
    })
}

pub(super) fn item_count(row: &PgRow) -> Read<ItemCount> {
    Ok(ItemCount {
        stage: stage(row.try_get("stage")?)?,
        arm: row.try_get("arm")?,
        state: state(row.try_get("state")?, row.try_get("reason")?)?,
        items: count(row, "items")?,
    })
}

pub(super) fn put_back(row: &PgRow) -> Read<PutBack> {
    let (sample, times) = (small(row, "sample")?, small(row, "times")?);
    let (question, payload_json) = (QuestionId(row.try_get("question")?), row.try_get("payload")?);
    Ok(PutBack { question, sample, times, payload_json })
}

pub(super) fn run(row: &PgRow) -> Read<RunRow> {
    Ok(RunRow {
        id: RunId(row.try_get("id")?),
        plan: digest(row.try_get("plan")?)?,
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        started_ms: row.try_get("started_ms")?,
        ended_ms: row.try_get("ended_ms")?,
        status: status(row.try_get("status")?)?,
    })
}

pub(super) fn test_opening(row: &PgRow) -> Read<TestOpening> {
    Ok(TestOpening {
        plan: digest(row.try_get("plan")?)?,
        dataset: row.try_get("dataset")?,
        rows: count(row, "rows")?,
        opened_ms: row.try_get("opened_ms")?,
    })
}

pub(super) fn artefact(row: &PgRow) -> Read<ArtefactRow> {
    Ok(ArtefactRow {
        key: digest(row.try_get("key")?)?,
        kind: row.try_get("kind")?,
        path: row.try_get("path")?,
        meta_json: row.try_get("meta")?,
        created_ms: row.try_get("created_ms")?,
    })
}
