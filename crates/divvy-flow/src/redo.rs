//! Items put back on purpose: the next run asks for them anew, with another seed and under another sample number, since
//! the old reply is kept and would be the answer for ever. Collected and screened items only: an answer that was measured
//! stays, or a table could be asked again until it pleases.

use std::collections::{HashMap, HashSet};

use divvy_core::{
    question::QuestionId,
    records::{ItemState, Stage},
};
use divvy_store::{ItemRow, PutBack};
use serde::{Deserialize, Serialize};

use crate::{
    condition::Condition,
    context::Context,
    error::FlowError,
    items::{self, ItemKey},
};

/// Stages whose items may be put back.
pub const STAGES: [Stage; 2] = [Stage::Collect, Stage::Screen];

/// How an item that was put back is asked. The default: as it was the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Take {
    /// 0 for one that never was put back.
    pub number: u32,
    /// In place of the plan's limit.
    pub max_tokens: Option<u32>,
}

/// What a pending item says of how it is to be asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Anew {
    max_tokens: Option<u32>,
}

/// Puts back what the condition names, to be asked with this limit of tokens if one is given, and the screening of every
/// decomposition that is collected anew, which keeps its own limit. Returns how many items of each stage.
///
/// # Errors
/// The store's.
pub async fn put_back(
    context: &Context,
    condition: &Condition,
    max_tokens: Option<u32>,
) -> Result<Vec<(Stage, u64)>, FlowError> {
    let asked = Anew { max_tokens };
    let collected = emptied(context, Stage::Collect, |row| condition.holds(row).then_some(asked)).await?;
    let anew: HashSet<(&QuestionId, u32)> = collected.iter().map(|row| (&row.question, row.sample)).collect();
    let before = takes(context, Stage::Screen).await?;
    let follows = |row: &ItemRow| anew.contains(&(&row.question, row.sample));
    let meant = |row: &ItemRow| {
        let meant = condition.holds(row).then_some(asked);
        meant.or_else(|| follows(row).then(|| Anew { max_tokens: before.of(&items::key_of(row)).max_tokens }))
    };
    let screened = emptied(context, Stage::Screen, meant).await?;
    let counts = [(Stage::Collect, collected.len() as u64), (Stage::Screen, screened.len() as u64)];
    let rows: Vec<ItemRow> = collected.into_iter().chain(screened).collect();
    context.store.put_items(&rows).await?;
    Ok(counts.into_iter().filter(|(_, items)| *items > 0).collect())
}

/// Those items of a stage that have an outcome and are to be asked anew, without it: a stage may be too large to be held whole.
async fn emptied(
    context: &Context,
    stage: Stage,
    anew: impl Fn(&ItemRow) -> Option<Anew>,
) -> Result<Vec<ItemRow>, FlowError> {
    let (mut walk, mut rows) = (context.store.walk(&context.digest, stage).await?, Vec::new());
    while let Some(some) = walk.more().await? {
        let settled = some.into_iter().filter(|row| row.state != ItemState::Pending);
        rows.extend(settled.filter_map(|row| anew(&row).map(|anew| pending(context, row, anew))));
    }
    Ok(rows)
}

fn pending(context: &Context, row: ItemRow, anew: Anew) -> ItemRow {
    let payload_json = serde_json::to_string(&anew).expect("a number can be written");
    ItemRow { state: ItemState::Pending, payload_json, calls: Vec::new(), updated_ms: (context.now)(), ..row }
}

/// How each item of a stage that was put back is asked.
pub struct Takes(HashMap<(QuestionId, u32), Take>);

impl Takes {
    #[must_use]
    pub fn of(&self, key: &ItemKey) -> Take {
        if self.0.is_empty() {
            return Take::default();
        }
        self.0.get(&(key.question.clone(), key.sample)).copied().unwrap_or_default()
    }
}

/// # Errors
/// The store's, or an unreadable record.
pub async fn takes(context: &Context, stage: Stage) -> Result<Takes, FlowError> {
    let rows = context.store.items_put_back(&context.digest, stage).await?;
    rows.into_iter().map(take).collect::<Result<_, _>>().map(Takes)
}

/// What earlier versions put back says nothing of a limit: it is `null`.
fn take(row: PutBack) -> Result<((QuestionId, u32), Take), FlowError> {
    let anew = items::payload_of::<Option<Anew>>(&row.question, &row.payload_json)?;
    let take = Take { number: row.times, max_tokens: anew.and_then(|anew| anew.max_tokens) };
    Ok(((row.question, row.sample), take))
}
