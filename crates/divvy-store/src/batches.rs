//! Batches: files of requests handed to a Batch API. One is on record before anything is sent, and every step after it;
//! an open one is taken up again by the next process instead of being handed in a second time.

use divvy_core::{digest::Digest, model::shown_url};
use sqlx::FromRow;

use crate::{
    codec::{blobs, digests, undecodable},
    error::StoreError,
    rows::{BatchEvent, BatchRow, BatchState},
    statement::Statement,
    store::SqliteStore,
};

/// [`Columns`] of batches, oldest first, in the words of either kind of store.
macro_rules! batches_where {
    ($condition:literal, followed: $followed:literal) => {
        concat!(
            "SELECT batch.intent, endpoint, model, keys, created_ms, deadline_ms, last.state,
                (SELECT name FROM batch_event AS event WHERE event.intent = batch.intent AND state = 'uploaded'
                 ORDER BY seq DESC LIMIT 1),
                (SELECT name FROM batch_event AS event WHERE event.intent = batch.intent AND state = 'submitted'
                 ORDER BY seq DESC LIMIT 1),
                last.back, last.failed, ",
            $followed,
            " FROM batch LEFT JOIN batch_event AS last
                 ON last.seq = (SELECT max(seq) FROM batch_event AS event WHERE event.intent = batch.intent)
             WHERE ",
            $condition,
            " ORDER BY batch.seq"
        )
    };
}
pub(crate) use batches_where;

/// Intent, endpoint, model, keys, made at, deadline, state, file, name at the endpoint, answered, failed, followed.
type Columns = (
    String,
    String,
    String,
    Vec<u8>,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    bool,
);

const OPEN: &str =
    batches_where!("last.state IS NULL OR last.state NOT IN ('settled', 'abandoned')", followed: "false");

impl SqliteStore {
    /// See [`crate::Store::intend_batch`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn intend_batch(&self, batch: &BatchRow) -> Result<Vec<Digest>, StoreError> {
        let insert = Statement::new(
            "INSERT INTO batch (intent, endpoint, model, keys, created_ms, deadline_ms) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .text(batch.intent.as_str())
        .text(batch.endpoint.as_str())
        .text(batch.model.as_str())
        .blob(blobs(&batch.keys))
        .int(batch.created_ms)
        .int(batch.deadline_ms);
        self.write(vec![insert]).await.map(|_| batch.keys.clone())
    }

    /// See [`crate::Store::record_batch_event`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_batch_event(&self, event: &BatchEvent) -> Result<bool, StoreError> {
        let insert = Statement::new(
            "INSERT INTO batch_event (intent, state, name, back, failed, detail, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .text(event.intent.as_str())
        .text(event.state.name())
        .text_or_null(event.name.clone())
        .int(event.back.map(signed))
        .int(event.failed.map(signed))
        .text_or_null(event.detail.clone())
        .int(event.at_ms);
        self.write(vec![insert]).await.map(|_| true)
    }

    /// See [`crate::Store::open_batches`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_batches(&self) -> Result<Vec<BatchRow>, StoreError> {
        let rows = sqlx::query(OPEN).fetch_all(&mut *self.reader().await?).await.map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| batch_row(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::take_up_batches`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn take_up_batches(&self, endpoint: &str, model: &str) -> Result<Vec<BatchRow>, StoreError> {
        let mut open = self.open_batches().await?;
        // Earlier versions kept an endpoint with a password.
        open.retain(|batch| shown_url(&batch.endpoint) == endpoint && batch.model == model);
        Ok(open)
    }
}

pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A row of [`batches_where`].
pub(crate) fn batch_row<'r, R>(row: &'r R) -> Result<BatchRow, sqlx::Error>
where
    R: sqlx::Row,
    Columns: FromRow<'r, R>,
{
    let (intent, endpoint, model, keys, created_ms, deadline_ms, state, file, remote, back, failed, followed) =
        Columns::from_row(row)?;
    let count = |count: Option<i64>| count.map_or(0, i64::unsigned_abs);
    Ok(BatchRow {
        intent,
        endpoint,
        model,
        keys: digests(&keys)?,
        created_ms,
        deadline_ms,
        state: state.as_deref().map(parse).transpose()?,
        file,
        remote,
        back: count(back),
        failed: count(failed),
        followed,
    })
}

fn parse(name: &str) -> Result<BatchState, sqlx::Error> {
    use BatchState::{Abandoned, Running, Settled, Submitted, Uploaded};
    [Uploaded, Submitted, Running, Settled, Abandoned]
        .into_iter()
        .find(|state| state.name() == name)
        .ok_or_else(|| undecodable(format!("`{name}` is no state of a batch")))
}
