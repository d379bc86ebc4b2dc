//! What a run leaves behind for every item, and why. Nothing is dropped: a row that failed is a record with a reason.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{decomposition::Decomposition, prompts::decompose::Problem};

/// Stage of a run. An item is one (stage, question, sample, arm or role).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Collect,
    Screen,
    Train,
    Evaluate,
    /// A model's verdicts on answers; it follows evaluation.
    Judge,
}

impl Stage {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Screen => "screen",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Judge => "judge",
        }
    }
}

/// State of an item; reasons are short kebab-case words that `divvy status` groups by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemState {
    Pending,
    Done,
    Failed(String),
    Rejected(String),
}

impl ItemState {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Rejected(_) => "rejected",
        }
    }

    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Pending | Self::Done => None,
            Self::Failed(reason) | Self::Rejected(reason) => Some(reason),
        }
    }

    /// Nothing more is asked for it; one that failed is tried again.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Done | Self::Rejected(_))
    }
}

/// With its reason: `failed: timed-out`.
impl fmt::Display for ItemState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{}: {reason}", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

/// A decomposition as collected, with the raw text it was parsed from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Collected {
    pub decomposition: Decomposition,
    /// Call key, absent for a recorded teacher.
    pub call: Option<String>,
    /// What was left out of the reply; empty in the records of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// A reply that is no decomposition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unusable {
    pub problems: Vec<Problem>,
}

/// What screening decided about one decomposition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub keep: bool,
    /// `correct`, `wrong-answer`, `no-answer`, `truncated`, …
    pub reason: String,
    /// Share of solver samples that were right, 0 to 1; `None` where no solver was asked.
    pub pass_rate: Option<f64>,
    pub answer: Option<String>,
}

impl Verdict {
    /// Of the item that was judged.
    #[must_use]
    pub fn state(&self) -> ItemState {
        if self.keep { ItemState::Done } else { ItemState::Rejected(self.reason.clone()) }
    }
}

/// How one answer to one question fared under one scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// Exact match: the figure that accuracy counts.
    pub correct: bool,
    /// Partial credit in 0..=1 (DROP F1); equals `correct` where the scorer has none.
    pub score: f64,
    /// The answer that was extracted, `None` when there was none.
    pub answer: Option<String>,
    pub outcome: Outcome,
}

/// No silent zeros: why a row has no right answer is kept apart from that it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Answered,
    NoAnswer,
    Truncated,
    /// The provider's filter or the model refused to answer.
    Refused,
    Error,
}

/// One line of a training log.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainPoint {
    pub step: u64,
    pub loss: f64,
    pub learning_rate: f64,
    pub grad_norm: f64,
    /// Tokens of all sequences in the step, prompt and completion.
    pub tokens: u64,
    pub tokens_per_second: f64,
    /// Loss on the held-out split, where this step measured it.
    pub dev_loss: Option<f64>,
    /// Quality of the decompositions that the student writes of dev, where training stops by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_quality: Option<f64>,
}

/// What a trainer tells while it works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainNews<'a> {
    /// An optimiser step is done, of so many.
    Step(&'a TrainPoint, u64),
    /// For people.
    Note(&'a str),
    /// Nothing has happened; the trainer asks whether to go on.
    Nothing,
}
