//! Calls, their attempts and their raw replies. A raw reply is written before anything reads it; a call is written
//! once, and the first record of a key wins.

use std::collections::HashMap;

use divvy_core::digest::Digest;

use crate::{
    call_sql::{
        ATTEMPTS, CALL_BY_KEY, CALLS, CallWords, FAILED, FAILED_BY_KEY, NEWEST_CALLS, PLAIN_ATTEMPT, RAW_BY_KEY, SENT,
        Slot, TOTALS, UNREAD, USAGES, WORDS_OF_USAGE, any_attempt, attempt, attempt_statement, attempt_total,
        call_record, call_statement, call_total, call_usage, failed_by_key, is_plain, listed, raw_reply,
        reply_statement, row_number, words_in,
    },
    codec::blob,
    error::StoreError,
    rows::{
        AttemptRecord, AttemptSum, AttemptTotal, CallFilter, CallRecord, CallTotal, CallUsage, LAST_REPLIES, RawReply,
    },
    statement::Statement,
    store::SqliteStore,
};

/// Calls whose figures are read in one query.
const AT_ONCE: usize = 1000;
/// A minute's limit that is larger limits nothing.
const SENT_AT_MOST: i64 = 20_000;

impl SqliteStore {
    /// Keeps the bytes of a reply. On disk when this returns, and so before any parser sees them.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_raw(&self, raw: &RawReply) -> Result<(), StoreError> {
        let endpoint = self.word_or_null(raw.endpoint.as_deref()).await?;
        let seq = self.next_reply(&raw.key);
        self.write(vec![reply_statement(&Slot { seq, earlier: &[] }, raw, endpoint)]).await?;
        self.keys().set_unread(&raw.key, seq);
        Ok(())
    }

    /// Every raw reply kept for a call, oldest first: what can be read again without paying again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn raw_replies(&self, key: &Digest) -> Result<Vec<RawReply>, StoreError> {
        let found = self.find(key).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        // On the heap, here and below, as it is rare: every request holds room for what it may wait for.
        Ok(Box::pin(self.replies_among(&found, key)).await?.into_iter().map(|(_, raw)| raw).collect())
    }

    /// Those of these replies that have this key, with their numbers.
    async fn replies_among(&self, found: &[i64], key: &Digest) -> Result<Vec<(i64, RawReply)>, StoreError> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(RAW_BY_KEY)
            .bind(listed(found))
            .bind(blob(key))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        let read = |row| Ok((row_number(row)?, raw_reply(key, row)?));
        rows.iter().map(|row| read(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::unread_replies`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn unread_replies(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(UNREAD)
            .bind(LAST_REPLIES)
            .fetch_one(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        Ok(count.unsigned_abs())
    }

    /// Keeps a finished call. The same key again changes nothing.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call(&self, call: CallRecord) -> Result<(), StoreError> {
        match self.call_statements(&call, None).await? {
            Some(statements) => self.write(statements).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// [`SqliteStore::record_call`] and [`SqliteStore::record_attempt`] in one transaction. Where the call's raw reply was recorded by
    /// this process, that is on disk and can be read again: this then returns at once, and the call is on disk before
    /// anything that is written after it. Whoever reads from this store sees it.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call_with_attempt(&self, call: &CallRecord, attempt: &AttemptRecord) -> Result<(), StoreError> {
        let plain = is_plain(call, attempt);
        let unread = self.keys().unread(&call.key);
        let statements = self.call_statements(call, plain.then_some(attempt.number)).await?;
        let mut statements = statements.unwrap_or_default();
        if !plain {
            statements.push(attempt_statement(attempt));
        }
        match unread {
            Some(_) => self.write_later(statements).await,
            None => self.write(statements).await.map(|_| ()),
        }
    }

    /// `None`: it is there already.
    async fn call_statements(
        &self,
        call: &CallRecord,
        attempt: Option<u32>,
    ) -> Result<Option<Vec<Statement>>, StoreError> {
        let words = CallWords {
            model_name: self.word(&call.model_name).await?,
            model_id: self.word(&call.model_id.hex()).await?,
            endpoint: self.word_or_null(call.endpoint.as_deref()).await?,
        };
        let earlier = self.find(&call.key).await?;
        if let Some(seq) = self.keys().take_unread(&call.key) {
            // Alone, it needs no look at the others.
            let earlier = if earlier == [seq] { &[][..] } else { &earlier };
            return Ok(Some(vec![call_statement(&Slot { seq, earlier }, call, &words, attempt)]));
        }
        if !earlier.is_empty() && self.call(&call.key).await?.is_some() {
            return Ok(None);
        }
        if let Some(seq) = Box::pin(self.same_reply(call, &earlier)).await? {
            return Ok(Some(vec![call_statement(&Slot { seq, earlier: &earlier }, call, &words, attempt)]));
        }
        let raw = RawReply {
            key: call.key.clone(),
            number: attempt.unwrap_or(1),
            bytes: call.raw_reply.clone(),
            endpoint: call.endpoint.clone(),
            received_ms: call.created_ms + call.latency_ms,
            latency_ms: Some(call.latency_ms),
        };
        let slot = Slot { seq: self.next_reply(&call.key), earlier: &earlier };
        Ok(Some(vec![reply_statement(&slot, &raw, words.endpoint), call_statement(&slot, call, &words, attempt)]))
    }

    /// The reply of an earlier run that this call was read from.
    async fn same_reply(&self, call: &CallRecord, earlier: &[i64]) -> Result<Option<i64>, StoreError> {
        if call.raw_reply.is_empty() {
            return Ok(None);
        }
        let replies = self.replies_among(earlier, &call.key).await?;
        Ok(replies.into_iter().find(|(_, raw)| raw.bytes == call.raw_reply).map(|(seq, _)| seq))
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn record_attempt(&self, attempt: &AttemptRecord) -> Result<(), StoreError> {
        self.keys().take_unread(&attempt.key);
        self.write(vec![attempt_statement(attempt)]).await.map(|_| ())
    }

    /// The call of this key, if it was ever made.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call(&self, key: &Digest) -> Result<Option<CallRecord>, StoreError> {
        let found = self.find(key).await?;
        if found.is_empty() { Ok(None) } else { Box::pin(self.call_among(&found, key)).await }
    }

    async fn call_among(&self, found: &[i64], key: &Digest) -> Result<Option<CallRecord>, StoreError> {
        let row = sqlx::query(CALL_BY_KEY)
            .bind(listed(found))
            .bind(blob(key))
            .fetch_optional(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        row.map(|row| call_record(&row).map_err(|e| self.unreadable(&e))).transpose()
    }

    /// Calls with their bodies.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calls(&self, filter: &CallFilter) -> Result<Vec<CallRecord>, StoreError> {
        let rows = sqlx::query(if filter.newest { NEWEST_CALLS } else { CALLS })
            .bind(filter.model_name.clone())
            .bind(filter.since_ms)
            .bind(filter.limit.map_or(-1, i64::from))
            .bind(filter.key_prefix.clone())
            .bind(filter.finish.clone())
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| call_record(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// Tokens, price and latency of the given calls, in their order; a call that is not there is left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_usages(&self, keys: &[Digest]) -> Result<Vec<CallUsage>, StoreError> {
        let mut usages = Vec::with_capacity(keys.len());
        for some in keys.chunks(AT_ONCE) {
            let found = self.usages_among(some).await?;
            usages.extend(some.iter().filter_map(|key| found.get(key).cloned()));
        }
        Ok(usages)
    }

    /// By key. Replies of other keys may be among those that were found; they do no harm.
    async fn usages_among(&self, keys: &[Digest]) -> Result<HashMap<Digest, CallUsage>, StoreError> {
        self.learn_calls().await?;
        let found = self.find_all(keys).await?;
        let rows = sqlx::query(USAGES)
            .bind(listed(&found))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        let texts = self.texts_of(words_in(&rows, WORDS_OF_USAGE)).await?;
        let mut usages = HashMap::with_capacity(rows.len());
        for row in &rows {
            let usage = call_usage(row, &texts).map_err(|e| self.unreadable(&e))?;
            usages.entry(usage.key.clone()).or_insert(usage);
        }
        Ok(usages)
    }

    /// Sums by model, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_totals(&self) -> Result<Vec<CallTotal>, StoreError> {
        let rows = sqlx::query(TOTALS).fetch_all(&mut *self.reader().await?).await.map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| call_total(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// The attempts at one call, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempts(&self, key: &Digest) -> Result<Vec<AttemptRecord>, StoreError> {
        let found = self.find(key).await?;
        let mut reader = self.reader().await?;
        let rows = sqlx::query("SELECT * FROM attempt WHERE key = ? ORDER BY seq").bind(blob(key));
        let mut rows = rows.fetch_all(&mut *reader).await.map_err(|e| self.unreadable(&e))?;
        // Nothing is tried after the try that brought the reply.
        let last = sqlx::query(PLAIN_ATTEMPT).bind(listed(&found)).bind(blob(key)).fetch_optional(&mut *reader).await;
        rows.extend(last.map_err(|e| self.unreadable(&e))?);
        rows.iter().map(|row| attempt(key, row).map_err(|e| self.unreadable(&e))).collect()
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
        let rows = sqlx::query(FAILED)
            .bind(key_prefix)
            .bind(since_ms)
            .bind(i64::from(limit))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| any_attempt(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// When requests went to `endpoint`, from the moment `since_ms` on, and what tokens each took, oldest first; zero tokens where
    /// nobody knows, and for tries that came to nothing, of which it is not on record where they went. Of very many, the last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn sent_since(&self, endpoint: &str, since_ms: i64) -> Result<Vec<(i64, i64)>, StoreError> {
        let rows = sqlx::query_as(SENT).bind(endpoint).bind(since_ms).bind(SENT_AT_MOST);
        rows.fetch_all(&mut *self.reader().await?).await.map_err(|e| self.unreadable(&e))
    }

    /// How attempts ended, most frequent first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempt_totals(&self) -> Result<Vec<AttemptTotal>, StoreError> {
        let rows =
            sqlx::query(ATTEMPTS).fetch_all(&mut *self.reader().await?).await.map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| attempt_total(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::failed_by_key`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failed_by_key(&self, since_ms: i64) -> Result<HashMap<Digest, AttemptSum>, StoreError> {
        let rows = sqlx::query(FAILED_BY_KEY)
            .bind(since_ms)
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| failed_by_key(row).map_err(|e| self.unreadable(&e))).collect()
    }
}
