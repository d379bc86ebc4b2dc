//! Items as they stand, and their history, as [`crate::items`] has them in the embedded store.

use divvy_core::{
    digest::Digest,
    question::{Question, QuestionId},
    records::Stage,
};
use sqlx::{
    Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    PostgresStore,
    batch::Write,
    decode::{item, item_count, put_back, unit},
};
use crate::{
    codec::{blob, undecodable},
    error::StoreError,
    rows::{ItemCount, ItemRow, PutBack, Unit},
};

const ITEMS: &str = "SELECT * FROM item
    WHERE plan = $1 AND stage = $2 AND (question, sample, arm) > ($3, $4, $5) AND state IS NOT NULL
    ORDER BY question, sample, arm LIMIT $6";
/// In the order of an index.
const OUTCOMES: &str = "SELECT * FROM item_history
    WHERE plan = $1 AND stage = $2 AND state <> 'pending' AND (updated_ms, seq) > ($3, $4)
    ORDER BY updated_ms, seq LIMIT $5";
const SETTLED: &str = "SELECT question, sample, arm, state = 'done' AS done FROM item
    WHERE plan = $1 AND stage = $2 AND (question, sample, arm) > ($3, $4, $5) AND state IN ('done', 'rejected')
    ORDER BY question, sample, arm LIMIT $6";
/// Names of items in one answer.
const UNITS_AT_ONCE: i64 = 4096;
/// Questions in one statement: as arrays they take more memory than as questions.
const QUESTIONS_AT_ONCE: usize = 4096;

