//! The one loop of every stage: run what is pending, a bounded number at once, and record each outcome as it comes.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use divvy_core::{
    chat::Usage,
    digest::Digest,
    question::QuestionId,
    records::{ItemState, Stage},
};
use divvy_llm::{Call, ChatError};
use divvy_store::{ItemCount, ItemRow, StoreError, Token};
use futures::{StreamExt, stream::FuturesOrdered};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    claims::{self, Taken},
    context::Context,
    error::FlowError,
    progress::Tick,
    settled::Marks,
};

/// Failures in a row that end a stage: twice the items that are under way at once, of which no more than this count.
const MOST_PATIENCE: usize = 32;
/// Most items in one commit.
const COMMIT_AT_ONCE: usize = 256;
/// Commits that may be under way; beyond, nothing new is begun.
const COMMITS_UNDER_WAY: usize = 8;

/// How many items are under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub at_once: usize,
    /// Their calls come back many together, so that it means nothing how many fail in a row.
    pub in_bulk: bool,
}

impl From<usize> for Pace {
    fn from(at_once: usize) -> Self {
        Self { at_once, in_bulk: false }
    }
}

/// Identity of an item within a stage of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ItemKey {
    pub question: QuestionId,
    pub sample: u32,
    /// Arm slug; empty where a stage has none.
    pub arm: String,
}

/// What became of one item.
pub struct Done {
    pub state: ItemState,
    pub payload: String,
    pub calls: Vec<Call>,
    /// Of an item that failed: the keys of what it asked, the failed call last.
    pub failed: Vec<Digest>,
}

impl Done {
    /// # Panics
    /// If the payload is not plain JSON, which records are.
    #[must_use]
    pub fn new<P: Serialize>(state: ItemState, payload: &P, calls: Vec<Call>) -> Self {
        let payload = serde_json::to_string(payload).expect("records are plain JSON");
        Self { state, payload, calls, failed: Vec::new() }
    }
}

/// Items of a stage that are settled: done or rejected. Failed ones are tried again.
///
/// # Errors
/// The store's.
pub async fn settled(context: &Context, stage: Stage) -> Result<HashMap<ItemKey, ItemRow>, FlowError> {
    let rows = context.store.items(&context.digest, stage).await?;
    Ok(rows.into_iter().filter(|row| row.state.is_settled()).map(|row| (key_of(&row), row)).collect())
}

/// Shows each item of [`settled`], so that there may be any number of them.
///
/// # Errors
/// The store's, or what `take` says.
pub(crate) async fn each_settled(
    context: &Context,
    stage: Stage,
    mut take: impl FnMut(ItemRow) -> Result<(), FlowError>,
) -> Result<(), FlowError> {
    let mut walk = context.store.walk(&context.digest, stage).await?;
    while let Some(rows) = walk.more().await? {
        rows.into_iter().filter(|row| row.state.is_settled()).try_for_each(&mut take)?;
    }
    Ok(())
}

pub(crate) fn key_of(row: &ItemRow) -> ItemKey {
    ItemKey { question: row.question.clone(), sample: row.sample, arm: row.arm.clone() }
}

/// Reads a payload back.
///
/// # Errors
/// [`FlowError::Input`] if another version of the program wrote something else.
pub fn payload<P: DeserializeOwned>(row: &ItemRow) -> Result<P, FlowError> {
    payload_of(&row.question, &row.payload_json)
}

/// The same of an item that is named otherwise.
pub(crate) fn payload_of<P: DeserializeOwned>(question: &QuestionId, json: &str) -> Result<P, FlowError> {
    serde_json::from_str(json).map_err(|error| {
        FlowError::Input(format!("the store's record of {question} is not readable by this version: {error}"))
    })
}

