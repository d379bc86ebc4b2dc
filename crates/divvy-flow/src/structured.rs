//! Decompositions as JSON by a schema, from endpoints that can. Whether one can is found out with the first request of a
//! stage, before any other is sent, and remembered in the store. Where it can, that request is the first item's own; where
//! it refuses, nothing was charged; where it says something else, that one reply was paid for and no more.

use divvy_core::{
    chat::{Message, Sampling},
    digest::Digest,
    model::ModelId,
    prompts::decompose::{self, Style},
    recipe::Structured,
    records::Stage,
};
use divvy_llm::{Call, ChatError};
use serde::{Deserialize, Serialize};

use crate::{
    context::{Context, Ready},
    error::FlowError,
};

/// What a decomposer is asked.
pub struct Request {
    pub messages: Vec<Message>,
    pub sampling: Sampling,
    pub sample: u32,
    pub take: u32,
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
    let known = context.plan.structured(name) != Structured::Auto || remembered(context, &ready.id).await?.is_some();
    if known {
        return style(context, name, &ready.id).await;
    }
    let keeps_schema = match send(context, ready, first(Style::Structured)).await {
        // A filter's doing, or a slip: it says nothing about schemas.
        Ok(call) if call.reply.finish.is_refusal() || call.reply.text.trim().is_empty() => {
            return Ok(context.plan.style(name));
        }
        Ok(call) => decompose::keeps_format(&call.reply.text, &call.reply.finish),
        Err(error) if error.refuses_format() => false,
        Err(error) if error.is_cancelled() => return Err(FlowError::Interrupted),
        Err(error) if error.is_budget() => return Err(FlowError::Budget(error.to_string())),
        Err(error) if error.is_fatal() => return Err(FlowError::Chat { stage, source: error }),
        // It says nothing about schemas: this time the plain prompt serves, and the next run tries again.
        Err(_) => return Ok(context.plan.style(name)),
    };
    remember(context, &ready.id, keeps_schema).await?;
    let does = if keeps_schema { "keeps" } else { "does not keep" };
    let name = context.resolve(name);
    context.progress.note(&format!("`{name}` {does} to a JSON schema; the store remembers it"));
    style(context, name, &ready.id).await
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
