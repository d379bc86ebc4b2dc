//! Plans, runs, stage times and looks at test sets, as [`crate::runs`] has them in the embedded store.

use std::sync::atomic::{AtomicU64, Ordering};

use divvy_core::{digest::Digest, records::Stage};
use sqlx::Row;

use super::{
    PostgresStore,
    decode::{run, test_opening},
};
use crate::{
    codec::{blob, stage, status_text},
    error::StoreError,
    rows::{RunId, RunRow, RunStatus, TestOpening},
};

impl PostgresStore {
    /// See [`crate::Store::put_plan`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_plan(&self, plan: &Digest, json: &str) -> Result<(), StoreError> {
        self.sure(|| {
            sqlx::query("INSERT INTO plan (digest, json) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(blob(plan))
                .bind(json)
        })
        .await
        .map(drop)
    }

    /// See [`crate::Store::plan`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn plan(&self, plan: &Digest) -> Result<Option<String>, StoreError> {
        let rows = self.read(|| sqlx::query("SELECT json FROM plan WHERE digest = $1").bind(blob(plan))).await?;
        rows.first().map(|row| row.try_get("json").map_err(|e| self.unreadable(&e))).transpose()
    }

    /// See [`crate::Store::begin_run`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn begin_run(&self, plan: &Digest, name: &str, version: &str, now_ms: i64) -> Result<RunId, StoreError> {
        let nonce = self.nonce()?;
        let rows = self
            .sure(|| {
                sqlx::query(
                    "INSERT INTO run (nonce, plan, name, version, started_ms, status) VALUES ($1, $2, $3, $4, $5, 'running')
                     ON CONFLICT (nonce) DO UPDATE SET status = run.status RETURNING id",
                )
                .bind(&nonce)
                .bind(blob(plan))
                .bind(name)
                .bind(version)
                .bind(now_ms)
            })
            .await?;
        let id = rows.first().map_or(Err(sqlx::Error::RowNotFound), |row| row.try_get("id"));
        id.map(RunId).map_err(|e| self.unreadable(&e))
    }

    /// See [`crate::Store::end_run`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn end_run(&self, run: RunId, status: RunStatus, now_ms: i64) -> Result<(), StoreError> {
        self.sure(|| {
            sqlx::query("UPDATE run SET ended_ms = $1, status = $2 WHERE id = $3")
                .bind(now_ms)
                .bind(status_text(status))
                .bind(run.0)
        })
        .await
        .map(drop)
    }

    /// See [`crate::Store::runs`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let rows = self.read(|| sqlx::query("SELECT * FROM run ORDER BY id DESC")).await?;
        rows.iter().map(|row| run(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::latest_run`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn latest_run(&self, name: &str) -> Result<Option<RunRow>, StoreError> {
        let rows =
            self.read(|| sqlx::query("SELECT * FROM run WHERE name = $1 ORDER BY id DESC LIMIT 1").bind(name)).await?;
        rows.first().map(|row| run(row).map_err(|e| self.unreadable(&e))).transpose()
    }

    /// See [`crate::Store::add_stage_time`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn add_stage_time(&self, plan: &Digest, stage: Stage, wall_ms: i64) -> Result<(), StoreError> {
        let nonce = self.nonce()?;
        self.sure(|| {
            sqlx::query(
                "INSERT INTO stage_time (nonce, plan, stage, wall_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(&nonce)
            .bind(blob(plan))
            .bind(stage.name())
            .bind(wall_ms)
        })
        .await
        .map(drop)
    }

    /// See [`crate::Store::stage_times`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stage_times(&self, plan: &Digest) -> Result<Vec<(Stage, i64)>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT stage, sum(wall_ms)::bigint AS wall_ms FROM stage_time WHERE plan = $1
                     GROUP BY stage ORDER BY min(seq)",
                )
                .bind(blob(plan))
            })
            .await?;
        let read = |row: &sqlx::postgres::PgRow| Ok((stage(row.try_get("stage")?)?, row.try_get("wall_ms")?));
        rows.iter().map(|row| read(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::record_test_opening`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn record_test_opening(
        &self,
        plan: &Digest,
        dataset: &str,
        rows: u64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let nonce = self.nonce()?;
        self.sure(|| {
            sqlx::query(
                "INSERT INTO test_opening (nonce, plan, dataset, rows, opened_ms) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT DO NOTHING",
            )
            .bind(&nonce)
            .bind(blob(plan))
            .bind(dataset)
            .bind(i64::try_from(rows).unwrap_or(i64::MAX))
            .bind(now_ms)
        })
        .await
        .map(drop)
    }

    /// See [`crate::Store::test_openings`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn test_openings(&self) -> Result<Vec<TestOpening>, StoreError> {
        let rows = self.read(|| sqlx::query("SELECT * FROM test_opening ORDER BY seq")).await?;
        rows.iter().map(|row| test_opening(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// Never the same twice, on any machine.
    fn nonce(&self) -> Result<String, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Ok(format!("{}/{}", self.worker()?.id, COUNT.fetch_add(1, Ordering::Relaxed)))
    }
}
