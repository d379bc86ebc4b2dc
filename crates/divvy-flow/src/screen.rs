//! Screen: the solver answers each training question with its decomposition; the verdict decides whether the row may
//! teach (the paper's rejection sampling, section 3). Rows are kept or rejected, each with a reason; none is dropped.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use divvy_core::{
    chat::{Finish, Sampling},
    decomposition::Decomposition,
    digest::derive_seed,
    plan::ScreenPlan,
    prompts::{PromptName, two_stage},
    question::{Question, QuestionId, ScorerKind},
    recipe::Rule,
    records::{Grade, ItemState, Stage, Verdict},
    scorers,
    screening::{self, KeepRule},
};
use divvy_llm::{Call, ChatError};
use divvy_store::ItemRow;
use futures::future::join_all;

use crate::{
    collect,
    context::{Context, Ready},
    demonstrations,
    error::FlowError,
    items::{self, Done, ItemKey},
    redo,
};

/// Rows screened together at least, when only some are wanted: enough to keep a batch busy.
const SMALLEST_GROUP: usize = 16;

/// Runs the stage, if the plan has one.
///
/// # Errors
/// [`FlowError::Input`] when training questions have no gold answers; else see [`items::run`].
pub async fn run(context: &Context) -> Result<(), FlowError> {
    let Some(plan) = &context.plan.screen else { return Ok(()) };
    check(context)?;
    let candidates = candidates(context, plan).await?;
    let settled = items::settled(context, Stage::Screen).await?.len() as u64;
    context.progress.start(Stage::Screen, &plan.solver, candidates.len() as u64, settled);
    let result = in_groups(context, plan, candidates).await;
    context.progress.finish();
    result
}

/// Group after group, until there are enough. What a group is depends on what was kept, never on what finished first.
async fn in_groups(
    context: &Context,
    plan: &ScreenPlan,
    candidates: Vec<(ItemKey, Decomposition)>,
) -> Result<(), FlowError> {
    let order: Vec<ItemKey> = candidates.iter().map(|(key, _)| key.clone()).collect();
    let decompositions: &HashMap<ItemKey, Decomposition> = &candidates.into_iter().collect();
    let takes = &redo::takes(context, Stage::Screen).await?;
    let mut at = 0;
    loop {
        let settled = items::settled(context, Stage::Screen).await?;
        let group = group(plan, &order, at, &settled);
        if group.is_empty() {
            break;
        }
        at += group.len();
        let todo: Vec<ItemKey> = group.iter().filter(|key| !settled.contains_key(key)).cloned().collect();
        if todo.is_empty() {
            continue;
        }
        let ready = &context.models.get(&plan.solver).await?;
        items::run(context, Stage::Screen, todo, ready.pace(), |key| {
            let question =
                context.questions.train.get(&key.question).expect("candidates are of the training questions");
            let decomposition = &decompositions[&key];
            judge(context, plan, ready, (question, decomposition, key.sample), takes.of(&key))
        })
        .await?;
    }
    if plan.rule == Rule::Best { keep_the_best(context).await } else { Ok(()) }
}

/// The rows from `at` on that are next: all of them, or as many as may still be needed.
fn group<'a>(plan: &ScreenPlan, order: &'a [ItemKey], at: usize, settled: &HashMap<ItemKey, ItemRow>) -> &'a [ItemKey] {
    let (before, after) = order.split_at(at);
    let most = match plan.until.map(|until| until.saturating_sub(kept(plan, before, settled))) {
        None => after.len(),
        Some(0) => 0,
        Some(wanted) => wanted.max(SMALLEST_GROUP).min(after.len()),
    };
    &after[..most]
}

/// Rows among these that are kept, or for the rule `best` questions that have one.
pub(crate) fn kept(plan: &ScreenPlan, rows: &[ItemKey], settled: &HashMap<ItemKey, ItemRow>) -> usize {
    let done = |key: &&ItemKey| settled.get(key).is_some_and(|row| row.state == ItemState::Done);
    let kept = rows.iter().filter(done);
    match plan.rule {
        Rule::Best => kept.map(|key| &key.question).collect::<HashSet<_>>().len(),
        _ => kept.count(),
    }
}

/// Keeps the best decomposition of each question, and rejects those that are merely good.
async fn keep_the_best(context: &Context) -> Result<(), FlowError> {
    let mut by_question: BTreeMap<QuestionId, BTreeMap<u32, (ItemRow, Verdict)>> = BTreeMap::new();
    for (key, row) in items::settled(context, Stage::Screen).await? {
        let verdict = items::payload::<Verdict>(&row)?;
        by_question.entry(key.question).or_default().insert(key.sample, (row, verdict));
    }
    let mut changed = Vec::new();
    for rows in by_question.into_values() {
        let (rows, verdicts): (Vec<ItemRow>, Vec<Verdict>) = rows.into_values().unzip();
        let best = screening::best(&verdicts);
        for (at, (row, verdict)) in rows.into_iter().zip(verdicts).enumerate() {
            let now = match Some(at) == best {
                true if !verdict.keep => screening::the_best(verdict),
                false if verdict.keep => screening::not_the_best(verdict),
                _ => continue,
            };
            changed.push(judged_anew(context, row, &now));
        }
    }
    Ok(context.store.put_items(&changed).await?)
}

fn judged_anew(context: &Context, row: ItemRow, verdict: &Verdict) -> ItemRow {
    let state = if verdict.keep { ItemState::Done } else { ItemState::Rejected(verdict.reason.clone()) };
    let payload_json = serde_json::to_string(verdict).expect("records are plain JSON");
    ItemRow { state, payload_json, updated_ms: (context.now)(), ..row }
}

