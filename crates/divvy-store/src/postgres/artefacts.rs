//! Files that stages made, and training logs, as [`crate::artefacts`] has them in the embedded store. The files themselves
//! lie on the machine that made them.

use std::collections::BTreeMap;

use divvy_core::{digest::Digest, records::TrainPoint};
use sqlx::Row;

use super::{PostgresStore, decode::artefact};
use crate::{
    codec::{blob, undecodable},
    error::StoreError,
    rows::ArtefactRow,
};

impl PostgresStore {
    /// See [`crate::Store::put_artefact`].
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
        self.sure(|| {
            sqlx::query("INSERT INTO artefact (key, kind, path, meta, created_ms) VALUES ($1, $2, $3, $4, $5)")
                .bind(blob(key))
                .bind(kind)
                .bind(path)
                .bind(meta_json)
                .bind(now_ms)
        })
        .await
        .map(drop)
    }

    /// See [`crate::Store::artefact`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn artefact(&self, key: &Digest) -> Result<Option<ArtefactRow>, StoreError> {
        let rows = self
            .read(|| sqlx::query("SELECT * FROM artefact WHERE key = $1 ORDER BY seq DESC LIMIT 1").bind(blob(key)))
            .await?;
        rows.first().map(|row| artefact(row).map_err(|e| self.unreadable(&e))).transpose()
    }

    /// See [`crate::Store::put_metrics`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_metrics(&self, key: &Digest, points: &[TrainPoint]) -> Result<(), StoreError> {
        let text = |point: &TrainPoint| serde_json::to_string(point).expect("a training point is plain JSON");
        let step = |point: &TrainPoint| i64::try_from(point.step).unwrap_or(i64::MAX);
        // The last of a step counts; a statement cannot put a row twice.
        let last: BTreeMap<i64, String> = points.iter().map(|point| (step(point), text(point))).collect();
        let (steps, texts): (Vec<i64>, Vec<String>) = last.into_iter().unzip();
        self.sure(|| {
            sqlx::query(
                "INSERT INTO metric (key, step, point) SELECT $1, * FROM unnest($2::bigint[], $3::text[])
                 ON CONFLICT (key, step) DO UPDATE SET point = excluded.point",
            )
            .bind(blob(key))
            .bind(&steps)
            .bind(&texts)
        })
        .await
        .map(drop)
    }

    /// See [`crate::Store::metrics`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn metrics(&self, key: &Digest) -> Result<Vec<TrainPoint>, StoreError> {
        let rows =
            self.read(|| sqlx::query("SELECT point FROM metric WHERE key = $1 ORDER BY step").bind(blob(key))).await?;
        let read = |row: &sqlx::postgres::PgRow| {
            let json: &str = row.try_get("point")?;
            serde_json::from_str(json).map_err(|e| undecodable(format!("training log: {e}")))
        };
        rows.iter().map(|row| read(row).map_err(|e| self.unreadable(&e))).collect()
    }
}
