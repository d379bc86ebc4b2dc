//! Texts that come with every call and are few: names of models, their identities, endpoints. A call refers to them by
//! number, and a number is the same for the life of a store.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use sqlx::SqliteConnection;

use crate::{error::StoreError, statement::Statement, store::SqliteStore};

#[derive(Debug, Default)]
pub(crate) struct Words {
    /// So few that comparing is faster than hashing.
    known: RwLock<BTreeMap<String, i64>>,
    /// Who holds it gives the next number.
    adding: tokio::sync::Mutex<()>,
}

impl Words {
    pub(crate) async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let words: Vec<(String, i64)> = sqlx::query_as("SELECT text, id FROM word").fetch_all(connection).await?;
        Ok(Self { known: RwLock::new(words.into_iter().collect()), adding: tokio::sync::Mutex::default() })
    }

    fn id(&self, text: &str) -> Option<i64> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(text).copied()
    }
}

impl SqliteStore {
    /// The number of a text; it is on disk when this returns.
    pub(crate) async fn word(&self, text: &str) -> Result<i64, StoreError> {
        match self.words().id(text) {
            Some(id) => Ok(id),
            // On the heap, as it is rare: every request holds room for what it may wait for.
            None => Box::pin(self.new_word(text)).await,
        }
    }

    async fn new_word(&self, text: &str) -> Result<i64, StoreError> {
        let _adding = self.words().adding.lock().await;
        if let Some(id) = self.words().id(text) {
            return Ok(id);
        }
        // No batch: the row's number is wanted.
        let insert = Statement::new("INSERT INTO word (text) SELECT ?").text(text);
        let id = self.write(vec![insert]).await?;
        self.words().known.write().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned(), id);
        Ok(id)
    }

    pub(crate) async fn word_or_null(&self, text: Option<&str>) -> Result<Option<i64>, StoreError> {
        match text {
            Some(text) => self.word(text).await.map(Some),
            None => Ok(None),
        }
    }
}
