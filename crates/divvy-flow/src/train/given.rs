//! Which student a plan was given. What was evaluated stays as it is when rows are put back, or when a later version would make
//! another student of the same plan (its prompts are read by another parser, say); a report tells of the one that answered.

use std::collections::BTreeSet;

use divvy_core::{arm::Arm, digest::Digest, records::Stage, results::Tried};
use divvy_store::ItemCount;
use serde::{Deserialize, Serialize};

use super::sweep;
use crate::{context::Context, error::FlowError};

/// A student, and what its sweep took, if it was one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) key: Digest,
    /// Learning rates that were tried, and what all took together, in milliseconds; nothing where there was one.
    pub(crate) sweep: Vec<Tried>,
    pub(crate) wall_ms: i64,
}

fn place(context: &Context, name: &str) -> Digest {
    Digest::of("student-of-plan/1", &(&context.digest, name))
}

/// Writes it down, unless another one has answered.
pub(super) async fn remember(context: &Context, name: &str, key: Digest) -> Result<(), FlowError> {
    let before = recall(context, name).await?;
    if before.as_ref().is_some_and(|before| before.key == key)
        || (before.is_some() && has_answered(context, name).await?)
    {
        return Ok(());
    }
    let (sweep, wall_ms) = sweep::tried(context, name).await?;
    let meta = serde_json::to_string(&Given { key, sweep, wall_ms }).expect("what is known of a student is plain JSON");
    context.store.put_artefact(&place(context, name), "student-of-plan", "", &meta, (context.now)()).await?;
    Ok(())
}

async fn recall(context: &Context, name: &str) -> Result<Option<Given>, FlowError> {
    let record = context.store.artefact(&place(context, name)).await?;
    Ok(record.and_then(|record| serde_json::from_str(&record.meta_json).ok()))
}

/// An arm that it takes part in has an outcome.
async fn has_answered(context: &Context, name: &str) -> Result<bool, FlowError> {
    let student = format!("student:{name}");
    let with = |arm: &&Arm| arm.solver == student || arm.decomposer.as_ref() == Some(&student);
    let arms = context.plan.evaluate.iter().flat_map(|plan| &plan.arms);
    let arms: BTreeSet<String> = arms.filter(with).map(Arm::slug).collect();
    let counts = context.store.item_counts(&context.digest).await?;
    let settled = |count: &&ItemCount| count.stage == Stage::Evaluate && count.state.is_settled() && count.items > 0;
    Ok(counts.iter().filter(settled).any(|count| arms.contains(&count.arm)))
}

/// The student that has answered, where another one would be trained by now: it answers to the end, is served and is handed on. Half a
/// table of each would be of neither.
///
/// # Errors
/// The store's.
pub(super) async fn who_answered(context: &Context, name: &str) -> Result<Option<Digest>, FlowError> {
    match recall(context, name).await? {
        Some(given) if has_answered(context, name).await? => Ok(Some(given.key)),
        _ => Ok(None),
    }
}

/// The student that has answered; where none is on record, the one that the plan has as it stands.
///
/// # Errors
/// The store's.
pub(crate) async fn of(context: &Context, name: &str) -> Result<Given, FlowError> {
    if let Some(given) = recall(context, name).await?
        && context.store.artefact(&given.key).await?.is_some()
    {
        return Ok(given);
    }
    let (sweep, wall_ms) = sweep::tried(context, name).await?;
    Ok(Given { key: super::key(context, name).await?, sweep, wall_ms })
}
