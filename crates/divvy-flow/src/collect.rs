//! Collect: the teacher's decompositions of every training and dev question. A recorded teacher costs nothing; a model
//! is asked `samples` times. Every reply is in the store before it is parsed. Where the screening stops when enough is kept, it
//! has decompositions collected as it goes on ([`crate::screen`]).

use std::{ops::Range, sync::Arc};

use divvy_core::{
    chat::{Finish, Sampling},
    decomposition::Decomposition,
    digest::derive_seed,
    plan::{CollectPlan, Plan, StudentPlan},
    prompts::{
        PromptName,
        decompose::{self, Manner, Style},
    },
    question::Question,
    records::{Collected, ItemState, Stage, Unusable},
};
use divvy_llm::ChatError;

use crate::{
    context::{Context, Ready},
    demonstrations,
    error::FlowError,
    items::{self, Done, ItemKey},
    passages,
    redo::{self, Take},
    screen,
    settled::{Settled, place},
    structured::{self, Request},
};

/// Recorded rows only touch the store, where many share one commit.
const RECORDED_AT_ONCE: usize = 512;

/// Items of this stage: where it follows the screening, what is settled and what may still be needed.
///
/// # Errors
/// The store's.
pub async fn expected(context: &Context) -> Result<u64, FlowError> {
    let plan = &context.plan;
    if !plan.collects() {
        return Ok(0);
    }
    let Some(screen) = plan.screen.as_ref().filter(|_| plan.collects_in_waves()) else {
        return Ok(all(context).len() as u64);
    };
    let settled = Settled::of(context, Stage::Collect).await?;
    let left = settled.missing(of_dev(context)) + screen::to_collect(context, screen).await?;
    Ok((settled.count() + left) as u64)
}

/// Refuses a recorded teacher that has recorded nothing, and one that lacks demonstrations.
///
/// # Errors
/// [`FlowError::Input`].
pub fn check(context: &Context) -> Result<(), FlowError> {
    demonstrations::check_stage(context, Stage::Collect)?;
    if !context.plan.collects() || !context.is_recorded(&context.plan.collect.teacher) {
        return Ok(());
    }
    let decomposed = |set: &&String| !wants_decompositions(&context.plan, set) || has_recorded(context, set);
    match context.plan.data.train.iter().find(|set| !decomposed(set)) {
        None => Ok(()),
        Some(set) => Err(FlowError::Input(format!(
            "collect.teacher: none of the training questions of `{set}` comes with a decomposition, so there is nothing \
             recorded; take files that have them (gsm8k: the Socratic ones; rows: name the column `decomposition`), or a \
             model as the teacher"
        ))),
    }
}

/// Without a student, whatever is collected is wanted.
fn wants_decompositions(plan: &Plan, set: &str) -> bool {
    let learns = |student: &StudentPlan| student.target.needs_decompositions() && student.learns_from(set);
    plan.students.is_empty() || plan.students.values().any(learns)
}

fn has_recorded(context: &Context, set: &str) -> bool {
    context.questions.train.iter().any(|question| question.dataset == set && question.recorded.is_some())
}

/// Runs the stage; what is settled already is not asked again.
///
/// # Errors
/// See [`items::run`].
pub async fn run(context: &Context) -> Result<(), FlowError> {
    check(context)?;
    if !context.plan.collects() {
        return Ok(());
    }
    if context.plan.collects_in_waves() {
        context.progress.note(
            "collect: every decomposition, also those that the screening may not need; `divvy screen` collects as it goes on, \
             and no more than [screen] asks for",
        );
    }
    numbered(context, all(context)).await
}

/// What the screening will not have collected as it goes on: everything, or, where that asks for as much as it needs, the dev
/// questions, on which students are watched.
///
/// # Errors
/// See [`items::run`].
pub async fn before_screening(context: &Context) -> Result<(), FlowError> {
    if !context.plan.collects_in_waves() {
        return run(context).await;
    }
    check(context)?;
    if context.questions.dev.is_empty() { Ok(()) } else { numbered(context, of_dev(context)).await }
}

/// Decompositions by their numbers: of train, then of dev.
fn all(context: &Context) -> Range<usize> {
    0..of_dev(context).end
}

fn of_dev(context: &Context) -> Range<usize> {
    let (questions, samples) = (&context.questions, context.plan.collect.samples as usize);
    questions.train.len() * samples..(questions.train.len() + questions.dev.len()) * samples
}

