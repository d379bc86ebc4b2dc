//! The questions of a recipe: read or made by divvy-data, then split and checked for leaks.

use std::path::Path;

use divvy_core::{
    question::{Question, Split},
    recipe::{DataSet, Recipe},
};
use divvy_data::questions::load::{SourceSpec, read_questions};
use divvy_flow::split::Splits;

use crate::output::say;

/// Skipped rows shown by name; the rest is counted.
const SHOWN: usize = 5;

/// Train and test as the recipe names them, dev carved, leaks dealt with.
pub(crate) fn load(recipe: &Recipe, folder: &Path) -> anyhow::Result<Splits> {
    let train = read(recipe, &recipe.data.train, Split::Train, folder)?;
    let test = match &recipe.data.test {
        Some(test) => read(recipe, test, Split::Test, folder)?,
        None => Vec::new(),
    };
    let mut splits = Splits::carve(train, test, recipe.data.dev_rows, recipe.seed)?;
    splits.check_leaks(recipe.data.leaks)?.iter().for_each(|note| say(note));
    Ok(splits)
}

fn read(recipe: &Recipe, set: &DataSet, split: Split, folder: &Path) -> anyhow::Result<Vec<Question>> {
    // Dev is carved from train, so train has to bring its rows too.
    let extra = if split == Split::Train { recipe.data.dev_rows } else { 0 };
    let loaded = read_questions(&SourceSpec {
        dataset: set.dataset.clone(),
        split,
        files: set.files.clone(),
        base: folder.to_owned(),
        columns: set.columns.clone(),
        on_bad_row: recipe.data.on_bad_row,
        rows: set.rows.map(|rows| rows + extra),
        seed: recipe.seed,
    })?;
    if !loaded.skipped.is_empty() {
        say(&format!("{} bad rows of {split} skipped:", loaded.skipped.len()));
        loaded.skipped.iter().take(SHOWN).for_each(|row| say(&format!("  {row}")));
    }
    Ok(loaded.questions)
}
