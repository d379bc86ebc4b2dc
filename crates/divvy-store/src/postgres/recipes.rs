//! The recipe of each run, as [`crate::recipes`] has it in a file.

use sqlx::Row;

use super::PostgresStore;
use crate::{error::StoreError, recipes::KeptRecipe, rows::RunId};

impl PostgresStore {
    /// See [`crate::Store::keep_recipe`].
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn keep_recipe(&self, run: RunId, recipe: &KeptRecipe) -> Result<(), StoreError> {
        self.sure(|| {
            sqlx::query("INSERT INTO run_recipe (run, text, folder) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(run.0)
                .bind(recipe.text.clone())
                .bind(recipe.folder.clone())
        })
        .await
        .map(drop)
    }

    /// See [`crate::Store::kept_recipe`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kept_recipe(&self, run: RunId) -> Result<Option<KeptRecipe>, StoreError> {
        let rows = self.read(|| sqlx::query("SELECT text, folder FROM run_recipe WHERE run = $1").bind(run.0)).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let read = || Ok(KeptRecipe { text: row.try_get("text")?, folder: row.try_get("folder")? });
        read().map(Some).map_err(|e: sqlx::Error| self.unreadable(&e))
    }
}
