//! Decomposition quality in the results: one entry for each decomposer that was collected from or evaluated.

use serde::{Deserialize, Serialize};

use crate::{arm::Strategy, arm::Variant, quality::Quality, records::Stage, stats::Interval};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecomposerQuality {
    /// As the recipe names it.
    pub decomposer: String,
    /// Collected from, on train and dev; or evaluated, on the split that is scored.
    pub stage: Stage,
    #[serde(default, skip_serializing_if = "Variant::is_plain")]
    pub variant: Variant,
    /// `self-ask` with the solver whose answers it heard; nothing where it wrote whole decompositions.
    pub heard: Option<Heard>,
    pub quality: Measured,
    /// Whether a solver got on with its decompositions.
    pub pass: Option<Pass>,
}

/// What was counted, and how sure its shares are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    #[serde(flatten)]
    pub counts: Quality,
    #[serde(default)]
    pub intervals: ShareIntervals,
}

/// 95 % intervals of an accuracy's kind, over questions or passages; `None` of nothing, and in results of earlier versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShareIntervals {
    pub well_formed: Option<Interval>,
    /// As many subquestions as gold steps.
    pub equal_steps: Option<Interval>,
    pub repeating: Option<Interval>,
    pub leaking: Option<Interval>,
    pub referring: Option<Interval>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    pub strategy: Strategy,
    pub solver: String,
}

/// How often a solver was right with the decompositions: the one that screens where it answered, else the first of the
/// recipe that did. A question without a usable decomposition counts as wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    pub solver: String,
    pub n: u64,
    /// Mean share of right answers over the n.
    pub rate: f64,
    /// 95 %; `None` of collected ones, of which each has several answers.
    #[serde(default)]
    pub ci: Option<Interval>,
}
