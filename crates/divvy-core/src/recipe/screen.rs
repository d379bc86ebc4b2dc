//! `[screen]`: which decompositions are good enough to learn from, and who is asked about it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Screen {
    /// Every rule asks one but `format`.
    pub solver: Option<String>,
    /// Solver samples a decomposition.
    pub samples: Option<u32>,
    /// Demonstrations that the solver is shown: those of `[prompts.two-stage]`, else recorded and worked solutions of other
    /// training questions.
    #[serde(default)]
    pub shots: usize,
    pub temperature: Option<f64>,
    /// How its words are drawn, see [`super::Sampled`].
    pub top_p: Option<f64>,
    pub top_k: Option<u32>,
    pub min_p: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub seed: Option<u64>,
    pub max_tokens: Option<u32>,
    #[serde(default)]
    pub rule: Rule,
    /// For the rule `threshold`: smallest share of right solver samples that keeps a row; for `agreement`: of samples that
    /// agree.
    pub threshold: Option<f64>,
    /// Stop when so many rows are kept (with `best`: questions). A few more may be, since rows are screened in groups.
    pub until: Option<usize>,
    /// Screen only this many questions, the first in the seed's order; the rest is left unscreened, and is not
    /// collected either where every student learns kept rows.
    pub rows: Option<usize>,
    /// What is rejected by its form, before a solver is asked.
    pub format: Option<Format>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// At least one of the solver's samples is right.
    #[default]
    Any,
    All,
    Threshold,
    /// Of a question's decompositions, the one that the solver was right with most often.
    Best,
    /// Without gold answers: the solver's samples agree with each other.
    Agreement,
    /// Nobody is asked: what is well-formed is kept.
    Format,
}

/// The form of a decomposition. What a key does not allow is rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// Fewest subquestions. "No decomposition" has none.
    #[serde(default)]
    pub min_steps: usize,
    /// Most subquestions, those counted that `collect.max_subquestions` has cut off.
    pub max_steps: Option<usize>,
    /// A line may be written twice, or go round in circles.
    #[serde(default)]
    pub repeats: bool,
    /// A subquestion may name an answer that nobody knows yet.
    #[serde(default)]
    pub leaks: bool,
    /// A subquestion may refer (`#3`) to itself or to one that does not come before it.
    #[serde(default)]
    pub refers_ahead: bool,
}
