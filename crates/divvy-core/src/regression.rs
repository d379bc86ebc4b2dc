//! One run against another: arms of the same name on the questions that both were asked, paired. What is worse, what is
//! better, what cannot be judged, and which questions flipped. Right and wrong decide; partial credit is told beside them.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::{
    digest::Digest,
    graded::{Asked, Sheet, answer_of},
    records::Outcome,
    results::failed_too_often,
    stats::{
        Interval, LEVEL,
        bootstrap::{self, Difference},
        holm, paired,
    },
};

/// What is compared of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRows {
    /// An arm that answers each question several times is one.
    pub arms: Vec<String>,
    questions: BTreeMap<String, QuestionRows>,
}

#[derive(Clone, Debug, PartialEq)]
struct QuestionRows {
    /// Of premise, question and gold: an id says a place in a data set, not a text.
    content: Digest,
    dataset: String,
    passage: Option<Digest>,
    /// By arm.
    answers: Vec<Answers>,
}

/// Of one arm to one question.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Answers {
    /// None yet, one, or as many as it was repeated.
    given: u64,
    correct: u64,
    /// The sum of what each is worth, with partial credit.
    credit: f64,
    /// For reasons outside the models.
    failed: u64,
}

impl Answers {
    fn share(self) -> f64 {
        self.correct as f64 / self.given as f64
    }

    fn score(self) -> f64 {
        self.credit / self.given as f64
    }
}

impl RunRows {
    pub fn add(&mut self, sheet: &Sheet) {
        let names = || sheet.arms.iter().map(|name| answer_of(name).0);
        self.arms = names().map(str::to_owned).collect();
        self.arms.dedup();
        let places: Vec<usize> = names().filter_map(|name| self.arm(name)).collect();
        for asked in &sheet.questions {
            let mut answers = vec![Answers::default(); self.arms.len()];
            for row in &asked.rows {
                let arm = &mut answers[places[row.arm]];
                arm.given += 1;
                arm.correct += u64::from(row.correct);
                arm.credit += row.score;
                arm.failed += u64::from(row.outcome == Outcome::Error);
            }
            let passage = asked.premise.as_ref().map(|premise| Digest::of("passage/1", premise));
            let (content, dataset) = (content(asked), asked.dataset.clone());
            self.questions.insert(asked.id.clone(), QuestionRows { content, dataset, passage, answers });
        }
    }

    /// Those of the other, too.
    pub fn append(&mut self, other: Self) {
        self.arms = other.arms;
        self.questions.extend(other.questions);
    }

    fn arm(&self, name: &str) -> Option<usize> {
        self.arms.iter().position(|arm| arm == name)
    }
}

fn content(asked: &Asked) -> Digest {
    Digest::of("compared-question/1", &(&asked.premise, &asked.question, &asked.gold))
}

/// How two runs differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Regression {
    /// Arms of both, in the order of the first.
    pub arms: Vec<ArmChange>,
    /// Arms that one of the two lacks.
    pub only_before: Vec<String>,
    pub only_after: Vec<String>,
    /// Questions of one id whose text or gold is not the same: they are not compared.
    pub changed_questions: u64,
    /// Questions that are right in one and not in the other, or more often, by arm, then question.
    pub flips: Vec<Flip>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmChange {
    pub arm: String,
    /// Questions that both runs answered under this arm, whatever came of it.
    pub n: u64,
    /// Questions of both runs that one of them has not answered yet.
    pub pending: u64,
    /// Of several answers to a question, every answer.
    pub answers_before: u64,
    pub answers_after: u64,
    pub correct_before: u64,
    pub correct_after: u64,
    /// Means over the questions.
    pub accuracy_before: f64,
    pub accuracy_after: f64,
    /// Answers that ended in an error; they count as wrong.
    pub errors_before: u64,
    pub errors_after: u64,
    /// Right before and wrong after, and the other way round; of several answers, less often right.
    pub lost: u64,
    pub gained: u64,
    /// accuracy after − accuracy before.
    pub difference: f64,
    /// 95 % interval of the paired difference.
    pub ci: Interval,
    pub test: Test,
    pub p_value: f64,
    /// Holm-adjusted over the arms that are judged; not a number for one that is not.
    pub p_holm: f64,
    pub change: Change,
    /// With partial credit (F1), where any of its answers has some.
    pub score: Option<ScoreChange>,
}

/// Means over the questions, each answer worth from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScoreChange {
    pub before: f64,
    pub after: f64,
    pub difference: f64,
    /// 95 % interval of the paired difference.
    pub ci: Interval,
    /// Of a paired bootstrap.
    pub p_value: f64,
    /// Holm-adjusted over the arms that are judged, by itself; not a number for one that is not.
    pub p_holm: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    Worse,
    Better,
    NotShown,
    /// More than 1 % of its answers, before or after, failed for reasons outside the models, or are still to come.
    Withheld,
}

