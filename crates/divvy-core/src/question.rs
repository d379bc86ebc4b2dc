//! A question as every stage sees it, whatever data set it came from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::decomposition::Decomposition;

/// `dataset/split/row`, for example `gsm8k/train/17`: stable across runs, shown in reports, key of every record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuestionId(pub String);

impl QuestionId {
    #[must_use]
    pub fn new(dataset: &str, split: Split, row: usize) -> Self {
        Self(format!("{dataset}/{split}/{row}"))
    }

    /// The name of its data set.
    #[must_use]
    pub fn set(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything is tuned on `dev` (carved from train); `test` is opened for the final table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    Train,
    Dev,
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        })
    }
}

/// One acceptable gold answer. Most have a single span; DROP's span answers may need several at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gold(pub Vec<String>);

impl Gold {
    #[must_use]
    pub fn single(text: impl Into<String>) -> Self {
        Self(vec![text.into()])
    }
}

impl AsRef<[String]> for Gold {
    fn as_ref(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Gold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// How a final answer is compared with gold. It belongs to the question, since one data set may mix kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScorerKind {
    /// Exact decimal comparison of the answer's number (GSM8K).
    Numeric,
    /// Official DROP exact match and F1.
    Drop,
    /// SQuAD-normalised exact match against any alias (Bamboogle).
    Exact,
    /// The letter of an option, or the option's own text (BBH).
    Choice,
    /// Yes or no, true or false (StrategyQA).
    YesNo,
    /// A program that has to pass gold's tests; run by divvy-flow, and only where the recipe allows it.
    Code,
}

impl ScorerKind {
    pub const ALL: [Self; 6] = [Self::Numeric, Self::Drop, Self::Exact, Self::Choice, Self::YesNo, Self::Code];

    /// Words in common count (F1).
    #[must_use]
    pub fn has_partial_credit(self) -> bool {
        matches!(self, Self::Drop | Self::Exact)
    }
}

/// A question with its gold answers and, where the data set has one, a recorded decomposition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub id: QuestionId,
    pub dataset: String,
    pub split: Split,
    /// The passage the question is about (DROP), absent where the question stands alone.
    pub premise: Option<String>,
    pub text: String,
    /// Any one of these is right. Empty: the data set has no gold (such rows cannot be screened or scored).
    pub golds: Vec<Gold>,
    pub scorer: ScorerKind,
    /// Number of reasoning steps, where known.
    pub steps: Option<u32>,
    /// What a recorded teacher says: the data set's own decomposition.
    pub recorded: Option<Decomposition>,
    /// What it has in common with other questions: a passage, a problem family. Slices and the intervals of costs go by it, or
    /// where the data set names none by the passage itself; those of accuracy by the passage alone, since families are a fixed
    /// list and not a draw.
    pub cluster: Option<String>,
    /// The data set's own solution, step by step; empty where it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worked: Vec<Worked>,
}

impl Question {
    /// The answer that is learnt or shown: its first gold one. `None` also where gold is the tests of a program, which answer nothing.
    #[must_use]
    pub fn gold_text(&self) -> Option<String> {
        self.golds.first().filter(|_| self.scorer != ScorerKind::Code).map(ToString::to_string)
    }
}

/// One step of a worked solution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worked {
    /// As a person would write it, on one line.
    pub text: String,
    /// What it comes to, where that is marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}
