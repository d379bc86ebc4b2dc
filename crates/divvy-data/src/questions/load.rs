//! Questions from files: every file of a source read in order, each row parsed or reported with file, line and reason,
//! then as many taken as were asked for. Questions are numbered over all files, and an unreadable row keeps its number,
//! so that mending it renames no other.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use divvy_core::{
    datasets::{DatasetKind, UnknownDataset},
    question::{Question, QuestionId, ScorerKind, Split},
    questions::{Bodies, Questions},
    recipe::{Columns, OnBadRow},
    synth,
};
use thiserror::Error;

use super::{
    parse::{self, Parser},
    raw::{RawRow, Rows, read_rows},
    sample::sample,
};
use crate::models::fetch::{FetchError, FetchSettings};

/// Which questions to read, resolved from a recipe's `[data.…]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSpec {
    /// A name of [`DatasetKind`].
    pub dataset: String,
    /// What ids begin with; mostly the data set's own name.
    pub name: String,
    /// For `synth`: one style alone.
    pub style: Option<synth::Style>,
    pub split: Split,
    /// Paths, relative to `base`, or `hf:org/name:file`.
    pub files: Vec<String>,
    pub base: PathBuf,
    /// Of every file, only the first so many lines; all when absent.
    pub lines: Option<u64>,
    /// For `rows`.
    pub columns: Option<Columns>,
    /// For `rows`: what its answers are graded by; told from gold when absent.
    pub scorer: Option<ScorerKind>,
    pub on_bad_row: OnBadRow,
    /// Take this many, chosen by `seed`; all when absent. `synth` needs it.
    pub rows: Option<usize>,
    pub seed: u64,
}

/// What was read, in file order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    pub questions: Questions,
    /// Rows left out under [`OnBadRow::Skip`]; never silently.
    pub skipped: Vec<BadRow>,
    /// Of `traffic`, where people ask again: rows that say what an earlier one said.
    pub repeated: usize,
    /// The last line that was read.
    pub lines: u64,
}

/// A row that is no question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    pub file: String,
    /// The line; for Parquet and whole-file JSON, the row. From 1.
    pub line: u64,
    pub reason: String,
}

impl std::fmt::Display for BadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

#[derive(Debug, Error)]
pub enum DataError {
    #[error("{0}; {way_out}", way_out = way_out(.0))]
    BadRow(BadRow),
    #[error("{file}: {reason}")]
    File { file: String, reason: String },
    #[error("{files}: no question in {rows} rows; {first}")]
    NothingUsable { files: String, rows: usize, first: String },
    #[error("data set `{dataset}` ({split}): {reason}")]
    Spec { dataset: String, split: Split, reason: String },
    #[error("{file}: {source}")]
    Fetch { file: String, source: FetchError },
    #[error(transparent)]
    Aside(#[from] io::Error),
}

/// A column that is not there was misspelt in the recipe, more often than forgotten in the file.
fn way_out(bad: &BadRow) -> &'static str {
    if bad.reason.contains(" is missing; the row has ") {
        return "name the right one under `columns` in the recipe, or mend the row";
    }
    "mend the row, or set `data.on_bad_row = \"skip\"` in the recipe to leave such rows out and list them"
}

/// Reads, parses and samples; the questions will lie in `bodies`. The hub, if a file names it, is reached as the environment
/// says.
///
/// # Errors
/// See [`DataError`]; under [`OnBadRow::Stop`] the first bad row is an error, under `Skip` only a source without any
/// good row is.
pub fn read_questions(spec: &SourceSpec, bodies: Arc<dyn Bodies>) -> Result<Loaded, DataError> {
    read_questions_with(&FetchSettings::from_env(), spec, bodies)
}

/// [`read_questions`] with the outside given.
///
/// # Errors
/// As [`read_questions`].
pub fn read_questions_with(
    settings: &FetchSettings,
    spec: &SourceSpec,
    bodies: Arc<dyn Bodies>,
) -> Result<Loaded, DataError> {
    let wrong =
        |reason: &str| DataError::Spec { dataset: spec.dataset.clone(), split: spec.split, reason: reason.to_owned() };
    if spec.dataset == "synth" {
        let rows = spec.rows.ok_or_else(|| wrong("it is generated, so say how many: rows = 400"))?;
        let mut loaded = Loaded { questions: Questions::kept_in(bodies), ..Loaded::default() };
        for question in generated(spec).take(rows) {
            loaded.questions.push(&question)?;
        }
        let count = loaded.questions.len();
        if count < rows {
            return Err(wrong(&format!(
                "there are only {count} different questions of this style; write rows = {count}"
            )));
        }
        return Ok(loaded);
    }
    let kind: DatasetKind = spec.dataset.parse().map_err(|error: UnknownDataset| wrong(&error.to_string()))?;
    if spec.files.is_empty() {
        return Err(wrong("no file is named; add files = [\"…\"]"));
    }
    // Only DROP has rows that others refer to, wherever they stand.
    let passages = if kind == DatasetKind::Drop { all_rows(settings, spec)? } else { Vec::new() };
    let parser = parse::parser(spec, kind, passages.iter()).map_err(|reason| wrong(&reason))?;
    drop(passages);
    let loaded = Loaded { questions: Questions::kept_in(bodies), ..Loaded::default() };
    let mut loading = Loading { spec, parser, row: 0, loaded };
    for file in &spec.files {
        let (path, rows) = read_file(settings, spec, file)?;
        for row in rows {
            loading.add(file, row.map_err(|reason| unreadable(&path, reason))?)?;
        }
    }
    let mut loaded = loading.finish()?;
    if let Some(wanted) = spec.rows {
        loaded.questions = sample(loaded.questions, wanted, spec.seed);
    }
    Ok(loaded)
}

