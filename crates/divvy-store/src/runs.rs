//! Plans, the runs that followed them, the time their stages took, and every look at a test set.

use divvy_core::{digest::Digest, records::Stage};
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    codec::{blob, digest, stage, status, status_text},
    error::StoreError,
    rows::{RunId, RunRow, RunStatus, TestOpening},
    statement::Statement,
    store::SqliteStore,
};

impl SqliteStore {
    /// Keeps a resolved plan; the same again changes nothing. Everything else refers to a plan that is kept.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_plan(&self, plan: &Digest, json: &str) -> Result<(), StoreError> {
        let insert = Statement::new("INSERT INTO plan (digest, json) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .blob(blob(plan))
            .text(json);
        self.write(vec![insert]).await.map(|_| ())
    }

    /// The plan's JSON.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn plan(&self, plan: &Digest) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT json FROM plan WHERE digest = ?")
            .bind(blob(plan))
            .fetch_optional(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))
    }

    /// `plan` must have been put before.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn begin_run(&self, plan: &Digest, name: &str, version: &str, now_ms: i64) -> Result<RunId, StoreError> {
        let insert =
            Statement::new("INSERT INTO run (plan, name, version, started_ms, status) VALUES (?, ?, ?, ?, 'running')")
                .blob(blob(plan))
                .text(name)
                .text(version)
                .int(now_ms);
        self.write(vec![insert]).await.map(RunId)
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn end_run(&self, run: RunId, status: RunStatus, now_ms: i64) -> Result<(), StoreError> {
        let update = Statement::new("UPDATE run SET ended_ms = ?, status = ? WHERE id = ?")
            .int(now_ms)
            .text(status_text(status))
            .int(run.0);
        self.write(vec![update]).await.map(|_| ())
    }

    /// Every run, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM run ORDER BY id DESC")
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| run_row(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// The newest run of the recipe called `name`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn latest_run(&self, name: &str) -> Result<Option<RunRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM run WHERE name = ? ORDER BY id DESC LIMIT 1")
            .bind(name)
            .fetch_optional(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        row.map(|row| run_row(&row).map_err(|e| self.unreadable(&e))).transpose()
    }

    /// Adds the time that a stage of this plan ran; an interrupted and resumed stage adds several.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn add_stage_time(&self, plan: &Digest, stage: Stage, wall_ms: i64) -> Result<(), StoreError> {
        let insert = Statement::new("INSERT INTO stage_time (plan, stage, wall_ms) VALUES (?, ?, ?)")
            .blob(blob(plan))
            .text(stage.name())
            .int(wall_ms);
        self.write(vec![insert]).await.map(|_| ())
    }

    /// Milliseconds of each stage that ran, summed, in the order they first ended.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stage_times(&self, plan: &Digest) -> Result<Vec<(Stage, i64)>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT stage, sum(wall_ms) FROM stage_time WHERE plan = ? GROUP BY stage ORDER BY min(seq)",
        )
        .bind(blob(plan))
        .fetch_all(&mut *self.reader().await?)
        .await
        .map_err(|e| self.unreadable(&e))?;
        rows.into_iter().map(|(name, ms)| Ok((stage(&name).map_err(|e| self.unreadable(&e))?, ms))).collect()
    }

    /// # Errors
    /// When the store cannot write.
    pub async fn record_test_opening(
        &self,
        plan: &Digest,
        dataset: &str,
        rows: u64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let insert = Statement::new("INSERT INTO test_opening (plan, dataset, rows, opened_ms) VALUES (?, ?, ?, ?)")
            .blob(blob(plan))
            .text(dataset)
            .int(i64::try_from(rows).unwrap_or(i64::MAX))
            .int(now_ms);
        self.write(vec![insert]).await.map(|_| ())
    }

    /// Every look at a test set, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn test_openings(&self) -> Result<Vec<TestOpening>, StoreError> {
        let rows = sqlx::query("SELECT * FROM test_opening ORDER BY seq")
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| test_opening(row).map_err(|e| self.unreadable(&e))).collect()
    }
}

fn run_row(row: &SqliteRow) -> Result<RunRow, sqlx::Error> {
    Ok(RunRow {
        id: RunId(row.try_get("id")?),
        plan: digest(row.try_get("plan")?)?,
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        started_ms: row.try_get("started_ms")?,
        ended_ms: row.try_get("ended_ms")?,
        status: status(row.try_get("status")?)?,
    })
}

fn test_opening(row: &SqliteRow) -> Result<TestOpening, sqlx::Error> {
    Ok(TestOpening {
        plan: digest(row.try_get("plan")?)?,
        dataset: row.try_get("dataset")?,
        rows: row.try_get::<i64, _>("rows")?.unsigned_abs(),
        opened_ms: row.try_get("opened_ms")?,
    })
}
