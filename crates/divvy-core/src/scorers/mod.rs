//! What counts as right. One file a scorer; [`grade`] picks by the question's [`ScorerKind`].
//!
//! Every reply gets a grade, so denominators stay fixed: a reply cut by the token limit before it gave an answer is
//! `truncated`, one with nothing to take is `no-answer`, and both are wrong.

mod assignment;
pub mod drop;
pub mod exact;
pub mod number;
mod numeric;
mod python;

use crate::{
    chat::Finish,
    extract,
    question::{Gold, ScorerKind},
    records::{Grade, Outcome},
};

/// Raised when the same reply would get another grade; stored grades are keyed on it.
pub const VERSION: u32 = 1;

/// Grades a solver's whole reply. Without golds nothing is correct: refuse such questions before (see
/// [`crate::screening::check_gold`]).
#[must_use]
pub fn grade(kind: ScorerKind, reply: &str, finish: &Finish, golds: &[Gold]) -> Grade {
    match kind {
        ScorerKind::Numeric => numeric::grade(reply, finish, golds),
        ScorerKind::Drop => drop::grade(reply, finish, golds),
        ScorerKind::Exact => exact::grade(reply, finish, golds),
    }
}

/// A grade for a question whose call failed for good: it stays in the denominator.
#[must_use]
pub fn failed() -> Grade {
    missing(Outcome::Error)
}

fn missing(outcome: Outcome) -> Grade {
    Grade { correct: false, score: 0.0, answer: None, outcome }
}

/// The answer text, or the grade of a reply that has none.
fn text_answer(reply: &str, finish: &Finish) -> Result<String, Grade> {
    let found = extract::final_answer(reply);
    if *finish == Finish::Length && !found.as_ref().is_some_and(|found| found.cue.is_explicit()) {
        return Err(missing(Outcome::Truncated));
    }
    found.map(|found| found.text).ok_or_else(|| missing(Outcome::NoAnswer))
}

#[cfg(test)]
mod tests;
