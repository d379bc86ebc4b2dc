//! Data sets: one file each, which reads one row and shows an example of it on top. Files, their formats and line
//! numbers are the caller's; a row that cannot be read says why.

pub mod bamboogle;
pub mod bbh;
pub mod drop;
pub mod gsm8k;
pub mod hotpotqa;
pub mod musique;
pub mod rows;
pub mod strategyqa;
pub mod traffic;
pub mod two_wiki;

use std::str::FromStr;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::question::{Gold, Question, QuestionId, ScorerKind, Split};

/// Which data set, as a recipe names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatasetKind {
    Synth,
    Gsm8k,
    Drop,
    Bamboogle,
    StrategyQa,
    MuSiQue,
    HotpotQa,
    TwoWiki,
    Bbh,
    Rows,
    Traffic,
}

impl DatasetKind {
    pub const ALL: [Self; 11] = [
        Self::Synth,
        Self::Gsm8k,
        Self::Drop,
        Self::Bamboogle,
        Self::StrategyQa,
        Self::MuSiQue,
        Self::HotpotQa,
        Self::TwoWiki,
        Self::Bbh,
        Self::Rows,
        Self::Traffic,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Synth => "synth",
            Self::Gsm8k => "gsm8k",
            Self::Drop => "drop",
            Self::Bamboogle => "bamboogle",
            Self::StrategyQa => "strategyqa",
            Self::MuSiQue => "musique",
            Self::HotpotQa => "hotpotqa",
            Self::TwoWiki => "2wikimultihopqa",
            Self::Bbh => "bbh",
            Self::Rows => "rows",
            Self::Traffic => "traffic",
        }
    }

    /// All names, as a message lists them.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// One line for `divvy data`.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Synth => "compositional questions made by divvy from a seed, with gold decompositions",
            Self::Gsm8k => "grade-school arithmetic stories; Socratic rows carry a decomposition",
            Self::Drop => "passages with numbers, spans and dates",
            Self::Bamboogle => "two-hop questions about facts",
            Self::StrategyQa => "yes/no questions with implicit steps, decompositions, and facts as the premise",
            Self::MuSiQue => "two to four hops over paragraphs, with decompositions and aliases",
            Self::HotpotQa => "two hops over paragraphs",
            Self::TwoWiki => "two to four hops over paragraphs; decompositions are made of its fact triples",
            Self::Bbh => "BIG-Bench Hard: choices, dates, logic, counting; for evaluation only",
            Self::Rows => "any JSON, CSV or Parquet rows, with a column mapping",
            Self::Traffic => "questions that were asked of `divvy serve --record`; without gold",
        }
    }

    /// What files it wants.
    #[must_use]
    pub fn files(self) -> &'static str {
        match self {
            Self::Synth => "none",
            Self::Gsm8k => "JSONL or Parquet with `question` and `answer`, plain or Socratic (train_socratic.jsonl)",
            Self::Drop => "the official nested JSON; or JSONL of questions together with JSONL of passages",
            Self::Bamboogle => "CSV (question first) or JSONL with `question`, `answer`, `decomposition`",
            Self::StrategyQa => "JSON or JSONL with `question`, `answer`, `facts`, `decomposition`",
            Self::MuSiQue => "JSONL with `question`, `answer`, `paragraphs`, `question_decomposition`",
            Self::HotpotQa => "JSON, JSONL or Parquet with `question`, `answer`, `context`, `supporting_facts`",
            Self::TwoWiki => "JSON, JSONL or Parquet: HotpotQA's keys and `evidences`",
            Self::Bbh => "its JSON files, one a task: `examples` of `input` and `target`",
            Self::Rows => "JSONL, CSV or Parquet, and columns = { question = \"…\", answer = \"…\" }",
            Self::Traffic => "what the store has, or files named by `divvy serve --record=FILE`",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown data set `{0}`; there are {names}", names = DatasetKind::names())]
pub struct UnknownDataset(pub String);

impl FromStr for DatasetKind {
    type Err = UnknownDataset;

    fn from_str(name: &str) -> Result<Self, UnknownDataset> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownDataset(name.to_owned()))
    }
}

/// Where a row stands. `row` counts from 0 over all files of the split.
#[derive(Clone, Copy, Debug)]
pub struct RowContext<'a> {
    pub dataset: &'a str,
    pub split: Split,
    pub row: usize,
}

impl RowContext<'_> {
    /// A question with no more than id, text and scorer.
    fn question(&self, text: String, scorer: ScorerKind) -> Question {
        Question {
            id: QuestionId::new(self.dataset, self.split, self.row),
            dataset: self.dataset.to_owned(),
            split: self.split,
            premise: None,
            text,
            golds: Vec::new(),
            scorer,
            steps: None,
            recorded: None,
            cluster: None,
            worked: Vec::new(),
        }
    }
}

/// Why a row cannot be read. The caller adds file and line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct RowError {
    pub reason: String,
}

fn fail(reason: impl Into<String>) -> RowError {
    RowError { reason: reason.into() }
}

fn object(value: &Value) -> Result<&Map<String, Value>, RowError> {
    value.as_object().ok_or_else(|| fail(format!("the row is {}, not a JSON object", kind_of(value))))
}

/// A text that must be there and not blank, trimmed.
fn text<'a>(row: &'a Map<String, Value>, key: &str) -> Result<&'a str, RowError> {
    let value = row.get(key).ok_or_else(|| fail(format!("`{key}` is missing")))?;
    let text = value.as_str().ok_or_else(|| fail(format!("`{key}` is {}, not a string", kind_of(value))))?.trim();
    if text.is_empty() { Err(fail(format!("`{key}` is blank"))) } else { Ok(text) }
}

/// A list that must be there.
fn list<'a>(row: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], RowError> {
    let value = row.get(key).ok_or_else(|| fail(format!("`{key}` is missing")))?;
    value.as_array().map(Vec::as_slice).ok_or_else(|| fail(format!("`{key}` is {}, not a list", kind_of(value))))
}

/// The strings of a list, or a lone string.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Titled paragraphs as one passage, `None` without any.
fn passage(paragraphs: Vec<(&str, String)>) -> Option<String> {
    let paragraphs: Vec<String> = paragraphs.into_iter().map(|(title, text)| format!("{title}: {text}")).collect();
    (!paragraphs.is_empty()).then(|| paragraphs.join("\n\n"))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Texts without blanks and repeats, in order.
fn distinct(golds: impl IntoIterator<Item = Gold>) -> Vec<Gold> {
    let mut kept: Vec<Gold> = Vec::new();
    for gold in golds {
        if !gold.0.is_empty() && gold.0.iter().all(|span| !span.trim().is_empty()) && !kept.contains(&gold) {
            kept.push(gold);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
