//! Screen: the solver answers each training question with its decomposition; the verdict decides whether the row may
//! teach (the paper's rejection sampling, section 3). Rows are kept or rejected, each with a reason; none is dropped.

use std::collections::{HashMap, HashSet};

use divvy_core::{
    chat::Sampling,
    decomposition::Decomposition,
    digest::derive_seed,
    plan::ScreenPlan,
    prompts::two_stage,
    question::{Question, QuestionId},
    records::{Grade, ItemState, Stage, Verdict},
    scorers,
    screening::{self, KeepRule},
};
use divvy_llm::ChatError;
use divvy_store::ItemRow;

use crate::{
    collect,
    context::{Context, Ready},
    error::FlowError,
    items::{self, Done, ItemKey},
};

/// Runs the stage, if the plan has one.
///
/// # Errors
/// [`FlowError::Input`] when training questions have no gold answers; else see [`items::run`].
pub async fn run(context: &Context) -> Result<(), FlowError> {
    let Some(plan) = &context.plan.screen else { return Ok(()) };
    check(context)?;
    let questions: HashMap<&QuestionId, &Question> =
        context.questions.train.iter().map(|question| (&question.id, question)).collect();
    let candidates = candidates(context, plan).await?;
    let settled = items::settled(context, Stage::Screen).await?;
    let todo: Vec<ItemKey> =
        candidates.iter().map(|(key, _)| key.clone()).filter(|key| !settled.contains_key(key)).collect();
    let total = candidates.len() as u64;
    context.progress.start(Stage::Screen, &plan.solver, total, total - todo.len() as u64);
    let result = if todo.is_empty() {
        Ok(())
    } else {
        let ready = &context.models.get(&plan.solver).await?;
        let decompositions: HashMap<ItemKey, Decomposition> = candidates.into_iter().collect();
        let decompositions = &decompositions;
        items::run(context, Stage::Screen, todo, ready.concurrency, |key| {
            let (question, decomposition) = (questions[&key.question], &decompositions[&key]);
            judge(context, plan, ready, question, decomposition, key.sample)
        })
        .await
    };
    context.progress.finish();
    result
}

/// Refuses what cannot be screened, before anything is paid for.
///
/// # Errors
/// [`FlowError::Input`] naming a question without a gold answer.
pub fn check(context: &Context) -> Result<(), FlowError> {
    if context.plan.screen.is_none() {
        return Ok(());
    }
    let train = &context.questions.train;
    let without: Vec<&Question> = train.iter().filter(|question| question.golds.is_empty()).collect();
    let Some(first) = without.first() else { return Ok(()) };
    Err(FlowError::Input(format!(
        "screening compares the solver's answer with gold, but {} of {} training rows have none (the first is {})\n\
         hint: name the answer column, or leave [screen] out and train on SD-T",
        without.len(),
        train.len(),
        first.id
    )))
}

/// The training questions that are screened, in the split's own order, which the seed has shuffled.
fn screened<'a>(context: &'a Context, plan: &ScreenPlan) -> &'a [Question] {
    let train = &context.questions.train;
    &train[..plan.rows.unwrap_or(train.len()).min(train.len())]
}

/// Items of this stage: what was asked for, less what the teacher has not given a decomposition for.
///
/// # Errors
/// The store's.
pub async fn expected(context: &Context, plan: &ScreenPlan) -> Result<u64, FlowError> {
    let asked: HashSet<&QuestionId> = screened(context, plan).iter().map(|question| &question.id).collect();
    let collected = items::settled(context, Stage::Collect).await?;
    let rejected = |(key, row): &(&ItemKey, &ItemRow)| row.state != ItemState::Done && asked.contains(&key.question);
    let rejected = collected.iter().filter(rejected).count() as u64;
    Ok((asked.len() as u64 * u64::from(context.plan.collect.samples)).saturating_sub(rejected))
}

/// Collected decompositions of the screened questions.
async fn candidates(context: &Context, plan: &ScreenPlan) -> Result<Vec<(ItemKey, Decomposition)>, FlowError> {
    let order: HashMap<&QuestionId, usize> =
        screened(context, plan).iter().enumerate().map(|(at, question)| (&question.id, at)).collect();
    let mut rows = collect::collected(context).await?;
    rows.retain(|(key, _)| order.contains_key(&key.question));
    rows.sort_by_key(|(key, _)| (order[&key.question], key.sample));
    Ok(rows)
}

async fn judge(
    context: &Context,
    plan: &ScreenPlan,
    ready: &Ready,
    question: &Question,
    decomposition: &Decomposition,
    candidate: u32,
) -> Result<Done, ChatError> {
    let mut calls = Vec::new();
    let mut grades: Vec<Grade> = Vec::new();
    for sample in 0..plan.samples {
        let sampling = Sampling {
            temperature: plan.temperature,
            seed: derive_seed(context.plan.seed, &format!("screen/{}/{candidate}/{sample}", question.id)),
            ..Sampling::greedy(plan.max_tokens)
        };
        let call = context.ask(ready, two_stage::messages(question, decomposition), sampling, sample).await?;
        grades.push(scorers::grade(question.scorer, &call.reply.text, &call.reply.finish, &question.golds));
        calls.push(call);
    }
    let verdict = screening::verdict(KeepRule::new(plan.rule, Some(plan.threshold)), &grades);
    let state = if verdict.keep { ItemState::Done } else { ItemState::Rejected(verdict.reason.clone()) };
    Ok(Done::new(state, &verdict, calls))
}

/// Verdicts by item, kept and rejected.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn verdicts(context: &Context) -> Result<HashMap<ItemKey, Verdict>, FlowError> {
    let settled = items::settled(context, Stage::Screen).await?;
    settled.into_iter().map(|(key, row)| Ok((key, items::payload::<Verdict>(&row)?))).collect()
}
