//! How good decompositions are, told without asking anybody: can they be read, how long are they, do they repeat
//! themselves, do they give away what they should ask for. Whether a solver gets on with them is counted beside it
//! ([`crate::results::Pass`]).

mod leak;
#[cfg(test)]
mod tests;

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

pub use leak::{Secrets, leaks};

use crate::{
    chat::Finish,
    decomposition::{Decomposition, Subquestion, mentions},
    prompts::decompose::{Problem, Style, completion, parse, read},
    question::Question,
    records::Collected,
};

/// What a decomposer made of one question.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    pub question: &'a Question,
    /// The question's own.
    pub secrets: &'a Secrets,
    /// `None`: nothing that it wrote can be read as a decomposition.
    pub decomposition: Option<&'a Decomposition>,
    /// A line was written twice, or goes round in circles; see [`repeats`].
    pub repeats: bool,
    /// The answers to its subquestions, where it heard each before it asked the next; empty where it wrote all at once.
    pub heard: &'a [Option<String>],
}

/// Of one decomposer, counted over questions. Every figure has its own denominator beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    /// Questions that it was asked, whatever came of it; one without a reply is here and nowhere else.
    pub n: u64,
    /// Replies that are subquestions or "No decomposition".
    pub well_formed: u64,
    /// "No decomposition": these questions are solved in one call.
    pub declined: u64,
    /// Subquestions in all; of "No decomposition" none.
    pub subquestions: u64,
    /// Replies with a line that is there twice or repeats a phrase over and over. Such lines are left out.
    pub repeating: u64,
    /// Well-formed ones of questions with a recorded decomposition, or whose number of reasoning steps is known.
    pub steps: StepCount,
    /// Decompositions with an answer in a subquestion that nobody could know yet ([`leaks`]), among those of questions
    /// whose answers are known.
    pub leaking: Share,
    /// Decompositions with a `#k` reference, among those with at least two subquestions.
    pub referring: Share,
}

/// `count` of `of`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub of: u64,
    pub count: u64,
}

impl Share {
    fn add(&mut self, counts: bool) {
        self.of += 1;
        self.count += u64::from(counts);
    }

    /// `None` of nothing.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        (self.of > 0).then(|| self.count as f64 / self.of as f64)
    }
}

/// Number of subquestions against that of the data set's own decomposition or, where it has none, its number of reasoning
/// steps. "No decomposition" is one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCount {
    pub of: u64,
    pub equal: u64,
    /// Sum of subquestions less steps.
    pub difference: i64,
}

impl StepCount {
    fn add(&mut self, written: usize, gold: usize) {
        let difference = written.max(1) as i64 - gold as i64;
        self.of += 1;
        self.equal += u64::from(difference == 0);
        self.difference += difference;
    }

    /// Subquestions more than steps, on average.
    #[must_use]
    pub fn mean_difference(&self) -> Option<f64> {
        (self.of > 0).then(|| self.difference as f64 / self.of as f64)
    }
}

impl AddAssign for Quality {
    fn add_assign(&mut self, other: Self) {
        self.n += other.n;
        self.well_formed += other.well_formed;
        self.declined += other.declined;
        self.subquestions += other.subquestions;
        self.repeating += other.repeating;
        self.steps.of += other.steps.of;
        self.steps.equal += other.steps.equal;
        self.steps.difference += other.steps.difference;
        self.leaking += other.leaking;
        self.referring += other.referring;
    }
}

impl AddAssign for Share {
    fn add_assign(&mut self, other: Self) {
        self.of += other.of;
        self.count += other.count;
    }
}

impl Quality {
    pub fn add(&mut self, observed: Observed<'_>) {
        self.n += 1;
        self.repeating += u64::from(observed.repeats);
        let Some(decomposition) = observed.decomposition else { return };
        let steps = decomposition.steps();
        self.well_formed += 1;
        self.declined += u64::from(steps.is_empty());
        self.subquestions += steps.len() as u64;
        if let Some(gold) = gold_steps(observed.question) {
            self.steps.add(steps.len(), gold);
        }
        if let Some(leaking) = observed.secrets.leak(steps, observed.heard) {
            self.leaking.add(leaking);
        }
        if steps.len() > 1 {
            self.referring.add(steps.iter().any(|step| !step.refs.is_empty()));
        }
    }

    /// A question that got no reply.
    pub fn add_unanswered(&mut self) {
        self.n += 1;
    }

    /// Subquestions of those that have some.
    #[must_use]
    pub fn mean_subquestions(&self) -> Option<f64> {
        let decomposed = self.well_formed - self.declined;
        (decomposed > 0).then(|| self.subquestions as f64 / decomposed as f64)
    }
}

/// A solution may take several lines for one subquestion: its decomposition is what decompositions are measured by.
fn gold_steps(question: &Question) -> Option<usize> {
    let recorded = question.recorded.as_ref().map(|decomposition| decomposition.steps().len().max(1));
    recorded.or(question.steps.map(|steps| steps as usize))
}

/// Whether a reply can be read as a decomposition, "No decomposition" included: what [`Quality::well_formed`] counts.
#[must_use]
pub fn is_well_formed(reply: &str, finish: &Finish, style: Style) -> bool {
    read(reply, finish, style, usize::MAX).decomposition.is_some()
}

/// Whether a line of a decomposer's reply is there twice or goes round in circles.
#[must_use]
pub fn repeats(reply: &str) -> bool {
    list_repeats(&parse(reply, &Finish::Stop, usize::MAX).problems)
}

/// The same of a reply that was read before.
#[must_use]
pub fn list_repeats(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| matches!(problem, Problem::Duplicate | Problem::Loop))
}

/// The same of what was collected; a data set's own decomposition tells by its lines.
#[must_use]
pub fn repeated(collected: &Collected) -> bool {
    match collected.call {
        Some(_) => list_repeats(&collected.problems),
        None => repeats(&completion(&collected.decomposition)),
    }
}

/// Whether a subquestion refers to itself or to one that does not come before it. What the question writes so itself (`the
/// #1 song`) is no reference.
#[must_use]
pub fn refers_ahead(question: &Question, steps: &[Subquestion]) -> bool {
    let stated: Vec<usize> = question.premise.iter().chain([&question.text]).flat_map(|text| mentions(text)).collect();
    let ahead = |at: usize, k: usize| (k == 0 || k > at) && !stated.contains(&k);
    steps.iter().enumerate().any(|(at, step)| mentions(&step.text).any(|k| ahead(at, k)))
}
