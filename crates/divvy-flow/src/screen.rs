//! Screen: the solver answers each training question with its decomposition; the verdict decides whether the row may
//! teach (the paper's rejection sampling, section 3). Rows are kept or rejected, each with a reason; none is dropped. What is
//! rejected by its form is so before the solver is asked.
//!
//! Where only so many rows are wanted, they are screened in groups, and where nobody else needs them decompositions are collected
//! group by group, too.

mod best;
mod groups;

use std::{collections::HashMap, ops::Range, sync::Arc};

use divvy_core::{
    chat::{Finish, Sampling},
    digest::derive_seed,
    plan::ScreenPlan,
    prompts::{PromptName, two_stage},
    question::{Question, ScorerKind},
    questions::Questions,
    recipe::Rule,
    records::{Collected, Grade, ItemState, Stage, Verdict},
    scorers,
    screening::{self, KeepRule},
};
use divvy_llm::{Call, ChatError, ErrorKind};
use divvy_store::Places;
use futures::future::join_all;

use self::groups::Groups;
use crate::{
    collect,
    context::{Context, Ready},
    demonstrations,
    error::FlowError,
    items::{self, Done, ItemKey},
    redo::{self, Take},
    settled::{Settled, place},
    timed::timed,
};

/// Rows judged by their form only touch the store.
const BY_FORM_AT_ONCE: usize = 512;

/// Runs the stage, if the plan has one. Where decompositions are collected as they are needed, this collects them.
///
/// # Errors
/// [`FlowError::Input`] when training questions have no gold answers; else see [`items::run`].
pub async fn run(context: &Context) -> Result<(), FlowError> {
    let Some(plan) = &context.plan.screen else { return Ok(()) };
    check(context)?;
    let screened = in_groups(context, plan).await;
    // Also where a budget or Ctrl-C ended it: what is exported or trained then has one decomposition a question, too.
    if plan.rule != Rule::Best || screened.as_ref().is_err_and(FlowError::is_of_the_store) {
        return screened;
    }
    screened.and(timed(context, Stage::Screen, best::keep(context, plan)).await)
}

/// Group after group, until there are enough.
async fn in_groups(context: &Context, plan: &ScreenPlan) -> Result<(), FlowError> {
    let mut groups = Groups::read(context, plan).await?;
    let (waves, mut at) = (context.plan.collects_in_waves(), 0);
    let mut places = context.store.places(&context.digest, Stage::Collect).await?;
    while let Some(group) = groups.next(at) {
        at = group.end;
        if waves && groups.to_collect(group.clone()).next().is_some() {
            timed(context, Stage::Collect, collect::numbered(context, group.clone())).await?;
            groups.read_again(Stage::Collect).await?;
            places = context.store.places(&context.digest, Stage::Collect).await?;
        }
        if groups.to_screen(group.clone()).next().is_some() {
            timed(context, Stage::Screen, one_group(context, plan, (&groups, group), &places)).await?;
            groups.read_again(Stage::Screen).await?;
        }
    }
    Ok(())
}

