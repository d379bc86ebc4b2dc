//! Batches: files of requests handed to a Batch API. One is on record before anything is sent, and every step after it;
//! an open one is taken up again by the next process instead of being handed in a second time.

use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    codec::{blobs, digests, undecodable},
    error::StoreError,
    rows::{BatchEvent, BatchRow, BatchState},
    statement::Statement,
    store::SqliteStore,
};

const OPEN: &str = "SELECT batch.*,
        (SELECT name FROM batch_event AS event WHERE event.intent = batch.intent AND state = 'uploaded'
         ORDER BY seq DESC LIMIT 1) AS file,
        (SELECT name FROM batch_event AS event WHERE event.intent = batch.intent AND state = 'submitted'
         ORDER BY seq DESC LIMIT 1) AS remote,
        last.state AS state, last.back AS back, last.failed AS failed
    FROM batch LEFT JOIN batch_event AS last
        ON last.seq = (SELECT max(seq) FROM batch_event AS event WHERE event.intent = batch.intent)
    WHERE last.state IS NULL OR last.state NOT IN ('settled', 'abandoned')
    ORDER BY batch.seq";

impl SqliteStore {
    /// Keeps what is about to be handed in. Nothing may be sent before this returns.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn intend_batch(&self, batch: &BatchRow) -> Result<(), StoreError> {
        let insert = Statement::new(
            "INSERT INTO batch (intent, endpoint, model, keys, created_ms, deadline_ms) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .text(batch.intent.as_str())
        .text(batch.endpoint.as_str())
        .text(batch.model.as_str())
        .blob(blobs(&batch.keys))
        .int(batch.created_ms)
        .int(batch.deadline_ms);
        self.write(vec![insert]).await.map(|_| ())
    }

    /// Keeps a step of a batch that was intended.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_batch_event(&self, event: &BatchEvent) -> Result<(), StoreError> {
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
        self.write(vec![insert]).await.map(|_| ())
    }

    /// Batches that are not settled, oldest first, of every endpoint.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_batches(&self) -> Result<Vec<BatchRow>, StoreError> {
        let rows = sqlx::query(OPEN).fetch_all(&mut *self.reader().await?).await.map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| batch_row(row).map_err(|e| self.unreadable(&e))).collect()
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn batch_row(row: &SqliteRow) -> Result<BatchRow, sqlx::Error> {
    let state: Option<&str> = row.try_get("state")?;
    let count =
        |column: &str| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map_or(0, i64::unsigned_abs));
    Ok(BatchRow {
        intent: row.try_get("intent")?,
        endpoint: row.try_get("endpoint")?,
        model: row.try_get("model")?,
        keys: digests(row.try_get("keys")?)?,
        created_ms: row.try_get("created_ms")?,
        deadline_ms: row.try_get("deadline_ms")?,
        state: state.map(parse).transpose()?,
        file: row.try_get("file")?,
        remote: row.try_get("remote")?,
        back: count("back")?,
        failed: count("failed")?,
    })
}

fn parse(name: &str) -> Result<BatchState, sqlx::Error> {
    use BatchState::{Abandoned, Running, Settled, Submitted, Uploaded};
    [Uploaded, Submitted, Running, Settled, Abandoned]
        .into_iter()
        .find(|state| state.name() == name)
        .ok_or_else(|| undecodable(format!("`{name}` is no state of a batch")))
}
