//! Students that differ in their seed alone are one arm in a report: what its arms are, and of which arms of the plan each is
//! made.

use divvy_core::{
    arm::Arm,
    plan::{EvaluatePlan, Plan},
    question::QuestionId,
    results::{ArmResult, Pool},
};

use super::counted::ArmRows;
use crate::graders::judge::Verdicts;

/// An arm of the report.
pub(super) struct Told {
    pub(super) arm: Arm,
    /// It stands for several seeds, or for the one of several that there is.
    pub(super) pools: bool,
    /// Arms of the plan.
    pub(super) members: Vec<Arm>,
}

/// The records of one arm of the plan.
pub(super) struct Member<'a> {
    pub(super) rows: &'a ArmRows,
    pub(super) verdicts: Option<&'a Verdicts>,
}

/// In the plan's order, a pool in the place of its first seed.
pub(super) fn told(plan: &Plan, evaluate: &EvaluatePlan) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for arm in &evaluate.arms {
        let pool = plan.pool(arm);
        let (pools, name) = (pool.is_some(), pool.unwrap_or_else(|| arm.clone()));
        match all.iter_mut().find(|told| pools && told.arm == name) {
            Some(told) => told.members.push(arm.clone()),
            None => all.push(Told { arm: name, pools, members: vec![arm.clone()] }),
        }
    }
    all
}

/// What one answer to a question is called among an arm's records.
pub(super) fn answer(question: &QuestionId, repeat: u32) -> std::borrow::Cow<'_, str> {
    match repeat {
        0 => question.0.as_str().into(),
        repeat => format!("{}#{repeat}", question.0).into(),
    }
}

/// `None` of no seeds.
pub(super) fn pool(seeds: &[ArmResult]) -> Option<Pool> {
    let accuracies = || seeds.iter().map(|seed| seed.accuracy);
    Some(Pool {
        of: seeds.iter().map(|seed| seed.arm.clone()).collect(),
        lowest: accuracies().min_by(f64::total_cmp)?,
        highest: accuracies().max_by(f64::total_cmp)?,
    })
}

/// Mean of the answers to each question. `values` has all questions, then all of them again, and so on.
pub(super) fn per_question(values: &[f64], questions: usize) -> Vec<f64> {
    let times = values.len() / questions.max(1);
    let mean = |at| (0..times).map(|time| values[time * questions + at]).sum::<f64>() / times as f64;
    if times == 1 { values.to_vec() } else { (0..questions).map(mean).collect() }
}

/// The same for each of so many seeds, which follow each other.
pub(super) fn per_seed(values: &[f64], questions: usize, seeds: usize) -> Vec<Vec<f64>> {
    let each = (values.len() / seeds.max(1)).max(1);
    values.chunks(each).map(|seed| per_question(seed, questions)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_gathered_by_question_and_by_seed() {
        // Two seeds, each with two answers to three questions.
        let values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0];
        assert_eq!(per_seed(&values, 3, 2), [[1.0, 0.5, 0.0], [0.5, 0.0, 1.0]]);
        assert_eq!(per_question(&values, 3), [0.75, 0.25, 0.5]);
        assert_eq!(per_question(&values[..3], 3), values[..3]);
        assert!(per_question(&[], 0).is_empty() && per_seed(&[], 0, 2).is_empty());
        assert_eq!(answer(&QuestionId("s/test/1".to_owned()), 2), "s/test/1#2");
    }
}
