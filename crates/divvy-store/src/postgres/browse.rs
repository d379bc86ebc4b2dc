//! Looks at a store on a server a page at a time, as [`crate::browse`] has them in a file.

use divvy_core::{
    digest::Digest,
    question::{Question, Split},
    records::Stage,
};
use sqlx::{Postgres, Row, postgres::PgArguments, query::Query};

use super::{PostgresStore, decode::item};
use crate::{
    browse::{ArmMark, ItemPage},
    codec::{blob, undecodable},
    error::StoreError,
    rows::ItemRow,
};

/// A payload says yes at a field where that is `true`; one that lacks the field does not.
macro_rules! says_yes {
    ($field:literal) => {
        concat!("coalesce(jsonb_path_match(payload::jsonb, (", $field, " || ' == true')::jsonpath, '{}', true), false)")
    };
}

const MATCHING: &str = concat!(
    "FROM item WHERE plan = $1 AND stage = $2 AND arm = $3 AND state IS NOT NULL AND state <> 'pending'
      AND ($4::text IS NULL OR state <> 'done' OR CASE $4 WHEN '' THEN false ELSE NOT ",
    says_yes!("$4"),
    " END)"
);

const MARKS: &str = concat!(
    "SELECT arm, count(*) AS items, count(*) FILTER (WHERE ",
    says_yes!("$3"),
    ") AS marked FROM item
     WHERE plan = $1 AND stage = $2 AND state IS NOT NULL AND state <> 'pending' GROUP BY arm ORDER BY arm"
);

/// Questions in one page.
const QUESTIONS_AT_ONCE: i64 = 1024;

impl PostgresStore {
    /// See [`crate::Store::items_page`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_page(&self, page: &ItemPage<'_>) -> Result<Vec<ItemRow>, StoreError> {
        let sql = format!("SELECT * {MATCHING} ORDER BY question, sample LIMIT $5 OFFSET $6");
        let rows =
            self.read(|| matching(sql.clone(), page).bind(i64::from(page.count)).bind(i64::from(page.from))).await?;
        rows.iter().map(|row| item(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::items_matching`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_matching(&self, page: &ItemPage<'_>) -> Result<u64, StoreError> {
        self.number(|| matching(format!("SELECT count(*) AS number {MATCHING}"), page)).await
    }

    /// See [`crate::Store::arms`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn arms(&self, plan: &Digest, stage: Stage) -> Result<Vec<String>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query("SELECT DISTINCT arm FROM item WHERE plan = $1 AND stage = $2 ORDER BY arm")
                    .bind(blob(plan))
                    .bind(stage.name())
            })
            .await?;
        rows.iter().map(|row| row.try_get("arm").map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::arm_marks`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn arm_marks(&self, plan: &Digest, stage: Stage, field: &str) -> Result<Vec<ArmMark>, StoreError> {
        let rows = self.read(|| sqlx::query(MARKS).bind(blob(plan)).bind(stage.name()).bind(field.to_owned())).await?;
        let read = |row: &sqlx::postgres::PgRow| {
            let count = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
            Ok(ArmMark { arm: row.try_get("arm")?, items: count("items")?, marked: count("marked")? })
        };
        rows.iter().map(|row| read(row).map_err(|e: sqlx::Error| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::newest_asked`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn newest_asked(&self, plan: &Digest, from: u32, count: u32) -> Result<Vec<ItemRow>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query("SELECT * FROM item WHERE plan = $1 AND calls <> '' ORDER BY seq DESC LIMIT $2 OFFSET $3")
                    .bind(blob(plan))
                    .bind(i64::from(count))
                    .bind(i64::from(from))
            })
            .await?;
        rows.iter().map(|row| item(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::last_item`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn last_item(&self, plan: &Digest) -> Result<Option<i64>, StoreError> {
        let rows =
            self.read(|| sqlx::query("SELECT max(seq) AS last FROM item WHERE plan = $1").bind(blob(plan))).await?;
        rows.first().map_or(Ok(None), |row| row.try_get("last").map_err(|e| self.unreadable(&e)))
    }

    /// See [`crate::Store::each_question`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_question(&self, plan: &Digest, mut each: impl FnMut(Question)) -> Result<(), StoreError> {
        let read = |row: &sqlx::postgres::PgRow| {
            serde_json::from_str(row.try_get("json")?).map_err(|e| undecodable(format!("a question: {e}")))
        };
        let mut last = String::new();
        loop {
            let page = "SELECT json FROM question WHERE plan = $1 AND id > $2 ORDER BY id LIMIT $3";
            let rows = self.read(|| sqlx::query(page).bind(blob(plan)).bind(&last).bind(QUESTIONS_AT_ONCE)).await?;
            for row in &rows {
                let question: Question = read(row).map_err(|e| self.unreadable(&e))?;
                last.clone_from(&question.id.0);
                each(question);
            }
            if rows.is_empty() {
                return Ok(());
            }
        }
    }

    /// See [`crate::Store::question_count`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn question_count(&self, plan: &Digest, split: Split) -> Result<u64, StoreError> {
        self.number(|| {
            sqlx::query("SELECT count(*) AS number FROM question WHERE plan = $1 AND json::jsonb ->> 'split' = $2")
                .bind(blob(plan))
                .bind(split.to_string())
        })
        .await
    }

    /// See [`crate::Store::is_being_written`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn is_being_written(&self) -> Result<bool, StoreError> {
        Ok(!self.workers().await?.is_empty())
    }

    /// The one number that a statement finds.
    async fn number<'q>(&self, statement: impl Fn() -> Query<'q, Postgres, PgArguments>) -> Result<u64, StoreError> {
        let rows = self.read(statement).await?;
        let number = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>("number"));
        number.map(i64::unsigned_abs).map_err(|e| self.unreadable(&e))
    }
}

fn matching<'q>(sql: String, page: &ItemPage<'_>) -> Query<'q, Postgres, PgArguments> {
    // No part of the text comes from outside.
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(blob(page.plan))
        .bind(page.stage.name())
        .bind(page.arm.to_owned())
        .bind(page.without.map(str::to_owned))
}