fn generated(spec: &SourceSpec) -> Box<dyn Iterator<Item = Question> + '_> {
    let all: Box<dyn Iterator<Item = Question>> = match spec.style {
        None => Box::new(synth::questions(spec.split, spec.seed)),
        Some(style) => Box::new(synth::of_style(style, spec.split, spec.seed)),
    };
    Box::new(all.enumerate().map(|(row, question)| Question {
        id: QuestionId::new(&spec.name, spec.split, row),
        dataset: spec.name.clone(),
        ..question
    }))
}

fn read_file(settings: &FetchSettings, spec: &SourceSpec, file: &str) -> Result<(PathBuf, Rows), DataError> {
    let path = locate(settings, spec, file)?;
    let rows = read_rows(&path).map_err(|reason| unreadable(&path, reason))?;
    let lines = spec.lines;
    let wanted = move |row: &Result<RawRow, String>| {
        row.as_ref().map_or(true, |row| lines.is_none_or(|lines| row.place <= lines))
    };
    Ok((path, Box::new(rows.filter(wanted))))
}

fn all_rows(settings: &FetchSettings, spec: &SourceSpec) -> Result<Vec<RawRow>, DataError> {
    let mut all = Vec::new();
    for file in &spec.files {
        let (path, rows) = read_file(settings, spec, file)?;
        for row in rows {
            all.push(row.map_err(|reason| unreadable(&path, reason))?);
        }
    }
    Ok(all)
}

fn unreadable(path: &Path, reason: String) -> DataError {
    DataError::File { file: path.display().to_string(), reason }
}

/// A source being read.
struct Loading<'a> {
    spec: &'a SourceSpec,
    parser: Parser<'a>,
    /// Number of the next question, readable or not.
    row: usize,
    loaded: Loaded,
}

impl Loading<'_> {
    fn add(&mut self, file: &str, raw: RawRow) -> Result<(), DataError> {
        self.loaded.lines = self.loaded.lines.max(raw.place);
        let value = match raw.value {
            Ok(value) => value,
            Err(reason) => return self.reject(file, raw.place, reason),
        };
        for question in parse::questions(&self.parser, raw.key.as_deref(), &value, self.spec, self.row) {
            match question {
                Err(error) => self.reject(file, raw.place, error.reason)?,
                Ok(question) if !self.loaded.questions.contains(&question.id) => {
                    self.row += 1;
                    self.loaded.questions.push(&question)?;
                }
                Ok(_) if matches!(self.parser, Parser::Traffic) => {
                    self.row += 1;
                    self.loaded.repeated += 1;
                }
                Ok(question) => {
                    self.reject(file, raw.place, format!("another row has its id, `{}`", question.id))?;
                }
            }
        }
        Ok(())
    }

    fn reject(&mut self, file: &str, line: u64, reason: String) -> Result<(), DataError> {
        self.row += 1;
        let bad = BadRow { file: file.to_owned(), line, reason };
        match self.spec.on_bad_row {
            OnBadRow::Stop => Err(DataError::BadRow(bad)),
            OnBadRow::Skip => {
                self.loaded.skipped.push(bad);
                Ok(())
            }
        }
    }

    /// A source of which nothing is usable is a mistake, whatever the policy.
    fn finish(self) -> Result<Loaded, DataError> {
        if !self.loaded.questions.is_empty() {
            return Ok(self.loaded);
        }
        let first = self.loaded.skipped.first().map_or_else(|| "it is empty".to_owned(), BadRow::to_string);
        Err(DataError::NothingUsable { files: self.spec.files.join(", "), rows: self.row, first })
    }
}

/// The local path of a file, which may have to be fetched first.
fn locate(settings: &FetchSettings, spec: &SourceSpec, file: &str) -> Result<PathBuf, DataError> {
    let Some(name) = file.strip_prefix("hf:") else { return Ok(spec.base.join(file)) };
    let fail = |source| DataError::Fetch { file: file.to_owned(), source };
    let (repo, inner) = name.split_once(':').ok_or_else(|| DataError::File {
        file: file.to_owned(),
        reason: "a data file on the hub is written hf:org/name:path/in/repository.jsonl".to_owned(),
    })?;
    hub_data(settings, repo, inner).map_err(fail)
}

#[cfg(feature = "hub")]
fn hub_data(settings: &FetchSettings, repo: &str, file: &str) -> Result<PathBuf, FetchError> {
    crate::models::hub::fetch_data(settings, repo, file)
}

#[cfg(not(feature = "hub"))]
fn hub_data(_settings: &FetchSettings, repo: &str, file: &str) -> Result<PathBuf, FetchError> {
    Err(FetchError::NoHub(format!("hf:{repo}:{file}")))
}

#[cfg(test)]
mod tests;
