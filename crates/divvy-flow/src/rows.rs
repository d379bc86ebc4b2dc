//! The graded rows of a plan, a part at a time and in the order of its questions: what a report shows of
//! every row. Parts are read ahead and understood on other threads; they come out in order.

use std::{
    cell::LazyCell,
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use divvy_core::{
    arm::{Arm, Strategy},
    chat::Usage,
    decomposition::Decomposition,
    digest::Digest,
    graded::{Asked, GradedRow, RowCall, Said, Sheet, answer_name},
    plan::EvaluatePlan,
    question::{Question, QuestionId},
    records::{ItemState, Outcome, Stage},
    results::costs::Tokens,
};
use divvy_store::{CallRecord, CallUsage, ItemRow, Places};
use futures::{StreamExt, TryStreamExt};
use serde_json::value::RawValue;

use crate::{
    context::Context,
    error::FlowError,
    evaluate::{self, Graded, Spent},
    items,
};

/// Rows in one part: some megabytes, and enough for a compressor to find what they share.
const ROWS_A_PART: usize = 512;
/// Parts that are being read or understood.
const AT_ONCE: usize = 8;

/// What is made of a sheet, on any thread, in any order, and what it needs of the calls.
pub struct Make<T> {
    pub(crate) calls: OfCalls,
    pub(crate) of: Arc<dyn Fn(&Sheet) -> T + Send + Sync>,
}

impl<T> Make<T> {
    pub fn new(calls: OfCalls, of: impl Fn(&Sheet) -> T + Send + Sync + 'static) -> Self {
        Self { calls, of: Arc::new(of) }
    }
}

/// What is made of a part, on any thread, in any order.
pub(crate) type MakeOfPart<T> = Arc<dyn Fn(Part) -> Result<T, FlowError> + Send + Sync>;

/// What is read of the calls behind rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OfCalls {
    /// Sheets have no calls.
    Nothing,
    /// What they took, not what was said.
    Figures,
    /// What was asked and said, too.
    Everything,
}

/// Some questions, with the rows and calls that the store has of them.
pub(crate) struct Part {
    arms: Arc<[String]>,
    pub(crate) questions: Vec<Arc<Question>>,
    /// Of arms of the plan.
    pub(crate) rows: Vec<Row>,
    calls: Vec<CallRecord>,
    figures: Vec<CallUsage>,
}

/// A row as the store has it.
pub(crate) struct Row {
    /// Places of its question and of its arm's answer in the part.
    pub(crate) question: usize,
    arm: usize,
    /// Its payload was taken out.
    pub(crate) item: ItemRow,
    /// The payload of one that is done, by the scorers of this version.
    pub(crate) graded: Option<Graded>,
    /// Of another one, what it took all the same; `None` where nothing that it asked was answered.
    pub(crate) lost: Option<Box<Lost>>,
}

/// What was answered behind a row that came to nothing.
pub(crate) struct Lost {
    pub(crate) decompose: Spent,
    pub(crate) solve: Spent,
}

/// Reads every row of the plan's evaluation.
///
/// # Errors
/// The store's, an unreadable record, or what `take` says.
pub async fn each<T: Send + 'static>(
    context: &Context,
    plan: &EvaluatePlan,
    make: Make<T>,
    take: impl FnMut(T) -> Result<(), FlowError>,
) -> Result<(), FlowError> {
    let of_part = move |part: Part| Ok((make.of)(&part.sheet()?));
    each_part(context, plan, make.calls, Arc::new(of_part), take).await
}