/// Runs `work` over `todo`, so many at once as the pace says. A failed call fails its item and the stage goes on; the
/// stage ends at an error that every further request would meet too. On a server other
/// workers take their part of `todo`, and it is over when all of it is.
///
/// # Errors
/// [`FlowError`]: interrupted, budget, store, or an endpoint that cannot work.
pub async fn run<F, W>(
    context: &Context,
    stage: Stage,
    todo: impl IntoIterator<Item = ItemKey, IntoIter: Clone>,
    pace: impl Into<Pace>,
    work: W,
) -> Result<(), FlowError>
where
    W: Fn(ItemKey) -> F,
    F: Future<Output = Result<Done, ChatError>>,
{
    let pace = pace.into();
    let mut patience = Patience::new(stage, pace);
    let result = run_all(context, stage, todo, pace, &mut patience, work).await;
    claims::give_back(context, stage).await?;
    result?;
    patience.sum_up(context).await
}

async fn run_all<F, W>(
    context: &Context,
    stage: Stage,
    todo: impl IntoIterator<Item = ItemKey, IntoIter: Clone>,
    pace: Pace,
    patience: &mut Patience,
    work: W,
) -> Result<(), FlowError>
where
    W: Fn(ItemKey) -> F,
    F: Future<Output = Result<Done, ChatError>>,
{
    let exhausted = AtomicBool::new(false);
    // Counted as they come up: what is left is known without holding all of them.
    let (mut todo, begun, mut done) = (todo.into_iter(), AtomicUsize::new(0), 0);
    let for_all_workers = context.store.shared().map(|_| todo.clone());
    let coming = todo.by_ref().inspect(|_| _ = begun.fetch_add(1, Ordering::Relaxed));
    let taken = claims::of_stage(context, stage, coming, pace.at_once, &exhausted).await?;
    let finished = taken.map(|taken| {
        let begun = taken.map(|taken| (work(taken.key.clone()), taken));
        async move {
            let (outcome, taken) = begun?;
            Ok((taken, outcome.await))
        }
    });
    let mut finished = finished.buffer_unordered(pace.at_once.max(1)).ready_chunks(COMMIT_AT_ONCE);
    let (mut commits, mut stop, mut more) = (FuturesOrdered::new(), None, true);
    while more || !commits.is_empty() {
        // While outcomes are on their way to the disk, requests go on.
        tokio::select! {
            chunk = finished.next(), if more && commits.len() < COMMITS_UNDER_WAY => match chunk {
                None => more = false,
                Some(chunk) => {
                    done += chunk.iter().filter(|item| matches!(item, Ok((_, Ok(_))))).count();
                    let (settled, verdict) = settle(context, stage, chunk, patience);
                    commits.push_back(settled.commit(context));
                    match verdict {
                        Ok(()) => {}
                        // There is no place for what would come.
                        Err(error) if error.is_of_the_store() => (more, stop) = (false, Some(error)),
                        // No new item begins, but requests in flight are paid for: they come to their end.
                        Err(error) => {
                            exhausted.store(true, Ordering::Relaxed);
                            stop = Some(graver(stop, error));
                            // A budget refuses by itself what is asked further.
                            if !matches!(stop, Some(FlowError::Budget(_))) {
                                stop_asking(context, stop.as_ref());
                            }
                        }
                    }
                }
            },
            Some(committed) = commits.next() => committed?,
        }
    }
    drop(finished);
    let left = async || match for_all_workers {
        Some(todo) => unsettled(context, stage, todo).await,
        None => Ok(begun.into_inner() - done + todo.count()),
    };
    ended(context, stage, stop, left).await
}

/// Nothing further goes out; whoever watches is told what is waited for.
fn stop_asking(context: &Context, why: Option<&FlowError>) {
    let by_itself = !context.asking.is_cancelled();
    context.asking.cancel();
    if let Some(why) = why.filter(|_| by_itself) {
        context
            .progress
            .note(&format!("{why}\nreplies that endpoints have under way are waited for (Ctrl-C gives them up)"));
    }
}

/// Of two reasons to stop the first, unless that is a budget or an interruption: those say the least.
fn graver(first: Option<FlowError>, next: FlowError) -> FlowError {
    let rank = |error: &FlowError| match error {
        FlowError::Interrupted => 0,
        FlowError::Budget(_) => 1,
        _ => 2,
    };
    match first {
        Some(first) if rank(&first) >= rank(&next) => first,
        _ => next,
    }
}

