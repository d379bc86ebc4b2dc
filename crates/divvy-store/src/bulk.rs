//! A stage read part by part, so that a report over any number of rows takes the memory of a few hundred. There is no index
//! of units on disk: where each question's rows stand is looked up once, and what they hold is read when its turn comes.

use std::collections::{BTreeSet, HashMap};

use divvy_core::{digest::Digest, question::QuestionId, records::Stage};
use sqlx::Row;

use crate::{
    call_sql::{CALLS_AT, call_without_raw, listed},
    codec::{blob, undecodable},
    error::StoreError,
    items::item_row,
    rows::{CallRecord, ItemRow},
    store::SqliteStore,
};

/// Where the newest rows of each question stand. A server has an index for that, and leaves it empty.
#[derive(Clone, Debug, Default)]
pub struct Places(HashMap<String, Vec<i64>>);

const PLACES: &str = "SELECT question, group_concat(seq) AS seqs FROM
        (SELECT question, max(seq) AS seq FROM item WHERE plan = ?1 AND stage = ?2 GROUP BY question, sample, arm)
    GROUP BY question";
const NEWEST: &str = "SELECT max(seq) FROM item WHERE plan = ?1 AND stage = ?2
    GROUP BY question, sample, arm ORDER BY question, sample, arm";
const ITEMS_AMONG: &str = "SELECT * FROM item WHERE seq IN
        (SELECT max(seq) FROM item
         WHERE plan = ?1 AND stage = ?2 AND question IN (SELECT value FROM json_each(?3)) GROUP BY question, sample, arm)
    ORDER BY question, sample, arm";
const ITEMS: &str = "SELECT * FROM item WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY question, sample, arm";

impl SqliteStore {
    /// See [`crate::Store::places`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn places(&self, plan: &Digest, stage: Stage) -> Result<Places, StoreError> {
        let rows = sqlx::query(PLACES)
            .bind(blob(plan))
            .bind(stage.name())
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let seqs: &str = row.try_get("seqs")?;
            let seqs: Result<Vec<i64>, _> = seqs.split(',').map(str::parse).collect();
            Ok((row.try_get("question")?, seqs.map_err(|e| undecodable(format!("a row's number: {e}")))?))
        };
        let places: Result<HashMap<_, _>, sqlx::Error> = rows.iter().map(read).collect();
        places.map(Places).map_err(|e| self.unreadable(&e))
    }

    /// See [`crate::Store::items_of`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_of(
        &self,
        places: &Places,
        _plan: &Digest,
        _stage: Stage,
        questions: &[QuestionId],
    ) -> Result<Vec<ItemRow>, StoreError> {
        let seqs: Vec<i64> =
            questions.iter().filter_map(|question| places.0.get(&question.0)).flatten().copied().collect();
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        self.items_at(&seqs).await
    }

    /// See [`crate::Store::items_among`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_among(
        &self,
        plan: &Digest,
        stage: Stage,
        questions: &[QuestionId],
    ) -> Result<Vec<ItemRow>, StoreError> {
        let rows = sqlx::query(ITEMS_AMONG)
            .bind(blob(plan))
            .bind(stage.name())
            .bind(serde_json::to_string(questions).expect("names are plain JSON"))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| item_row(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// The newest row of each item of a stage, by question, sample and arm.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn newest_rows(&self, plan: &Digest, stage: Stage) -> Result<Vec<i64>, StoreError> {
        sqlx::query_scalar(NEWEST)
            .bind(blob(plan))
            .bind(stage.name())
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))
    }

    /// The items in these rows, by question, sample and arm.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn items_at(&self, seqs: &[i64]) -> Result<Vec<ItemRow>, StoreError> {
        let rows = sqlx::query(ITEMS)
            .bind(listed(seqs))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| item_row(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::learn_calls`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn learn_calls(&self) -> Result<(), StoreError> {
        if self.is_read_only() {
            self.keys().catch_up(&mut *self.reader().await?).await.map_err(|e| self.unreadable(&e))?;
        }
        Ok(())
    }

    /// See [`crate::Store::calls_of`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calls_of(&self, keys: &[Digest]) -> Result<Vec<CallRecord>, StoreError> {
        // In order, which is how they are looked up fastest.
        let wanted: BTreeSet<&Digest> = keys.iter().collect();
        let seqs = match self.keys().find_each(wanted.iter().copied()) {
            Some(seqs) => seqs,
            None => {
                self.learn_calls().await?;
                wanted.iter().flat_map(|key| self.keys().find(key)).collect()
            }
        };
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(CALLS_AT)
            .bind(listed(&seqs))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        let (mut calls, mut seen) = (Vec::with_capacity(rows.len()), BTreeSet::new());
        for row in &rows {
            let call = call_without_raw(row).map_err(|e| self.unreadable(&e))?;
            // The first record of a key wins, and a number may belong to another key.
            if wanted.contains(&call.key) && seen.insert(call.key.clone()) {
                calls.push(call);
            }
        }
        Ok(calls)
    }
}
