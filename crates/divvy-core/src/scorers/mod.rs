//! What counts as right. One file a scorer; [`grade`] picks by the question's [`ScorerKind`].
//!
//! Every reply gets a grade, so denominators stay fixed: a reply cut by the token limit before it gave an answer is
//! `truncated`, one with nothing to take is `no-answer`, and both are wrong.

mod assignment;
mod choice;
pub mod drop;
pub mod exact;
pub mod number;
mod numeric;
mod paper;
mod python;
mod yes_no;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    chat::Finish,
    extract::{self, Cue},
    question::{Gold, ScorerKind},
    records::{Grade, Outcome},
};

/// Raised when the same reply would get another grade. A stored grade of another version is not read but made anew, which
/// asks no model. 3: thoughts in a reply are no part of its answer. 4: negations, letters in prose, the last number of a line of
/// prose, more ways to write a number, lists under a cue. 6: a heading above an explanation is no answer. 7: a minus
/// behind a word is a sign, and twelve 100-gram bars are not 12,100. 8: a first line above a reply that was cut off is its answer
/// only where it is right.
pub const VERSION: u32 = 8;

/// Rules that need nothing but the reply and gold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scorer {
    Drop,
    Numeric,
    Exact,
    Choice,
    YesNo,
    /// The reference's own scorers, see `paper.rs`.
    PaperGsm8k,
    PaperDrop,
    PaperBamboogle,
}

impl Scorer {
    pub const ALL: [Self; 8] = [
        Self::Drop,
        Self::Numeric,
        Self::Exact,
        Self::Choice,
        Self::YesNo,
        Self::PaperGsm8k,
        Self::PaperDrop,
        Self::PaperBamboogle,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Numeric => "numeric",
            Self::Exact => "exact",
            Self::Choice => "choice",
            Self::YesNo => "yes-no",
            Self::PaperGsm8k => "paper-gsm8k",
            Self::PaperDrop => "paper-drop",
            Self::PaperBamboogle => "paper-bamboogle",
        }
    }

    /// What a question of this kind is graded by; `None` where that takes a process.
    #[must_use]
    pub fn of(kind: ScorerKind) -> Option<Self> {
        match kind {
            ScorerKind::Numeric => Some(Self::Numeric),
            ScorerKind::Drop => Some(Self::Drop),
            ScorerKind::Exact => Some(Self::Exact),
            ScorerKind::Choice => Some(Self::Choice),
            ScorerKind::YesNo => Some(Self::YesNo),
            ScorerKind::Code => None,
        }
    }

    /// What the paper's reference would grade it by; it has nothing for other kinds.
    #[must_use]
    pub fn of_the_paper(kind: ScorerKind) -> Option<Self> {
        match kind {
            ScorerKind::Numeric => Some(Self::PaperGsm8k),
            ScorerKind::Drop => Some(Self::PaperDrop),
            ScorerKind::Exact => Some(Self::PaperBamboogle),
            ScorerKind::Choice | ScorerKind::YesNo | ScorerKind::Code => None,
        }
    }

    /// Grades a solver's whole reply.
    #[must_use]
    pub fn grade(self, reply: &str, finish: &Finish, golds: &[Gold]) -> Grade {
        if finish.is_refusal() {
            return missing(Outcome::Refused);
        }
        let graded = match self {
            Self::Drop => drop::grade(reply, finish, golds),
            Self::Numeric => numeric::grade(reply, finish, golds),
            Self::Exact => exact::grade(reply, finish, golds),
            Self::Choice => choice::grade(reply, finish, golds),
            Self::YesNo => yes_no::grade(reply, finish, golds),
            Self::PaperGsm8k => paper::gsm8k(reply, golds),
            Self::PaperDrop => paper::drop(reply, golds),
            Self::PaperBamboogle => paper::bamboogle(reply, golds),
        };
        if self.takes_any_line() && was_to_come(reply, finish, &graded) { missing(Outcome::Truncated) } else { graded }
    }

    /// A number tells an answer from a beginning; and the reference knows nothing of replies that were cut off.
    fn takes_any_line(self) -> bool {
        matches!(self, Self::Drop | Self::Exact | Self::Choice | Self::YesNo)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown scorer `{0}`; there are drop, numeric, exact, choice, yes-no, paper-gsm8k, paper-drop, paper-bamboogle"
)]
pub struct UnknownScorer(pub String);

impl FromStr for Scorer {
    type Err = UnknownScorer;

    fn from_str(name: &str) -> Result<Self, UnknownScorer> {
        Self::ALL.into_iter().find(|scorer| scorer.name() == name).ok_or_else(|| UnknownScorer(name.to_owned()))
    }
}

/// Grades a solver's whole reply by its question's own rules. Without golds nothing is correct: refuse such questions
/// before, as divvy-flow's stages do; those about code too, which are graded by running it.
#[must_use]
pub fn grade(kind: ScorerKind, reply: &str, finish: &Finish, golds: &[Gold]) -> Grade {
    Scorer::of(kind).map_or_else(failed, |scorer| scorer.grade(reply, finish, golds))
}

/// Whether a scorer can read this gold; against one that it cannot, nothing would be right.
#[must_use]
pub fn reads_gold(kind: ScorerKind, gold: &Gold) -> bool {
    match kind {
        ScorerKind::Numeric => number::stated(&gold.to_string()).is_some(),
        ScorerKind::YesNo => yes_no::said(&gold.to_string()).is_some(),
        ScorerKind::Drop | ScorerKind::Exact | ScorerKind::Choice | ScorerKind::Code => true,
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

/// Whether a reply was cut off below a first line that is not right: "Let me think about this" is none of its answer, and nobody
/// knows which of such lines are.
fn was_to_come(reply: &str, finish: &Finish, graded: &Grade) -> bool {
    let begins = || extract::final_answer(reply).is_some_and(|found| found.cue == Cue::FirstLine);
    *finish == Finish::Length && graded.outcome == Outcome::Answered && graded.score == 0.0 && begins()
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
