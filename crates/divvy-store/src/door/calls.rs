//! Calls: replies, what was paid for, tries that failed, batches.

use std::collections::HashMap;

use divvy_core::digest::Digest;

use super::{Store, either};
use crate::{
    error::StoreError,
    rows::{
        AttemptRecord, AttemptSum, AttemptTotal, BatchEvent, BatchRow, CallFilter, CallRecord, CallTotal, CallUsage,
        RawReply,
    },
};

impl Store {
    /// Keeps the bytes of a reply. On disk when this returns, and so before any parser sees them.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_raw(&self, raw: &RawReply) -> Result<(), StoreError> {
        either!(self, record_raw(raw))
    }

    /// Every raw reply kept for a call, oldest first: what can be read again without paying again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn raw_replies(&self, key: &Digest) -> Result<Vec<RawReply>, StoreError> {
        either!(self, raw_replies(key))
    }

    /// Keeps a finished call. The same key again changes nothing: the first record wins.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call(&self, call: CallRecord) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.record_call(call).await,
            Self::Postgres(store) => store.record_call(&call).await,
        }
    }

    /// [`Store::record_call`] and [`Store::record_attempt`] in one transaction. A raw reply of the call must have been
    /// recorded before.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_call_with_attempt(&self, call: &CallRecord, attempt: &AttemptRecord) -> Result<(), StoreError> {
        either!(self, record_call_with_attempt(call, attempt))
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn record_attempt(&self, attempt: &AttemptRecord) -> Result<(), StoreError> {
        either!(self, record_attempt(attempt))
    }

    /// The call of this key, if it was ever made.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call(&self, key: &Digest) -> Result<Option<CallRecord>, StoreError> {
        either!(self, call(key))
    }

    /// Calls with their bodies.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calls(&self, filter: &CallFilter) -> Result<Vec<CallRecord>, StoreError> {
        either!(self, calls(filter))
    }

    /// Tokens, price and latency of the given calls, in their order; a call that is not there is left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_usages(&self, keys: &[Digest]) -> Result<Vec<CallUsage>, StoreError> {
        either!(self, call_usages(keys))
    }

    /// Sums by model, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn call_totals(&self) -> Result<Vec<CallTotal>, StoreError> {
        either!(self, call_totals())
    }

    /// The attempts at one call, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempts(&self, key: &Digest) -> Result<Vec<AttemptRecord>, StoreError> {
        either!(self, attempts(key))
    }

    /// The last attempts that brought no reply, newest first: of all calls, or of those whose key begins with these digits,
    /// as [`CallFilter`] has them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failed_attempts(
        &self,
        key_prefix: Option<&str>,
        since_ms: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AttemptRecord>, StoreError> {
        either!(self, failed_attempts(key_prefix, since_ms, limit))
    }

    /// How attempts ended, most frequent first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn attempt_totals(&self) -> Result<Vec<AttemptTotal>, StoreError> {
        either!(self, attempt_totals())
    }

    /// What attempts that brought no reply took, from the moment `since_ms` on, by the key of their call: all of them, since they
    /// are few.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn failed_by_key(&self, since_ms: i64) -> Result<HashMap<Digest, AttemptSum>, StoreError> {
        either!(self, failed_by_key(since_ms))
    }

    /// The calls of these keys, each once, in no order, without the body as it was received; one that was never made is left
    /// out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calls_of(&self, keys: &[Digest]) -> Result<Vec<CallRecord>, StoreError> {
        either!(self, calls_of(keys))
    }

    /// Replies on disk that nobody has read, since a command died before it could: when their call is asked for they are read, for
    /// nothing where they can be read. Of the last 65,536 that came: what more there is of them no command had in flight.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn unread_replies(&self) -> Result<u64, StoreError> {
        either!(self, unread_replies())
    }

    /// Keeps what is about to be handed to a Batch API. Nothing may be sent before this returns, and only the rows that it returns,
    /// in their order: a row that is in an open batch of another worker is left out, and without rows there is no batch.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn intend_batch(&self, batch: &BatchRow) -> Result<Vec<Digest>, StoreError> {
        either!(self, intend_batch(batch))
    }

    /// Keeps a step of a batch that was intended; `false`: another worker has taken it over, and nothing is kept.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_batch_event(&self, event: &BatchEvent) -> Result<bool, StoreError> {
        either!(self, record_batch_event(event))
    }

    /// Batches that are not settled, oldest first, of every endpoint.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_batches(&self) -> Result<Vec<BatchRow>, StoreError> {
        either!(self, open_batches())
    }

    /// Open batches of a model at an endpoint that this process is to follow: all in a file; on a server those that it has
    /// handed in, and those of workers that are no longer heard of, which it takes over.
    ///
    /// # Errors
    /// When the store cannot be read, or written.
    pub async fn take_up_batches(&self, endpoint: &str, model: &str) -> Result<Vec<BatchRow>, StoreError> {
        either!(self, take_up_batches(endpoint, model))
    }
}
