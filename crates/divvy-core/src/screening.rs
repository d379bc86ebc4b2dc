//! Screening: a solver answers a question several times with one decomposition; a rule over those grades decides whether
//! the row is good enough to train on, and every decision carries its reason.

mod form;

use std::{cmp::Reverse, collections::BTreeMap};

pub use form::fault;

use crate::{
    chat::Finish,
    question::{Gold, ScorerKind},
    recipe,
    records::{Grade, Outcome, Verdict},
    scorers,
};

/// Reasons as they are stored and grouped by.
pub mod reason {
    pub const CORRECT: &str = "correct";
    /// Several samples of the solver say the same (no gold was looked at).
    pub const AGREED: &str = "agreed";
    pub const TOO_FEW_AGREE: &str = "too-few-agree";
    /// Another decomposition of the same question is kept.
    pub const NOT_THE_BEST: &str = "not-the-best";
    /// Some samples were right, fewer than the rule asks for.
    pub const TOO_FEW_CORRECT: &str = "too-few-correct";
    pub const WRONG_ANSWER: &str = "wrong-answer";
    pub const NO_ANSWER: &str = "no-answer";
    pub const TRUNCATED: &str = "truncated";
    pub const REFUSED: &str = "refused";
    pub const ERROR: &str = "error";
    /// No solver sample at all.
    pub const NO_SAMPLES: &str = "no-samples";
    /// Its form is as it should be, and nobody was asked for more.
    pub const WELL_FORMED: &str = "well-formed";
    pub const TOO_FEW_STEPS: &str = "too-few-steps";
    pub const TOO_MANY_STEPS: &str = "too-many-steps";
    /// A line was written twice, or goes round in circles.
    pub const REPEATS: &str = "repeats";
    /// A subquestion names an answer that nobody knows yet.
    pub const LEAKS_ANSWER: &str = "leaks-answer";
    /// A subquestion refers to one that does not come before it.
    pub const REFERS_AHEAD: &str = "refers-ahead";
}

/// How many of the solver's samples have to be right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeepRule {
    /// At least one (the paper's two-pass screening).
    Any,
    All,
    /// At least this share, 0 to 1.
    Threshold(f64),
}

impl KeepRule {
    /// From the two keys of a recipe's `[screen]`; a missing threshold counts as 1.
    #[must_use]
    pub fn new(rule: recipe::Rule, threshold: Option<f64>) -> Self {
        match rule {
            // The best one is chosen among those that are good enough, see [`best`].
            // By its form alone nothing has samples.
            recipe::Rule::Any | recipe::Rule::Best | recipe::Rule::Format => Self::Any,
            recipe::Rule::All => Self::All,
            recipe::Rule::Threshold | recipe::Rule::Agreement => Self::Threshold(threshold.unwrap_or(1.0)),
        }
    }

    /// Rows without a right sample are never kept, whatever the threshold.
    fn keeps(self, correct: usize, samples: usize) -> bool {
        correct > 0
            && match self {
                Self::Any => true,
                Self::All => correct == samples,
                Self::Threshold(share) => correct as f64 >= share * samples as f64 - 1e-9,
            }
    }
}

/// The verdict where no solver was asked, by the [`fault`] of a form.
#[must_use]
pub fn by_form(fault: Option<&str>) -> Verdict {
    let reason = fault.unwrap_or(reason::WELL_FORMED).to_owned();
    Verdict { keep: fault.is_none(), reason, pass_rate: None, answer: None }
}

/// The verdict on one decomposition from the grades of its solver samples.
#[must_use]
pub fn verdict(rule: KeepRule, grades: &[Grade]) -> Verdict {
    if grades.is_empty() {
        return Verdict { keep: false, reason: reason::NO_SAMPLES.to_owned(), pass_rate: None, answer: None };
    }
    let correct = grades.iter().filter(|grade| grade.correct).count();
    let keep = rule.keeps(correct, grades.len());
    let reason = match (keep, correct) {
        (true, _) => reason::CORRECT,
        (false, 0) => commonest_failure(grades),
        (false, _) => reason::TOO_FEW_CORRECT,
    };
    let pass_rate = Some(correct as f64 / grades.len() as f64);
    Verdict { keep, reason: reason.to_owned(), pass_rate, answer: commonest_answer(grades, keep) }
}

