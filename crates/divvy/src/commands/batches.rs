//! Batches that are out at an endpoint, told to people and to programs.

use divvy_store::{BatchRow, Store, StoreError};
use serde_json::{Value, json};

use crate::{
    clock,
    output::say,
    progress::{hours, thousands},
    session::Session,
};

/// When a command ends before its batches do.
pub(super) async fn mention_open(store: &Store) -> Result<(), StoreError> {
    let mut open = store.open_batches().await?;
    open.retain(|batch| batch.remote.is_some());
    if !open.is_empty() {
        let (which, rows) = counted(&open);
        say(&format!("{which} ({rows} rows) goes on at the endpoint; the same command picks up what it brings"));
    }
    Ok(())
}

/// Rows that are out, of a model that the recipe no longer asks in batches or no longer there, would be asked and paid for
/// once more.
pub(super) async fn mention_unwaited(session: &Session) -> Result<(), StoreError> {
    let waited = session.registry.batch_places();
    let waits =
        |batch: &BatchRow| waited.iter().any(|(endpoint, model)| (endpoint, model) == (&batch.endpoint, &batch.model));
    let mut open = session.context.store.open_batches().await?;
    open.retain(|batch| !batch.followed && !waits(batch));
    if !open.is_empty() {
        let (which, rows) = counted(&open);
        let BatchRow { model, endpoint, .. } = &open[0];
        say(&format!(
            "note: {which} ({rows} rows) of `{model}` at {endpoint} is still out and nobody waits for it; with mode = \"batch\" \
             and that URL its rows are not asked and paid for again"
        ));
    }
    Ok(())
}

fn counted(open: &[BatchRow]) -> (String, String) {
    let rows: usize = open.iter().map(|batch| batch.keys.len()).sum();
    let which = if open.len() == 1 { "a batch".to_owned() } else { format!("each of {} batches", open.len()) };
    (which, thousands(rows as u64))
}

/// A line each; nothing where none is out.
pub(super) async fn lines(store: &Store, now_ms: i64) -> Result<String, StoreError> {
    let open = store.open_batches().await?;
    let lines: String = open.iter().map(|batch| line(batch, now_ms)).collect();
    Ok(if open.is_empty() { lines } else { format!("\nbatches that are out, all runs together\n{lines}") })
}

fn line(batch: &BatchRow, now_ms: i64) -> String {
    let rows = thousands(batch.keys.len() as u64);
    let back = format!("{} answered, {} failed", thousands(batch.back), thousands(batch.failed));
    let left = batch.deadline_ms.map_or_else(String::new, |at| format!(", {} to the deadline", hours(at - now_ms)));
    let id = batch.remote.as_deref().unwrap_or("not handed in yet");
    let (since, model, endpoint) = (clock::rfc3339(batch.created_ms), &batch.model, &batch.endpoint);
    format!("{rows:>10} rows of {model} at {endpoint} since {since}: {id}, {back}{left}\n")
}

pub(super) async fn as_value(store: &Store) -> Result<Vec<Value>, StoreError> {
    let value = |batch: &BatchRow| {
        json!({
            "batch": batch.remote, "endpoint": batch.endpoint, "model": batch.model, "rows": batch.keys.len(),
            "answered": batch.back, "failed": batch.failed, "handed_in": clock::rfc3339(batch.created_ms),
            "deadline": batch.deadline_ms.map(clock::rfc3339),
        })
    };
    Ok(store.open_batches().await?.iter().map(value).collect())
}
