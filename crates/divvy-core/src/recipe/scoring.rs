//! How `[evaluate]` grades beside each question's own scorer. Further scorers change no call and no headline, so they are no
//! part of a plan's identity, and naming one later asks nothing. A judge asks a model; code is run.

use serde::Deserialize;

use crate::{question::ScorerKind, scorers::Scorer};

/// As named in `scorers = ["paper-compat"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FurtherScorer {
    Drop,
    Numeric,
    Exact,
    Choice,
    YesNo,
    /// What the paper's reference would have counted, with its bugs: one for each of its data sets.
    PaperCompat,
}

impl FurtherScorer {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PaperCompat => "paper-compat",
            Self::Drop => Scorer::Drop.name(),
            Self::Numeric => Scorer::Numeric.name(),
            Self::Exact => Scorer::Exact.name(),
            Self::Choice => Scorer::Choice.name(),
            Self::YesNo => Scorer::YesNo.name(),
        }
    }

    /// The rules for a question of this kind; `None` where it has none.
    #[must_use]
    pub fn scorer(self, kind: ScorerKind) -> Option<Scorer> {
        match self {
            Self::PaperCompat => Scorer::of_the_paper(kind),
            Self::Drop => Some(Scorer::Drop),
            Self::Numeric => Some(Scorer::Numeric),
            Self::Exact => Some(Scorer::Exact),
            Self::Choice => Some(Scorer::Choice),
            Self::YesNo => Some(Scorer::YesNo),
        }
    }
}

/// `[evaluate.code]`: programs that models wrote are run on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Nothing is run without `run = true`.
    pub run: bool,
    /// A Python; `python3` when absent.
    pub interpreter: Option<String>,
    /// For one program with its tests.
    pub seconds: Option<u64>,
    pub memory_mb: Option<u64>,
}

/// `[evaluate.judge]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// A name from `[models]`.
    pub model: String,
    pub max_tokens: Option<u32>,
}
