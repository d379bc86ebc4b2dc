//! Calls, their attempts and their raw replies, as [`crate::calls`] has them in the embedded store.

use std::collections::HashMap;

use divvy_core::digest::Digest;
use sqlx::Row;

use super::{
    PostgresStore,
    batch::{Booked, Write},
    decode::{attempt, attempt_total, call_record, call_total, call_usage, failed_by_key, raw_reply},
};
use crate::{
    codec::{blob, counted, unknown_usage},
    error::StoreError,
    rows::{
        Amount, AttemptRecord, AttemptSum, AttemptTotal, CallFilter, CallRecord, CallTotal, CallUsage, LAST_REPLIES,
        RawReply,
    },
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

const CALL_BY_KEY: &str = call_query!("WHERE call.key = $1");
const CALLS: &str = call_query!(
    "WHERE ($1::text IS NULL OR model_name = $1) AND ($2::bigint IS NULL OR created_ms >= $2)
        AND ($4::text IS NULL OR encode(call.key, 'hex') LIKE $4 || '%')
        AND ($6::text IS NULL OR finish IN ($6, 'other:' || $6))
     ORDER BY CASE WHEN $5 THEN -created_ms ELSE created_ms END, CASE WHEN $5 THEN -seq ELSE seq END LIMIT $3::bigint"
);
const TOTALS: &str = concat!(
    "SELECT model_name, count(*) AS calls, sum(",
    counted!("tokens_in"),
    ")::bigint AS tokens_in, sum(",
    counted!("tokens_out"),
    ")::bigint AS tokens_out, count(*) FILTER (WHERE ",
    unknown_usage!(),
    ") AS unknown_usage,
        CASE WHEN count(price_nanos) = count(*) THEN sum(price_nanos)::bigint END AS price_nanos
    FROM call GROUP BY model_name ORDER BY model_name"
);
/// What attempts took, by a column.
macro_rules! attempt_query {
    ($by:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $by,
            ", count(*) AS attempts, sum(",
            counted!("tokens_in"),
            ")::bigint AS tokens_in, sum(",
            counted!("tokens_out"),
            ")::bigint AS tokens_out, sum(price_nanos)::bigint AS price_nanos,
                count(*) FILTER (WHERE outcome <> 'ok' AND price_nanos IS NULL AND ",
            counted!("tokens_in"),
            " + ",
            counted!("tokens_out"),
            " > 0) AS unpriced
             FROM attempt ",
            $rest
        )
    };
}

const ATTEMPTS: &str = attempt_query!("outcome", "GROUP BY outcome ORDER BY attempts DESC, outcome");
const FAILED: &str = "SELECT * FROM attempt
    WHERE outcome <> 'ok' AND ($1::text IS NULL OR encode(key, 'hex') LIKE $1 || '%')
        AND ($2::bigint IS NULL OR started_ms >= $2)
    ORDER BY seq DESC LIMIT $3";
const FAILED_BY_KEY: &str = attempt_query!("key", "WHERE outcome <> 'ok' AND started_ms >= $1 GROUP BY key");

impl PostgresStore {
    /// See [`crate::Store::record_raw`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_raw(&self, raw: &RawReply) -> Result<(), StoreError> {
        self.write(Write::default().raw(raw)).await.map(drop)
    }

    /// See [`crate::Store::raw_replies`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn raw_replies(&self, key: &Digest) -> Result<Vec<RawReply>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT number, endpoint, received_ms, took_ms, encoding, length, bytes
                     FROM raw_reply JOIN body ON body.digest = raw_reply.body WHERE key = $1 ORDER BY seq",
                )
                .bind(blob(key))
            })
            .await?;
        rows.iter().map(|row| raw_reply(key, row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::unread_replies`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn unread_replies(&self) -> Result<u64, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT count(*) AS unread FROM raw_reply
                     WHERE seq > (SELECT max(seq) FROM raw_reply) - $1
                       AND NOT EXISTS (SELECT 1 FROM call WHERE call.key = raw_reply.key)
                       AND NOT EXISTS (SELECT 1 FROM attempt
                                       WHERE attempt.key = raw_reply.key AND attempt.number = raw_reply.number
                                         AND outcome <> 'ok' AND started_ms + latency_ms + 2 >= received_ms)",
                )
                .bind(LAST_REPLIES)
            })
            .await?;
        let count = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>("unread"));
        count.map(i64::unsigned_abs).map_err(|e| self.unreadable(&e))
    }

    /// See [`crate::Store::record_call`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call(&self, call: &CallRecord) -> Result<(), StoreError> {
        self.write(Write::default().call(call, false)).await.map(drop)
    }

    /// See [`crate::Store::record_call_with_attempt`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call_with_attempt(&self, call: &CallRecord, attempt: &AttemptRecord) -> Result<(), StoreError> {
        self.write_call(Write::default().attempt(attempt), call, attempt).await
    }

    /// With its raw reply where that was not kept before.
    async fn write_call(&self, write: Write, call: &CallRecord, attempt: &AttemptRecord) -> Result<(), StoreError> {
        match self.write(write.clone().call(call, true)).await {
            Err(StoreError::Refused { .. }) => {
                self.write(write.raw(&raw_of(call, attempt)).call(call, true)).await.map(drop)
            }
            written => written.map(drop),
        }
    }

    /// Keeps what a request came to, as far as there is something to keep, and with it what that cost its plan: from now on it
    /// is not out.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn book(
        &self,
        plan: &Digest,
        key: &Digest,
        cost: Amount,
        call: Option<&CallRecord>,
        attempt: Option<&AttemptRecord>,
    ) -> Result<(), StoreError> {
        let booked = Write::default().booked(Booked { plan: plan.clone(), key: key.clone(), cost });
        match (call, attempt) {
            (Some(call), Some(attempt)) => self.write_call(booked.attempt(attempt), call, attempt).await,
            (Some(call), None) => self.write(booked.call(call, false)).await.map(drop),
            (None, Some(attempt)) => self.write(booked.attempt(attempt)).await.map(drop),
            (None, None) => self.write(booked).await.map(drop),
        }
    }

    /// See [`crate::Store::record_attempt`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_attempt(&self, attempt: &AttemptRecord) -> Result<(), StoreError> {
        self.write(Write::default().attempt(attempt)).await.map(drop)
    }

    /// See [`crate::Store::call`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call(&self, key: &Digest) -> Result<Option<CallRecord>, StoreError> {
        let rows = self.read(|| sqlx::query(CALL_BY_KEY).bind(blob(key))).await?;
        rows.first().map(|row| call_record(row).map_err(|e| self.unreadable(&e))).transpose()
    }

    /// See [`crate::Store::calls`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calls(&self, filter: &CallFilter) -> Result<Vec<CallRecord>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(CALLS)
                    .bind(filter.model_name.clone())
                    .bind(filter.since_ms)
                    .bind(filter.limit.map(i64::from))
                    .bind(filter.key_prefix.clone())
                    .bind(filter.newest)
                    .bind(filter.finish.clone())
            })
            .await?;
        rows.iter().map(|row| call_record(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::call_usages`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_usages(&self, keys: &[Digest]) -> Result<Vec<CallUsage>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT key, model_id, endpoint, tokens_in, tokens_cached, tokens_out, price_nanos, latency_ms, worked_us,
                        created_ms
                     FROM unnest($1::bytea[]) WITH ORDINALITY AS asked (key, place) JOIN call USING (key) ORDER BY place",
                )
                .bind(keys.iter().map(blob).collect::<Vec<_>>())
            })
            .await?;
        rows.iter().map(|row| call_usage(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::call_totals`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_totals(&self) -> Result<Vec<CallTotal>, StoreError> {
        let rows = self.read(|| sqlx::query(TOTALS)).await?;
        rows.iter().map(|row| call_total(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::attempts`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempts(&self, key: &Digest) -> Result<Vec<AttemptRecord>, StoreError> {
        let rows =
            self.read(|| sqlx::query("SELECT * FROM attempt WHERE key = $1 ORDER BY seq").bind(blob(key))).await?;
        rows.iter().map(|row| attempt(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::failed_attempts`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failed_attempts(
        &self,
        key_prefix: Option<&str>,
        since_ms: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AttemptRecord>, StoreError> {
        let rows = self
            .read(|| sqlx::query(FAILED).bind(key_prefix.map(str::to_owned)).bind(since_ms).bind(i64::from(limit)))
            .await?;
        rows.iter().map(|row| attempt(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::attempt_totals`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempt_totals(&self) -> Result<Vec<AttemptTotal>, StoreError> {
        let rows = self.read(|| sqlx::query(ATTEMPTS)).await?;
        rows.iter().map(|row| attempt_total(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::failed_by_key`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failed_by_key(&self, since_ms: i64) -> Result<HashMap<Digest, AttemptSum>, StoreError> {
        let rows = self.read(|| sqlx::query(FAILED_BY_KEY).bind(since_ms)).await?;
        rows.iter().map(|row| failed_by_key(row).map_err(|e| self.unreadable(&e))).collect()
    }
}

/// The reply that a try brought, as received.
fn raw_of(call: &CallRecord, attempt: &AttemptRecord) -> RawReply {
    RawReply {
        key: call.key.clone(),
        number: attempt.number,
        bytes: call.raw_reply.clone(),
        endpoint: call.endpoint.clone(),
        received_ms: call.created_ms + call.latency_ms,
        latency_ms: Some(call.latency_ms),
    }
}
