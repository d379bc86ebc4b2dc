//! Calls, their attempts and their raw replies. A raw reply is written before anything reads it; a call is written
//! once, and the first record of a key wins.

use divvy_core::digest::Digest;

use crate::{
    body,
    call_sql::{
        ATTEMPTS, CALL_BY_KEY, CALLS, TOTALS, any_attempt, attempt, attempt_statement, attempt_total, call_record,
        call_statements, call_total, call_usage, raw_reply,
    },
    codec::blob,
    error::StoreError,
    rows::{AttemptRecord, AttemptTotal, CallFilter, CallRecord, CallTotal, CallUsage, RawReply},
    statement::Statement,
    store::Store,
};

impl Store {
    /// Keeps the bytes of a reply. On disk when this returns, and so before any parser sees them.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_raw(&self, raw: &RawReply) -> Result<(), StoreError> {
        self.note(&raw.key);
        let (keep, body) = body::keep(&raw.bytes);
        let insert =
            Statement::new("INSERT INTO raw_reply (key, number, body, endpoint, received_ms) VALUES (?, ?, ?, ?, ?)")
                .blob(blob(&raw.key))
                .int(i64::from(raw.number))
                .blob(body)
                .text_or_null(raw.endpoint.clone())
                .int(raw.received_ms);
        self.write(vec![keep, insert]).await.map(|_| ())
    }

    /// Every raw reply kept for a call, oldest first: what can be read again without paying again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn raw_replies(&self, key: &Digest) -> Result<Vec<RawReply>, StoreError> {
        if !self.may_have(key) {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "SELECT number, endpoint, received_ms, encoding, length, bytes
             FROM raw_reply JOIN body ON body.digest = raw_reply.body WHERE key = ? ORDER BY seq",
        )
        .bind(blob(key))
        .fetch_all(&mut *self.reader().await)
        .await
        .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| raw_reply(key, row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// Keeps a finished call and the attempt that brought it, in one transaction. The same key again changes nothing.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call(&self, call: CallRecord) -> Result<(), StoreError> {
        self.note(&call.key);
        self.write(call_statements(&call, false)).await.map(|_| ())
    }

    /// [`Store::record_call`] and [`Store::record_attempt`] in one transaction. A raw reply of the call must have been
    /// recorded before.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call_with_attempt(&self, call: &CallRecord, attempt: &AttemptRecord) -> Result<(), StoreError> {
        self.note(&call.key);
        let mut statements = call_statements(call, true);
        statements.push(attempt_statement(attempt));
        self.write(statements).await.map(|_| ())
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn record_attempt(&self, attempt: &AttemptRecord) -> Result<(), StoreError> {
        self.write(vec![attempt_statement(attempt)]).await.map(|_| ())
    }

    /// The call of this key, if it was ever made.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call(&self, key: &Digest) -> Result<Option<CallRecord>, StoreError> {
        if !self.may_have(key) {
            return Ok(None);
        }
        let row = sqlx::query(CALL_BY_KEY)
            .bind(blob(key))
            .fetch_optional(&mut *self.reader().await)
            .await
            .map_err(|e| self.unreadable(&e))?;
        row.map(|row| call_record(&row).map_err(|e| self.unreadable(&e))).transpose()
    }

    /// Calls with their bodies.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calls(&self, filter: &CallFilter) -> Result<Vec<CallRecord>, StoreError> {
        let rows = sqlx::query(CALLS)
            .bind(filter.model_name.clone())
            .bind(filter.since_ms)
            .bind(filter.limit.map_or(-1, i64::from))
            .bind(filter.key_prefix.clone())
            .bind(filter.newest)
            .fetch_all(&mut *self.reader().await)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| call_record(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// Tokens, price and latency of the given calls, in their order; a call that is not there is left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_usages(&self, keys: &[Digest]) -> Result<Vec<CallUsage>, StoreError> {
        let mut reader = self.reader().await;
        let mut usages = Vec::with_capacity(keys.len());
        for key in keys {
            let row = sqlx::query(
                "SELECT tokens_in, tokens_cached, tokens_out, price_nanos, latency_ms FROM call WHERE key = ?",
            )
            .bind(blob(key))
            .fetch_optional(&mut *reader)
            .await
            .map_err(|e| self.unreadable(&e))?;
            if let Some(row) = row {
                usages.push(call_usage(key, &row).map_err(|e| self.unreadable(&e))?);
            }
        }
        Ok(usages)
    }

    /// Sums by model, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_totals(&self) -> Result<Vec<CallTotal>, StoreError> {
        let rows = sqlx::query(TOTALS).fetch_all(&mut *self.reader().await).await.map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| call_total(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// The attempts at one call, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempts(&self, key: &Digest) -> Result<Vec<AttemptRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM attempt WHERE key = ? ORDER BY seq")
            .bind(blob(key))
            .fetch_all(&mut *self.reader().await)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| attempt(key, row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// The last attempts that brought no reply, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failed_attempts(&self, limit: u32) -> Result<Vec<AttemptRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM attempt WHERE outcome != 'ok' ORDER BY seq DESC LIMIT ?")
            .bind(i64::from(limit))
            .fetch_all(&mut *self.reader().await)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| any_attempt(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// How attempts ended, most frequent first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempt_totals(&self) -> Result<Vec<AttemptTotal>, StoreError> {
        let rows = sqlx::query(ATTEMPTS).fetch_all(&mut *self.reader().await).await.map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| attempt_total(row).map_err(|e| self.unreadable(&e))).collect()
    }
}
