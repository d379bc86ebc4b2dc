//! What a student costs once: the teacher's calls and the screening's for the data sets that it learns from, and its training.

use std::collections::BTreeMap;

use divvy_core::{
    arm::Arm,
    plan::{StudentPlan, without_seed},
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
    /// Items of which a row to learn from can be made: decompositions of training questions, or those that were kept.
    usable: u64,
    /// The same of dev questions, which are always collected, and never screened.
    dev: u64,
    /// Items that came to an end, whichever.
    ended: u64,
    /// Items that somebody was asked about, and not those that were rejected by their form.
    asked: u64,
}

/// Data set → the share of it that is paid for.
type Shares<'a> = BTreeMap<&'a str, f64>;

/// Those of the plan, by name.
type Students = BTreeMap<String, StudentPlan>;

impl Stages {
    pub(super) async fn read(context: &Context, tariff: &Tariff<'_>) -> Result<Self, FlowError> {
        Ok(Self {
            collection: sets(context, tariff, Stage::Collect).await?,
            screening: sets(context, tariff, Stage::Screen).await?,
        })
    }

    pub(super) fn of_student(
        &self,
        students: &Students,
        tariff: &Tariff<'_>,
        trained: &TrainingSummary,
    ) -> StudentCost {
        let student = students.get(&trained.student);
        let collection = paid(&self.collection, &self.shares(student, &self.collection));
        let screening = paid(&self.screening, &self.shares(student, &self.screening));
        let training = tariff.training(&trained.base, trained.wall_ms);
        let total = collection.and(screening).and(training);
        StudentCost { student: trained.student.clone(), collection, screening, training, total }
    }

    /// Of one of these stages, what a student needs: nothing, its data sets, or as much of them as has the rows that it wants.
    fn shares<'a>(&self, student: Option<&StudentPlan>, stage: &'a Sets) -> Shares<'a> {
        let Some(student) = student else { return stage.keys().map(|set| (set.as_str(), 1.0)).collect() };
        let (target, screens) = (student.target, std::ptr::eq(stage, &self.screening));
        if !(if screens { target.needs_screening() } else { target.needs_decompositions() }) {
            return Shares::new();
        }
        // A row is a decomposition, one that was kept, or what was replied to one that was screened.
        let (pool, rows): (&Sets, fn(&Set) -> u64) = match target.needs_screening() {
            false => (&self.collection, |set| set.usable),
            true if target.repeats_replies() => (&self.screening, |set| set.asked),
            true => (&self.screening, |set| set.usable),
        };
        let learns = |set: &&String| student.learns_from(set);
        let usable: u64 = pool.iter().filter(|(set, _)| learns(set)).map(|(_, set)| rows(set)).sum();
        let wanted = student.rows.map_or(1.0, |rows| (rows as f64 / usable.max(1) as f64).min(1.0));
        let needed = |set: &str| if target.needs_screening() && !screens { self.screened(set) } else { 1.0 };
        stage.keys().filter(learns).map(|set| (set.as_str(), wanted * needed(set))).collect()
    }

    /// The share of the decompositions that was screened, with those of dev, the others being for other students.
    fn screened(&self, set: &str) -> f64 {
        let screened = self.screening.get(set).map_or(0, |set| set.ended);
        let (usable, dev) = self.collection.get(set).map_or((0, 0), |set| (set.usable, set.dev));
        ((screened + dev) as f64 / (usable + dev).max(1) as f64).min(1.0)
    }

    /// Once for all students of the arm, `None` where it has none: what they share is paid once.
    pub(super) fn of_arm(
        &self,
        plans: &Students,
        tariff: &Tariff<'_>,
        training: &[TrainingSummary],
        arm: &Arm,
    ) -> Option<Outlay> {
        let of = |name: &str| {
            let is = |student: &str| student == name || without_seed(student) == Some(name);
            let seeds: Vec<&TrainingSummary> = training.iter().filter(|trained| is(&trained.student)).collect();
            let plan = plans.iter().find(|(student, _)| is(student)).map(|(_, plan)| plan);
            (plan, trained(tariff, &seeds))
        };
        let own: Vec<(Option<&StudentPlan>, Outlay)> = students(arm).map(of).collect();
        let shared = [&self.collection, &self.screening].map(|stage| {
            let each = own.iter().map(|(plan, _)| self.shares(*plan, stage));
            paid(stage, &each.fold(Shares::new(), together))
        });
        let training = own.iter().map(|(_, training)| *training);
        (!own.is_empty()).then(|| shared.into_iter().chain(training).fold(Outlay::NONE, Outlay::and))
    }
}

