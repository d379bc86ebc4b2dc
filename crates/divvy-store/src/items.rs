//! Items: the unit of truth of a run. Each put appends to the history; the newest row of a unit is its state.

use divvy_core::{
    digest::Digest,
    question::{Question, QuestionId},
    records::Stage,
};
use futures::TryStreamExt;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    body,
    codec::{blob, blobs, digest, digests, stage, state, state_text, undecodable},
    error::StoreError,
    rows::{ItemCount, ItemRow, PutBack, Unit},
    statement::{Sql, Statement},
    store::SqliteStore,
};

/// Questions in one body: enough to have much in common, few enough to be read for one of them.
const QUESTIONS_AT_ONCE: usize = 512;

const ITEM: Sql = Sql::new(
    "INSERT INTO item (plan, stage, question, sample, arm, state, reason, payload, calls, updated_ms)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
);

impl SqliteStore {
    /// Sets the state of items, in one transaction: all or none. Their plan must have been put before. On disk when this returns; puts
    /// that run at the same time share a transaction.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_items(&self, items: &[ItemRow]) -> Result<(), StoreError> {
        self.write(items.iter().map(item_statement).collect()).await.map(|_| ())
    }

    /// The items of a stage as they stand, by question, sample and arm.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items(&self, plan: &Digest, stage: Stage) -> Result<Vec<ItemRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM item WHERE seq IN (SELECT max(seq) FROM item WHERE plan = ?1 AND stage = ?2
                                              GROUP BY question, sample, arm)
             ORDER BY question, sample, arm",
        )
        .bind(blob(plan))
        .bind(stage.name())
        .fetch_all(&mut *self.reader().await?)
        .await
        .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| item_row(row).map_err(|e| self.unreadable(&e))).collect()
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
        let mut reader = self.reader().await?;
        let mut rows = sqlx::query(
            "SELECT question, sample, arm, state = 'done' AS done FROM item
             WHERE seq IN (SELECT max(seq) FROM item WHERE plan = ?1 AND stage = ?2 GROUP BY question, sample, arm)
               AND state IN ('done', 'rejected')",
        )
        .bind(blob(plan))
        .bind(stage.name())
        .fetch(&mut *reader);
        while let Some(row) = rows.try_next().await.map_err(|e| self.unreadable(&e))? {
            let read = || Ok((unit(&row)?, row.try_get("done")?));
            let (unit, is_done) = read().map_err(|e: sqlx::Error| self.unreadable(&e))?;
            each(unit, is_done);
        }
        Ok(())
    }

    /// Items of a stage settled since a moment, and when the first of them was; `None` when none was.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_since(
        &self,
        plan: &Digest,
        stage: Stage,
        since_ms: i64,
    ) -> Result<Option<(u64, i64)>, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS items, min(updated_ms) AS first FROM item
             WHERE plan = ? AND stage = ? AND state != 'pending' AND updated_ms >= ?",
        )
        .bind(blob(plan))
        .bind(stage.name())
        .bind(since_ms)
        .fetch_one(&mut *self.reader().await?)
        .await
        .map_err(|e| self.unreadable(&e))?;
        let read = || Ok(row.try_get::<Option<i64>, _>("first")?.zip(row.try_get::<Option<i64>, _>("items")?));
        let found = read().map_err(|e: sqlx::Error| self.unreadable(&e))?;
        Ok(found.map(|(first, items)| (items.unsigned_abs(), first)))
    }

    /// How often items of a stage were put back to pending, for those that ever were.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_put_back(&self, plan: &Digest, stage: Stage) -> Result<Vec<PutBack>, StoreError> {
        let rows = sqlx::query(
            // The payload is that of the row with the largest number, as SQLite says of max().
            "SELECT question, sample, count(*) AS times, payload, max(seq) FROM item
             WHERE plan = ? AND stage = ? AND state = 'pending' GROUP BY question, sample ORDER BY question, sample",
        )
        .bind(blob(plan))
        .bind(stage.name())
        .fetch_all(&mut *self.reader().await?)
        .await
        .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| put_back(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// How many items of a plan stand in which state, by stage, arm, state and reason.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn item_counts(&self, plan: &Digest) -> Result<Vec<ItemCount>, StoreError> {
        let rows = sqlx::query(
            "SELECT stage, arm, state, reason, count(*) AS items FROM item
             WHERE seq IN (SELECT max(seq) FROM item WHERE plan = ? GROUP BY stage, question, sample, arm)
             GROUP BY stage, arm, state, reason ORDER BY stage, arm, state, reason",
        )
        .bind(blob(plan))
        .fetch_all(&mut *self.reader().await?)
        .await
        .map_err(|e| self.unreadable(&e))?;
        rows.iter().map(|row| item_count(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// Keeps a plan's questions, each as JSON, so that a store can be read without its data files. A plan's digest covers
    /// their text and their order, so that what is there already is the same.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn put_questions(
        &self,
        plan: &Digest,
        questions: impl IntoIterator<Item = String>,
    ) -> Result<(), StoreError> {
        let mut questions = questions.into_iter().peekable();
        let mut number = 0;
        while questions.peek().is_some() {
            let mut lines = Vec::new();
            for question in questions.by_ref().take(QUESTIONS_AT_ONCE) {
                lines.extend_from_slice(question.as_bytes());
                lines.push(b'\n');
            }
            self.write(vec![questions_statement(plan, number, &lines)]).await?;
            number += 1;
        }
        Ok(())
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn question(&self, plan: &Digest, id: &QuestionId) -> Result<Option<Question>, StoreError> {
        let mut reader = self.reader().await?;
        let early: Option<String> = sqlx::query_scalar("SELECT json FROM question WHERE plan = ? AND id = ?")
            .bind(blob(plan))
            .bind(id.0.clone())
            .fetch_optional(&mut *reader)
            .await
            .map_err(|e| self.unreadable(&e))?;
        if let Some(json) = early {
            return read_question(json.as_bytes()).map(Some).map_err(|e| self.unreadable(&e));
        }
        let mut bodies = sqlx::query("SELECT length, lines FROM questions WHERE plan = ? ORDER BY number")
            .bind(blob(plan))
            .fetch(&mut *reader);
        while let Some(row) = bodies.try_next().await.map_err(|e| self.unreadable(&e))? {
            if let Some(question) = question_among(&row, id).map_err(|e| self.unreadable(&e))? {
                return Ok(Some(question));
            }
        }
        Ok(None)
    }

    /// Tells of each question of a plan, one after another, so that there may be any number of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn each_question(&self, plan: &Digest, mut each: impl FnMut(Question)) -> Result<(), StoreError> {
        let mut reader = self.reader().await?;
        let mut bodies = sqlx::query("SELECT length, lines FROM questions WHERE plan = ? ORDER BY number")
            .bind(blob(plan))
            .fetch(&mut *reader);
        let mut none = true;
        while let Some(row) = bodies.try_next().await.map_err(|e| self.unreadable(&e))? {
            none = false;
            unpack_questions(&row).map_err(|e| self.unreadable(&e))?.into_iter().for_each(&mut each);
        }
        drop(bodies);
        if none { self.each_early_question(&mut reader, plan, each).await } else { Ok(()) }
    }

    /// Written by an earlier version.
    async fn each_early_question(
        &self,
        reader: &mut SqliteConnection,
        plan: &Digest,
        mut each: impl FnMut(Question),
    ) -> Result<(), StoreError> {
        let mut rows = sqlx::query_scalar("SELECT json FROM question WHERE plan = ?").bind(blob(plan)).fetch(reader);
        while let Some(json) = rows.try_next().await.map_err(|e| self.unreadable(&e))? {
            let json: String = json;
            each(read_question(json.as_bytes()).map_err(|e| self.unreadable(&e))?);
        }
        Ok(())
    }
}

fn unpack_questions(row: &SqliteRow) -> Result<Vec<Question>, sqlx::Error> {
    let lines = body::unpack(row.try_get("length")?, row.try_get("lines")?)?;
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(read_question).collect()
}

fn question_among(row: &SqliteRow, id: &QuestionId) -> Result<Option<Question>, sqlx::Error> {
    Ok(unpack_questions(row)?.into_iter().find(|question| question.id == *id))
}

fn read_question(json: &[u8]) -> Result<Question, sqlx::Error> {
    serde_json::from_slice(json).map_err(|e| undecodable(format!("a question: {e}")))
}

fn item_statement(item: &ItemRow) -> Statement {
    let (state, reason) = state_text(&item.state);
    Statement::new(ITEM)
        .blob(blob(&item.plan))
        .text(item.stage.name())
        .text(item.question.0.as_str())
        .int(i64::from(item.sample))
        .text(item.arm.as_str())
        .text(state)
        .text_or_null(reason)
        .text(item.payload_json.as_str())
        .blob(blobs(&item.calls))
        .int(item.updated_ms)
}

fn questions_statement(plan: &Digest, number: i64, lines: &[u8]) -> Statement {
    let (length, lines) = body::pack(lines);
    Statement::new("INSERT INTO questions (plan, number, length, lines) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .blob(blob(plan))
        .int(number)
        .int(length)
        .blob(lines)
}

fn put_back(row: &SqliteRow) -> Result<PutBack, sqlx::Error> {
    let (question, payload_json) = (QuestionId(row.try_get("question")?), row.try_get("payload")?);
    Ok(PutBack { question, sample: row.try_get("sample")?, times: row.try_get("times")?, payload_json })
}

pub(crate) fn item_row(row: &SqliteRow) -> Result<ItemRow, sqlx::Error> {
    Ok(ItemRow {
        plan: digest(row.try_get("plan")?)?,
        stage: stage(row.try_get("stage")?)?,
        question: QuestionId(row.try_get("question")?),
        sample: row.try_get("sample")?,
        arm: row.try_get("arm")?,
        state: state(row.try_get("state")?, row.try_get("reason")?)?,
        payload_json: row.try_get("payload")?,
        calls: digests(row.try_get("calls")?)?,
        updated_ms: row.try_get("updated_ms")?,
    })
}

fn unit(row: &SqliteRow) -> Result<Unit, sqlx::Error> {
    Ok(Unit {
        question: QuestionId(row.try_get("question")?),
        sample: row.try_get("sample")?,
        arm: row.try_get("arm")?,
    })
}

fn item_count(row: &SqliteRow) -> Result<ItemCount, sqlx::Error> {
    Ok(ItemCount {
        stage: stage(row.try_get("stage")?)?,
        arm: row.try_get("arm")?,
        state: state(row.try_get("state")?, row.try_get("reason")?)?,
        items: row.try_get::<i64, _>("items")?.unsigned_abs(),
    })
}
