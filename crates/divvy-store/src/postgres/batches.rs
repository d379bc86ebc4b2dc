//! Batches that workers hand in beside each other. A row is in one open batch only, so that none is paid for twice; each batch
//! is one worker's to follow, and the next one's when that worker is no longer heard of.

use std::collections::HashSet;

use divvy_core::digest::Digest;
use sqlx::{
    Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::PostgresStore;
use crate::{
    batches::{batch_row, batches_where, signed},
    codec::{blob, digest, digests},
    error::StoreError,
    rows::{BatchEvent, BatchRow, BatchState},
};

impl PostgresStore {
    /// See [`crate::Store::intend_batch`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn intend_batch(&self, batch: &BatchRow) -> Result<Vec<Digest>, StoreError> {
        let worker = self.worker()?;
        let rows = self
            .sure(|| {
                sqlx::query(INTEND)
                    .bind(&batch.intent)
                    .bind(&batch.endpoint)
                    .bind(&batch.model)
                    .bind(batch.keys.iter().map(blob).collect::<Vec<_>>())
                    .bind(batch.created_ms)
                    .bind(batch.deadline_ms)
                    .bind(worker.id)
            })
            .await?;
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        row.try_get("keys").and_then(digests).map_err(|e| self.unreadable(&e))
    }

    /// See [`crate::Store::record_batch_event`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_batch_event(&self, event: &BatchEvent) -> Result<bool, StoreError> {
        let worker = self.worker()?;
        let is_over = matches!(event.state, BatchState::Settled | BatchState::Abandoned);
        let rows = self
            .sure(|| {
                sqlx::query(RECORD)
                    .bind(&event.intent)
                    .bind(worker.id)
                    .bind(is_over)
                    .bind(event.state.name())
                    .bind(&event.name)
                    .bind(event.back.map(signed))
                    .bind(event.failed.map(signed))
                    .bind(&event.detail)
                    .bind(event.at_ms)
            })
            .await?;
        Ok(!rows.is_empty())
    }

    /// See [`crate::Store::open_batches`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_batches(&self) -> Result<Vec<BatchRow>, StoreError> {
        self.batches(|| sqlx::query(OPEN)).await
    }

    /// See [`crate::Store::take_up_batches`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn take_up_batches(&self, endpoint: &str, model: &str) -> Result<Vec<BatchRow>, StoreError> {
        let worker = self.worker()?;
        let ours = |sql| move || sqlx::query(sql).bind(endpoint).bind(model).bind(worker.id);
        self.sure(ours(TAKE_OVER)).await?;
        self.batches(ours(OURS)).await
    }

    /// Which of these keys have a reply on record, read or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn replied(&self, keys: impl Iterator<Item = &Digest>) -> Result<HashSet<Digest>, StoreError> {
        let keys: Vec<Vec<u8>> = keys.map(blob).collect();
        let rows =
            self.read(|| sqlx::query("SELECT DISTINCT key FROM raw_reply WHERE key = ANY($1)").bind(&keys)).await?;
        self.keys(&rows)
    }

    /// Which of these rows are in open batches of a model at an endpoint.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn in_batches(
        &self,
        endpoint: &str,
        model: &str,
        keys: &[Digest],
    ) -> Result<HashSet<Digest>, StoreError> {
        let keys: Vec<Vec<u8>> = keys.iter().map(blob).collect();
        let find = || {
            sqlx::query("SELECT key FROM batch_row WHERE endpoint = $1 AND model = $2 AND key = ANY($3)")
                .bind(endpoint)
                .bind(model)
                .bind(&keys)
        };
        let rows = self.read(find).await?;
        self.keys(&rows)
    }

    fn keys(&self, rows: &[PgRow]) -> Result<HashSet<Digest>, StoreError> {
        rows.iter().map(|row| row.try_get("key").and_then(digest).map_err(|e| self.unreadable(&e))).collect()
    }

    async fn batches<'q>(
        &self,
        statement: impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Vec<BatchRow>, StoreError> {
        let rows = self.inner.sure.run("read", statement).await?;
        rows.iter().map(|row| batch_row(row).map_err(|e| self.unreadable(&e))).collect()
    }
}

/// Its rows, but for those that another open batch has; without any it is none. The same again finds its own, unless another has
/// taken it over meanwhile.
const INTEND: &str = "WITH asked AS (
        SELECT key, place FROM unnest($4::bytea[]) WITH ORDINALITY AS a (key, place)
    ), ours AS (
        INSERT INTO batch_row (endpoint, model, key, intent) SELECT $2, $3, key, $1 FROM asked
        WHERE NOT EXISTS (SELECT FROM batch WHERE intent = $1 AND (is_over OR worker <> $7)) ORDER BY key
        ON CONFLICT (endpoint, model, key) DO UPDATE SET intent = excluded.intent WHERE batch_row.intent = excluded.intent
        RETURNING key
    ), batch AS (
        INSERT INTO batch (intent, endpoint, model, keys, created_ms, deadline_ms, worker)
        SELECT $1, $2, $3, string_agg(key, ''::bytea ORDER BY place), $5, $6, $7 FROM ours JOIN asked USING (key)
        HAVING count(*) > 0
        ON CONFLICT (intent) DO UPDATE SET keys = excluded.keys
        RETURNING keys
    )
    SELECT keys FROM batch";

/// Nothing of a batch that somebody else follows. The rows of one that is over are free.
const RECORD: &str = "WITH ours AS (
        UPDATE batch SET is_over = is_over OR $3 WHERE intent = $1 AND worker = $2 RETURNING intent
    ), free AS (
        DELETE FROM batch_row WHERE $3 AND intent IN (SELECT intent FROM ours)
    )
    INSERT INTO batch_event (intent, state, name, back, failed, detail, at_ms)
    SELECT intent, $4, $5, $6, $7, $8, $9 FROM ours RETURNING intent";

const TAKE_OVER: &str = "UPDATE batch SET worker = $3
    WHERE endpoint = $1 AND model = $2 AND NOT is_over AND worker <> $3 AND NOT alive(worker)";

const OPEN: &str = batches_where!("NOT is_over", followed: "alive(worker)");
const OURS: &str = batches_where!("NOT is_over AND endpoint = $1 AND model = $2 AND worker = $3", followed: "true");
