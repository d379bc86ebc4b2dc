//! The same answers under further scorers: accuracy by scorer, and the rows on which scorers disagree. No model is asked.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scoring {
    /// Version of the scorers.
    pub version: u32,
    /// A line for each arm and scorer; the first of an arm is the questions' own.
    pub arms: Vec<ScoredArm>,
    /// Every answered row on which two of these scorers say different things, in the order of arms and questions.
    pub disagreements: Vec<Disagreement>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredArm {
    pub arm: String,
    /// `own`, or the scorer's name in the recipe.
    pub scorer: String,
    /// Questions that it can grade; those without an answer are wrong by every scorer.
    pub n: u64,
    pub correct: u64,
    pub accuracy: f64,
    pub ci: (f64, f64),
    /// Mean partial credit.
    pub score: f64,
    /// Answers of which a judge has said nothing that can be read; they count as wrong.
    pub unread: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    pub arm: String,
    pub question_id: String,
    /// As the question's own scorer read it.
    pub answer: Option<String>,
    pub gold: Vec<String>,
    pub right_by: Vec<String>,
    pub wrong_by: Vec<String>,
}

/// Mean partial credit of one arm less that of another, by paired bootstrap; whole passages are drawn where questions share
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreDifference {
    pub difference: f64,
    pub ci: (f64, f64),
    pub p_value: f64,
    /// Holm-adjusted over the differences of partial credit of its family; accuracy decides.
    pub p_holm: f64,
    /// How many those are by the plan, done or not.
    #[serde(default = "super::one", skip_serializing_if = "super::is_one")]
    pub tests: u64,
}
