//! The grid of arms and data sets: every arm answers every question of every data set that is scored. One combination has
//! no questions: a recorded teacher before a data set that comes without decompositions.

use std::{borrow::Cow, collections::BTreeSet};

use divvy_core::{
    arm::Arm,
    plan::{Plan, RECORDED, TEACHER},
    questions::Questions,
    recipe::EvalSplit,
};

/// Names of the data sets that are scored, in the recipe's order.
#[must_use]
pub fn sets(plan: &Plan) -> &[String] {
    match plan.evaluate.as_ref().map(|evaluate| evaluate.split) {
        None => &[],
        Some(EvalSplit::Dev) => &plan.data.train,
        Some(EvalSplit::Test) => &plan.data.test,
    }
}

pub struct Grid {
    recorded_teacher: bool,
    /// Data sets in which no question comes with a decomposition.
    without: BTreeSet<String>,
}

impl Grid {
    /// `questions` are those that are scored.
    #[must_use]
    pub fn of(plan: &Plan, questions: &Questions) -> Self {
        let recorded_teacher = plan.collect.teacher == RECORDED;
        let mut without = BTreeSet::new();
        // Of a single data set the arm would be left without any question: there, each is a failure with its reason.
        if recorded_teacher && sets(plan).len() > 1 {
            without.extend(sets(plan).iter().cloned());
            questions.iter().filter(|question| question.recorded.is_some()).for_each(|question| {
                without.remove(&question.dataset);
            });
        }
        Self { recorded_teacher, without }
    }

    #[must_use]
    pub fn asks(&self, arm: &Arm, set: &str) -> bool {
        !(self.recorded_teacher && arm.decomposer.as_deref() == Some(TEACHER) && self.without.contains(set))
    }

    /// The questions of an arm.
    #[must_use]
    pub fn asked<'q>(&self, arm: &Arm, questions: &'q Questions) -> Cow<'q, Questions> {
        if self.without.iter().all(|set| self.asks(arm, set)) {
            return Cow::Borrowed(questions);
        }
        Cow::Owned(questions.filter(|question| self.asks(arm, &question.dataset)))
    }
}
