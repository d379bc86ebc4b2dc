//! What the items of each stage took, from the calls behind them. A call that several stages or arms share is counted
//! where it was made first.

use std::collections::{BTreeMap, HashSet};

use divvy_core::{digest::Digest, records::Stage};

use crate::{context::Context, error::FlowError};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    pub calls: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// Calls whose tokens nobody counted.
    pub unknown_usage: u64,
    /// Nano-dollars; `None` unless every call has a price.
    pub cost_nanos: Option<i64>,
}

/// In running order. Of items that failed, the calls that were answered count.
///
/// # Errors
/// The store's.
pub async fn by_stage(context: &Context) -> Result<BTreeMap<Stage, Paid>, FlowError> {
    let (mut counted, mut paid) = (HashSet::new(), BTreeMap::new());
    for stage in [Stage::Collect, Stage::Screen, Stage::Evaluate, Stage::Judge] {
        let items = context.store.items(&context.digest, stage).await?;
        let calls = items.into_iter().flat_map(|item| item.calls);
        let keys: Vec<Digest> = calls.filter(|key| counted.insert(key.clone())).collect();
        let mut sum = Paid { cost_nanos: Some(0), ..Paid::default() };
        for call in context.store.call_usages(&keys).await? {
            let usage = call.usage;
            sum.calls += 1;
            sum.tokens_in += usage.tokens_in.unwrap_or(0);
            sum.tokens_out += usage.tokens_out.unwrap_or(0);
            sum.unknown_usage += u64::from(usage.tokens_in.is_none() || usage.tokens_out.is_none());
            sum.cost_nanos = sum.cost_nanos.zip(call.price_nanos).map(|(sum, price)| sum.saturating_add(price));
        }
        // Few plans have a judge.
        if stage != Stage::Judge || !keys.is_empty() {
            paid.insert(stage, sum);
        }
    }
    Ok(paid)
}
