//! From a recipe to a plan: every default filled in, every name looked up, and each mistake told with its key. A file for
//! each table of the recipe.

mod arms;
mod data;
mod models;
mod stages;
mod students;

use super::{RECORDED, TEACHER};
use crate::recipe::{self, Recipe, RecipeError};

/// Resolves names against one recipe.
pub(super) struct Names<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) origin: &'a str,
}

impl Names<'_> {
    pub(super) fn fail<T>(&self, key: &str, message: impl std::fmt::Display) -> Result<T, RecipeError> {
        Err(RecipeError::at_key(self.origin, key, message))
    }

    pub(super) fn model(&self, key: &str, name: &str) -> Result<(), RecipeError> {
        if self.recipe.models.contains_key(name) {
            return Ok(());
        }
        let error = RecipeError::at_key(self.origin, key, format!("no model is called `{name}`"));
        if name == RECORDED {
            return Err(error.hint(format!("the recorded teacher goes by the name of its role, `{TEACHER}`")));
        }
        let known = self.recipe.models.keys().map(String::as_str);
        Err(match recipe::nearest(name, known) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("add [models.{name}] with a source")),
        })
    }
}
