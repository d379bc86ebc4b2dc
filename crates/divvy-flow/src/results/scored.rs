//! The figures of every arm: over all questions, and of several data sets for each by itself.

use std::collections::{BTreeMap, HashMap};

use divvy_core::{
    cost::Prices,
    plan::EvaluatePlan,
    questions::Questions,
    records::Stage,
    results::{
        ArmResult, ArmSlices, Comparison, DatasetResults, Example, Scoring, TrainingSummary,
        costs::{Costs, StatedTerms},
    },
};

use super::{
    arm_result, by_arm, comparisons,
    costs::{self, ByArm},
    scoring::Further,
    sharing::Sharing,
    slices,
    took::Calls,
};
use crate::{
    context::Context,
    error::FlowError,
    evaluate,
    graders::judge::{self, Verdicts},
    grid::{self, Grid},
    rows,
};

#[derive(Default)]
pub(super) struct Scored {
    pub(super) arms: Vec<ArmResult>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) slices: Vec<ArmSlices>,
    pub(super) scoring: Option<Scoring>,
    pub(super) costs: Option<Costs>,
    pub(super) by_dataset: Vec<DatasetResults>,
}

/// An arm with what became of each question, in their order.
pub(super) struct Evaluated {
    pub(super) arm: ArmResult,
    pub(super) right: Vec<bool>,
    /// Partial credit.
    pub(super) scores: Vec<f64>,
}

/// What the store has of the evaluation, read once.
pub(super) struct Records {
    /// Slug → question → record.
    rows: ByArm,
    calls: Calls,
}

impl Records {
    pub(super) async fn read(context: &Context) -> Result<Self, FlowError> {
        let rows = by_arm(context.store.items(&context.digest, Stage::Evaluate).await?);
        let calls = Calls::read(context, rows.values().flat_map(HashMap::values)).await?;
        Ok(Self { rows, calls })
    }

    /// For records that come part by part.
    pub(super) async fn none_yet(context: &Context) -> Result<Self, FlowError> {
        Ok(Self { rows: ByArm::new(), calls: Calls::none_yet(context).await? })
    }

    pub(super) fn add(&mut self, part: rows::Records) {
        for (arm, rows) in by_arm(part.items) {
            self.rows.entry(arm).or_default().extend(rows);
        }
        self.calls.extend(part.calls);
    }
}

/// Records of the evaluation, and how they are read.
struct Book<'a> {
    context: &'a Context,
    plan: &'a EvaluatePlan,
    grid: Grid,
    records: Records,
    judged: HashMap<String, Verdicts>,
}

pub(super) async fn read(
    context: &Context,
    money: (StatedTerms, &BTreeMap<String, Prices>),
    training: &[TrainingSummary],
    records: Records,
) -> Result<Scored, FlowError> {
    let Some(plan) = &context.plan.evaluate else { return Ok(Scored::default()) };
    let judged = judge::of_arms(context, plan).await?;
    let book = Book { context, plan, grid: evaluate::grid(context, plan), records, judged };
    let (all, sets) = (evaluate::questions(context, plan), grid::sets(&context.plan));
    let mut each = Vec::new();
    for set in sets {
        each.push(book.one(set, &evaluate::of_set(sets, all, set), money, training).await?);
    }
    if each.len() < 2 {
        return Ok(each.into_iter().next().map(alone).unwrap_or_default());
    }
    Ok(Scored { arms: book.together(all, &each)?, by_dataset: each, ..Scored::default() })
}

fn alone(one: DatasetResults) -> Scored {
    let DatasetResults { arms, comparisons, slices, scoring, costs, .. } = one;
    Scored { arms, comparisons, slices, scoring, costs, by_dataset: Vec::new() }
}

impl Book<'_> {
    async fn one(
        &self,
        set: &str,
        questions: &Questions,
        money: (StatedTerms, &BTreeMap<String, Prices>),
        training: &[TrainingSummary],
    ) -> Result<DatasetResults, FlowError> {
        let sharing = Sharing::of(questions, self.context.plan.seed);
        let (evaluated, scoring) = self.evaluated(questions, &sharing)?;
        let slices = slices::of(questions, &evaluated);
        let Records { rows, calls } = &self.records;
        let costs = costs::of(self.context, money, questions, &evaluated, (rows, calls), training).await?;
        let paid = |arm: &ArmResult| super::money(costs.as_ref(), arm);
        Ok(DatasetResults {
            dataset: set.to_owned(),
            comparisons: comparisons::of(&self.context.plan, &evaluated, &sharing),
            slices,
            scoring,
            arms: evaluated
                .into_iter()
                .map(|Evaluated { arm, .. }| ArmResult { cost_nanos: paid(&arm), ..arm })
                .collect(),
            costs,
        })
    }

    /// Every arm with the questions that it is asked; one without a single record among them is left out. Of one data set, an
    /// arm is asked all questions or none.
    fn evaluated(
        &self,
        questions: &Questions,
        sharing: &Sharing,
    ) -> Result<(Vec<Evaluated>, Option<Scoring>), FlowError> {
        let (mut evaluated, mut further) = (Vec::new(), Further::of(self.plan));
        for arm in &self.plan.arms {
            let Some(rows) = self.records.rows.get(&arm.slug()) else { continue };
            if self.grid.asked(arm, questions).iter().any(|question| rows.contains_key(&question.id.0)) {
                further.begin(&arm.slug(), self.judged.get(&arm.slug()).cloned());
                evaluated.push(arm_result(arm, questions, rows, sharing, &mut further)?);
                further.end(sharing);
            }
        }
        Ok((evaluated, further.scoring()))
    }

    /// Over all data sets, with the examples of each.
    fn together(&self, all: &Questions, each: &[DatasetResults]) -> Result<Vec<ArmResult>, FlowError> {
        let examples = |slug: &str| -> Vec<Example> {
            let arms = each.iter().flat_map(|one| &one.arms).filter(|arm| arm.arm == slug);
            arms.flat_map(|arm| arm.examples.clone()).collect()
        };
        let mut arms = Vec::new();
        for arm in &self.plan.arms {
            let slug = arm.slug();
            let Some(rows) = self.records.rows.get(&slug) else { continue };
            let asked = self.grid.asked(arm, all);
            let sharing = Sharing::of(&asked, self.context.plan.seed);
            let mut further = Further::of(self.plan);
            further.begin(&slug, None);
            let evaluated = arm_result(arm, &asked, rows, &sharing, &mut further)?;
            let paid = each.iter().flat_map(|one| &one.arms).filter(|one| one.arm == slug);
            let cost_nanos = paid.map(|one| one.cost_nanos).sum();
            arms.push(ArmResult { examples: examples(&slug), cost_nanos, ..evaluated.arm });
        }
        Ok(arms)
    }
}
