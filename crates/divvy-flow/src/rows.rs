//! The graded rows of a plan, a part at a time and in the order of its questions: what a report shows of
//! every row. Parts are read ahead and understood on other threads; they come out in order.

use std::{collections::HashMap, sync::Arc};

use divvy_core::{
    arm::Arm,
    decomposition::Decomposition,
    digest::Digest,
    graded::{Asked, GradedRow, RowCall, Sheet, answer_name},
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
const AT_ONCE: usize = 4;

/// What is made of a sheet, on any thread, in any order.
pub type Make<T> = Arc<dyn Fn(&Sheet) -> T + Send + Sync>;

/// Reads every row of the plan's evaluation, and `with_calls` what was asked for each; without, sheets have no calls.
///
/// # Errors
/// The store's, an unreadable record, or what `take` says.
pub async fn each<T: Send + 'static>(
    context: &Context,
    plan: &EvaluatePlan,
    make: Make<T>,
    with_calls: bool,
    mut take: impl FnMut(T) -> Result<(), FlowError>,
) -> Result<(), FlowError> {
    each_with_records(context, plan, make, with_calls, |made, _| take(made)).await
}

/// [`each`], and the records that a sheet was made of, for who counts them in the same pass.
pub(crate) async fn each_with_records<T: Send + 'static>(
    context: &Context,
    plan: &EvaluatePlan,
    make: Make<T>,
    with_calls: bool,
    mut take: impl FnMut(T, Records) -> Result<(), FlowError>,
) -> Result<(), FlowError> {
    let learn = async {
        let known = if with_calls { context.store.learn_calls().await } else { Ok(()) };
        known.map_err(FlowError::from)
    };
    let places = async { context.store.places(&context.digest, Stage::Evaluate).await.map_err(FlowError::from) };
    let (places, ()) = futures::try_join!(places, learn)?;
    let named = |arm: &Arm| (0..plan.repeats).map(move |repeat| answer_name(&arm.slug(), repeat)).collect::<Vec<_>>();
    let arms: Arc<[String]> = plan.arms.iter().flat_map(named).collect();
    let questions = evaluate::questions(context, plan);
    let size = (ROWS_A_PART / arms.len().max(1)).max(1);
    let (places, arms) = (&places, &arms);
    // Numbers, not slices: a future that is made from a borrowed item cannot be sent.
    let parts = (0..questions.len().div_ceil(size)).map(|number| {
        let questions = (number * size..questions.len().min((number + 1) * size)).map(|at| questions.at(at)).collect();
        let raw = Raw { arms: Arc::clone(arms), questions, ..Raw::default() };
        read(context, places, raw, make.clone(), with_calls)
    });
    let mut parts = std::pin::pin!(futures::stream::iter(parts).buffered(AT_ONCE));
    while let Some((made, records)) = parts.try_next().await? {
        take(made, records)?;
    }
    Ok(())
}

/// A part as the store has it.
#[derive(Default)]
struct Raw {
    arms: Arc<[String]>,
    questions: Vec<Arc<Question>>,
    items: Vec<ItemRow>,
    calls: Vec<CallRecord>,
}

/// What is counted of a part: its items, and the figures of its calls.
pub(crate) struct Records {
    pub(crate) items: Vec<ItemRow>,
    pub(crate) calls: Vec<CallUsage>,
}

async fn read<T: Send + 'static>(
    context: &Context,
    places: &Places,
    mut raw: Raw,
    make: Make<T>,
    with_calls: bool,
) -> Result<(T, Records), FlowError> {
    let ids: Vec<QuestionId> = raw.questions.iter().map(|question| question.id.clone()).collect();
    raw.items = context.store.items_of(places, &context.digest, Stage::Evaluate, &ids).await?;
    if with_calls {
        let keys: Vec<_> = raw.items.iter().flat_map(|row| row.calls.iter().cloned()).collect();
        raw.calls = context.store.calls_of(&keys).await?;
    }
    let understood = tokio::task::spawn_blocking(move || {
        let made = understand(&raw, &make)?;
        Ok((made, Records { items: raw.items, calls: raw.calls.into_iter().map(CallUsage::from).collect() }))
    });
    understood.await.expect("understanding a part does not panic")
}

