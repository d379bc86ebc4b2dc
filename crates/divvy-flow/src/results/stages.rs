//! What the stages before the evaluation came to, and how long each took.

use std::collections::BTreeMap;

use divvy_core::{
    plan::StudentPlan,
    recipe::Rule,
    records::{ItemState, Stage},
    results::{CollectionSummary, Found, ScreeningSummary, StageTime, StudentUse, TrainingSummary},
    screening::reason,
};
use divvy_store::{CallUsage, ItemRow};

use crate::{
    context::Context,
    error::FlowError,
    items, paid,
    train::{self, given::Given},
};

/// What the store had of each stage before the plan began.
pub(super) struct Finds {
    /// Older calls were made by another plan.
    since: i64,
    of: BTreeMap<Stage, Found>,
}

impl Finds {
    pub(super) async fn none_yet(context: &Context) -> Result<Self, FlowError> {
        Ok(Self { since: paid::began(context).await?, of: BTreeMap::new() })
    }

    pub(super) fn look<'c>(&mut self, stage: Stage, calls: impl Iterator<Item = &'c CallUsage>) {
        let found = self.of.entry(stage).or_default();
        for call in calls {
            found.of += 1;
            found.calls += u64::from(call.created_ms < self.since);
        }
    }
}

pub(super) async fn collection(context: &Context, finds: &mut Finds) -> Result<Option<CollectionSummary>, FlowError> {
    let rows = context.store.items(&context.digest, Stage::Collect).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let (tokens_in, tokens_out) = tokens(context, &rows, (Stage::Collect, finds)).await?;
    Ok(Some(CollectionSummary {
        teacher: context.plan.collect.teacher.clone(),
        candidates: rows.len() as u64,
        usable: done(&rows),
        reasons: reasons(rows.iter().filter(|row| row.state != ItemState::Done), ""),
        tokens_in,
        tokens_out,
    }))
}

pub(super) async fn screening(context: &Context, finds: &mut Finds) -> Result<Option<ScreeningSummary>, FlowError> {
    let Some(plan) = &context.plan.screen else { return Ok(None) };
    let rows = context.store.items(&context.digest, Stage::Screen).await?;
    let (tokens_in, tokens_out) = tokens(context, &rows, (Stage::Screen, finds)).await?;
    Ok(Some(ScreeningSummary {
        solver: plan.solver.clone(),
        candidates: rows.len() as u64,
        kept: done(&rows),
        reasons: reasons(rows.iter(), kept_for(plan.rule)),
        tokens_in,
        tokens_out,
    }))
}

/// Where nobody looked at gold, nothing is known to be correct.
fn kept_for(rule: Rule) -> &'static str {
    match rule {
        Rule::Agreement => reason::AGREED,
        Rule::Format => reason::WELL_FORMED,
        Rule::Any | Rule::All | Rule::Threshold | Rule::Best => reason::CORRECT,
    }
}

fn done(rows: &[ItemRow]) -> u64 {
    rows.iter().filter(|row| row.state == ItemState::Done).count() as u64
}

/// Reason → rows, largest first; `kept` is the reason of those that are done.
fn reasons<'a>(rows: impl Iterator<Item = &'a ItemRow>, kept: &'a str) -> Vec<(String, u64)> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        let reason = match &row.state {
            ItemState::Done => kept,
            ItemState::Rejected(reason) | ItemState::Failed(reason) => reason,
            ItemState::Pending => "pending",
        };
        *reasons.entry(reason.to_owned()).or_default() += 1;
    }
    let mut reasons: Vec<(String, u64)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    reasons
}

/// In and out, of every call behind these rows.
async fn tokens(
    context: &Context,
    rows: &[ItemRow],
    (stage, finds): (Stage, &mut Finds),
) -> Result<(u64, u64), FlowError> {
    let calls: Vec<_> = rows.iter().flat_map(|row| row.calls.iter().cloned()).collect();
    let usages = context.store.call_usages(&calls).await?;
    finds.look(stage, usages.iter());
    Ok(items::sum_usage(usages.into_iter().map(|call| call.usage)))
}

pub(super) async fn training(context: &Context) -> Result<Vec<TrainingSummary>, FlowError> {
    let mut summaries = Vec::new();
    for (name, plan) in &context.plan.students {
        let Given { key, sweep, wall_ms } = train::given::of(context, name).await?;
        let Some(record) = context.store.artefact(&key).await? else { continue };
        let Ok(artefact) = serde_json::from_str::<train::Artefact>(&record.meta_json) else { continue };
        summaries.push(TrainingSummary {
            student: name.clone(),
            base: plan.base.clone(),
            target: plan.target.name().to_owned(),
            method: format!("{:?}", plan.method).to_lowercase(),
            rows: artefact.rows,
            too_long: artefact.too_long,
            unusable: artefact.unusable,
            epochs: plan.epochs as f64,
            wall_ms: if sweep.is_empty() { artefact.wall_ms } else { wall_ms },
            kept: artefact.kept,
            sweep,
            curve: context.store.metrics(&key).await?,
        });
    }
    Ok(summaries)
}

pub(super) fn students(context: &Context) -> Vec<StudentUse> {
    let student = |(name, plan): (&String, &StudentPlan)| StudentUse {
        student: name.clone(),
        base: plan.base.clone(),
        target: plan.target.name().to_owned(),
    };
    context.plan.students.iter().map(student).collect()
}

pub(super) async fn stages(context: &Context, finds: &Finds) -> Result<Vec<StageTime>, FlowError> {
    let times = context.store.stage_times(&context.digest).await?;
    let found = |stage: &Stage| finds.of.get(stage).copied().filter(|found| found.calls > 0);
    let stage =
        |(stage, wall_ms): (Stage, i64)| StageTime { stage: stage.name().to_owned(), wall_ms, found: found(&stage) };
    Ok(times.into_iter().map(stage).collect())
}
