//! Which student a plan was given. A later version may make another of the same plan (its prompts are read by another parser, say);
//! a report on what was evaluated then tells of the one that was.

use divvy_core::digest::Digest;

use crate::{context::Context, error::FlowError};

fn place(context: &Context, name: &str) -> Digest {
    Digest::of("student-of-plan/1", &(&context.digest, name))
}

/// Writes it down, once.
pub(super) async fn remember(context: &Context, name: &str, key: &Digest) -> Result<(), FlowError> {
    if recall(context, name).await?.as_ref() == Some(key) {
        return Ok(());
    }
    let meta = serde_json::to_string(key).expect("a digest is plain JSON");
    context.store.put_artefact(&place(context, name), "student-of-plan", "", &meta, (context.now)()).await?;
    Ok(())
}

async fn recall(context: &Context, name: &str) -> Result<Option<Digest>, FlowError> {
    let record = context.store.artefact(&place(context, name)).await?;
    Ok(record.and_then(|record| serde_json::from_str(&record.meta_json).ok()))
}

/// The key of the student that the plan has now, or where that was never trained, of the one that it had.
///
/// # Errors
/// The store's.
pub(crate) async fn key(context: &Context, name: &str) -> Result<Digest, FlowError> {
    let now = super::key(context, name).await?;
    let trained = context.store.artefact(&now).await?.is_some();
    let before = if trained { None } else { recall(context, name).await? };
    Ok(before.unwrap_or(now))
}