/// The verdict where no gold is looked at: the answer that most samples agree with, by the question's own scorer, stands in
/// for it, and `share` of them, two at least, have to.
#[must_use]
pub fn agreement(kind: ScorerKind, share: f64, replies: &[(&str, &Finish)]) -> Verdict {
    let grade = |golds: &[Gold]| -> Vec<Grade> {
        replies.iter().map(|(reply, finish)| scorers::grade(kind, reply, finish, golds)).collect()
    };
    let agree = |grades: &[Grade]| grades.iter().filter(|grade| grade.correct).count();
    let answers = grade(&[]);
    let said = answers.iter().filter_map(|grade| grade.answer.as_ref());
    // Two spellings of one answer agree by the scorer, though not by the letter.
    let supported = said.map(|said| grade(&[Gold::single(said)]));
    let best = supported.reduce(|best, next| if agree(&next) > agree(&best) { next } else { best });
    let Some(grades) = best else { return verdict(KeepRule::Any, &answers) };
    let found = verdict(KeepRule::Threshold(share), &grades);
    // One sample agrees with itself.
    let keep = found.keep && agree(&grades) > 1;
    let reason = if keep { reason::AGREED } else { reason::TOO_FEW_AGREE };
    Verdict { keep, reason: reason.to_owned(), ..found }
}

/// Of one question's verdicts, by sample: of those that are good enough, the one that passed most often; the first of
/// equals. One that lost before competes again, since the winner may have been screened anew.
#[must_use]
pub fn best(verdicts: &[Verdict]) -> Option<usize> {
    let good = |verdict: &Verdict| verdict.keep || verdict.reason == reason::NOT_THE_BEST;
    let kept = verdicts.iter().enumerate().filter(|(_, verdict)| good(verdict));
    let best = kept.reduce(|best, next| if next.1.pass_rate > best.1.pass_rate { next } else { best });
    best.map(|(index, _)| index)
}

/// What the best decomposition of a question is, whatever it was before.
#[must_use]
pub fn the_best(verdict: Verdict) -> Verdict {
    Verdict { keep: true, reason: reason::CORRECT.to_owned(), ..verdict }
}

/// What a decomposition becomes when another of its question is kept.
#[must_use]
pub fn not_the_best(verdict: Verdict) -> Verdict {
    Verdict { keep: false, reason: reason::NOT_THE_BEST.to_owned(), ..verdict }
}

/// Why most of the failed samples failed; the first seen wins a tie.
fn commonest_failure(grades: &[Grade]) -> &'static str {
    commonest(grades.iter().map(|grade| match grade.outcome {
        Outcome::Answered => reason::WRONG_ANSWER,
        Outcome::NoAnswer => reason::NO_ANSWER,
        Outcome::Truncated => reason::TRUNCATED,
        Outcome::Refused => reason::REFUSED,
        Outcome::Error => reason::ERROR,
    }))
    .unwrap_or(reason::NO_SAMPLES)
}

/// What most samples answered; of a kept row, what most right samples answered.
fn commonest_answer(grades: &[Grade], keep: bool) -> Option<String> {
    commonest(grades.iter().filter(|grade| grade.correct || !keep).filter_map(|grade| grade.answer.clone()))
}

