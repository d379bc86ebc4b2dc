//! The questions of a recipe: read or made by divvy-data, then split and checked for leaks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use divvy_core::{
    datasets::DatasetKind,
    question::Split,
    questions::Questions,
    recipe::{DataSet, Recipe},
};
use divvy_data::questions::{
    aside::Aside,
    load::{SourceSpec, read_questions},
};
use divvy_flow::split::Splits;

use crate::{
    cli::Place,
    home::Home,
    output::{Usage, say},
};

/// Skipped rows shown by name; the rest is counted.
const SHOWN: usize = 5;

/// Train and test as the recipe names them, dev carved, leaks dealt with.
pub(crate) fn load(recipe: &Recipe, place: &Place) -> anyhow::Result<Splits> {
    let mut sets = Vec::new();
    for set in recipe.data.train.all() {
        let train = read(recipe, set, Split::Train, place)?;
        sets.push(Splits::carve(train, Questions::default(), recipe.data.dev_rows_of(set), recipe.seed)?);
    }
    for set in recipe.data.test.all() {
        sets.push(Splits { test: read(recipe, set, Split::Test, place)?, ..Splits::default() });
    }
    let mut splits = Splits::joined(sets, recipe.seed)?;
    splits.check_leaks(recipe.data.leaks)?.iter().for_each(|note| say(note));
    Ok(splits)
}

/// Where `divvy serve --record` keeps what is asked: in the folder, also where records are on a server.
pub(crate) fn traffic(store: Option<&Path>) -> PathBuf {
    Home::new(store, None).folder.join("traffic.jsonl")
}

/// The store's record of traffic, where the recipe names no files.
fn files(set: &DataSet, place: &Place) -> anyhow::Result<Vec<String>> {
    if set.dataset != DatasetKind::Traffic.name() || !set.files.is_empty() {
        return Ok(set.files.clone());
    }
    let file = std::path::absolute(traffic(place.store.as_deref()))?;
    if !file.exists() {
        let (file, recipe) = (traffic(place.store.as_deref()), place.recipe.display());
        let way_out =
            format!("`divvy serve {recipe} --record` keeps what is asked, or name another store with --store");
        return Err(Usage(format!("no traffic is recorded at `{}` yet; {way_out}", file.display())).into());
    }
    Ok(vec![file.to_string_lossy().into_owned()])
}

fn read(recipe: &Recipe, set: &DataSet, split: Split, place: &Place) -> anyhow::Result<Questions> {
    // Dev is carved from train, so train has to bring its rows too.
    let extra = if split == Split::Train { recipe.data.dev_rows_of(set) } else { 0 };
    let spec = SourceSpec {
        dataset: set.dataset.clone(),
        name: set.name().to_owned(),
        style: set.style,
        split,
        files: files(set, place)?,
        base: place.data_folder(),
        lines: set.lines,
        columns: set.columns.clone(),
        scorer: set.scorer,
        on_bad_row: recipe.data.on_bad_row,
        rows: set.rows.map(|rows| rows + extra),
        seed: recipe.seed,
    };
    let beside = Home::new(place.store.as_deref(), recipe.store.as_deref()).folder;
    let loaded = read_questions(&spec, Arc::new(Aside::new(&beside)))?;
    if !loaded.skipped.is_empty() {
        say(&format!("{} bad rows of {split} skipped in {}:", loaded.skipped.len(), set.name()));
        loaded.skipped.iter().take(SHOWN).for_each(|row| say(&format!("  {row}")));
    }
    if set.dataset == DatasetKind::Traffic.name() {
        let (questions, lines, repeated) = (loaded.questions.len(), loaded.lines, loaded.repeated);
        let same = match set.lines {
            None => format!("; `--from traffic:{lines}` means the same ones when more are recorded"),
            Some(_) => String::new(),
        };
        say(&format!("traffic: {questions} questions in {lines} lines, {repeated} repeated ones left out{same}"));
    }
    Ok(loaded.questions)
}
