//! The recipe of each run as it was written, so that what a run measured can be served without its file.

use sqlx::Row;

use crate::{error::StoreError, rows::RunId, statement::Statement, store::SqliteStore};

/// A recipe as it stood when a run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRecipe {
    pub text: String,
    /// Where its relative paths are seen from.
    pub folder: String,
}

impl SqliteStore {
    /// Keeps the recipe of a run that has begun. The caller answers for it that no secret stands in the text.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn keep_recipe(&self, run: RunId, recipe: &KeptRecipe) -> Result<(), StoreError> {
        let insert = Statement::new("INSERT INTO run_recipe (run, text, folder) VALUES (?, ?, ?)")
            .int(run.0)
            .text(recipe.text.as_str())
            .text(recipe.folder.as_str());
        self.write(vec![insert]).await.map(|_| ())
    }

    /// The recipe of a run, where it was kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kept_recipe(&self, run: RunId) -> Result<Option<KeptRecipe>, StoreError> {
        let row = sqlx::query("SELECT text, folder FROM run_recipe WHERE run = ?")
            .bind(run.0)
            .fetch_optional(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        let Some(row) = row else { return Ok(None) };
        let read = || Ok(KeptRecipe { text: row.try_get("text")?, folder: row.try_get("folder")? });
        read().map(Some).map_err(|e: sqlx::Error| self.unreadable(&e))
    }
}
