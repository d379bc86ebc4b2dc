//! Looks at a store a page at a time, for people who leaf through it. What a payload means is the caller's: a field is a
//! JSON path, and its truth is compared.

use divvy_core::{digest::Digest, question::Split, records::Stage};
use sqlx::{
    Row,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::{codec::blob, error::StoreError, items::item_row, lock, rows::ItemRow, store::SqliteStore};

/// Which items of a plan's stage to show: settled ones, by question and sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPage<'a> {
    pub plan: &'a Digest,
    pub stage: Stage,
    /// Empty where the stage has no arms.
    pub arm: &'a str,
    /// Only those that are not done, or whose payload does not say yes at this field, for example `$.grade.correct`; an
    /// empty one asks for no more than done.
    pub without: Option<&'a str>,
    pub from: u32,
    pub count: u32,
}

/// Settled items of one arm, and how many of them say yes at a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmMark {
    pub arm: String,
    pub items: u64,
    pub marked: u64,
}

/// The newest row of each unit. There is no index of units, since it would be written all over with every commit: a page
/// costs a look at the stage's rows, without their payloads.
const MATCHING: &str = "FROM item
    WHERE seq IN (SELECT max(seq) FROM item WHERE plan = ?1 AND stage = ?2 AND arm = ?3 GROUP BY question, sample)
      AND state != 'pending'
      AND (?4 IS NULL OR state != 'done' OR CASE ?4 WHEN '' THEN 0 ELSE json_extract(payload, ?4) IS NOT 1 END)";

const MARKS: &str =
    "SELECT arm, count(*) AS items, coalesce(sum(json_extract(payload, ?3) IS 1), 0) AS marked FROM item
    WHERE seq IN (SELECT max(seq) FROM item WHERE plan = ?1 AND stage = ?2 GROUP BY question, sample, arm)
      AND state != 'pending'
    GROUP BY arm ORDER BY arm";

impl SqliteStore {
    /// One page.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_page(&self, page: &ItemPage<'_>) -> Result<Vec<ItemRow>, StoreError> {
        let sql = format!("SELECT * {MATCHING} ORDER BY question, sample LIMIT ?5 OFFSET ?6");
        let rows = matching(sql, page)
            .bind(i64::from(page.count))
            .bind(i64::from(page.from))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| item_row(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// How many items all pages have.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_matching(&self, page: &ItemPage<'_>) -> Result<u64, StoreError> {
        let row = matching(format!("SELECT count(*) AS items {MATCHING}"), page)
            .fetch_one(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        row.try_get::<i64, _>("items").map(i64::unsigned_abs).map_err(|e| self.unreadable(&e))
    }

    /// The arms that a stage has items of.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn arms(&self, plan: &Digest, stage: Stage) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT DISTINCT arm FROM item WHERE plan = ? AND stage = ? ORDER BY arm")
            .bind(blob(plan))
            .bind(stage.name())
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))
    }

    /// The arms of a stage with how many of their items say yes at `field`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn arm_marks(&self, plan: &Digest, stage: Stage, field: &str) -> Result<Vec<ArmMark>, StoreError> {
        let rows = sqlx::query(MARKS)
            .bind(blob(plan))
            .bind(stage.name())
            .bind(field.to_owned())
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| arm_mark(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// The last items of a plan that took calls, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn newest_asked(&self, plan: &Digest, from: u32, count: u32) -> Result<Vec<ItemRow>, StoreError> {
        // The plus keeps SQLite from sorting the whole plan: mostly the last rows of the table are those of the plan.
        let rows =
            sqlx::query("SELECT * FROM item WHERE +plan = ? AND calls != x'' ORDER BY seq DESC LIMIT ? OFFSET ?")
                .bind(blob(plan))
                .bind(i64::from(count))
                .bind(i64::from(from))
                .fetch_all(&mut *self.reader().await?)
                .await
                .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| item_row(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// A number that grows with every item of a plan: while it stands still, so do figures made of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn last_item(&self, plan: &Digest) -> Result<Option<i64>, StoreError> {
        sqlx::query_scalar("SELECT max(seq) FROM item WHERE plan = ?")
            .bind(blob(plan))
            .fetch_one(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))
    }

    /// How many questions of a plan are in a split.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn question_count(&self, plan: &Digest, split: Split) -> Result<u64, StoreError> {
        let mut count = 0;
        self.each_question(plan, |question| count += u64::from(question.split == split)).await?;
        Ok(count)
    }

    /// Whether a process writes to the store now: what tells a run that is at work from one that was killed.
    ///
    /// # Errors
    /// None; those of a store on a server.
    #[expect(clippy::unused_async, reason = "a store on a server has to be asked")]
    pub async fn is_being_written(&self) -> Result<bool, StoreError> {
        Ok(lock::is_locked(self.path()))
    }
}

type Query<'a> = sqlx::query::Query<'a, sqlx::Sqlite, SqliteArguments>;

fn matching<'a>(sql: String, page: &ItemPage<'_>) -> Query<'a> {
    // No part of the text comes from outside.
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(blob(page.plan))
        .bind(page.stage.name())
        .bind(page.arm.to_owned())
        .bind(page.without.map(str::to_owned))
}

fn arm_mark(row: &SqliteRow) -> Result<ArmMark, sqlx::Error> {
    Ok(ArmMark {
        arm: row.try_get("arm")?,
        items: row.try_get::<i64, _>("items")?.unsigned_abs(),
        marked: row.try_get::<i64, _>("marked")?.unsigned_abs(),
    })
}