/// How the stage ends, and at a budget how many items are `left`.
async fn ended(
    context: &Context,
    stage: Stage,
    stop: Option<FlowError>,
    left: impl AsyncFnOnce() -> Result<usize, FlowError>,
) -> Result<(), FlowError> {
    match stop {
        Some(error) if !matches!(error, FlowError::Budget(_)) => Err(error),
        _ if context.cancel.is_cancelled() => Err(FlowError::Interrupted),
        Some(FlowError::Budget(message)) => {
            let left = left().await?;
            Err(FlowError::Budget(format!("{}: {left} items are left; {message}", stage.name())))
        }
        Some(stop) => Err(stop),
        None => Ok(()),
    }
}

/// How many of these nobody has settled.
async fn unsettled(context: &Context, stage: Stage, items: impl Iterator<Item = ItemKey>) -> Result<usize, FlowError> {
    let marks = Marks::of(context, stage).await?;
    Ok(items.filter(|key| marks.is_done(key).is_none()).count())
}

/// An item that came to its end, or why there are no more.
type Finished = Result<(Taken, Result<Done, ChatError>), StoreError>;

/// Items that finished together.
struct Outcomes {
    stage: Stage,
    rows: Vec<(ItemRow, Option<Token>)>,
    ticks: Vec<Tick>,
}

impl Outcomes {
    /// Records them in one commit, then shows them.
    async fn commit(self, context: &Context) -> Result<(), FlowError> {
        let late = put(context, self.rows).await?;
        if late > 0 {
            let stage = self.stage.name();
            context.progress.note(&format!(
                "{stage}: {late} outcomes came too late, other workers had taken over; their calls are kept"
            ));
        }
        self.ticks.into_iter().for_each(|tick| context.progress.tick(tick));
        Ok(())
    }
}

/// What is to be recorded, and whether the stage may go on.
fn settle(
    context: &Context,
    stage: Stage,
    chunk: Vec<Finished>,
    patience: &mut Patience,
) -> (Outcomes, Result<(), FlowError>) {
    let (mut rows, mut ticks, mut stop) = (Vec::new(), Vec::new(), Ok(()));
    for finished in chunk {
        let (taken, outcome) = match finished {
            Ok(finished) => finished,
            Err(error) => {
                stop = stop.and(Err(error.into()));
                continue;
            }
        };
        match patience.judge(&taken.key.arm, outcome) {
            Ok(done) => {
                ticks.push(Tick { failed: matches!(done.state, ItemState::Failed(_)), ..spent(&done.calls) });
                rows.push((row(context, stage, taken.key, done), taken.token));
            }
            Err(error) => stop = stop.and(Err(error)),
        }
    }
    (Outcomes { stage, rows, ticks }, stop)
}

/// How many outcomes came after another worker had taken over.
async fn put(context: &Context, rows: Vec<(ItemRow, Option<Token>)>) -> Result<usize, StoreError> {
    let Some(store) = context.store.shared() else {
        let rows: Vec<ItemRow> = rows.into_iter().map(|(row, _)| row).collect();
        return context.store.put_items(&rows).await.map(|()| 0);
    };
    let claimed = rows.into_iter().filter_map(|(row, token)| Some((row, token?))).collect();
    Ok(store.settle(claimed).await?.into_iter().filter(|put| !put).count())
}

fn row(context: &Context, stage: Stage, key: ItemKey, done: Done) -> ItemRow {
    ItemRow {
        plan: context.digest.clone(),
        stage,
        question: key.question,
        sample: key.sample,
        arm: key.arm,
        state: done.state,
        payload_json: done.payload,
        calls: done.calls.into_iter().map(|call| call.key).chain(done.failed).collect(),
        updated_ms: (context.now)(),
    }
}

/// Tokens paid for now.
fn spent(calls: &[Call]) -> Tick {
    let fresh = calls.iter().filter(|call| !call.from_cache);
    let usage = sum_usage(fresh.clone().map(|call| call.reply.usage));
    let cost_nanos = fresh.map(|call| call.price_nanos).sum();
    Tick { tokens_in: usage.0, tokens_out: usage.1, cost_nanos, failed: false }
}