/// [`each`] of the parts that sheets are made of.
pub(crate) async fn each_part<T: Send + 'static>(
    context: &Context,
    plan: &EvaluatePlan,
    of_calls: OfCalls,
    make: MakeOfPart<T>,
    mut take: impl FnMut(T) -> Result<(), FlowError>,
) -> Result<(), FlowError> {
    let places = context.store.places(&context.digest, Stage::Evaluate).await?;
    let named = |arm: &Arm| (0..plan.repeats).map(move |repeat| answer_name(&arm.slug(), repeat)).collect::<Vec<_>>();
    let arms: Arc<[String]> = plan.arms.iter().flat_map(named).collect();
    let decomposer =
        |arm: &Arm| arm.decomposer.as_deref().filter(|name| !context.is_recorded(name)).map(|_| arm.strategy);
    let asks = |arm| vec![decomposer(arm); plan.repeats as usize];
    let asks: Arc<[Option<Strategy>]> = plan.arms.iter().flat_map(asks).collect();
    let questions = evaluate::questions(context, plan);
    let (places, arms, asks) = (&places, &arms, &asks);
    // Numbers, not slices: a future that is made from a borrowed item cannot be sent.
    let parts = parts(questions.len(), arms.len()).map(|part| {
        let questions = part.map(|at| questions.at(at)).collect();
        let raw = Raw { arms: Arc::clone(arms), asks: Arc::clone(asks), questions, ..Raw::default() };
        read(context, places, raw, of_calls, make.clone())
    });
    let mut parts = std::pin::pin!(futures::stream::iter(parts).buffered(AT_ONCE));
    while let Some(made) = parts.try_next().await? {
        take(made)?;
    }
    Ok(())
}

/// The positions of so many questions, part by part.
fn parts(questions: usize, arms: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (ROWS_A_PART / arms.max(1)).max(1);
    (0..questions.div_ceil(size)).map(move |number| number * size..questions.min((number + 1) * size))
}

/// A part before its records are understood.
#[derive(Default)]
struct Raw {
    arms: Arc<[String]>,
    /// How each of them asks a model to decompose, if it does.
    asks: Arc<[Option<Strategy>]>,
    questions: Vec<Arc<Question>>,
    items: Vec<ItemRow>,
    calls: Vec<CallRecord>,
    figures: Vec<CallUsage>,
}

async fn read<T: Send + 'static>(
    context: &Context,
    places: &Places,
    mut raw: Raw,
    of_calls: OfCalls,
    make: MakeOfPart<T>,
) -> Result<T, FlowError> {
    let ids: Vec<QuestionId> = raw.questions.iter().map(|question| question.id.clone()).collect();
    raw.items = context.store.items_of(places, &context.digest, Stage::Evaluate, &ids).await?;
    let keys = || {
        let mut seen = HashSet::new();
        raw.items.iter().flat_map(|row| &row.calls).filter(|key| seen.insert(*key)).cloned().collect::<Vec<_>>()
    };
    match of_calls {
        OfCalls::Nothing => {}
        OfCalls::Figures => raw.figures = context.store.call_usages(&keys()).await?,
        OfCalls::Everything => raw.calls = context.store.calls_of(&keys()).await?,
    }
    let understood = tokio::task::spawn_blocking(move || make(raw.understood()?));
    understood.await.expect("understanding a part does not panic")
}

impl Raw {
    fn understood(self) -> Result<Part, FlowError> {
        let Self { arms, asks, questions, items, calls, figures } = self;
        let of_arm: HashMap<&str, usize> = arms.iter().enumerate().map(|(at, arm)| (arm.as_str(), at)).collect();
        let places: HashMap<&str, usize> =
            questions.iter().enumerate().map(|(at, question)| (question.id.0.as_str(), at)).collect();
        // Rows that came to nothing are few.
        let known = LazyCell::new(|| known(&calls, &figures));
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            // An arm that an earlier version named otherwise is none of this plan's.
            let name = answer_name(&item.arm, item.sample);
            let (Some(&at), Some(&arm)) = (places.get(item.question.0.as_str()), of_arm.get(name.as_str())) else {
                continue;
            };
            let row = row((at, &questions[at]), arm, item)?;
            let lost = if row.graded.is_none() { lost(&row.item.calls, asks[arm], &known) } else { None };
            rows.push(Row { lost, ..row });
        }
        drop(known);
        rows.sort_by_key(|row| (row.question, row.arm));
        Ok(Part { arms, questions, rows, calls, figures })
    }
}

fn row((at, question): (usize, &Question), arm: usize, mut item: ItemRow) -> Result<Row, FlowError> {
    let is_done = item.state == ItemState::Done;
    let graded = is_done.then(|| items::payload::<Graded>(&item)).transpose()?;
    item.payload_json = String::new();
    Ok(Row { question: at, arm, item, graded: graded.map(|graded| graded.current(question)), lost: None })
}

