//! Files that stages made, found by the digest of what they were made from, and the training log of each.

use divvy_core::{digest::Digest, records::TrainPoint};
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    codec::{blob, digest, undecodable},
    error::StoreError,
    rows::ArtefactRow,
    statement::Statement,
    store::SqliteStore,
};

impl SqliteStore {
    /// The newest artefact of a key counts.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_artefact(
        &self,
        key: &Digest,
        kind: &str,
        path: &str,
        meta_json: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let insert = Statement::new("INSERT INTO artefact (key, kind, path, meta, created_ms) VALUES (?, ?, ?, ?, ?)")
            .blob(blob(key))
            .text(kind)
            .text(path)
            .text(meta_json)
            .int(now_ms);
        self.write(vec![insert]).await.map(|_| ())
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn artefact(&self, key: &Digest) -> Result<Option<ArtefactRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM artefact WHERE key = ? ORDER BY seq DESC LIMIT 1")
            .bind(blob(key))
            .fetch_optional(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        row.map(|row| artefact_row(&row).map_err(|e| self.unreadable(&e))).transpose()
    }

    /// Adds points of a training log. A step that was trained again after a resume replaces its point.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_metrics(&self, key: &Digest, points: &[TrainPoint]) -> Result<(), StoreError> {
        self.write(points.iter().map(|point| metric_statement(key, point)).collect()).await.map(|_| ())
    }

    /// A training log by step.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn metrics(&self, key: &Digest) -> Result<Vec<TrainPoint>, StoreError> {
        let rows: Vec<String> = sqlx::query_scalar("SELECT point FROM metric WHERE key = ? ORDER BY step")
            .bind(blob(key))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        let parse = |json: &String| serde_json::from_str(json).map_err(|e| undecodable(format!("training log: {e}")));
        rows.iter().map(|json| parse(json).map_err(|e| self.unreadable(&e))).collect()
    }
}

fn metric_statement(key: &Digest, point: &TrainPoint) -> Statement {
    Statement::new(
        "INSERT INTO metric (key, step, point) VALUES (?, ?, ?) ON CONFLICT (key, step) DO UPDATE SET point = excluded.point",
    )
    .blob(blob(key))
    .int(i64::try_from(point.step).unwrap_or(i64::MAX))
    .text(serde_json::to_string(point).expect("a training point is plain JSON"))
}

fn artefact_row(row: &SqliteRow) -> Result<ArtefactRow, sqlx::Error> {
    Ok(ArtefactRow {
        key: digest(row.try_get("key")?)?,
        kind: row.try_get("kind")?,
        path: row.try_get("path")?,
        meta_json: row.try_get("meta")?,
        created_ms: row.try_get("created_ms")?,
    })
}
