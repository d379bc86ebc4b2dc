//! The figures of every arm: over all questions, and of several data sets for each by itself.

use std::collections::HashMap;

use divvy_core::{
    plan::EvaluatePlan,
    question::Question,
    records::Stage,
    results::{ArmResult, ArmSlices, Comparison, DatasetResults, Example},
};
use divvy_store::ItemRow;

use super::{arm_result, comparisons, slices};
use crate::{
    context::Context,
    error::FlowError,
    evaluate,
    grid::{self, Grid},
};

#[derive(Default)]
pub(super) struct Scored {
    pub(super) arms: Vec<ArmResult>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) slices: Vec<ArmSlices>,
    pub(super) by_dataset: Vec<DatasetResults>,
}

/// An arm and which questions it got right, in the questions' order.
pub(super) type Evaluated = (ArmResult, Vec<bool>);

/// Records of the evaluation.
struct Book<'a> {
    plan: &'a EvaluatePlan,
    grid: Grid,
    /// Slug → question → record.
    rows: HashMap<String, HashMap<String, ItemRow>>,
}

pub(super) async fn read(context: &Context) -> Result<Scored, FlowError> {
    let Some(plan) = &context.plan.evaluate else { return Ok(Scored::default()) };
    let mut rows: HashMap<String, HashMap<String, ItemRow>> = HashMap::new();
    for row in context.store.items(&context.digest, Stage::Evaluate).await? {
        rows.entry(row.arm.clone()).or_default().insert(row.question.0.clone(), row);
    }
    let book = Book { plan, grid: evaluate::grid(context, plan), rows };
    let all: Vec<&Question> = evaluate::questions(context, plan).iter().collect();
    let mut each = Vec::new();
    for set in grid::sets(&context.plan) {
        let questions: Vec<&Question> = all.iter().copied().filter(|question| question.dataset == *set).collect();
        each.push(one(context, &book, set, &questions)?);
    }
    if each.len() > 1 {
        Ok(Scored { arms: together(&book, &all, &each)?, by_dataset: each, ..Scored::default() })
    } else {
        Ok(alone(each))
    }
}

fn alone(each: Vec<DatasetResults>) -> Scored {
    let only = |one: DatasetResults| Scored {
        arms: one.arms,
        comparisons: one.comparisons,
        slices: one.slices,
        by_dataset: Vec::new(),
    };
    each.into_iter().next().map(only).unwrap_or_default()
}

fn one(context: &Context, book: &Book<'_>, set: &str, questions: &[&Question]) -> Result<DatasetResults, FlowError> {
    let evaluated = book.evaluated(questions)?;
    Ok(DatasetResults {
        dataset: set.to_owned(),
        comparisons: comparisons::of(&context.plan, &evaluated),
        slices: evaluated.iter().map(|(arm, right)| slices::of(&arm.arm, questions, right)).collect(),
        arms: evaluated.into_iter().map(|(arm, _)| arm).collect(),
    })
}

/// Over all data sets, with the examples of each.
fn together(book: &Book<'_>, all: &[&Question], each: &[DatasetResults]) -> Result<Vec<ArmResult>, FlowError> {
    let examples = |slug: &str| -> Vec<Example> {
        let arms = each.iter().flat_map(|one| &one.arms).filter(|arm| arm.arm == slug);
        arms.flat_map(|arm| arm.examples.clone()).collect()
    };
    let arms = book.evaluated(all)?.into_iter().map(|(arm, _)| arm);
    Ok(arms.map(|arm| ArmResult { examples: examples(&arm.arm), ..arm }).collect())
}

impl Book<'_> {
    /// Every arm with the questions that it is asked; one without a single record among them is left out.
    fn evaluated(&self, questions: &[&Question]) -> Result<Vec<Evaluated>, FlowError> {
        let mut evaluated = Vec::new();
        for arm in &self.plan.arms {
            let Some(rows) = self.rows.get(&arm.slug()) else { continue };
            let asked: Vec<&Question> =
                questions.iter().copied().filter(|question| self.grid.asks(arm, question)).collect();
            if asked.iter().any(|question| rows.contains_key(&question.id.0)) {
                evaluated.push(arm_result(arm, &asked, rows)?);
            }
        }
        Ok(evaluated)
    }
}
