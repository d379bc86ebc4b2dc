//! One run against another: arms of the same name on the questions that both were asked, paired. What is worse, what is
//! better, and which rows flipped.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    digest::Digest,
    graded::{Asked, Sheet},
    records::Outcome,
    stats::{Interval, holm, paired},
};

/// Below this, a difference is shown.
const LEVEL: f64 = 0.05;

/// What is compared of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunRows {
    pub arms: Vec<String>,
    questions: BTreeMap<String, QuestionRows>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct QuestionRows {
    /// Of premise, question and gold: an id says a place in a data set, not a text.
    content: Digest,
    /// By arm; `None` where the arm has not answered yet.
    rows: Vec<Option<RowState>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RowState {
    correct: bool,
    /// For reasons outside the models.
    failed: bool,
}

impl RunRows {
    pub fn add(&mut self, sheet: &Sheet) {
        self.arms = sheet.arms.to_vec();
        for asked in &sheet.questions {
            let mut rows = vec![None; sheet.arms.len()];
            for row in &asked.rows {
                rows[row.arm] = Some(RowState { correct: row.correct, failed: row.outcome == Outcome::Error });
            }
            self.questions.insert(asked.id.clone(), QuestionRows { content: content(asked), rows });
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
    /// Rows that are right in one and not in the other, by arm, then question.
    pub flips: Vec<Flip>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmChange {
    pub arm: String,
    /// Questions that both runs answered under this arm, whatever came of it.
    pub n: u64,
    pub correct_before: u64,
    pub correct_after: u64,
    /// Rows that ended in an error; they count as wrong.
    pub errors_before: u64,
    pub errors_after: u64,
    /// Right before and wrong after, and the other way round.
    pub lost: u64,
    pub gained: u64,
    /// accuracy after − accuracy before.
    pub difference: f64,
    /// 95 % interval of the paired difference.
    pub ci: Interval,
    /// Exact McNemar, two-sided.
    pub p_value: f64,
    /// Holm-adjusted over the arms.
    pub p_holm: f64,
    pub change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    Worse,
    Better,
    NotShown,
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
}

/// Compares `after` with `before`.
#[must_use]
pub fn compare(before: &RunRows, after: &RunRows) -> Regression {
    let mut flips = Vec::new();
    let common = before.arms.iter().filter_map(|arm| Some((arm, before.arm(arm)?, after.arm(arm)?)));
    let mut arms: Vec<ArmChange> =
        common.map(|(name, was, is)| change(name, &pairs(before, was, after, is), &mut flips)).collect();
    let adjusted = holm::adjust(&arms.iter().map(|arm| arm.p_value).collect::<Vec<_>>());
    for (arm, p_holm) in arms.iter_mut().zip(adjusted) {
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

/// Question, before, after.
type Pair<'a> = (&'a str, RowState, RowState);

fn pairs<'a>(before: &'a RunRows, was: usize, after: &'a RunRows, is: usize) -> Vec<Pair<'a>> {
    let pair = |(id, question): (&'a String, &'a QuestionRows)| {
        let other = after.questions.get(id).filter(|other| other.content == question.content)?;
        Some((id.as_str(), question.rows[was]?, other.rows[is]?))
    };
    before.questions.iter().filter_map(pair).collect()
}

fn change(arm: &str, pairs: &[Pair<'_>], flips: &mut Vec<Flip>) -> ArmChange {
    let right = |of: fn(&Pair<'_>) -> RowState| pairs.iter().map(|pair| of(pair).correct).collect::<Vec<bool>>();
    let (was, is) = (right(|pair| pair.1), right(|pair| pair.2));
    let paired = paired::compare(&is, &was);
    let flipped = pairs.iter().filter(|(_, was, is)| was.correct != is.correct);
    flips.extend(flipped.map(|(question, was, _)| Flip {
        arm: arm.to_owned(),
        question: (*question).to_owned(),
        lost: was.correct,
    }));
    let count = |of: &dyn Fn(&Pair<'_>) -> bool| pairs.iter().filter(|pair| of(pair)).count() as u64;
    ArmChange {
        arm: arm.to_owned(),
        n: paired.n,
        correct_before: count(&|pair| pair.1.correct),
        correct_after: count(&|pair| pair.2.correct),
        errors_before: count(&|pair| pair.1.failed),
        errors_after: count(&|pair| pair.2.failed),
        lost: paired.only_b,
        gained: paired.only_a,
        difference: paired.difference,
        ci: paired.ci,
        p_value: paired.p_value,
        p_holm: paired.p_value,
        change: Change::NotShown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graded::GradedRow, question::ScorerKind};

    fn run(arms: &[&str], right: impl Fn(usize, usize) -> Option<bool>, text: impl Fn(usize) -> String) -> RunRows {
        let row = |arm: usize, correct: bool| GradedRow {
            correct,
            score: f64::from(u8::from(correct)),
            outcome: Outcome::Answered,
            ..GradedRow::failed(arm)
        };
        let asked = |question: usize| Asked {
            id: format!("q/test/{question}"),
            premise: None,
            question: text(question),
            gold: Vec::new(),
            steps: None,
            dataset: "q".to_owned(),
            scorer: ScorerKind::Exact,
            rows: (0..arms.len()).filter_map(|arm| Some(row(arm, right(question, arm)?))).collect(),
        };
        let arms = arms.iter().map(|arm| (*arm).to_owned()).collect::<Vec<_>>();
        let mut rows = RunRows::default();
        rows.add(&Sheet { arms: arms.into(), questions: (0..40).map(asked).collect(), calls: Vec::new() });
        rows
    }

    fn same(question: usize) -> String {
        format!("question {question}")
    }

    #[test]
    fn an_arm_that_lost_is_worse_and_its_rows_are_named() {
        let before = run(&["cot", "direct", "old"], |question, _| Some(question.is_multiple_of(2)), same);
        // `cot` loses ten, `direct` swaps one for one.
        let right = |question: usize, arm: usize| {
            Some(if arm == 1 {
                question.is_multiple_of(2) && question >= 20
            } else {
                (question.is_multiple_of(2)) != (question < 2)
            })
        };
        let after = run(&["direct", "cot", "new"], right, same);
        let found = compare(&before, &after);
        let [cot, direct] = &found.arms[..] else { panic!("{found:?}") };
        assert_eq!((cot.n, cot.lost, cot.gained, cot.change), (40, 10, 0, Change::Worse));
        assert!((cot.difference + 0.25).abs() < 1e-12 && (cot.p_holm - 2.0 * cot.p_value).abs() < 1e-12, "{cot:?}");
        assert_eq!((direct.lost, direct.gained, direct.change), (1, 1, Change::NotShown));
        assert_eq!(
            (found.only_before.as_slice(), found.only_after.as_slice()),
            (&["old".to_owned()][..], &["new".to_owned()][..])
        );
        assert_eq!((found.flips.len(), found.worse().count()), (12, 1));
        assert_eq!(found.flips[0], Flip { arm: "cot".into(), question: "q/test/0".into(), lost: true });
        let back = compare(&after, &before);
        assert_eq!(back.arms.iter().find(|arm| arm.arm == "cot").map(|arm| arm.change), Some(Change::Better));
    }

    #[test]
    fn only_questions_that_both_were_asked_are_compared() {
        let before = run(&["cot"], |_, _| Some(true), same);
        let after = run(
            &["cot"],
            |question, _| (question != 3).then_some(false),
            |question| {
                if question < 10 { "another text".to_owned() } else { same(question) }
            },
        );
        let found = compare(&before, &after);
        assert_eq!((found.changed_questions, found.arms[0].n), (10, 30));
    }
}
