//! Collect: the teacher's decompositions of every training and dev question. A recorded teacher costs nothing; a model
//! is asked `samples` times. Every reply is in the store before it is parsed.

use std::sync::Arc;

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
    redo,
    settled::Settled,
    structured::{self, Request},
};

/// Recorded rows only touch the store, where many share one commit.
const RECORDED_AT_ONCE: usize = 512;

/// Items of this stage.
#[must_use]
pub fn expected(context: &Context) -> u64 {
    let asked = asked(context) * u64::from(context.plan.collect.samples);
    if context.plan.collects() { asked } else { 0 }
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
    let plan = &context.plan.collect;
    let questions = &context.questions;
    let question = |key: &ItemKey| questions.for_student(&key.question).expect("an item is named after its question");
    let settled = &Settled::of_collection(context).await?;
    // Named one by one, as they come up: there may be millions.
    let items = || {
        let ours = questions.for_students().enumerate().filter(|(_, question)| context.works_on(&question.id));
        ours.flat_map(|(at, question)| (0..plan.samples).map(move |sample| (at, sample, Arc::clone(&question))))
    };
    let is_settled = |(at, sample, _): &(usize, u32, Arc<Question>)| settled.has(*at, *sample);
    let (total, done) = match context.shard {
        None => (expected(context), settled.count()),
        Some(_) => items().fold((0, 0), |(all, done), item| (all + 1, done + u64::from(is_settled(&item)))),
    };
    let key = |question: &Question, sample| ItemKey { question: question.id.clone(), sample, arm: String::new() };
    let todo = items().filter(|item| !is_settled(item));
    let mut todo = todo.map(|(_, sample, question)| key(&question, sample)).peekable();
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

/// How many questions there are decompositions of.
fn asked(context: &Context) -> u64 {
    (context.questions.train.len() + context.questions.dev.len()) as u64
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

fn request(context: &Context, question: &Question, sample: u32, style: Style, take: u32) -> Request {
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
    (question, sample, take): (Arc<Question>, u32, u32),
) -> Result<Done, ChatError> {
    let request = |style| request(context, &question, sample, style, take);
    let (call, style) = structured::ask(context, &plan.teacher, ready, style, request).await?;
    let parsed = decompose::read(&call.reply.text, &call.reply.finish, style, plan.max_subquestions);
    Ok(match parsed.decomposition {
        _ if call.reply.finish == Finish::Length => {
            Done::new(ItemState::Rejected("truncated".into()), &Unusable { problems: parsed.problems }, vec![call])
        }
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
        Finish::Stop | Finish::Length => "malformed".to_owned(),
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
