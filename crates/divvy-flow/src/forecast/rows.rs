//! The rows of a plan that are settled, with the calls that each made, and how many are left.

use std::{collections::HashMap, sync::Arc};

use divvy_core::{
    arm::Arm,
    digest::{Digest, derive_seed},
    plan::{EvaluatePlan, JudgePlan, ScreenPlan},
    question::{Question, QuestionId},
    records::{ItemState, Stage},
};
use divvy_store::ItemRow;

use crate::{
    context::Context,
    error::FlowError,
    evaluate,
    graders::judge::Docket,
    items::{self, ItemKey},
    screen,
};

/// What is asked of every row alike: a stage, or one arm of the evaluation.
pub(super) struct Unit<'a> {
    pub(super) stage: Stage,
    pub(super) arm: Option<&'a Arm>,
    pub(super) total: u64,
    /// Settled, whether they are among `rows` or not.
    pub(super) done: u64,
    /// What may still be needed; no more than the others.
    pub(super) left: u64,
    pub(super) rows: Vec<Row>,
}

impl Unit<'_> {
    pub(super) fn name(&self) -> String {
        match (self.stage, self.arm) {
            (Stage::Judge, Some(arm)) => format!("judge of {arm}"),
            (_, Some(arm)) => arm.slug(),
            (stage, None) => stage.name().to_owned(),
        }
    }
}

/// A settled row.
pub(super) struct Row {
    pub(super) question: QuestionId,
    /// In the order in which they were made.
    pub(super) calls: Vec<Digest>,
}

type Settled = HashMap<ItemKey, ItemRow>;

/// In running order. Of more settled rows than `most`, some are chosen by the seed.
pub(super) async fn units(context: &Context, most: usize) -> Result<Vec<Unit<'_>>, FlowError> {
    let mut units = Vec::new();
    let collected = items::settled(context, Stage::Collect).await?;
    let screened = items::settled(context, Stage::Screen).await?;
    let screening = context.plan.screen.as_ref().map(|plan| screening(context, plan, &collected, &screened, most));
    if context.plan.collects() {
        let unit = collecting(context, &collected, most);
        let waves = screening.as_ref().filter(|_| context.plan.collects_in_waves());
        units.push(match waves {
            None => unit,
            Some(screening) => Unit { left: unit.left.min(in_waves(context, &collected, screening)), ..unit },
        });
    }
    units.extend(screening);
    if let Some(plan) = &context.plan.evaluate {
        let settled = items::settled(context, Stage::Evaluate).await?;
        units.extend(plan.arms.iter().map(|arm| answering(context, plan, arm, &settled, most)));
        if let Some(judge) = &plan.judge {
            let docket = Docket::read(context, plan).await?;
            units.extend(plan.arms.iter().map(|arm| judging(context, (plan, judge), arm, &docket, most)));
        }
    }
    Ok(units)
}

fn collecting<'a>(context: &Context, settled: &Settled, most: usize) -> Unit<'a> {
    let samples = context.plan.collect.samples;
    unit(context, (Stage::Collect, None), context.questions.for_students(), most, |question| {
        (0..samples).map(|sample| settled.get(&key(question, sample, ""))).collect()
    })
}

/// Questions left to collect where the screening has collected what it needs: those of dev, and of those that are still to be
/// screened the ones that are not collected yet.
fn in_waves(context: &Context, collected: &Settled, screening: &Unit<'_>) -> u64 {
    let samples = context.plan.collect.samples;
    let waits =
        |question: &Arc<Question>| (0..samples).any(|sample| !collected.contains_key(&key(question, sample, "")));
    let (train, dev) = (&context.questions.train, &context.questions.dev);
    let waiting = train.iter().take(screening.total as usize).filter(waits).count() as u64;
    let ready = screening.total - screening.done - waiting;
    dev.iter().filter(waits).count() as u64 + waiting.min(screening.left.saturating_sub(ready))
}