fn understand<T>(raw: &Raw, make: &Make<T>) -> Result<T, FlowError> {
    let arms: HashMap<&str, usize> = raw.arms.iter().enumerate().map(|(at, arm)| (arm.as_str(), at)).collect();
    let places: HashMap<&str, usize> =
        raw.questions.iter().enumerate().map(|(at, question)| (question.id.0.as_str(), at)).collect();
    let mut items: Vec<Vec<Option<&ItemRow>>> = vec![vec![None; raw.arms.len()]; raw.questions.len()];
    for item in &raw.items {
        // An arm that an earlier version named otherwise is none of this plan's.
        let name = answer_name(&item.arm, item.sample);
        let (Some(&question), Some(&arm)) = (places.get(item.question.0.as_str()), arms.get(name.as_str())) else {
            continue;
        };
        items[question][arm] = Some(item);
    }
    Ok(make(&sheet(raw, &items)?))
}

/// Nothing broke: the data set has no decomposition to answer by.
pub(crate) fn has_no_decomposition(item: &ItemRow) -> bool {
    matches!(&item.state, ItemState::Failed(reason) if reason == evaluate::NO_DECOMPOSITION)
}

/// `items`: by question and arm; `None` where no row is there.
fn sheet(raw: &Raw, items: &[Vec<Option<&ItemRow>>]) -> Result<Sheet, FlowError> {
    let calls: HashMap<&Digest, usize> = raw.calls.iter().enumerate().map(|(at, call)| (&call.key, at)).collect();
    let of = |(question, items): (&Arc<Question>, &Vec<Option<&ItemRow>>)| {
        let there = items.iter().enumerate().filter_map(|(arm, item)| Some((arm, (*item)?)));
        let rows = there.filter_map(|(arm, item)| graded_row(arm, question, item, &calls).transpose());
        Ok(asked(question, rows.collect::<Result<_, FlowError>>()?))
    };
    Ok(Sheet {
        arms: Arc::clone(&raw.arms),
        questions: raw.questions.iter().zip(items).map(of).collect::<Result<_, FlowError>>()?,
        calls: raw.calls.iter().map(row_call).collect::<Result<_, _>>()?,
    })
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
fn graded_row(
    arm: usize,
    question: &Question,
    item: &ItemRow,
    calls: &HashMap<&Digest, usize>,
) -> Result<Option<GradedRow>, FlowError> {
    let reason = match &item.state {
        ItemState::Pending => return Ok(None),
        ItemState::Done => None,
        ItemState::Failed(reason) | ItemState::Rejected(reason) => Some(reason.clone()),
    };
    let calls = item.calls.iter().filter_map(|key| calls.get(key).copied()).collect();
    if item.state != ItemState::Done {
        let outcome = if has_no_decomposition(item) { Outcome::NoAnswer } else { Outcome::Error };
        return Ok(Some(GradedRow { reason, calls, outcome, ..GradedRow::failed(arm) }));
    }
    // By the scorers of this version.
    let graded = items::payload::<Graded>(item)?.current(question);
    let (decompose, solve) = (graded.decompose, graded.solve);
    let sum = |of: fn(Spent) -> u64| of(decompose) + of(solve);
    Ok(Some(GradedRow {
        arm,
        correct: graded.grade.correct,
        score: graded.grade.score,
        outcome: graded.grade.outcome,
        reason,
        answer: graded.grade.answer.clone(),
        subquestions: subquestions(&graded),
        sub_answers: graded.sub_answers.clone(),
        reply: graded.reply.clone(),
        tokens_in: sum(|spent| spent.tokens_in),
        tokens_cached: sum(|spent| spent.tokens_cached),
        tokens_out: sum(|spent| spent.tokens_out),
        decomposing: Tokens {
            input: decompose.tokens_in,
            cached: decompose.tokens_cached,
            output: decompose.tokens_out,
        },
        decomposed: graded.decomposition.as_ref().map(|decomposition| decomposition.steps().len()),
        cost_nanos: decompose.cost_nanos.zip(solve.cost_nanos).map(|(decompose, solve)| decompose + solve),
        calls,
    }))
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
        model: call.model_name.clone(),
        tokens_in: usage.tokens_in,
        tokens_cached: usage.tokens_cached,
        tokens_out: usage.tokens_out,
        cost_nanos: call.price_nanos,
        latency_ms: call.latency_ms,
        finish: call.reply.finish.clone(),
        request: request.map_err(|error| {
            FlowError::Input(format!("the store's request of call {} is no JSON: {error}", call.key))
        })?,
        reply: call.reply.text.clone(),
    })
}