/// Two-sided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// Exact.
    Mcnemar,
    /// Paired, of whole passages where questions share them, and of whole questions where one has several answers.
    Bootstrap,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flip {
    pub arm: String,
    pub question: String,
    pub lost: bool,
}

impl Regression {
    /// Arms that are shown to be worse.
    pub fn worse(&self) -> impl Iterator<Item = &ArmChange> {
        self.arms.iter().filter(|arm| arm.change == Change::Worse)
    }

    /// Arms of both of which nothing can be said: too many errors or too much to come, or no question in both.
    pub fn unjudged(&self) -> impl Iterator<Item = &ArmChange> {
        self.arms.iter().filter(|arm| arm.change == Change::Withheld || arm.n == 0)
    }
}

/// Compares `after` with `before`; what is drawn is drawn from the seed.
#[must_use]
pub fn compare(before: &RunRows, after: &RunRows, seed: u64) -> Regression {
    let mut flips = Vec::new();
    let common = before.arms.iter().filter_map(|arm| Some((arm, before.arm(arm)?, after.arm(arm)?)));
    let mut arms: Vec<ArmChange> =
        common.map(|(name, was, is)| change(name, pairs(before, was, after, is), seed, &mut flips)).collect();
    // Of an arm without a question in both nothing was tested.
    let is_judged = |arm: &&mut ArmChange| arm.change != Change::Withheld && arm.n > 0;
    let mut judged: Vec<&mut ArmChange> = arms.iter_mut().filter(is_judged).collect();
    let adjusted = holm::adjust(&judged.iter().map(|arm| arm.p_value).collect::<Vec<_>>());
    adjust_scores(judged.iter_mut().filter_map(|arm| arm.score.as_mut()).collect());
    for (arm, p_holm) in judged.iter_mut().zip(adjusted) {
        arm.p_holm = p_holm;
        arm.change = match () {
            () if p_holm >= LEVEL => Change::NotShown,
            () if arm.difference < 0.0 => Change::Worse,
            () => Change::Better,
        };
    }
    let only = |of: &RunRows, other: &RunRows| of.arms.iter().filter(|arm| other.arm(arm).is_none()).cloned().collect();
    let same_id = before.questions.iter().filter_map(|(id, was)| Some((was, after.questions.get(id)?)));
    Regression {
        arms,
        only_before: only(before, after),
        only_after: only(after, before),
        changed_questions: same_id.filter(|(was, is)| was.content != is.content).count() as u64,
        flips,
    }
}

fn adjust_scores(scores: Vec<&mut ScoreChange>) {
    let adjusted = holm::adjust(&scores.iter().map(|score| score.p_value).collect::<Vec<_>>());
    scores.into_iter().zip(adjusted).for_each(|(score, p_holm)| score.p_holm = p_holm);
}

/// One question of both runs, before and after.
struct Pair<'a> {
    question: &'a str,
    passage: Option<&'a Digest>,
    was: Answers,
    is: Answers,
}

fn pairs<'a>(before: &'a RunRows, was: usize, after: &'a RunRows, is: usize) -> Vec<Pair<'a>> {
    let pair = |(id, question): (&'a String, &'a QuestionRows)| {
        let other = after.questions.get(id).filter(|other| other.content == question.content)?;
        let (was, is) = (question.answers[was], other.answers[is]);
        Some(Pair { question: id, passage: question.passage.as_ref(), was, is })
    };
    // An arm need not be asked every data set.
    let sets = |run: &'a RunRows, arm: usize| {
        let answered = run.questions.values().filter(move |question| question.answers[arm].given > 0);
        answered.map(|question| question.dataset.as_str())
    };
    let asked: HashSet<&str> = sets(before, was).chain(sets(after, is)).collect();
    let questions = before.questions.iter().filter(|(_, question)| asked.contains(question.dataset.as_str()));
    questions.filter_map(pair).collect()
}

fn change(arm: &str, pairs: Vec<Pair<'_>>, seed: u64, flips: &mut Vec<Flip>) -> ArmChange {
    let asked = pairs.len() as u64;
    let pairs: Vec<Pair<'_>> = pairs.into_iter().filter(|pair| pair.was.given > 0 && pair.is.given > 0).collect();
    let told = told(arm, &pairs, asked - pairs.len() as u64, seed);
    flips.extend(flipped(arm, &pairs));
    ArmChange { change: if is_withheld(&told) { Change::Withheld } else { Change::NotShown }, ..told }
}

