//! What items took, from the calls behind them and from attempts at these calls that came to nothing: of each stage, where a
//! call that several stages or arms share is counted where it was made first, and of one item.

use std::collections::{BTreeMap, HashMap, HashSet};

use divvy_core::{digest::Digest, records::Stage};
use divvy_store::{AttemptSum, CallUsage, ItemRow};

use crate::{context::Context, error::FlowError, structured};

/// The stages that ask, in running order.
pub const STAGES: [Stage; 4] = [Stage::Collect, Stage::Screen, Stage::Evaluate, Stage::Judge];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    pub calls: u64,
    /// Of these, trials of a JSON schema that are behind no item.
    pub trials: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// Calls whose tokens nobody counted.
    pub unknown_usage: u64,
    /// Nano-dollars; `None` unless every call has a price.
    pub cost_nanos: Option<i64>,
    /// Of the calls, those that the store had before the plan began: another plan has paid for them.
    pub found: u64,
    /// What the found ones had cost.
    pub found_nanos: Option<i64>,
    /// Attempts that came to nothing: they are in none of the figures above.
    pub failed: AttemptSum,
}

impl Default for Paid {
    fn default() -> Self {
        let failed = AttemptSum::default();
        let (found, found_nanos, cost_nanos) = (0, Some(0), Some(0));
        Self {
            calls: 0,
            trials: 0,
            tokens_in: 0,
            tokens_out: 0,
            unknown_usage: 0,
            cost_nanos,
            found,
            found_nanos,
            failed,
        }
    }
}

impl Paid {
    /// `since` is when the plan began.
    fn add(&mut self, call: &CallUsage, since: i64) {
        let usage = call.usage;
        self.calls += 1;
        self.tokens_in += usage.tokens_in.unwrap_or(0);
        self.tokens_out += usage.tokens_out.unwrap_or(0);
        self.unknown_usage += u64::from(usage.tokens_in.is_none() || usage.tokens_out.is_none());
        let and = |sum: Option<i64>| sum.zip(call.price_nanos).map(|(sum, price)| sum.saturating_add(price));
        self.cost_nanos = and(self.cost_nanos);
        if call.created_ms < since {
            (self.found, self.found_nanos) = (self.found + 1, and(self.found_nanos));
        }
    }
}

/// When this plan was first run, in Unix milliseconds: an older call was paid for by another. Later than all calls for one that
/// never was.
///
/// # Errors
/// The store's.
pub async fn began(context: &Context) -> Result<i64, FlowError> {
    let runs = context.store.runs().await?;
    let own = runs.iter().filter(|run| run.plan == context.digest).map(|run| run.started_ms);
    // Both times lose their fraction of a millisecond, each on a clock of its own.
    Ok(own.min().map_or(i64::MAX, |began| began - 2))
}

/// What tells a plan's own calls, and the tries at them that came to nothing, from those that others have paid for.
pub struct Books {
    /// When the plan began.
    pub since: i64,
    pub failed: HashMap<Digest, AttemptSum>,
}

impl Books {
    /// # Errors
    /// The store's.
    pub async fn read(context: &Context) -> Result<Self, FlowError> {
        let since = began(context).await?;
        Ok(Self { since, failed: context.store.failed_by_key(since).await? })
    }
}

/// In running order. Of items that failed, the calls that were answered count, and of those put back the replies that were
/// replaced: they were paid for. So were trials of a JSON schema, which may have no item. A stage is read part by part, so that
/// there may be any number of items: what is held are eight bytes for each call, and the attempts that failed.
///
/// # Errors
/// The store's.
pub async fn by_stage(context: &Context) -> Result<BTreeMap<Stage, Paid>, FlowError> {
    let books = Books::read(context).await?;
    let (mut counted, mut paid) = (HashSet::new(), BTreeMap::new());
    for stage in STAGES {
        let (mut sum, mut walk) = (Paid::default(), context.store.history(&context.digest, stage).await?);
        while let Some(items) = walk.more().await? {
            let keys = items.into_iter().flat_map(|item| item.calls);
            count(context, &books, fresh(keys, &mut counted), &mut sum).await?;
        }
        let of_items = sum.calls;
        let trials = structured::trials(context, stage).await?;
        count(context, &books, fresh(trials, &mut counted), &mut sum).await?;
        sum.trials = sum.calls - of_items;
        // Few plans have a judge.
        if stage != Stage::Judge || sum != Paid::default() {
            paid.insert(stage, sum);
        }
    }
    Ok(paid)
}

/// Those that were not counted before. Sixty-four bits of a hash tell calls apart: among ten million, two are taken for one
/// with a chance of one in 300,000.
fn fresh(keys: impl IntoIterator<Item = Digest>, counted: &mut HashSet<u64>) -> Vec<Digest> {
    keys.into_iter().filter(|key| counted.insert(key.seed())).collect()
}

async fn count(context: &Context, books: &Books, keys: Vec<Digest>, sum: &mut Paid) -> Result<(), FlowError> {
    context.store.call_usages(&keys).await?.iter().for_each(|call| sum.add(call, books.since));
    keys.iter().filter_map(|key| books.failed.get(key)).for_each(|attempts| sum.failed.add(attempts));
    Ok(())
}

/// What each of these items took, whoever shares its calls.
///
/// # Errors
/// The store's.
pub async fn by_item(context: &Context, books: &Books, items: &[ItemRow]) -> Result<Vec<Paid>, FlowError> {
    let keys: HashSet<&Digest> = items.iter().flat_map(|item| &item.calls).collect();
    let keys: Vec<Digest> = keys.into_iter().cloned().collect();
    let calls = context.store.call_usages(&keys).await?;
    let calls: HashMap<&Digest, &CallUsage> = calls.iter().map(|call| (&call.key, call)).collect();
    let of_item = |item: &ItemRow| {
        let (mut sum, mut seen) = (Paid::default(), HashSet::new());
        for key in item.calls.iter().filter(|key| seen.insert(*key)) {
            calls.get(key).into_iter().for_each(|call| sum.add(call, books.since));
            books.failed.get(key).into_iter().for_each(|attempts| sum.failed.add(attempts));
        }
        sum
    };
    Ok(items.iter().map(of_item).collect())
}
