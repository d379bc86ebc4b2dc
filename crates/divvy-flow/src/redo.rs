//! Items put back on purpose: the next run asks for them anew, with another seed and under another sample number, since
//! the old reply is kept and would be the answer for ever. Collected and screened items only: an answer that was measured
//! stays, or a table could be asked again until it pleases.

use std::collections::HashMap;

use divvy_core::{
    question::QuestionId,
    records::{ItemState, Stage},
};
use divvy_store::ItemRow;

use crate::{condition::Condition, context::Context, error::FlowError};

/// Stages whose items may be put back.
pub const STAGES: [Stage; 2] = [Stage::Collect, Stage::Screen];

/// Puts back what the condition names, and the screening of every decomposition that is collected anew. Returns how many
/// items of each stage.
///
/// # Errors
/// The store's.
pub async fn put_back(context: &Context, condition: &Condition) -> Result<Vec<(Stage, u64)>, FlowError> {
    let collected = context.store.items(&context.digest, Stage::Collect).await?;
    let settled = |row: &ItemRow| row.state != ItemState::Pending;
    let named = |row: &ItemRow| settled(row) && condition.holds(row);
    let collected: Vec<ItemRow> = collected.into_iter().filter(named).collect();
    let follows =
        |row: &ItemRow| collected.iter().any(|old| (&old.question, old.sample) == (&row.question, row.sample));
    let screened = context.store.items(&context.digest, Stage::Screen).await?;
    let screened: Vec<ItemRow> =
        screened.into_iter().filter(|row| named(row) || (settled(row) && follows(row))).collect();
    let counts = [(Stage::Collect, collected.len() as u64), (Stage::Screen, screened.len() as u64)];
    let rows: Vec<ItemRow> = collected.into_iter().chain(screened).map(|row| pending(context, row)).collect();
    context.store.put_items(&rows).await?;
    Ok(counts.into_iter().filter(|(_, items)| *items > 0).collect())
}

fn pending(context: &Context, row: ItemRow) -> ItemRow {
    let payload_json = "null".to_owned();
    ItemRow { state: ItemState::Pending, payload_json, calls: Vec::new(), updated_ms: (context.now)(), ..row }
}

/// How often each item of a stage was put back.
pub struct Takes(HashMap<(QuestionId, u32), u32>);

impl Takes {
    /// 0 for one that never was.
    #[must_use]
    pub fn of(&self, key: &crate::items::ItemKey) -> u32 {
        if self.0.is_empty() {
            return 0;
        }
        self.0.get(&(key.question.clone(), key.sample)).copied().unwrap_or(0)
    }
}

/// # Errors
/// The store's.
pub async fn takes(context: &Context, stage: Stage) -> Result<Takes, FlowError> {
    let rows = context.store.items_put_back(&context.digest, stage).await?;
    Ok(Takes(rows.into_iter().map(|(question, sample, times)| ((question, sample), times)).collect()))
}