/// Refuses what cannot be screened, before anything is paid for.
///
/// # Errors
/// [`FlowError::Input`] naming a question without a gold answer.
pub fn check(context: &Context) -> Result<(), FlowError> {
    demonstrations::check_stage(context, Stage::Screen)?;
    if context.plan.screen.as_ref().is_none_or(|plan| plan.rule == Rule::Agreement) {
        return Ok(());
    }
    let train = &context.questions.train;
    if let Some(question) = train.iter().find(|question| question.scorer == ScorerKind::Code) {
        return Err(FlowError::Input(format!(
            "{} is answered by a program, and screening runs none: leave [screen] out and train on SD-T",
            question.id
        )));
    }
    let without = train.filter(|question| question.golds.is_empty());
    let Some(first) = without.first() else { return Ok(()) };
    Err(FlowError::Input(format!(
        "screening compares the solver's answer with gold, but {} of {} training rows have none (the first is {})\n\
         hint: name the answer column, set the rule `agreement`, or leave [screen] out and train on SD-T",
        without.len(),
        train.len(),
        first.id
    )))
}

/// So many training questions are screened, the first ones in the split's own order, which the seed has shuffled.
pub(crate) fn screened(context: &Context, plan: &ScreenPlan) -> usize {
    let train = context.questions.train.len();
    plan.rows.unwrap_or(train).min(train)
}

/// Where a question stands among those that are screened.
fn rank(context: &Context, plan: &ScreenPlan, question: &QuestionId) -> Option<usize> {
    context.questions.train.position(question).filter(|position| *position < screened(context, plan))
}

/// Items of this stage: what was asked for, less what the teacher has not given a decomposition for.
///
/// # Errors
/// The store's.
pub async fn expected(context: &Context, plan: &ScreenPlan) -> Result<u64, FlowError> {
    let asked = |key: &ItemKey| rank(context, plan, &key.question).is_some();
    let collected = items::settled(context, Stage::Collect).await?;
    let rejected = |(key, row): &(&ItemKey, &ItemRow)| row.state != ItemState::Done && asked(key);
    let rejected = collected.iter().filter(rejected).count() as u64;
    let all = (screened(context, plan) as u64 * u64::from(context.plan.collect.samples)).saturating_sub(rejected);
    let settled = items::settled(context, Stage::Screen).await?;
    let rows: Vec<ItemKey> = settled.keys().cloned().collect();
    let enough = plan.until.is_some_and(|until| kept(plan, &rows, &settled) >= until);
    Ok(if enough { settled.len() as u64 } else { all })
}

/// Collected decompositions of the screened questions.
async fn candidates(context: &Context, plan: &ScreenPlan) -> Result<Vec<(ItemKey, Decomposition)>, FlowError> {
    let rows = collect::collected(context).await?.into_iter();
    let ours = rows.filter(|(key, _)| context.works_on(&key.question));
    let ranked = ours.filter_map(|row| Some((rank(context, plan, &row.0.question)?, row)));
    let mut ranked: Vec<(usize, (ItemKey, Decomposition))> = ranked.collect();
    ranked.sort_by_key(|(rank, (key, _))| (*rank, key.sample));
    Ok(ranked.into_iter().map(|(_, row)| row).collect())
}

async fn judge(
    context: &Context,
    plan: &ScreenPlan,
    ready: &Ready,
    (question, decomposition, candidate): (Arc<Question>, &Decomposition, u32),
    take: u32,
) -> Result<Done, ChatError> {
    let shots = &context.shown.beside(PromptName::TwoStage, plan.shots, &question);
    // All samples at once: one after another, each would wait for a batch of its own.
    let samples = (0..plan.samples).map(|sample| {
        let root = plan.draw.seed.unwrap_or(context.plan.seed);
        let sampling = Sampling {
            seed: derive_seed(root, &format!("screen/{}/{candidate}/{sample}", question.id)),
            ..plan.draw.sampling(plan.temperature, plan.max_tokens)
        };
        context.ask_again(
            ready,
            two_stage::messages(&context.plan.prompts, shots, &question, decomposition),
            sampling,
            sample,
            take,
        )
    });
    let calls = join_all(samples).await.into_iter().collect::<Result<Vec<Call>, ChatError>>()?;
    let verdict = weigh(plan, &question, &calls);
    let state = if verdict.keep { ItemState::Done } else { ItemState::Rejected(verdict.reason.clone()) };
    Ok(Done::new(state, &verdict, calls))
}

fn weigh(plan: &ScreenPlan, question: &Question, calls: &[Call]) -> Verdict {
    let replies: Vec<_> = calls.iter().map(|call| (call.reply.text.as_str(), &call.reply.finish)).collect();
    if plan.rule == Rule::Agreement {
        return screening::agreement(question.scorer, plan.threshold, &replies);
    }
    let grade = |(reply, finish): &(&str, &Finish)| scorers::grade(question.scorer, reply, finish, &question.golds);
    let grades: Vec<Grade> = replies.iter().map(grade).collect();
    screening::verdict(KeepRule::new(plan.rule, Some(plan.threshold)), &grades)
}

/// Verdicts by item, kept and rejected.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn verdicts(context: &Context) -> Result<HashMap<ItemKey, Verdict>, FlowError> {
    let settled = items::settled(context, Stage::Screen).await?;
    settled.into_iter().map(|(key, row)| Ok((key, items::payload::<Verdict>(&row)?))).collect()
}
