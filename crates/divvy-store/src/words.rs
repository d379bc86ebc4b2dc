//! Texts that come with every call and are few: names of models, their identities, endpoints. A call refers to them by
//! number, and a number is the same for the life of a store.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use sqlx::SqliteConnection;

use crate::{error::StoreError, statement::Statement, store::SqliteStore};

/// By number.
pub(crate) type Texts = BTreeMap<i64, String>;

#[derive(Debug, Default)]
pub(crate) struct Words {
    /// So few that comparing is faster than hashing.
    known: RwLock<BTreeMap<String, i64>>,
    texts: RwLock<Arc<Texts>>,
    /// Who holds it gives the next number.
    adding: tokio::sync::Mutex<()>,
}

impl Words {
    pub(crate) async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        let texts = texts(connection).await?;
        let known = texts.iter().map(|(id, text)| (text.clone(), *id)).collect();
        Ok(Self { known: RwLock::new(known), texts: RwLock::new(Arc::new(texts)), ..Self::default() })
    }

    fn id(&self, text: &str) -> Option<i64> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(text).copied()
    }

    fn texts(&self) -> Arc<Texts> {
        Arc::clone(&self.texts.read().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn texts(connection: &mut SqliteConnection) -> Result<Texts, sqlx::Error> {
    let words: Vec<(i64, String)> = sqlx::query_as("SELECT id, text FROM word").fetch_all(connection).await?;
    Ok(words.into_iter().collect())
}

impl SqliteStore {
    /// The texts of these numbers and others. They are read again where one is missing: somebody has added it since.
    pub(crate) async fn texts_of(&self, mut ids: impl Iterator<Item = i64>) -> Result<Arc<Texts>, StoreError> {
        let known = self.words().texts();
        if ids.all(|id| known.contains_key(&id)) {
            return Ok(known);
        }
        let read = texts(&mut *self.reader().await?).await.map_err(|e| self.unreadable(&e))?;
        let read = Arc::new(read);
        *self.words().texts.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&read);
        Ok(read)
    }

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