/// Tokens in and out; what a provider did not report adds nothing.
#[must_use]
pub fn sum_usage(usages: impl Iterator<Item = Usage>) -> (u64, u64) {
    usages.fold((0, 0), |(tokens_in, tokens_out), usage| {
        (tokens_in + usage.tokens_in.unwrap_or(0), tokens_out + usage.tokens_out.unwrap_or(0))
    })
}

/// Tells a bad item from a bad endpoint. Arm by arm, because one that works says nothing about another's models.
struct Patience {
    stage: Stage,
    arms: BTreeMap<String, Record>,
    limit: usize,
}

/// How an arm has fared in this command.
#[derive(Default)]
struct Record {
    succeeded: bool,
    in_a_row: usize,
    failed: usize,
    last: String,
}

impl Patience {
    fn new(stage: Stage, pace: Pace) -> Self {
        let limit = if pace.in_bulk { usize::MAX } else { 2 * pace.at_once.clamp(4, MOST_PATIENCE) };
        Self { stage, arms: BTreeMap::new(), limit }
    }

    fn judge(&mut self, arm: &str, outcome: Result<Done, ChatError>) -> Result<Done, FlowError> {
        let error = match outcome {
            Ok(done) => {
                let record = self.arms.entry(arm.to_owned()).or_default();
                (record.succeeded, record.in_a_row) = (true, 0);
                return Ok(done);
            }
            Err(error) => error,
        };
        if error.is_cancelled() {
            return Err(FlowError::Interrupted);
        }
        if error.is_budget() {
            return Err(FlowError::Budget(error.to_string()));
        }
        if error.is_fatal() {
            return Err(FlowError::Chat { stage: self.stage, source: error });
        }
        let record = self.arms.entry(arm.to_owned()).or_default();
        record.in_a_row += 1;
        record.failed += 1;
        record.last = error.to_string();
        if record.in_a_row >= self.limit {
            return Err(FlowError::Failing { stage: self.stage, count: record.in_a_row, last: record.last.clone() });
        }
        Ok(Done {
            state: ItemState::Failed(error.reason().to_owned()),
            payload: serde_json::Value::String(error.to_string()).to_string(),
            calls: Vec::new(),
            failed: error.calls.into_vec(),
        })
    }

    /// Says what failed. An arm that has never answered anything, now or before, is an error.
    async fn sum_up(&self, context: &Context) -> Result<(), FlowError> {
        let failed: usize = self.arms.values().map(|record| record.failed).sum();
        let Some((_, any)) = self.arms.iter().find(|(_, record)| record.failed > 0) else { return Ok(()) };
        let counts = context.store.item_counts(&context.digest).await?;
        let settled = |count: &&ItemCount| count.stage == self.stage && count.state.is_settled();
        let settled: Vec<&ItemCount> = counts.iter().filter(settled).collect();
        for (arm, Record { failed, last, .. }) in self.arms.iter().filter(|(_, record)| !record.succeeded) {
            if *failed > 0 && !settled.iter().any(|count| count.arm == *arm) {
                return Err(FlowError::Failing { stage: self.stage, count: *failed, last: last.clone() });
            }
        }
        let stage = self.stage.name();
        context
            .progress
            .note(&format!("{stage}: {failed} failed, one with: {}; the same command asks only those again", any.last));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_that_says_most_is_told() {
        let reason = |word: &str| match word {
            "interrupted" => FlowError::Interrupted,
            "budget" => FlowError::Budget(String::new()),
            word => FlowError::Input(word.to_owned()),
        };
        let told = |words: &[&str]| words.iter().fold(None, |first, word| Some(graver(first, reason(word)))).unwrap();
        assert_eq!(told(&["budget", "no credit", "interrupted"]).to_string(), "no credit");
        assert_eq!(told(&["interrupted", "no credit", "no key"]).to_string(), "no credit");
        assert!(matches!(told(&["interrupted", "budget"]), FlowError::Budget(_)));
    }
}
