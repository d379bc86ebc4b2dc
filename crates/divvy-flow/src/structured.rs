//! Decompositions as JSON by a schema, from endpoints that can. Whether one can is found out with the first request of a
//! stage, before any other is sent, and remembered in the store. Where it can, that request is the first item's own; where
//! it refuses, nothing was charged; where it says something else, that one reply was paid for and no more. It is behind no item
//! then, so that trials are noted at their stage. Of workers that share a store one tries, and the others wait for it.

use divvy_core::{
    chat::{Finish, Message, Reply, Sampling},
    digest::Digest,
    model::ModelId,
    prompts::decompose::{self, Style},
    recipe::Structured,
    records::Stage,
};
use divvy_llm::{Call, ChatError};
use serde::{Deserialize, Serialize};

use crate::{
    claims,
    context::{Context, Ready},
    error::FlowError,
    redo::Take,
};

/// What a decomposer is asked.
pub struct Request {
    pub messages: Vec<Message>,
    pub sampling: Sampling,
    pub sample: u32,
    pub take: Take,
}

/// What the store remembers of a model.
#[derive(Serialize, Deserialize)]
struct Memory {
    keeps_schema: bool,
}

/// How a decomposer is asked, as far as is known; nobody is asked.
///
/// # Errors
/// The store's.
pub async fn style(context: &Context, name: &str, id: &ModelId) -> Result<Style, FlowError> {
    let plain = context.plan.style(name);
    let tries = context.plan.structured(name) == Structured::Auto;
    let keeps = tries && remembered(context, id).await? == Some(true);
    Ok(if keeps { Style::Structured } else { plain })
}

/// How a decomposer is asked; of one that was never tried this finds it out. `first` is the request that is sent first in
/// a style.
///
/// # Errors
/// What ends a stage: interrupted, budget, store, an endpoint that cannot work.
pub async fn settle(
    context: &Context,
    stage: Stage,
    name: &str,
    ready: &Ready,
    first: impl Fn(Style) -> Request,
) -> Result<Style, FlowError> {
    if context.plan.structured(name) != Structured::Auto || remembered(context, &ready.id).await?.is_some() {
        return style(context, name, &ready.id).await;
    }
    take_turn(context, &ready.id).await?;
    // Another worker may have found it out meanwhile.
    let found = match remembered(context, &ready.id).await? {
        Some(_) => style(context, name, &ready.id).await,
        None => try_it(context, stage, name, ready, first(Style::Structured)).await,
    };
    if let Some(store) = context.store.shared() {
        store.give_up_call(&key(&ready.id)).await?;
    }
    found
}

/// On a store that workers share, one after another.
async fn take_turn(context: &Context, id: &ModelId) -> Result<(), FlowError> {
    let Some(store) = context.store.shared() else { return Ok(()) };
    let poll = claims::poll(store)?;
    while !store.claim_call(&key(id)).await? {
        let slept = context.cancel.run_until_cancelled(tokio::time::sleep(poll)).await;
        slept.ok_or(FlowError::Interrupted)?;
    }
    Ok(())
}

async fn try_it(
    context: &Context,
    stage: Stage,
    name: &str,
    ready: &Ready,
    request: Request,
) -> Result<Style, FlowError> {
    let Request { messages, sampling, sample, take } = request;
    let trial = context.ask_online(ready, messages, sampling, (sample, take)).await;
    note_trial(context, stage, &ready.id, &trial).await?;
    let keeps_schema = match trial {
        Ok(call) if is_no_verdict(&call.reply) => return Ok(context.plan.style(name)),
        Ok(call) => decompose::keeps_format(&call.reply.text, &call.reply.finish),
        Err(error) if error.refuses_format() => false,
        Err(error) if error.is_cancelled() => return Err(FlowError::Interrupted),
        // It answers batches only, perhaps.
        Err(error) if ready.in_bulk && error.is_fatal() => {
            let called = context.resolve(name);
            context
                .progress
                .note(&format!("`{called}` could not be asked online whether it keeps to a schema: {error}"));
            return Ok(context.plan.style(name));
        }
        Err(error) if error.is_budget() => return Err(FlowError::Budget(error.to_string())),
        Err(error) if error.is_fatal() => return Err(FlowError::Chat { stage, source: error }),
        // It says nothing about schemas: this time the plain prompt serves, and the next run tries again.
        Err(_) => return Ok(context.plan.style(name)),
    };
    remember(context, &ready.id, keeps_schema).await?;
    let (does, hint) = match keeps_schema {
        true => ("keeps", ""),
        false => ("does not keep", " (structured = \"on\" asks for one all the same)"),
    };
    let called = context.resolve(name);
    context.progress.note(&format!("`{called}` {does} to a JSON schema; the store remembers it{hint}"));
    style(context, name, &ready.id).await
}

