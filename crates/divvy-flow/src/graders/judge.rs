//! The judge: a model that reads each answer beside gold and says whether it is right. It stands beside the questions' own
//! scorers and decides no headline. Its calls are calls like any other: kept, priced, within the budget, and never made twice;
//! its verdicts are items of a stage of their own, by model and prompt, so that another judge judges anew.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use divvy_core::{
    arm::Arm,
    chat::{Finish, Sampling},
    digest::Digest,
    plan::{EvaluatePlan, JudgePlan},
    prompts::judge,
    question::{Question, QuestionId},
    records::{ItemState, Stage},
};
use divvy_llm::ChatError;
use divvy_store::ItemRow;
use serde::{Deserialize, Serialize};

use crate::{
    context::{Context, Ready},
    error::FlowError,
    evaluate::{self, Graded},
    items::{self, Done, ItemKey},
};

/// What a judge said of one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The answer that was judged.
    pub answer: String,
    /// `None`: its verdict is not in the form that it was asked for.
    pub correct: Option<bool>,
    pub reply: String,
}

/// Judges every answer that has not been judged.
///
/// # Errors
/// See [`items::run`].
pub async fn run(context: &Context, plan: &EvaluatePlan) -> Result<(), FlowError> {
    let Some(judge) = &plan.judge else { return Ok(()) };
    let answers = answers(context, plan).await?.into_iter();
    let answers = answers.filter_map(|(key, answer)| Some((column_of(context, judge, key), answer?)));
    let answers: HashMap<ItemKey, String> = answers.collect();
    let known = verdicts(context).await?;
    let is_judged = |key: &ItemKey| known.get(key).is_some_and(|judged| judged.answer == answers[key]);
    let mut todo: Vec<ItemKey> = answers.keys().filter(|key| !is_judged(key)).cloned().collect();
    if todo.is_empty() {
        return Ok(());
    }
    todo.sort_by(|a, b| (&a.question, &a.arm, a.sample).cmp(&(&b.question, &b.arm, b.sample)));
    let total = answers.len() as u64;
    context.progress.start(Stage::Judge, &judge.model, total, total - todo.len() as u64);
    let result = judge_all(context, plan, judge, &answers, todo).await;
    context.progress.finish();
    result
}

async fn judge_all(
    context: &Context,
    plan: &EvaluatePlan,
    judge: &JudgePlan,
    answers: &HashMap<ItemKey, String>,
    todo: Vec<ItemKey>,
) -> Result<(), FlowError> {
    let questions = evaluate::questions(context, plan);
    let ready = &context.models.get(&judge.model).await?;
    items::run(context, Stage::Judge, todo, ready.pace(), |key| {
        let question = questions.get(&key.question).expect("an item is named after its question");
        one(context, judge, ready, question, &answers[&key])
    })
    .await
}

async fn one(
    context: &Context,
    judge: &JudgePlan,
    ready: &Ready,
    question: Arc<Question>,
    answer: &str,
) -> Result<Done, ChatError> {
    let call = context.ask(ready, judge::messages(&question, answer), Sampling::greedy(judge.max_tokens), 0).await?;
    let finish: &Finish = &call.reply.finish;
    let correct = judge::parse(&call.reply.text, finish);
    let judged = Judged { answer: answer.to_owned(), correct, reply: call.reply.text.clone() };
    Ok(Done::new(ItemState::Done, &judged, vec![call]))
}

/// Of every settled item its answer, as its own scorer read it; `None` where there is none, and nothing to judge.
async fn answers(context: &Context, plan: &EvaluatePlan) -> Result<HashMap<ItemKey, Option<String>>, FlowError> {
    let questions = evaluate::questions(context, plan);
    let mut answers = HashMap::new();
    let read = |row: ItemRow| {
        let question = questions.get(&row.question).filter(|_| context.works_on(&row.question));
        if let Some(question) = question {
            answers.insert(items::key_of(&row), items::payload::<Graded>(&row)?.current(&question).grade.answer);
        }
        Ok(())
    };
    items::each_settled(context, Stage::Evaluate, read).await?;
    Ok(answers)
}

/// Verdicts that there will be when every arm has answered: one for each answer. A question that is known to have none has no
/// verdict.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn expected(context: &Context, plan: &EvaluatePlan) -> Result<u64, FlowError> {
    let arms: HashSet<String> = plan.arms.iter().map(Arm::slug).collect();
    let answers = answers(context, plan).await?;
    let without = answers.iter().filter(|(key, answer)| arms.contains(&key.arm) && answer.is_none()).count();
    Ok(evaluate::expected(context, plan).saturating_sub(without as u64))
}

/// What there is to judge, and what has been.
pub(crate) struct Docket {
    answers: HashMap<ItemKey, Option<String>>,
    /// Which answer was judged, by the judge's own name for an item.
    judged: HashMap<ItemKey, String>,
}

impl Docket {
    pub(crate) async fn read(context: &Context, plan: &EvaluatePlan) -> Result<Self, FlowError> {
        let mut judged = HashMap::new();
        let read = |row: ItemRow| {
            judged.insert(items::key_of(&row), items::payload::<Judged>(&row)?.answer);
            Ok(())
        };
        items::each_settled(context, Stage::Judge, read).await?;
        Ok(Self { answers: answers(context, plan).await?, judged })
    }

    /// The item of the verdict on an answer that has one, none where there is no answer; `None` for what is still to be judged.
    pub(crate) fn settled(&self, context: &Context, judge: &JudgePlan, item: ItemKey) -> Option<Option<ItemKey>> {
        let Some(answer) = self.answers.get(&item)? else { return Some(None) };
        let verdict = column_of(context, judge, item);
        (self.judged.get(&verdict)? == answer).then_some(Some(verdict))
    }
}

/// Verdicts of every judge that this plan has had.
async fn verdicts(context: &Context) -> Result<HashMap<ItemKey, Judged>, FlowError> {
    let settled = items::settled(context, Stage::Judge).await?;
    settled.into_iter().map(|(key, row)| Ok((key, items::payload::<Judged>(&row)?))).collect()
}

/// The verdicts on each arm's answers; none without a judge.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn of_arms(context: &Context, plan: &EvaluatePlan) -> Result<HashMap<String, Verdicts>, FlowError> {
    let Some(judge) = &plan.judge else { return Ok(HashMap::new()) };
    let mut by_arm: HashMap<String, Verdicts> = HashMap::new();
    let arms: HashMap<String, String> =
        plan.arms.iter().map(|arm| (column(context, judge, &arm.slug()), arm.slug())).collect();
    for (key, judged) in verdicts(context).await? {
        if let Some(arm) = arms.get(&key.arm) {
            by_arm.entry(arm.clone()).or_default().insert((key.question, key.sample), judged);
        }
    }
    Ok(by_arm)
}

/// Of one arm, by question and the answer's number.
pub type Verdicts = HashMap<(QuestionId, u32), Judged>;

/// The item of a verdict.
fn column_of(context: &Context, judge: &JudgePlan, item: ItemKey) -> ItemKey {
    ItemKey { arm: column(context, judge, &item.arm), ..item }
}

/// The arm under this judge: another model or another prompt has verdicts of its own.
fn column(context: &Context, judge: &JudgePlan, arm: &str) -> String {
    let model = context.plan.models.get(&judge.model);
    let digest = Digest::of("judge/1", &(model, judge.max_tokens, judge::prompt_id()));
    format!("{arm}@{}", &digest.hex()[..12])
}
