//! Graded rows as reports show them: questions with every arm's answer and the calls behind it, a sheet at a time. A run has
//! any number of sheets; nobody needs to hold more than one. `flat` is the same as a table of plain columns.

mod flat;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{chat::Finish, question::ScorerKind, records::Outcome, results::costs::Tokens};

pub use flat::{COLUMNS, Kind, cells};

/// Some questions, next to each other in the order of the run, with every row that they have.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// Names of the run's arms, the same in each of its sheets; where questions are answered several times, of each answer
    /// ([`answer_name`]).
    pub arms: std::sync::Arc<[String]>,
    pub questions: Vec<Asked>,
    /// Each once, however many rows share it.
    pub calls: Vec<RowCall>,
}

/// What an arm is called in a sheet for its answer with this number, from 0: `cot/big`, then `cot/big (2)`.
#[must_use]
pub fn answer_name(arm: &str, repeat: u32) -> String {
    if repeat == 0 { arm.to_owned() } else { format!("{arm} ({})", repeat + 1) }
}

/// The arm of such a name, and the answer's number.
#[must_use]
pub fn answer_of(name: &str) -> (&str, u32) {
    let split = name.strip_suffix(')').and_then(|name| name.rsplit_once(" ("));
    let numbered = split.and_then(|(arm, number)| Some((arm, number.parse::<u32>().ok()?.checked_sub(1)?)));
    numbered.unwrap_or((name, 0))
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    pub id: String,
    pub premise: Option<String>,
    pub question: String,
    /// Any one of these is right.
    pub gold: Vec<String>,
    pub steps: Option<u32>,
    /// The page has no use for what is skipped here and below.
    #[serde(skip)]
    pub dataset: String,
    #[serde(skip)]
    pub scorer: ScorerKind,
    /// In the order of the arms; an arm that has not answered yet has none.
    pub rows: Vec<GradedRow>,
}

/// What became of one question under one arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradedRow {
    /// Place among the arms.
    pub arm: usize,
    pub correct: bool,
    pub score: f64,
    pub outcome: Outcome,
    /// Why there is no answer, where no model is to blame.
    pub reason: Option<String>,
    pub answer: Option<String>,
    /// As the decomposer wrote them; empty for arms that do not decompose.
    pub subquestions: Vec<String>,
    /// One a subquestion, where the solver's replies have it; may be empty.
    pub sub_answers: Vec<Option<String>>,
    /// The solver's last reply, as it came.
    pub reply: String,
    /// Of all its calls; `None` where one of them came without its tokens: unknown is not zero.
    pub tokens: Option<Tokens>,
    /// The decomposer's part of these tokens; the rest is the solver's.
    #[serde(skip)]
    pub decomposing: Tokens,
    /// Steps of the decomposition, `None` where there is none: not asked for, or not to be read.
    #[serde(skip)]
    pub decomposed: Option<usize>,
    /// `None`: unknown.
    pub cost_nanos: Option<i64>,
    /// Places among the sheet's calls, in the order in which they were made.
    pub calls: Vec<usize>,
}

impl GradedRow {
    /// A row that came to nothing, of the arm at this place.
    #[must_use]
    pub fn failed(arm: usize) -> Self {
        Self {
            arm,
            correct: false,
            score: 0.0,
            outcome: Outcome::Error,
            reason: None,
            answer: None,
            subquestions: Vec::new(),
            sub_answers: Vec::new(),
            reply: String::new(),
            tokens: Some(Tokens::default()),
            decomposing: Tokens::default(),
            decomposed: None,
            cost_nanos: None,
            calls: Vec::new(),
        }
    }
}

/// One call behind a row.
#[derive(Clone, Debug, Serialize)]
pub struct RowCall {
    /// 64 hex digits; `divvy calls` finds it by the first of them.
    pub key: String,
    pub tokens_in: Option<u64>,
    pub tokens_cached: Option<u64>,
    pub tokens_out: Option<u64>,
    pub cost_nanos: Option<i64>,
    pub latency_ms: i64,
    /// `None` where only figures were read: texts are most of a store.
    #[serde(flatten)]
    pub said: Option<Said>,
}

/// What was said in a call.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    pub model: String,
    pub finish: Finish,
    /// A `ChatRequest`, as it was asked.
    pub request: Box<RawValue>,
    pub reply: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_name_says_its_arm_and_number() {
        for repeat in [0, 1, 41] {
            assert_eq!(answer_of(&answer_name("cot/big", repeat)), ("cot/big", repeat));
        }
        assert_eq!(answer_of("cot/big (old)"), ("cot/big (old)", 0));
    }
}