/// What calls took: their tokens and price.
type Known<'c> = HashMap<&'c Digest, (Usage, Option<i64>)>;

fn known<'c>(calls: &'c [CallRecord], figures: &'c [CallUsage]) -> Known<'c> {
    let calls = calls.iter().map(|call| (&call.key, (call.reply.usage, call.price_nanos)));
    calls.chain(figures.iter().map(|call| (&call.key, (call.usage, call.price_nanos)))).collect()
}

fn lost(calls: &[Digest], asks: Option<Strategy>, known: &Known<'_>) -> Option<Box<Lost>> {
    let nothing = Spent { cost_nanos: Some(0), ..Spent::default() };
    let (mut lost, mut any) = (Lost { decompose: nothing, solve: nothing }, false);
    for (number, key) in calls.iter().enumerate() {
        let Some((usage, price)) = known.get(key) else { continue };
        let part = if is_decomposers(asks, number) { &mut lost.decompose } else { &mut lost.solve };
        part.tokens_in += usage.tokens_in.unwrap_or(0);
        part.tokens_cached += usage.tokens_cached.unwrap_or(0);
        part.tokens_out += usage.tokens_out.unwrap_or(0);
        part.cost_nanos = part.cost_nanos.zip(*price).map(|(sum, price)| sum + price);
        any = true;
    }
    any.then(|| Box::new(lost))
}

/// Whether the call with this number, from 0, asked for a decomposition or a part of one.
fn is_decomposers(asks: Option<Strategy>, number: usize) -> bool {
    match asks {
        None | Some(Strategy::Direct | Strategy::Cot) => false,
        Some(Strategy::TwoStage | Strategy::Sequential) => number == 0,
        // In turns with the solver.
        Some(Strategy::SelfAsk) => number.is_multiple_of(2),
    }
}

/// Nothing broke: the data set has no decomposition to answer by.
pub(crate) fn has_no_decomposition(state: &ItemState) -> bool {
    matches!(state, ItemState::Failed(reason) if reason == evaluate::NO_DECOMPOSITION)
}

impl Part {
    pub(crate) fn sheet(&self) -> Result<Sheet, FlowError> {
        let keys = self.calls.iter().map(|call| &call.key).chain(self.figures.iter().map(|call| &call.key));
        let places: HashMap<&Digest, usize> = keys.zip(0..).collect();
        let figures = self.figures.iter().map(|call| Ok(counted_call(call)));
        let calls: Vec<RowCall> = self.calls.iter().map(row_call).chain(figures).collect::<Result<_, _>>()?;
        let mut rows = self.rows.iter().peekable();
        let of = |(at, question): (usize, &Arc<Question>)| {
            let own = std::iter::from_fn(|| rows.next_if(|row| row.question == at));
            asked(question, own.filter_map(|row| graded_row(row, &places, &calls)).collect())
        };
        let questions = self.questions.iter().enumerate().map(of).collect();
        Ok(Sheet { arms: Arc::clone(&self.arms), questions, calls })
    }

    /// What its calls took.
    pub(crate) fn figures(self) -> Vec<CallUsage> {
        let Self { mut figures, calls, .. } = self;
        figures.extend(calls.into_iter().map(CallUsage::from));
        figures
    }
}

fn asked(question: &Question, rows: Vec<GradedRow>) -> Asked {
    Asked {
        id: question.id.0.clone(),
        premise: question.premise.clone(),
        question: question.text.clone(),
        gold: question.golds.iter().map(ToString::to_string).collect(),
        steps: question.steps,
        dataset: question.dataset.clone(),
        scorer: question.scorer,
        rows,
    }
}