/// Of several seeds one would be trained, in the mean time of all. Unknown where none is on record.
fn trained(tariff: &Tariff<'_>, seeds: &[&TrainingSummary]) -> Outlay {
    let wall_ms: i64 = seeds.iter().map(|trained| trained.wall_ms).sum();
    let mean = wall_ms.checked_div(seeds.len() as i64);
    let known = seeds.first().zip(mean).map(|(first, wall_ms)| tariff.training(&first.base, wall_ms));
    known.unwrap_or_default()
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
    let none = Set { outlay: Outlay::NONE, usable: 0, dev: 0, ended: 0, asked: 0 };
    for row in &rows {
        let set = sets.entry(row.question.set().to_owned()).or_insert(none);
        set.outlay = set.outlay.and(calls.of(&row.calls, tariff).outlay());
        let is_dev = context.questions.dev.contains(&row.question);
        set.usable += u64::from(is_usable(row) && !is_dev);
        set.dev += u64::from(is_usable(row) && is_dev);
        set.ended += u64::from(row.state != ItemState::Pending);
        set.asked += u64::from(!row.calls.is_empty());
    }
    Ok(sets)
}

fn is_usable(row: &ItemRow) -> bool {
    row.state == ItemState::Done && condition::verdict(row).is_none_or(|verdict| verdict.keep)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use divvy_core::{
        arm::{Strategy, Variant},
        recipe::Target,
        results::costs::StatedTerms,
    };
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
        let set = |name: &str, money: i64, (usable, ended)| {
            let outlay = Outlay { money_nanos: Some(money), ..Outlay::NONE };
            (name.to_owned(), Set { outlay, usable, dev: 0, ended, asked: ended })
        };
        Stages {
            collection: [set("sums", 1000, (100, 110)), set("texts", 200, (20, 20))].into(),
            screening: [set("sums", 5000, (40, 100)), set("texts", 600, (10, 20))].into(),
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
    fn what_was_not_screened_was_collected_for_others() {
        let mut stages = stages();
        let sums = stages.screening.get_mut("sums").unwrap();
        (sums.usable, sums.ended, sums.asked) = (10, 25, 20);
        let of = |student: &StudentPlan| {
            [&stages.collection, &stages.screening]
                .map(|stage| paid(stage, &stages.shares(Some(student), stage)).money_nanos.unwrap())
        };
        assert_eq!(of(&student(Target::SdR, &["sums"], None)), [250, 5000], "a quarter was screened");
        assert_eq!(of(&student(Target::SdR, &["sums"], Some(5))), [125, 2500], "and half of what was kept is wanted");
        assert_eq!(
            of(&student(Target::SeT, &["sums"], Some(5))),
            [63, 1250],
            "a quarter of the replies: of five the form was wrong"
        );
        assert_eq!(of(&student(Target::SdT, &["sums"], None)), [1000, 0], "it learns what was not screened, too");
        stages.collection.get_mut("sums").unwrap().dev = 50;
        let shares = stages.shares(Some(&student(Target::SdR, &["sums"], None)), &stages.collection);
        assert_eq!(shares["sums"], 0.5, "all of dev, and a quarter of the others");
    }

    #[test]
    fn a_training_that_is_not_on_record_makes_the_sum_unknown_and_no_less() {
        let prices = BTreeMap::new();
        let tariff = Tariff { terms: StatedTerms::default(), by_id: HashMap::new(), by_name: &prices };
        let plans: Students = ["de", "so"].map(|name| (name.to_owned(), student(Target::SdT, &[], None))).into();
        let training = |student: &str| TrainingSummary {
            student: student.to_owned(),
            base: "small".to_owned(),
            target: "SD-T".to_owned(),
            method: "lora".to_owned(),
            rows: 1,
            too_long: 0,
            unusable: 0,
            epochs: 1.0,
            wall_ms: 7,
            kept: None,
            sweep: Vec::new(),
            curve: Vec::new(),
        };
        let arm = |decomposer: &str, solver: &str| Arm {
            strategy: Strategy::TwoStage,
            variant: Variant::default(),
            decomposer: Some(decomposer.to_owned()),
            solver: solver.to_owned(),
        };
        let machine = |arm: &Arm, on_record: &[&str]| {
            let training: Vec<_> = on_record.iter().map(|name| training(name)).collect();
            stages().of_arm(&plans, &tariff, &training, arm).map(|outlay| outlay.machine_us)
        };
        let (one, both) = (arm("student:de", "big"), arm("student:de", "student:so"));
        assert_eq!(machine(&one, &["de"]), Some(Some(7000)));
        assert_eq!(machine(&one, &[]), Some(None), "it has a student");
        assert_eq!(machine(&both, &["de", "so"]), Some(Some(14_000)));
        assert_eq!(machine(&both, &["de"]), Some(None));
        assert_eq!(machine(&arm("teacher", "big"), &[]), None);
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