/// A filter's doing, a slip, or what was cut off before the JSON began, as thoughts may be: it says nothing about schemas.
fn is_no_verdict(Reply { text, finish, .. }: &Reply) -> bool {
    let cut_off = *finish == Finish::Length && !decompose::keeps_format(text, finish);
    finish.is_refusal() || text.trim().is_empty() || cut_off
}

/// Asks, and where one of several endpoints refuses the schema after all, asks plainly: a refusal costs nothing. With the
/// style that was answered.
///
/// # Errors
/// The call's.
pub async fn ask(
    context: &Context,
    name: &str,
    ready: &Ready,
    style: Style,
    request: impl Fn(Style) -> Request,
) -> Result<(Call, Style), ChatError> {
    match send(context, ready, request(style)).await {
        Err(error) if error.refuses_format() && context.plan.structured(name) == Structured::Auto => {
            let plain = context.plan.style(name);
            Ok((send(context, ready, request(plain)).await?, plain))
        }
        result => Ok((result?, style)),
    }
}

async fn send(context: &Context, ready: &Ready, request: Request) -> Result<Call, ChatError> {
    let Request { messages, sampling, sample, take } = request;
    context.ask_again(ready, messages, sampling, sample, take).await
}

/// Keys of the calls with which a schema was tried. One that was kept to is an item's as well.
///
/// # Errors
/// The store's.
pub async fn trials(context: &Context, stage: Stage) -> Result<Vec<Digest>, FlowError> {
    let (plan, mut keys) = (&context.plan, Vec::new());
    for (_, id) in plan.models.iter().filter(|(name, _)| plan.structured(name) == Structured::Auto) {
        if let Some(id) = Digest::from_hex(id) {
            keys.extend(trials_of(context, stage, &ModelId(id)).await?);
        }
    }
    Ok(keys)
}

async fn trials_of(context: &Context, stage: Stage, id: &ModelId) -> Result<Vec<Digest>, FlowError> {
    let kept = context.store.artefact(&trials_key(context, stage, id)).await?;
    Ok(kept.and_then(|kept| serde_json::from_str(&kept.meta_json).ok()).unwrap_or_default())
}

/// Whatever came of it: it may have been charged.
async fn note_trial(
    context: &Context,
    stage: Stage,
    id: &ModelId,
    trial: &Result<Call, ChatError>,
) -> Result<(), FlowError> {
    let keys = match trial {
        Ok(call) => std::slice::from_ref(&call.key),
        Err(error) => &error.calls,
    };
    let mut all = trials_of(context, stage, id).await?;
    all.extend(keys.iter().filter(|key| !all.contains(key)).cloned().collect::<Vec<_>>());
    let all = serde_json::to_string(&all).expect("keys are plain JSON");
    Ok(context.store.put_artefact(&trials_key(context, stage, id), "schema-trials", "", &all, (context.now)()).await?)
}

fn trials_key(context: &Context, stage: Stage, id: &ModelId) -> Digest {
    Digest::of("schema-trials/1", &(&context.digest, stage, id))
}

fn key(id: &ModelId) -> Digest {
    Digest::of("keeps-schema/1", id)
}

async fn remembered(context: &Context, id: &ModelId) -> Result<Option<bool>, FlowError> {
    let kept = context.store.artefact(&key(id)).await?;
    let memory = kept.and_then(|kept| serde_json::from_str::<Memory>(&kept.meta_json).ok());
    Ok(memory.map(|memory| memory.keeps_schema))
}

async fn remember(context: &Context, id: &ModelId, keeps_schema: bool) -> Result<(), FlowError> {
    let memory = serde_json::to_string(&Memory { keeps_schema }).expect("a flag is plain JSON");
    Ok(context.store.put_artefact(&key(id), "keeps-schema", "", &memory, (context.now)()).await?)
}