impl PostgresStore {
    /// See [`crate::Store::put_items`]. Whoever has an item in work keeps it.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_items(&self, items: &[ItemRow]) -> Result<(), StoreError> {
        let items = items.iter().map(|item| (item.clone(), None)).collect();
        self.write(Write { items, ..Write::default() }).await.map(drop)
    }

    /// See [`crate::Store::items`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items(&self, plan: &Digest, stage: Stage) -> Result<Vec<ItemRow>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT * FROM item WHERE plan = $1 AND stage = $2 AND state IS NOT NULL
                     ORDER BY question, sample, arm",
                )
                .bind(blob(plan))
                .bind(stage.name())
            })
            .await?;
        rows.iter().map(|row| item(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::each_settled`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_settled(
        &self,
        plan: &Digest,
        stage: Stage,
        mut each: impl FnMut(Unit, bool),
    ) -> Result<(), StoreError> {
        let mut last: Option<Unit> = None;
        loop {
            let rows = self.read(|| behind(SETTLED, (plan, stage), last.as_ref(), UNITS_AT_ONCE)).await?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in &rows {
                let read = || Ok((unit(row)?, row.try_get("done")?));
                let (unit, is_done): (Unit, bool) = read().map_err(|e: sqlx::Error| self.unreadable(&e))?;
                each(unit, is_done);
            }
            last = rows.last().map(unit).transpose().map_err(|e| self.unreadable(&e))?;
        }
    }

    /// So many items of a stage, by question, sample and arm, that come behind one: all of them in the end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn items_behind(
        &self,
        plan: &Digest,
        stage: Stage,
        last: Option<&Unit>,
        count: i64,
    ) -> Result<Vec<ItemRow>, StoreError> {
        let rows = self.read(|| behind(ITEMS, (plan, stage), last, count)).await?;
        rows.iter().map(|row| item(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// So many outcomes that items of a stage ever had, by time and number, that come behind one, and the place of the last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn outcomes_behind(
        &self,
        plan: &Digest,
        stage: Stage,
        last: (i64, i64),
        count: i64,
    ) -> Result<(Vec<ItemRow>, Option<(i64, i64)>), StoreError> {
        let rows = self
            .read(|| {
                let query = sqlx::query(OUTCOMES).bind(blob(plan)).bind(stage.name());
                query.bind(last.0).bind(last.1).bind(count)
            })
            .await?;
        let read = || {
            let items: Vec<ItemRow> = rows.iter().map(item).collect::<Result<_, sqlx::Error>>()?;
            Ok((items, rows.last().map(place).transpose()?))
        };
        read().map_err(|e: sqlx::Error| self.unreadable(&e))
    }

    /// See [`crate::Store::items_since`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_since(
        &self,
        plan: &Digest,
        stage: Stage,
        since_ms: i64,
    ) -> Result<Option<(u64, i64)>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT count(*) AS items, min(updated_ms) AS first FROM item_history
                     WHERE plan = $1 AND stage = $2 AND state <> 'pending' AND updated_ms >= $3",
                )
                .bind(blob(plan))
                .bind(stage.name())
                .bind(since_ms)
            })
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let read = || Ok((row.try_get::<i64, _>("items")?, row.try_get::<Option<i64>, _>("first")?));
        let (items, first) = read().map_err(|e: sqlx::Error| self.unreadable(&e))?;
        Ok(first.map(|first| (items.unsigned_abs(), first)))
    }

    /// See [`crate::Store::items_put_back`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_put_back(&self, plan: &Digest, stage: Stage) -> Result<Vec<PutBack>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT question, sample, count(*) AS times, (array_agg(payload ORDER BY seq DESC))[1] AS payload
                     FROM item_history
                     WHERE plan = $1 AND stage = $2 AND state = 'pending'
                     GROUP BY question, sample ORDER BY question, sample",
                )
                .bind(blob(plan))
                .bind(stage.name())
            })
            .await?;
        rows.iter().map(|row| put_back(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::item_counts`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn item_counts(&self, plan: &Digest) -> Result<Vec<ItemCount>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT stage, arm, state, reason, count(*) AS items FROM item
                     WHERE plan = $1 AND state IS NOT NULL
                     GROUP BY stage, arm, state, reason ORDER BY stage, arm, state, reason NULLS FIRST",
                )
                .bind(blob(plan))
            })
            .await?;
        rows.iter().map(|row| item_count(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::put_questions`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_questions(
        &self,
        plan: &Digest,
        questions: impl IntoIterator<Item = String>,
    ) -> Result<(), StoreError> {
        let mut questions = questions.into_iter().peekable();
        while questions.peek().is_some() {
            // Sorted: workers that begin together put the same ones.
            let some = questions.by_ref().take(QUESTIONS_AT_ONCE).map(|json| Ok((id_of(&json)?.0, json)));
            let some: Result<_, sqlx::Error> = some.collect();
            let mut rows: Vec<(String, String)> = some.map_err(|e| self.unreadable(&e))?;
            rows.sort();
            let (ids, texts): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
            self.sure(|| {
                sqlx::query(
                    "INSERT INTO question (plan, id, json) SELECT $1, * FROM unnest($2::text[], $3::text[])
                     ON CONFLICT DO NOTHING",
                )
                .bind(blob(plan))
                .bind(&ids)
                .bind(&texts)
            })
            .await?;
        }
        Ok(())
    }

    /// See [`crate::Store::question`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn question(&self, plan: &Digest, id: &QuestionId) -> Result<Option<Question>, StoreError> {
        let rows = self
            .read(|| sqlx::query("SELECT json FROM question WHERE plan = $1 AND id = $2").bind(blob(plan)).bind(&id.0))
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let json: &str = row.try_get("json").map_err(|e| self.unreadable(&e))?;
        serde_json::from_str(json).map_err(|e| self.unreadable(&undecodable(format!("question {id}: {e}"))))
    }
}

fn behind<'q>(
    sql: &'static str,
    (plan, stage): (&Digest, Stage),
    last: Option<&Unit>,
    count: i64,
) -> Query<'q, Postgres, PgArguments> {
    // No sample is as low as that of no item.
    let (question, sample, arm) =
        last.map_or(("", -1, ""), |unit| (&unit.question.0, i64::from(unit.sample), &unit.arm));
    sqlx::query(sql)
        .bind(blob(plan))
        .bind(stage.name())
        .bind(question.to_owned())
        .bind(sample)
        .bind(arm.to_owned())
        .bind(count)
}

fn place(outcome: &PgRow) -> Result<(i64, i64), sqlx::Error> {
    Ok((outcome.try_get("updated_ms")?, outcome.try_get("seq")?))
}

fn id_of(question: &str) -> Result<QuestionId, sqlx::Error> {
    let read: Result<Question, _> = serde_json::from_str(question);
    read.map(|question| question.id).map_err(|e| undecodable(format!("a question: {e}")))
}
