//! A stage read part by part, so that a report over any number of rows takes the memory of a few hundred. There is no index
//! of units on disk: where each question's rows stand is looked up once, and what they hold is read when its turn comes.

use std::{
    collections::{BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use divvy_core::{digest::Digest, question::QuestionId, records::Stage};
use futures::TryStreamExt;
use sqlx::Row;

use crate::{
    call_sql::{CALLS_AT, WORDS_OF_CALL, call_without_raw, listed, words_in},
    codec::blob,
    error::StoreError,
    items::item_row,
    rows::{CallRecord, ItemRow},
    store::SqliteStore,
};

/// Where the newest rows of each question stand: its hash beside the number of each row, in order, sixteen bytes a row. A
/// server has an index for that, and leaves it empty.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<(u64, i64)>);

impl Places {
    /// Rows of other questions too, should two have one hash.
    fn of(&self, question: &str) -> impl Iterator<Item = i64> + '_ {
        let hash = hash(question);
        let first = self.0.partition_point(|(other, _)| *other < hash);
        self.0[first..].iter().take_while(move |(other, _)| *other == hash).map(|(_, seq)| *seq)
    }
}

fn hash(question: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    question.hash(&mut hasher);
    hasher.finish()
}

const PLACES: &str =
    "SELECT question, max(seq) AS seq FROM item WHERE plan = ?1 AND stage = ?2 GROUP BY question, sample, arm";
const NEWEST: &str = "SELECT max(seq) FROM item WHERE plan = ?1 AND stage = ?2
    GROUP BY question, sample, arm ORDER BY question, sample, arm";
const ALL: &str = "SELECT seq FROM item WHERE plan = ?1 AND stage = ?2 AND state != 'pending' ORDER BY seq";
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
        let mut reader = self.reader().await?;
        let mut rows = sqlx::query(PLACES).bind(blob(plan)).bind(stage.name()).fetch(&mut *reader);
        let mut places = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(|e| self.unreadable(&e))? {
            let place = || Ok((hash(row.try_get("question")?), row.try_get("seq")?));
            places.push(place().map_err(|e: sqlx::Error| self.unreadable(&e))?);
        }
        places.sort_unstable();
        Ok(Places(places))
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
        let seqs: Vec<i64> = questions.iter().flat_map(|question| places.of(&question.0)).collect();
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let (wanted, mut rows): (HashSet<&QuestionId>, _) = (questions.iter().collect(), self.items_at(&seqs).await?);
        rows.retain(|row| wanted.contains(&row.question));
        Ok(rows)
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
        self.rows_of(NEWEST, plan, stage).await
    }

    /// Every row that has an outcome of an item of a stage, the replaced ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn all_rows(&self, plan: &Digest, stage: Stage) -> Result<Vec<i64>, StoreError> {
        self.rows_of(ALL, plan, stage).await
    }

    async fn rows_of(&self, sql: &'static str, plan: &Digest, stage: Stage) -> Result<Vec<i64>, StoreError> {
        sqlx::query_scalar(sql)
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

    /// One that only reads looks up where the calls stand that others have made since.
    pub(crate) async fn learn_calls(&self) -> Result<(), StoreError> {
        if self.is_read_only() {
            self.catch_up().await?;
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
        self.learn_calls().await?;
        let seqs = self.find_all(wanted.iter().copied()).await?;
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(CALLS_AT)
            .bind(listed(&seqs))
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        let texts = self.texts_of(words_in(&rows, WORDS_OF_CALL)).await?;
        let (mut calls, mut seen) = (Vec::with_capacity(rows.len()), BTreeSet::new());
        for row in &rows {
            let call = call_without_raw(row, &texts).map_err(|e| self.unreadable(&e))?;
            // The first record of a key wins, and a number may belong to another key.
            if wanted.contains(&call.key) && seen.insert(call.key.clone()) {
                calls.push(call);
            }
        }
        Ok(calls)
    }
}