/// `None` for a row that is still to come.
fn graded_row(row: &Row, places: &HashMap<&Digest, usize>, calls: &[RowCall]) -> Option<GradedRow> {
    let Row { arm, item, graded, lost, .. } = row;
    let reason = match &item.state {
        ItemState::Pending => return None,
        ItemState::Done => None,
        ItemState::Failed(reason) | ItemState::Rejected(reason) => Some(reason.clone()),
    };
    let own: Vec<usize> = item.calls.iter().filter_map(|key| places.get(key).copied()).collect();
    let is_counted = |place: &usize| calls[*place].tokens_in.is_some() && calls[*place].tokens_out.is_some();
    let is_counted = own.iter().all(is_counted);
    let spent = graded.as_ref().map(|graded| (graded.decompose, graded.solve));
    let spent = spent.or(lost.as_ref().map(|lost| (lost.decompose, lost.solve)));
    let (decompose, solve) = spent.unwrap_or_default();
    let took = GradedRow {
        tokens: is_counted.then(|| tokens(decompose).and(tokens(solve))),
        decomposing: tokens(decompose),
        cost_nanos: decompose.cost_nanos.zip(solve.cost_nanos).map(|(decompose, solve)| decompose + solve),
        calls: own,
        ..GradedRow::failed(*arm)
    };
    let Some(graded) = graded else {
        let outcome = if has_no_decomposition(&item.state) { Outcome::NoAnswer } else { Outcome::Error };
        return Some(GradedRow { reason, outcome, ..took });
    };
    Some(GradedRow {
        correct: graded.grade.correct,
        score: graded.grade.score,
        outcome: graded.grade.outcome,
        reason,
        answer: graded.grade.answer.clone(),
        subquestions: subquestions(graded),
        sub_answers: graded.sub_answers.clone(),
        reply: graded.reply.clone(),
        decomposed: graded.decomposition.as_ref().map(|decomposition| decomposition.steps().len()),
        ..took
    })
}

fn tokens(spent: Spent) -> Tokens {
    Tokens { input: spent.tokens_in, cached: spent.tokens_cached, output: spent.tokens_out }
}

/// What the decomposer wrote: its subquestions, or its text where that is no decomposition.
pub(crate) fn subquestions(graded: &Graded) -> Vec<String> {
    match graded.decomposition.as_ref().map(Decomposition::steps) {
        Some(steps) => steps.iter().map(|step| step.text.clone()).collect(),
        None if graded.malformed => graded.decomposer_text.iter().cloned().collect(),
        None => Vec::new(),
    }
}

fn row_call(call: &CallRecord) -> Result<RowCall, FlowError> {
    let request = RawValue::from_string(call.request_json.clone());
    let usage = call.reply.usage;
    Ok(RowCall {
        key: call.key.hex().to_owned(),
        tokens_in: usage.tokens_in,
        tokens_cached: usage.tokens_cached,
        tokens_out: usage.tokens_out,
        cost_nanos: call.price_nanos,
        latency_ms: call.latency_ms,
        said: Some(Said {
            model: call.model_name.clone(),
            finish: call.reply.finish.clone(),
            request: request.map_err(|error| {
                FlowError::Input(format!("the store's request of call {} is no JSON: {error}", call.key))
            })?,
            reply: call.reply.text.clone(),
        }),
    })
}

fn counted_call(call: &CallUsage) -> RowCall {
    RowCall {
        key: call.key.hex().to_owned(),
        tokens_in: call.usage.tokens_in,
        tokens_cached: call.usage.tokens_cached,
        tokens_out: call.usage.tokens_out,
        cost_nanos: call.price_nanos,
        latency_ms: call.latency_ms,
        said: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_row_asked_before_is_told_apart_by_who_was_asked() {
        let keys: Vec<Digest> = (0..4).map(|number: u8| Digest::of_bytes(&[number])).collect();
        let usage = |tokens| Usage { tokens_in: Some(tokens), tokens_cached: None, tokens_out: Some(1) };
        // The last one was never answered.
        let known: Known<'_> =
            keys[..3].iter().zip([(usage(10), Some(5)), (usage(200), Some(6)), (usage(3000), Some(7))]).collect();
        let of = |asks| lost(&keys, asks, &known).map(|lost| (lost.decompose.tokens_in, lost.solve.tokens_in)).unwrap();
        assert_eq!(of(Some(Strategy::Sequential)), (10, 3200));
        assert_eq!(of(Some(Strategy::SelfAsk)), (3010, 200), "the two take turns");
        assert_eq!(of(None), (0, 3210), "its decompositions came with the data");
        let whole = lost(&keys, None, &known).unwrap();
        assert_eq!((whole.solve.tokens_out, whole.solve.cost_nanos), (3, Some(18)));
        assert!(lost(&keys[3..], None, &known).is_none() && lost(&[], None, &known).is_none());
    }
}
