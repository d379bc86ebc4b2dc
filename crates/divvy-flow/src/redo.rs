//! Items put back on purpose: the next run asks for them anew, with another seed and under another sample number, since
//! the old reply is kept and would be the answer for ever. Collected and screened items only: an answer that was measured
//! stays, or a table could be asked again until it pleases.

use std::collections::{HashMap, HashSet};

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
    let collected = emptied(context, Stage::Collect, |row| condition.holds(row)).await?;
    let anew: HashSet<(&QuestionId, u32)> = collected.iter().map(|row| (&row.question, row.sample)).collect();
    let follows = |row: &ItemRow| anew.contains(&(&row.question, row.sample));
    let screened = emptied(context, Stage::Screen, |row| condition.holds(row) || follows(row)).await?;
    let counts = [(Stage::Collect, collected.len() as u64), (Stage::Screen, screened.len() as u64)];
    let rows: Vec<ItemRow> = collected.into_iter().chain(screened).collect();
    context.store.put_items(&rows).await?;
    Ok(counts.into_iter().filter(|(_, items)| *items > 0).collect())
}

/// Those items of a stage that have an outcome and are meant, without it: a stage may be too large to be held whole.
async fn emptied(
    context: &Context,
    stage: Stage,
    is_meant: impl Fn(&ItemRow) -> bool,
) -> Result<Vec<ItemRow>, FlowError> {
    let (mut walk, mut rows) = (context.store.walk(&context.digest, stage).await?, Vec::new());
    while let Some(some) = walk.more().await? {
        let meant = some.into_iter().filter(|row| row.state != ItemState::Pending && is_meant(row));
        rows.extend(meant.map(|row| pending(context, row)));
    }
    Ok(rows)
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
