//! A stage read part by part, as [`crate::bulk`] has it in a file.

use divvy_core::{digest::Digest, question::QuestionId, records::Stage};

use super::{
    PostgresStore,
    decode::{call_without_raw, item},
};
use crate::{
    codec::blob,
    error::StoreError,
    rows::{CallRecord, ItemRow},
};

const ITEMS: &str = "SELECT * FROM item
    WHERE plan = $1 AND stage = $2 AND question = ANY($3) AND state IS NOT NULL ORDER BY question, sample, arm";
const CALLS: &str = "SELECT call.*,
        request_body.encoding AS request_encoding, request_body.length AS request_length,
        request_body.bytes AS request_bytes,
        reply_body.encoding AS reply_encoding, reply_body.length AS reply_length, reply_body.bytes AS reply_bytes
    FROM call
    JOIN body AS request_body ON request_body.digest = call.request
    JOIN body AS reply_body ON reply_body.digest = call.reply
    WHERE call.key = ANY($1)";

impl PostgresStore {
    /// See [`crate::Store::items_of`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn items_of(
        &self,
        plan: &Digest,
        stage: Stage,
        questions: &[QuestionId],
    ) -> Result<Vec<ItemRow>, StoreError> {
        let questions: Vec<&str> = questions.iter().map(|question| question.0.as_str()).collect();
        let rows = self.read(|| sqlx::query(ITEMS).bind(blob(plan)).bind(stage.name()).bind(questions.clone())).await?;
        rows.iter().map(|row| item(row).map_err(|e| self.unreadable(&e))).collect()
    }

    /// See [`crate::Store::calls_of`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn calls_of(&self, keys: &[Digest]) -> Result<Vec<CallRecord>, StoreError> {
        let keys: Vec<Vec<u8>> = keys.iter().map(blob).collect();
        let rows = self.read(|| sqlx::query(CALLS).bind(keys.clone())).await?;
        rows.iter().map(|row| call_without_raw(row).map_err(|e| self.unreadable(&e))).collect()
    }
}