async fn one_group(
    context: &Context,
    plan: &ScreenPlan,
    (groups, group): (&Groups<'_>, Range<usize>),
    places: &Places,
) -> Result<(), FlowError> {
    let (all, done) = groups.counts();
    context.progress.start(Stage::Screen, plan.solver.as_deref().unwrap_or("by form"), all as u64, done as u64);
    let result = judge_all(context, plan, places, groups.items(groups.to_screen(group))).await;
    context.progress.finish();
    result
}

async fn judge_all(
    context: &Context,
    plan: &ScreenPlan,
    places: &Places,
    todo: impl Iterator<Item = ItemKey> + Clone,
) -> Result<(), FlowError> {
    match &plan.solver {
        None => {
            items::run(context, Stage::Screen, todo, BY_FORM_AT_ONCE, |key| by_form(context, plan, places, key)).await
        }
        Some(solver) => {
            let ready = &context.models.get(solver).await?;
            let takes = &redo::takes(context, Stage::Screen).await?;
            items::run(context, Stage::Screen, todo, ready.pace(), |key| {
                let take = takes.of(&key);
                judge(context, plan, ready, places, (key, take))
            })
            .await
        }
    }
}

/// Of these decompositions, in order, those that are kept, or for the rule `best` questions that have one.
pub(crate) fn kept(screened: &Settled, (rule, samples): (Rule, u32), numbers: impl Iterator<Item = usize>) -> usize {
    let kept = numbers.filter(|number| screened.is_done(*number));
    if rule != Rule::Best {
        return kept.count();
    }
    let mut last = None;
    kept.map(|number| place(number, samples).0).filter(|question| last.replace(*question) != Some(*question)).count()
}

/// Refuses what cannot be screened, before anything is paid for.
///
/// # Errors
/// [`FlowError::Input`] naming a question without a gold answer.
pub fn check(context: &Context) -> Result<(), FlowError> {
    demonstrations::check_stage(context, Stage::Screen)?;
    context.plan.screen.as_ref().map_or(Ok(()), |plan| check_gold(plan, &context.questions.train))
}

/// Refuses questions that cannot be screened; asks nobody and needs no store.
///
/// # Errors
/// [`FlowError::Input`] naming a question without a gold answer, or one that a program answers.
pub fn check_gold(plan: &ScreenPlan, train: &Questions) -> Result<(), FlowError> {
    if matches!(plan.rule, Rule::Agreement | Rule::Format) {
        return Ok(());
    }
    if let Some(question) = train.iter().find(|question| question.scorer == ScorerKind::Code) {
        return Err(FlowError::Input(format!(
            "{} is answered by a program, and screening runs none: set the rule `format`, or leave [screen] out and train on SD-T",
            question.id
        )));
    }
    let without = train.filter(|question| question.golds.is_empty());
    let Some(first) = without.first() else { return Ok(()) };
    Err(FlowError::Input(format!(
        "screening compares the solver's answer with gold, but {} of {} training rows have none (the first is {})\n\
         hint: name the answer column, set the rule `agreement` or `format`, or leave [screen] out and train on SD-T",
        without.len(),
        train.len(),
        first.id
    )))
}

/// So many training questions are screened, the first ones in the split's own order, which the seed has shuffled.
pub(crate) fn screened(context: &Context, plan: &ScreenPlan) -> usize {
    let train = context.questions.train.len();
    plan.rows.unwrap_or(train).min(train)
}

/// Items of this stage: what is settled, and what may still have to be screened, less what the teacher has not given a
/// decomposition for.
///
/// # Errors
/// The store's.
pub async fn expected(context: &Context, plan: &ScreenPlan) -> Result<u64, FlowError> {
    let left = Groups::read(context, plan).await?.left();
    Ok((left.settled + left.screen) as u64)
}

/// Decompositions that the screening may still have collected.
pub(crate) async fn to_collect(context: &Context, plan: &ScreenPlan) -> Result<usize, FlowError> {
    Ok(Groups::read(context, plan).await?.left().collect)
}

/// What is to be judged, read when its turn comes: there may be millions.
async fn candidate(context: &Context, places: &Places, key: &ItemKey) -> Result<(Arc<Question>, Collected), ChatError> {
    let of_question = std::slice::from_ref(&key.question);
    let rows = context.store.items_of(places, &context.digest, Stage::Collect, of_question).await?;
    let row = rows.into_iter().find(|row| row.sample == key.sample && row.state == ItemState::Done);
    let lost =
        || ChatError::new(ErrorKind::Store, format!("the decomposition of {} is gone from the store", key.question));
    let collected = items::payload(&row.ok_or_else(lost)?);
    let collected = collected.map_err(|error| ChatError::new(ErrorKind::Store, error.to_string()))?;
    let question = context.questions.train.get(&key.question).expect("candidates are of the training questions");
    Ok((question, collected))
}

/// Nobody is asked.
async fn by_form(context: &Context, plan: &ScreenPlan, places: &Places, key: ItemKey) -> Result<Done, ChatError> {
    let (question, collected) = candidate(context, places, &key).await?;
    Ok(judged(&screening::by_form(fault(plan, &question, &collected)), Vec::new()))
}

fn fault(plan: &ScreenPlan, question: &Question, collected: &Collected) -> Option<&'static str> {
    screening::fault(plan.format.as_ref()?, question, collected)
}

fn judged(verdict: &Verdict, calls: Vec<Call>) -> Done {
    Done::new(verdict.state(), verdict, calls)
}

async fn judge(
    context: &Context,
    plan: &ScreenPlan,
    ready: &Ready,
    places: &Places,
    (key, take): (ItemKey, Take),
) -> Result<Done, ChatError> {
    let (question, collected) = candidate(context, places, &key).await?;
    if let Some(fault) = fault(plan, &question, &collected) {
        return Ok(judged(&screening::by_form(Some(fault)), Vec::new()));
    }
    let shots = &context.shown.beside(PromptName::TwoStage, plan.shots, &question);
    // All samples at once: one after another, each would wait for a batch of its own.
    let samples = (0..plan.samples).map(|sample| {
        let root = plan.draw.seed.unwrap_or(context.plan.seed);
        let sampling = Sampling {
            seed: derive_seed(root, &format!("screen/{}/{}/{sample}", question.id, key.sample)),
            ..plan.draw.sampling(plan.temperature, plan.max_tokens)
        };
        context.ask_again(
            ready,
            two_stage::messages(&context.plan.prompts, shots, &question, &collected.decomposition),
            sampling,
            sample,
            take,
        )
    });
    let calls = all_answered(join_all(samples).await)?;
    Ok(judged(&weigh(plan, &question, &calls), calls))
}

/// All calls, or the first error, which knows what else was asked beside it: that was paid for.
fn all_answered(outcomes: Vec<Result<Call, ChatError>>) -> Result<Vec<Call>, ChatError> {
    let (mut calls, mut errors) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(call) => calls.push(call),
            Err(error) => errors.push(error),
        }
    }
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(calls) };
    let asked = calls.into_iter().map(|call| call.key).chain(errors.flat_map(|error| error.calls));
    Err(ChatError { calls: asked.chain(first.calls).collect(), ..first })
}

fn weigh(plan: &ScreenPlan, question: &Question, calls: &[Call]) -> Verdict {
    let replies: Vec<_> = calls.iter().map(|call| (call.reply.text.as_str(), &call.reply.finish)).collect();
    if plan.rule == Rule::Agreement {
        return screening::agreement(question.scorer, plan.threshold, &replies);
    }
    let grade = |(reply, finish): &(&str, &Finish)| scorers::grade(question.scorer, reply, finish, &question.golds);
    let grades: Vec<Grade> = replies.iter().map(grade).collect();
    screening::verdict(KeepRule::new(plan.rule, Some(plan.threshold)), &grades)
}

/// Verdicts by item, kept and rejected.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn verdicts(context: &Context) -> Result<HashMap<ItemKey, Verdict>, FlowError> {
    let settled = items::settled(context, Stage::Screen).await?;
    settled.into_iter().map(|(key, row)| Ok((key, items::payload::<Verdict>(&row)?))).collect()
}
