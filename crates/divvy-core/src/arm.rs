//! An arm: strategy × decomposer × solver, one row of the result table.

mod variant;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use variant::{Variant, Way, is_name};

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One call, the answer alone.
    Direct,
    /// One call, chain of thought before the answer.
    Cot,
    /// A decomposer writes all subquestions, one solver call answers them all (the paper's static two-stage).
    TwoStage,
    /// A decomposer writes all subquestions; each is a solver call that sees the answers before it, then the question is.
    Sequential,
    /// The decomposer asks one subquestion at a time and sees each answer before the next (the paper's dynamic). Its
    /// decomposer is a model that follows instructions: students and recorded teachers write whole decompositions.
    SelfAsk,
}

impl Strategy {
    const ALL: [Self; 5] = [Self::Direct, Self::Cot, Self::TwoStage, Self::Sequential, Self::SelfAsk];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Cot => "cot",
            Self::TwoStage => "two-stage",
            Self::Sequential => "sequential",
            Self::SelfAsk => "self-ask",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name)
    }

    fn names() -> [&'static str; 5] {
        Self::ALL.map(Self::name)
    }

    #[must_use]
    pub fn needs_decomposer(self) -> bool {
        matches!(self, Self::TwoStage | Self::Sequential | Self::SelfAsk)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Roles are filled by names from the recipe (`[models.NAME]`, `student:NAME`, `teacher`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Arm {
    pub strategy: Strategy,
    #[serde(default, skip_serializing_if = "Variant::is_plain")]
    pub variant: Variant,
    pub decomposer: Option<String>,
    pub solver: String,
}

impl Arm {
    /// `cot/qwen-1.5b`, `two-stage/sd-r/qwen-1.5b+shots=4`: used in files, JSON and the report.
    #[must_use]
    pub fn slug(&self) -> String {
        let Self { strategy, variant, .. } = self;
        let plain = |name: &str| name.strip_prefix("student:").unwrap_or(name).to_owned();
        match &self.decomposer {
            Some(decomposer) => format!("{strategy}/{}/{}{variant}", plain(decomposer), plain(&self.solver)),
            None => format!("{strategy}/{}{variant}", plain(&self.solver)),
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.slug())
    }
}

/// Two arms by the names that the report gives them: `two-stage/sd-r/big`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ArmPair {
    pub a: String,
    pub b: String,
}