/// A row is screened when every decomposition of it is, and it has none left to be collected.
fn screening<'a>(
    context: &Context,
    plan: &ScreenPlan,
    collected: &Settled,
    screened: &Settled,
    most: usize,
) -> Unit<'a> {
    let samples = context.plan.collect.samples;
    let questions = context.questions.train.iter().take(screen::screened(context, plan));
    let mut unit = unit(context, (Stage::Screen, None), questions, most, |question| {
        let candidates = (0..samples).map(|sample| Some((sample, collected.get(&key(question, sample, ""))?)));
        let candidates: Vec<(u32, &ItemRow)> = candidates.collect::<Option<_>>()?;
        let usable = candidates.iter().filter(|(_, row)| row.state == ItemState::Done);
        usable.map(|(sample, _)| screened.get(&key(question, *sample, ""))).collect()
    });
    unit.left = unit.left.min(wanted(plan, screened, unit.done));
    unit
}

/// Rows that are screened until enough are kept, at the rate of those so far.
fn wanted(plan: &ScreenPlan, screened: &Settled, rows: u64) -> u64 {
    let Some(until) = plan.until else { return u64::MAX };
    let kept = screen::kept(plan, screened);
    match until.saturating_sub(kept) as u64 {
        0 => 0,
        _ if kept == 0 => u64::MAX,
        missing => (missing * rows).div_ceil(kept as u64),
    }
}

fn answering<'a>(context: &Context, plan: &EvaluatePlan, arm: &'a Arm, settled: &Settled, most: usize) -> Unit<'a> {
    let slug = arm.slug();
    unit(context, (Stage::Evaluate, Some(arm)), asked(context, plan, arm), most, |question| {
        (0..plan.repeats).map(|repeat| settled.get(&key(question, repeat, &slug))).collect()
    })
}

/// The questions of an arm.
fn asked<'a>(context: &'a Context, plan: &EvaluatePlan, arm: &'a Arm) -> impl Iterator<Item = Arc<Question>> + 'a {
    let grid = evaluate::grid(context, plan);
    evaluate::questions(context, plan).iter().filter(move |question| grid.asks(arm, &question.dataset))
}

/// A row is judged when its answer is, or when it has none.
fn judging<'a>(
    context: &Context,
    (plan, judge): (&EvaluatePlan, &JudgePlan),
    arm: &'a Arm,
    docket: &Docket,
    most: usize,
) -> Unit<'a> {
    let slug = arm.slug();
    unit(context, (Stage::Judge, Some(arm)), asked(context, plan, arm), most, |question| {
        let of_answer = |repeat| docket.settled(context, judge, key(question, repeat, &slug));
        let settled = (0..plan.repeats).map(of_answer).collect::<Option<Vec<_>>>()?;
        Some(settled.into_iter().flatten().collect())
    })
}

fn key(question: &Question, sample: u32, arm: &str) -> ItemKey {
    ItemKey { question: question.id.clone(), sample, arm: arm.to_owned() }
}

fn unit<'a, 's>(
    context: &Context,
    (stage, arm): (Stage, Option<&'a Arm>),
    questions: impl Iterator<Item = Arc<Question>>,
    most: usize,
    items_of: impl Fn(&Question) -> Option<Vec<&'s ItemRow>>,
) -> Unit<'a> {
    let (mut total, mut rows) = (0, Vec::new());
    for question in questions {
        total += 1;
        if let Some(items) = items_of(&question) {
            let calls = items.into_iter().flat_map(|item| item.calls.iter().cloned()).collect();
            rows.push(Row { question: question.id.clone(), calls });
        }
    }
    let done = rows.len() as u64;
    if rows.len() > most {
        // The same rows in every unit: a call that two arms share is then found in both.
        rows.sort_by_cached_key(|row| derive_seed(context.plan.seed, &format!("forecast/{}", row.question)));
        rows.truncate(most);
    }
    Unit { stage, arm, total, done, left: total - done, rows }
}