/// An arm's figures, before they are adjusted and judged.
fn told(arm: &str, pairs: &[Pair<'_>], pending: u64, seed: u64) -> ArmChange {
    let sum = |of: fn(&Pair<'_>) -> u64| pairs.iter().map(of).sum::<u64>();
    let mean = |of: fn(&Pair<'_>) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let Tested { test, difference, ci, p_value } = tested(pairs, seed);
    ArmChange {
        arm: arm.to_owned(),
        n: pairs.len() as u64,
        pending,
        answers_before: sum(|pair| pair.was.given),
        answers_after: sum(|pair| pair.is.given),
        correct_before: sum(|pair| pair.was.correct),
        correct_after: sum(|pair| pair.is.correct),
        accuracy_before: mean(|pair| pair.was.share()),
        accuracy_after: mean(|pair| pair.is.share()),
        errors_before: sum(|pair| pair.was.failed),
        errors_after: sum(|pair| pair.is.failed),
        lost: sum(|pair| u64::from(pair.is.share() < pair.was.share())),
        gained: sum(|pair| u64::from(pair.is.share() > pair.was.share())),
        difference,
        ci,
        test,
        p_value,
        p_holm: f64::NAN,
        change: Change::NotShown,
        score: score(pairs, seed),
    }
}

fn flipped(arm: &str, pairs: &[Pair<'_>]) -> impl Iterator<Item = Flip> {
    pairs.iter().filter(|pair| pair.was.share() != pair.is.share()).map(|pair| Flip {
        arm: arm.to_owned(),
        question: pair.question.to_owned(),
        lost: pair.is.share() < pair.was.share(),
    })
}

fn is_withheld(arm: &ArmChange) -> bool {
    failed_too_often(arm.errors_before, arm.answers_before)
        || failed_too_often(arm.errors_after, arm.answers_after)
        || failed_too_often(arm.pending, arm.n + arm.pending)
}

struct Tested {
    test: Test,
    difference: f64,
    ci: Interval,
    p_value: f64,
}

fn tested(pairs: &[Pair<'_>], seed: u64) -> Tested {
    let shared = shared_passages(pairs);
    let once = pairs.iter().all(|pair| pair.was.given == 1 && pair.is.given == 1);
    let right = |of: fn(&Pair<'_>) -> Answers| pairs.iter().map(|pair| of(pair).correct > 0).collect::<Vec<bool>>();
    let paired = paired::compare(&right(|pair| pair.is), &right(|pair| pair.was));
    let test = if shared.is_some() || !once { Test::Bootstrap } else { Test::Mcnemar };
    // Where all are alike, every resample says the same: that is no certainty.
    let alike = pairs.iter().all(|pair| pair.was.share() == pair.is.share());
    if test == Test::Mcnemar || alike {
        return Tested { test, difference: paired.difference, ci: paired.ci, p_value: paired.p_value };
    }
    let drawn = drawn(pairs, Answers::share, shared.as_ref(), seed);
    let drawn = drawn.expect("a bootstrap of some questions");
    let Difference { difference, ci, p_value } = if once { drawn.raised(paired.ci, paired.p_value) } else { drawn };
    Tested { test, difference, ci, p_value }
}

/// Partial credit, where there is any.
fn score(pairs: &[Pair<'_>], seed: u64) -> Option<ScoreChange> {
    if pairs.iter().all(|pair| [pair.was, pair.is].iter().all(|answers| answers.credit == answers.correct as f64)) {
        return None;
    }
    let found = drawn(pairs, Answers::score, shared_passages(pairs).as_ref(), seed)?;
    let mean = |of: fn(&Pair<'_>) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    Some(ScoreChange {
        before: mean(|pair| pair.was.score()),
        after: mean(|pair| pair.is.score()),
        difference: found.difference,
        ci: found.ci,
        p_value: found.p_value,
        p_holm: f64::NAN,
    })
}

fn drawn(
    pairs: &[Pair<'_>],
    worth: fn(Answers) -> f64,
    shared: Option<&(Vec<usize>, usize)>,
    seed: u64,
) -> Option<Difference> {
    let (was, is): (Vec<f64>, Vec<f64>) = pairs.iter().map(|pair| (worth(pair.was), worth(pair.is))).unzip();
    let resamples = bootstrap::resamples_for(shared.map_or(pairs.len(), |(_, count)| *count));
    bootstrap::paired(&is, &was, shared.map(|(passages, _)| &passages[..]), resamples, seed)
}

/// Where any is shared: the passages. The questions of a single one stand for themselves.
fn shared_passages(pairs: &[Pair<'_>]) -> Option<(Vec<usize>, usize)> {
    let (passages, count) = passages(pairs);
    (1 < count && count < pairs.len()).then_some((passages, count))
}

/// A number for the passage of each question, and how many there are; a question without one is alone.
fn passages(pairs: &[Pair<'_>]) -> (Vec<usize>, usize) {
    let (mut numbers, mut count) = (HashMap::new(), 0);
    let mut next = || {
        count += 1;
        count - 1
    };
    let each = pairs.iter().map(|pair| match pair.passage {
        Some(passage) => *numbers.entry(passage).or_insert_with(&mut next),
        None => next(),
    });
    let each = each.collect();
    (each, count)
}

#[cfg(test)]
mod tests;