/// Collects the decompositions of these numbers, as far as they are not settled.
///
/// # Errors
/// See [`items::run`].
pub(crate) async fn numbered(context: &Context, numbers: Range<usize>) -> Result<(), FlowError> {
    let plan = &context.plan.collect;
    let questions = &context.questions;
    let question = |key: &ItemKey| questions.for_student(&key.question).expect("an item is named after its question");
    let settled = &Settled::of(context, Stage::Collect).await?;
    // Named one by one, as they come up: there may be millions.
    let ours = |number: &usize| {
        context.shard.is_none() || context.works_on(&questions.at_for_students(place(*number, plan.samples).0).id)
    };
    let count = |(all, done), number| (all + 1, done + u64::from(settled.has(number)));
    let (total, done) = numbers.clone().filter(ours).fold((0, 0), count);
    let key = |number| {
        let (position, sample) = place(number, plan.samples);
        ItemKey { question: questions.at_for_students(position).id.clone(), sample, arm: String::new() }
    };
    let left = numbers.filter(|number| !settled.has(*number)).filter(ours);
    let passage = |number| passages::passage(&questions.at_for_students(place(number, plan.samples).0));
    let mut todo = passages::side_by_side(left, passage).map(key).peekable();
    context.progress.start(Stage::Collect, &plan.teacher, total, done);
    let result = if context.is_recorded(&plan.teacher) {
        items::run(context, Stage::Collect, todo, RECORDED_AT_ONCE, |key| {
            let done = recorded(&question(&key));
            async move { Ok(done) }
        })
        .await
    } else if let Some(next) = todo.peek().cloned() {
        let ready = &context.models.get(&plan.teacher).await?;
        let takes = &redo::takes(context, Stage::Collect).await?;
        let first = |style| request(context, &question(&next), next.sample, style, takes.of(&next));
        let style = structured::settle(context, Stage::Collect, &plan.teacher, ready, first).await?;
        items::run(context, Stage::Collect, todo, ready.pace(), |key| {
            ask(context, plan, ready, style, (question(&key), key.sample, takes.of(&key)))
        })
        .await
    } else {
        Ok(())
    };
    context.progress.finish();
    result
}

fn recorded(question: &Question) -> Done {
    match &question.recorded {
        Some(decomposition) => Done::new(
            ItemState::Done,
            &Collected { decomposition: decomposition.clone(), call: None, problems: Vec::new() },
            Vec::new(),
        ),
        None => Done::new(ItemState::Rejected("no-recorded-decomposition".into()), &(), Vec::new()),
    }
}

fn request(context: &Context, question: &Question, sample: u32, style: Style, take: Take) -> Request {
    let plan = &context.plan.collect;
    let root = plan.draw.seed.unwrap_or(context.plan.seed);
    // A greedy reply has no use for one.
    let seed = || derive_seed(root, &format!("collect/{}/{sample}", question.id));
    let sampling = Sampling {
        seed: if plan.temperature > 0.0 { seed() } else { 0 },
        format: decompose::format(style),
        ..plan.draw.sampling(plan.temperature, plan.max_tokens)
    };
    let shots = &context.shown.beside(PromptName::Decompose, plan.shots, question);
    let messages = decompose::messages(&context.plan.prompts, Manner { style, most: None, shots }, question);
    Request { messages, sampling, sample, take }
}

async fn ask(
    context: &Context,
    plan: &CollectPlan,
    ready: &Ready,
    style: Style,
    (question, sample, take): (Arc<Question>, u32, Take),
) -> Result<Done, ChatError> {
    let request = |style| request(context, &question, sample, style, take);
    let (call, style) = structured::ask(context, &plan.teacher, ready, style, request).await?;
    let parsed = decompose::read(&call.reply.text, &call.reply.finish, style, plan.max_subquestions);
    // Of what was cut off or withheld, nothing that is left is a decomposition.
    let is_whole = call.reply.finish != Finish::Length && !call.reply.finish.is_refusal();
    Ok(match parsed.decomposition.filter(|_| is_whole) {
        None => {
            let reason = unusable(&call.reply.finish);
            Done::new(ItemState::Rejected(reason), &Unusable { problems: parsed.problems }, vec![call])
        }
        Some(decomposition) => {
            let (call_key, problems) = (call.key.hex().to_owned(), parsed.problems);
            let collected = Collected { decomposition, call: Some(call_key), problems };
            Done::new(ItemState::Done, &collected, vec![call])
        }
    })
}

/// Why a reply is no decomposition: a refusal is the provider's word for it.
fn unusable(finish: &Finish) -> String {
    match finish {
        Finish::Other(reason) => reason.replace('_', "-"),
        Finish::Length => "truncated".to_owned(),
        Finish::Stop => "malformed".to_owned(),
    }
}

/// What was collected and is usable, in a stable order.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn collected(context: &Context) -> Result<Vec<(ItemKey, Decomposition)>, FlowError> {
    let settled = items::settled(context, Stage::Collect).await?;
    let mut rows = Vec::new();
    for (key, row) in settled {
        if row.state == ItemState::Done {
            rows.push((key, items::payload::<Collected>(&row)?.decomposition));
        }
    }
    rows.sort_by(|a, b| (&a.0.question, a.0.sample).cmp(&(&b.0.question, b.0.sample)));
    Ok(rows)
}