fn commonest<T: Ord + Clone>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, (usize, Reverse<usize>)> = BTreeMap::new();
    for (index, item) in items.enumerate() {
        counts.entry(item).or_insert((0, Reverse(index))).0 += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(item, _)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(answer: &str) -> Grade {
        Grade { correct: true, score: 1.0, answer: Some(answer.into()), outcome: Outcome::Answered }
    }
    fn wrong(answer: &str) -> Grade {
        Grade { correct: false, score: 0.0, answer: Some(answer.into()), outcome: Outcome::Answered }
    }
    fn failed(outcome: Outcome) -> Grade {
        Grade { correct: false, score: 0.0, answer: None, outcome }
    }

    fn check(rule: KeepRule, grades: &[Grade], keep: bool, reason: &str, pass_rate: f64, answer: Option<&str>) {
        let pass_rate = (!grades.is_empty()).then_some(pass_rate);
        let expect = Verdict { keep, reason: reason.into(), pass_rate, answer: answer.map(str::to_owned) };
        assert_eq!(verdict(rule, grades), expect);
    }

    #[test]
    fn rules() {
        let half = [wrong("3"), wrong("3"), right("4"), right("4")];
        check(KeepRule::Any, &half, true, "correct", 0.5, Some("4"));
        check(KeepRule::All, &half, false, "too-few-correct", 0.5, Some("3"));
        check(KeepRule::Threshold(0.5), &half, true, "correct", 0.5, Some("4"));
        check(KeepRule::Threshold(0.6), &half, false, "too-few-correct", 0.5, Some("3"));
        check(KeepRule::All, &[right("4")], true, "correct", 1.0, Some("4"));
        check(
            KeepRule::Threshold(1.0 / 3.0),
            &[right("4"), wrong("1"), wrong("1")],
            true,
            "correct",
            1.0 / 3.0,
            Some("4"),
        );
    }

    #[test]
    fn reasons() {
        let any = KeepRule::Any;
        check(any, &[wrong("3")], false, "wrong-answer", 0.0, Some("3"));
        check(
            any,
            &[failed(Outcome::Truncated), failed(Outcome::Truncated), wrong("3")],
            false,
            "truncated",
            0.0,
            Some("3"),
        );
        check(any, &[failed(Outcome::NoAnswer), failed(Outcome::Error)], false, "no-answer", 0.0, None);
        check(any, &[failed(Outcome::Error)], false, "error", 0.0, None);
        check(KeepRule::Threshold(0.0), &[wrong("3")], false, "wrong-answer", 0.0, Some("3"));
        check(any, &[], false, "no-samples", 0.0, None);
    }

    #[test]
    fn agreement_is_by_the_scorer_and_needs_no_gold() {
        let said = |texts: &[&str], share| {
            let replies: Vec<_> = texts.iter().map(|text| (*text, &Finish::Stop)).collect();
            let verdict = agreement(ScorerKind::Numeric, share, &replies);
            (verdict.keep, verdict.reason, verdict.pass_rate)
        };
        let (one, same, other) = ("The answer is: 1,200", "The answer is: 1200.0", "The answer is: 7");
        assert_eq!(said(&[one, same, other, one], 0.7), (true, "agreed".into(), Some(0.75)));
        assert_eq!(said(&[one, other], 0.6), (false, "too-few-agree".into(), Some(0.5)));
        assert!(!said(&[one, other], 0.5).0, "one sample agrees with itself");
        assert_eq!(said(&["", ""], 0.5), (false, "no-answer".into(), Some(0.0)));
    }

    #[test]
    fn the_best_of_a_question_passed_most_often() {
        let rated =
            |rate: f64| Verdict { keep: rate > 0.0, reason: String::new(), pass_rate: Some(rate), answer: None };
        assert_eq!(best(&[rated(0.25), rated(0.75), rated(0.75)]), Some(1));
        assert_eq!(best(&[rated(0.0)]), None);
        assert_eq!(best(&[rated(0.25), not_the_best(rated(0.75))]), Some(1), "one that lost before may win now");
        let loser = not_the_best(rated(0.25));
        assert_eq!((loser.keep, loser.reason.as_str(), loser.pass_rate), (false, "not-the-best", Some(0.25)));
    }
}
