//! What a student costs once: the teacher's calls and the screening's for the data sets that it learns from, and its training.

use std::collections::BTreeMap;

use divvy_core::{
    arm::Arm,
    plan::{Plan, StudentPlan, without_seed},
    records::{ItemState, Stage},
    results::{
        TrainingSummary,
        costs::{Outlay, StudentCost},
    },
};
use divvy_store::ItemRow;

use super::{
    costs::students,
    took::{Calls, Tariff},
};
use crate::{condition, context::Context, error::FlowError};

/// What the stages before training took, by data set.
pub(super) struct Stages {
    collection: Sets,
    screening: Sets,
}

type Sets = BTreeMap<String, Set>;

#[derive(Clone, Copy)]
struct Set {
    outlay: Outlay,
    /// Items of which a row can be made: decompositions, or those that were kept.
    usable: u64,
}

/// Data set → the share of it that is paid for.
type Shares<'a> = BTreeMap<&'a str, f64>;

impl Stages {
    pub(super) async fn read(context: &Context, tariff: &Tariff<'_>) -> Result<Self, FlowError> {
        Ok(Self {
            collection: sets(context, tariff, Stage::Collect).await?,
            screening: sets(context, tariff, Stage::Screen).await?,
        })
    }

    pub(super) fn of_student(&self, plan: &Plan, tariff: &Tariff<'_>, trained: &TrainingSummary) -> StudentCost {
        let student = plan.students.get(&trained.student);
        let collection = paid(&self.collection, &self.shares(student, &self.collection));
        let screening = paid(&self.screening, &self.shares(student, &self.screening));
        let training = tariff.training(&trained.base, trained.wall_ms);
        let total = collection.and(screening).and(training);
        StudentCost { student: trained.student.clone(), collection, screening, training, total }
    }

    /// Of one of these stages, what a student needs: nothing, its data sets, or as much of them as has the rows that it wants.
    fn shares<'a>(&self, student: Option<&StudentPlan>, stage: &'a Sets) -> Shares<'a> {
        let Some(student) = student else { return stage.keys().map(|set| (set.as_str(), 1.0)).collect() };
        let screens = std::ptr::eq(stage, &self.screening);
        if !(if screens { student.target.needs_screening() } else { student.target.needs_decompositions() }) {
            return Shares::new();
        }
        let kept_alone = student.target.needs_screening() && !student.target.repeats_replies();
        let pool = if kept_alone { &self.screening } else { &self.collection };
        let learns = |set: &&String| student.learns_from(set);
        let usable: u64 = pool.iter().filter(|(set, _)| learns(set)).map(|(_, set)| set.usable).sum();
        let wanted = student.rows.map_or(1.0, |rows| (rows as f64 / usable.max(1) as f64).min(1.0));
        stage.keys().filter(learns).map(|set| (set.as_str(), wanted)).collect()
    }

    /// Once for all students of the arm: what they share is paid once. Of several seeds one would be trained, in the mean time
    /// of all.
    pub(super) fn of_arm(
        &self,
        plan: &Plan,
        tariff: &Tariff<'_>,
        training: &[TrainingSummary],
        arm: &Arm,
    ) -> Option<Outlay> {
        let mean = |name: &str| {
            let is =
                |trained: &&TrainingSummary| trained.student == name || without_seed(&trained.student) == Some(name);
            let seeds: Vec<&TrainingSummary> = training.iter().filter(is).collect();
            let wall_ms: i64 = seeds.iter().map(|trained| trained.wall_ms).sum();
            let mean = wall_ms.checked_div(i64::try_from(seeds.len()).ok()?)?;
            Some((*seeds.first()?, tariff.training(&seeds.first()?.base, mean)))
        };
        let trained: Vec<(&TrainingSummary, Outlay)> = students(arm).filter_map(mean).collect();
        let shared = [&self.collection, &self.screening].map(|stage| {
            let each = trained.iter().map(|(trained, _)| self.shares(plan.students.get(&trained.student), stage));
            paid(stage, &each.fold(Shares::new(), together))
        });
        let training = trained.iter().map(|(_, training)| *training);
        (!trained.is_empty()).then(|| shared.into_iter().chain(training).fold(Outlay::NONE, Outlay::and))
    }
}

