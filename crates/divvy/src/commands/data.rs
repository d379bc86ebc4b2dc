//! `divvy data`: which data sets there are, and what one looks like once read.

use std::{path::PathBuf, sync::Arc};

use divvy_core::{
    datasets::{DatasetKind, UnknownDataset},
    question::{Question, Split},
    questions::InMemory,
    recipe::OnBadRow,
    synth,
};
use divvy_data::questions::load::{SourceSpec, read_questions};

use crate::{
    cli::Place,
    output::{Usage, print},
    questions,
    session::read_recipe,
};

/// What is asked of `divvy data`.
pub(crate) struct Preview<'a> {
    pub(crate) files: &'a [PathBuf],
    pub(crate) rows: usize,
    pub(crate) seed: u64,
    pub(crate) json: bool,
}

/// Questions of each split, as the stages will see them.
pub(crate) fn of_recipe(place: &Place, preview: &Preview<'_>) -> anyhow::Result<()> {
    let (recipe, _) = read_recipe(place)?;
    let splits = questions::load(&recipe, place)?;
    for (name, split) in [("train", &splits.train), ("dev", &splits.dev), ("test", &splits.test)] {
        if !preview.json && !split.is_empty() {
            print(&format!("{name}: {} questions\n", split.len()))?;
        }
        show_all(split.iter().take(preview.rows), preview.json)?;
    }
    Ok(())
}

pub(crate) fn run(dataset: Option<&str>, preview: &Preview<'_>) -> anyhow::Result<()> {
    let &Preview { files, rows, seed, json } = preview;
    let Some(dataset) = dataset else { return list(json) };
    let kind: DatasetKind = dataset.parse().map_err(|error: UnknownDataset| Usage(error.to_string()))?;
    if kind == DatasetKind::Rows {
        return Err(Usage(
            "`rows` needs a column mapping, which a recipe holds; preview it with `divvy data RECIPE.toml`".to_owned(),
        )
        .into());
    }
    let spec = SourceSpec {
        dataset: dataset.to_owned(),
        name: dataset.to_owned(),
        style: None,
        split: Split::Train,
        files: files.iter().map(|file| file.to_string_lossy().into_owned()).collect(),
        base: PathBuf::new(),
        lines: None,
        columns: None,
        scorer: None,
        on_bad_row: OnBadRow::Stop,
        rows: Some(rows),
        seed,
    };
    let loaded = read_questions(&spec, Arc::new(InMemory::default()))?;
    show_all(loaded.questions.iter(), json)
}

fn show_all(questions: impl Iterator<Item = Arc<Question>>, json: bool) -> anyhow::Result<()> {
    for question in questions {
        print(&if json { serde_json::to_string(&*question)? } else { show(&question) })?;
    }
    Ok(())
}

fn list(json: bool) -> anyhow::Result<()> {
    if json {
        let set = |kind: DatasetKind| serde_json::json!({ "dataset": kind.name(), "about": kind.description(), "files": kind.files() });
        return Ok(print(&serde_json::to_string_pretty(&DatasetKind::ALL.map(set))?)?);
    }
    let families = synth::families();
    for kind in DatasetKind::ALL {
        print(&format!("{:<16} {}\n{:16} files: {}", kind.name(), kind.description(), "", kind.files()))?;
    }
    Ok(print(&format!(
        "\n`synth` has {} problem families; `divvy data synth` shows some of its questions.",
        families.len()
    ))?)
}

fn show(question: &Question) -> String {
    let mut text = format!("{}\n", question.id);
    if let Some(premise) = &question.premise {
        text.push_str(&format!("  passage   {premise}\n"));
    }
    text.push_str(&format!("  question  {}\n", question.text));
    for (at, step) in question.recorded.iter().flat_map(|steps| steps.steps()).enumerate() {
        text.push_str(&format!("  step {:<4} {}\n", at + 1, step.text));
    }
    let golds: Vec<String> = question.golds.iter().map(ToString::to_string).collect();
    text.push_str(&format!("  gold      {}\n", golds.join(" | ")));
    text
}