/// The larger share of each: the other's rows are among its own.
fn together<'a>(mut one: Shares<'a>, other: Shares<'a>) -> Shares<'a> {
    for (set, share) in other {
        let before = one.entry(set).or_default();
        *before = before.max(share);
    }
    one
}

fn paid(stage: &Sets, shares: &Shares<'_>) -> Outlay {
    shares.iter().fold(Outlay::NONE, |sum, (set, share)| sum.and(stage[*set].outlay.times(*share)))
}

async fn sets(context: &Context, tariff: &Tariff<'_>, stage: Stage) -> Result<Sets, FlowError> {
    let rows = context.store.items(&context.digest, stage).await?;
    let calls = Calls::read(context, rows.iter()).await?;
    let mut sets = Sets::new();
    for row in &rows {
        let set = sets.entry(row.question.set().to_owned()).or_insert(Set { outlay: Outlay::NONE, usable: 0 });
        set.outlay = set.outlay.and(calls.of(&row.calls, tariff).outlay());
        set.usable += u64::from(is_usable(row));
    }
    Ok(sets)
}

fn is_usable(row: &ItemRow) -> bool {
    row.state == ItemState::Done && condition::verdict(row).is_none_or(|verdict| verdict.keep)
}

#[cfg(test)]
mod tests {
    use divvy_core::recipe::Target;
    use serde_json::json;

    use super::*;

    fn student(target: Target, mix: &[&str], rows: Option<usize>) -> StudentPlan {
        let mix: BTreeMap<&str, f64> = mix.iter().map(|set| (*set, 1.0)).collect();
        let plan = json!({
            "base": "small", "target": target, "style": "free", "method": "lora", "rank": 4, "alpha": 8.0, "epochs": 1,
            "learning_rate": 1e-3, "batch_rows": 4, "warmup_ratio": 0.0, "weight_decay": 0.0, "max_grad_norm": 1.0,
            "max_row_tokens": 100, "checkpoint_every": 1, "eval_every": 1, "shots": 0, "mix": mix, "rows": rows,
        });
        serde_json::from_value(plan).unwrap()
    }

    fn stages() -> Stages {
        let set = |name: &str, money: i64, usable| {
            (name.to_owned(), Set { outlay: Outlay { money_nanos: Some(money), ..Outlay::NONE }, usable })
        };
        Stages {
            collection: [set("sums", 1000, 100), set("texts", 200, 20)].into(),
            screening: [set("sums", 5000, 40), set("texts", 600, 10)].into(),
        }
    }

    #[test]
    fn a_student_pays_for_the_data_sets_that_it_learns_from_and_for_no_more_rows_than_it_wants() {
        let stages = stages();
        let of = |student: &StudentPlan| {
            [&stages.collection, &stages.screening]
                .map(|stage| paid(stage, &stages.shares(Some(student), stage)).money_nanos.unwrap())
        };
        assert_eq!(of(&student(Target::SdR, &[], None)), [1200, 5600]);
        assert_eq!(of(&student(Target::SdR, &["texts"], None)), [200, 600]);
        assert_eq!(of(&student(Target::SdT, &[], Some(30))), [300, 0], "a quarter of 120 decompositions");
        assert_eq!(of(&student(Target::SdR, &["sums"], Some(10))), [250, 1250], "a quarter of the 40 that were kept");
        assert_eq!(of(&student(Target::SeT, &["sums"], Some(10))), [100, 500], "replies to all that were collected");
        assert_eq!(of(&student(Target::SdT, &["texts"], Some(900))), [200, 0], "no more than all");
        assert_eq!(of(&student(Target::Direct, &[], None)), [0, 0]);
    }

    #[test]
    fn what_two_students_of_an_arm_share_is_paid_once() {
        let stages = stages();
        let shares = |student: &StudentPlan| stages.shares(Some(student), &stages.collection).into_iter().collect();
        let both: Shares<'_> =
            together(shares(&student(Target::SdT, &["sums"], Some(10))), shares(&student(Target::SeT, &[], Some(60))));
        assert_eq!(both, [("sums", 0.5), ("texts", 0.5)].into());
    }
}
