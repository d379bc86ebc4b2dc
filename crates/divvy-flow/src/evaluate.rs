//! Evaluate: every arm answers every question of the split, each answer graded. The denominator is fixed: a question
//! without an answer is a wrong one with a label of its own.

use std::{borrow::Cow, collections::HashMap, io, sync::Arc};

use divvy_core::{
    arm::{Arm, Strategy},
    chat::{Finish, Usage},
    decomposition::Decomposition,
    extract,
    model::ModelId,
    plan::{EvaluatePlan, Plan},
    prompts::decompose::{Manner, Style},
    question::{Question, QuestionId, ScorerKind},
    questions::Questions,
    recipe::{EvalSplit, Structured},
    records::{Grade, ItemState, Outcome, Stage},
    scorers::{self, Scorer},
};
use divvy_llm::{Call, ChatError, ErrorKind};
use futures::future::OptionFuture;
use serde::{Deserialize, Serialize};

use crate::{
    context::{Context, Ready},
    demonstrations,
    error::FlowError,
    graders::{code::Sandbox, judge},
    grid::{self, Grid},
    items::{self, Done, ItemKey, Pace},
    passages,
    split::Splits,
    strategy::{self, Answer, Opened},
    structured,
};

/// Why an arm cannot answer a question of which its teacher, the data set, has no decomposition.
pub(crate) const NO_DECOMPOSITION: &str = "no-recorded-decomposition";

/// The record of one answered question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graded {
    pub grade: Grade,
    pub decomposer_text: Option<String>,
    pub decomposition: Option<Decomposition>,
    /// One a subquestion; empty in the records of earlier versions.
    #[serde(default)]
    pub sub_answers: Vec<Option<String>>,
    pub malformed: bool,
    pub reply: String,
    /// How the reply ended; `None` in the records of earlier versions.
    #[serde(default)]
    pub finish: Option<Finish>,
    /// Of the scorers that made the grade.
    #[serde(default)]
    pub scorer_version: u32,
    pub decompose: Spent,
    pub solve: Spent,
}

impl Graded {
    /// Its grade by the scorers of this version: anew, from the reply, where others made it.
    #[must_use]
    pub fn current(mut self, question: &Question) -> Self {
        // A program is not run again for a report.
        let is_pure = Scorer::of(question.scorer).is_some();
        if self.scorer_version != scorers::VERSION && !self.malformed && is_pure {
            self.grade = scorers::grade(question.scorer, &self.reply, &self.finish(), &question.golds);
        }
        self
    }

    /// Records of earlier versions tell it by their grade.
    #[must_use]
    pub fn finish(&self) -> Finish {
        let told = if self.grade.outcome == Outcome::Truncated { Finish::Length } else { Finish::Stop };
        self.finish.clone().unwrap_or(told)
    }
}

/// What one stage of an arm cost for one question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    pub tokens_in: u64,
    pub tokens_cached: u64,
    pub tokens_out: u64,
    /// Nano-dollars; `None` when a price or a count is unknown and a call was made.
    pub cost_nanos: Option<i64>,
}

impl Spent {
    fn of(calls: &[Call]) -> Self {
        let sum = |of: fn(&Usage) -> Option<u64>| calls.iter().filter_map(|call| of(&call.reply.usage)).sum();
        Self {
            tokens_in: sum(|usage| usage.tokens_in),
            tokens_cached: sum(|usage| usage.tokens_cached),
            tokens_out: sum(|usage| usage.tokens_out),
            cost_nanos: calls.iter().map(|call| call.price_nanos).sum(),
        }
    }
}

/// The questions of the split that is scored.
#[must_use]
pub fn questions<'a>(context: &'a Context, plan: &EvaluatePlan) -> &'a Questions {
    of_split(plan, &context.questions)
}

pub(crate) fn of_split<'a>(plan: &EvaluatePlan, splits: &'a Splits) -> &'a Questions {
    match plan.split {
        EvalSplit::Dev => &splits.dev,
        EvalSplit::Test => &splits.test,
    }
}

/// Those of one data set; where there is one, all.
pub(crate) fn of_set<'q>(sets: &[String], questions: &'q Questions, set: &str) -> Cow<'q, Questions> {
    match sets.len() {
        1 => Cow::Borrowed(questions),
        _ => Cow::Owned(questions.filter(|question| question.dataset == set)),
    }
}

/// Which arm answers which of them.
#[must_use]
pub fn grid(context: &Context, plan: &EvaluatePlan) -> Grid {
    Grid::of(&context.plan, questions(context, plan))
}

/// Items of this stage.
#[must_use]
pub fn expected(context: &Context, plan: &EvaluatePlan) -> u64 {
    let (grid, questions) = (grid(context, plan), questions(context, plan));
    let answered: u64 = plan.arms.iter().map(|arm| grid.asked(arm, questions).len() as u64).sum();
    answered * u64::from(plan.repeats)
}

/// `9 arms`, `9 arms × 3 data sets × 5 repeats`
fn shape(whole: &Plan, plan: &EvaluatePlan) -> String {
    let sets = match grid::sets(whole).len() {
        0 | 1 => String::new(),
        sets => format!(" × {sets} data sets"),
    };
    let repeats = if plan.repeats == 1 { String::new() } else { format!(" × {} repeats", plan.repeats) };
    format!("{} arms{sets}{repeats}", plan.arms.len())
}

/// Runs the stage, if the plan has one. Opening a test set is recorded.
///
/// # Errors
/// [`FlowError::Input`] for questions without gold; else see [`items::run`].
pub async fn run(context: &Context) -> Result<(), FlowError> {
    let Some(plan) = &context.plan.evaluate else { return Ok(()) };
    check(context)?;
    let questions = questions(context, plan);
    let settled = items::settled(context, Stage::Evaluate).await?;
    let grid = grid(context, plan);
    let all = ours(context, plan, questions, &grid);
    let mut total = 0;
    let todo: Vec<ItemKey> = all.inspect(|_| total += 1).filter(|key| !settled.contains_key(key)).collect();
    context.progress.start(Stage::Evaluate, &shape(&context.plan, plan), total, total - todo.len() as u64);
    let result = if todo.is_empty() { Ok(()) } else { answer_all(context, plan, questions, todo).await };
    context.progress.finish();
    result?;
    judge::run(context, plan).await
}

/// The items of this worker. Question by question: the prompts that ask for reasoning begin with it, and a solver with a prefix
/// cache reads it once for all of them.
fn ours(context: &Context, plan: &EvaluatePlan, questions: &Questions, grid: &Grid) -> impl Iterator<Item = ItemKey> {
    let passage = move |position| passages::passage(&questions.at(position));
    let in_order = passages::side_by_side(0..questions.len(), passage).map(move |position| questions.at(position));
    in_order.filter(move |question| context.works_on(&question.id)).flat_map(move |question| {
        let id = &question.id;
        let asked = plan.arms.iter().filter(|arm| grid.asks(arm, &question.dataset));
        let keys = asked.flat_map(|arm| (0..plan.repeats).map(move |repeat| key(arm, id, repeat)));
        keys.collect::<Vec<_>>()
    })
}

async fn answer_all(
    context: &Context,
    plan: &EvaluatePlan,
    questions: &Questions,
    todo: Vec<ItemKey>,
) -> Result<(), FlowError> {
    if plan.split == EvalSplit::Test {
        for set in &*context.plan.data.test {
            let rows = of_set(&context.plan.data.test, questions, set).len() as u64;
            context.store.record_test_opening(&context.digest, set, rows, (context.now)()).await?;
        }
    }
    demonstrations::keep(context, plan).await?;
    try_schemas(context, plan, questions).await?;
    let (opened, sandbox) = (open(context, plan).await?, sandbox(context, plan)?);
    let (opened, sandbox) = (&opened, sandbox.as_ref());
    items::run(context, Stage::Evaluate, todo, pace(opened), |key| {
        let question = questions.get(&key.question).expect("an item is named after its question");
        answer_one(context, plan, &opened[&key.arm], (question, key.sample), sandbox)
    })
    .await
}

/// Twice the batch of each solver, so that it is full while decomposers write and rows of the others are under way; as
/// much as a file holds where there is one to fill.
fn pace(opened: &HashMap<String, Opened<'_>>) -> Pace {
    let solvers: HashMap<&ModelId, usize> =
        opened.values().map(|arm| (&arm.solver.id, 2 * arm.solver.concurrency)).collect();
    let solvers = solvers.into_values().sum();
    let decomposers = opened.values().filter_map(|arm| arm.decomposer.as_ref()).filter(|ready| ready.in_bulk);
    let decomposers = decomposers.map(|ready| ready.concurrency);
    let in_bulk = |arm: &Opened<'_>| arm.solver.in_bulk || arm.decomposer.as_ref().is_some_and(|ready| ready.in_bulk);
    Pace { at_once: decomposers.fold(solvers, usize::max), in_bulk: opened.values().any(in_bulk) }
}

/// Refuses what cannot be scored, before anything is paid for.
///
/// # Errors
/// [`FlowError::Input`] naming a question without a gold answer.
pub fn check(context: &Context) -> Result<(), FlowError> {
    let Some(plan) = &context.plan.evaluate else { return Ok(()) };
    demonstrations::check(context, plan)?;
    check_gold(plan, &context.questions)
}

/// Refuses questions that cannot be scored; asks nobody and needs no store.
///
/// # Errors
/// [`FlowError::Input`] naming a question without a gold answer, or a program that may not be run.
pub fn check_gold(plan: &EvaluatePlan, splits: &Splits) -> Result<(), FlowError> {
    let questions = of_split(plan, splits);
    let without = |question: &Arc<Question>| question.golds.is_empty();
    if let Some(first) = questions.iter().find(without) {
        let (n, of) = (questions.iter().filter(without).count(), questions.len());
        return Err(FlowError::Input(format!(
            "no arm can be scored on questions without a gold answer: {n} of {of} have none (the first is {})\n\
             hint: name their column (columns.answer = \"…\"), or leave these rows, or [evaluate], out",
            first.id
        )));
    }
    let forbidden = |question: &Arc<Question>| question.scorer == ScorerKind::Code && plan.code.is_none();
    match questions.iter().find(forbidden) {
        Some(question) => Err(FlowError::Input(format!(
            "{} is answered by a program, which is graded by running it: a stranger's code on this machine\n\
             hint: allow it with [evaluate.code] and run = true, where nothing is at stake",
            question.id
        ))),
        None => Ok(()),
    }
}

/// Where programs are run, and said plainly what holds them; `None` where no question has one for an answer.
fn sandbox(context: &Context, plan: &EvaluatePlan) -> Result<Option<Arc<Sandbox>>, FlowError> {
    let has_code = questions(context, plan).iter().any(|question| question.scorer == ScorerKind::Code);
    let Some(code) = plan.code.as_ref().filter(|_| has_code) else { return Ok(None) };
    let sandbox = Sandbox::find(code)?;
    context.progress.note(&sandbox.describe());
    Ok(Some(Arc::new(sandbox)))
}

fn key(arm: &Arm, question: &QuestionId, repeat: u32) -> ItemKey {
    ItemKey { question: question.clone(), sample: repeat, arm: arm.slug() }
}

async fn open<'a>(context: &Context, plan: &'a EvaluatePlan) -> Result<HashMap<String, Opened<'a>>, FlowError> {
    let mut opened = HashMap::new();
    for arm in &plan.arms {
        opened.insert(arm.slug(), open_arm(context, arm).await?);
    }
    Ok(opened)
}

/// Finds out of each model that writes whole decompositions whether it keeps to a schema, where the plan wants to know.
async fn try_schemas(context: &Context, plan: &EvaluatePlan, questions: &Questions) -> Result<(), FlowError> {
    for arm in plan.arms.iter().filter(|arm| arm.strategy != Strategy::SelfAsk) {
        let Some(name) = arm.decomposer.as_deref() else { continue };
        if context.plan.structured(name) != Structured::Auto {
            continue;
        }
        let ready = context.models.get(context.resolve(name)).await?;
        let (shots, most) = (&demonstrations::of_arm(context, arm).await?, context.plan.told_most(arm));
        let manner = |style| Manner { style, most, shots };
        let prompts = &*context.plan.wording(arm);
        let first = |style| strategy::decomposing(plan, prompts, manner(style), &questions.at(0));
        structured::settle(context, Stage::Evaluate, name, &ready, first).await?;
    }
    Ok(())
}

/// Opens the models of one arm.
///
/// # Errors
/// [`FlowError::Model`].
pub async fn open_arm<'a>(context: &Context, arm: &'a Arm) -> Result<Opened<'a>, FlowError> {
    let decomposer: Option<Ready> = match &arm.decomposer {
        Some(name) if !context.is_recorded(name) => Some(context.models.get(context.resolve(name)).await?),
        _ => None,
    };
    let style = match (&arm.decomposer, &decomposer) {
        (Some(name), Some(ready)) => structured::style(context, name, &ready.id).await?,
        _ => Style::default(),
    };
    let solver = context.models.get(context.resolve(&arm.solver)).await?;
    let solving = demonstrations::of_solver(&context.plan, &context.shown, arm);
    let (prompts, shots) = (context.plan.wording(arm).into_owned(), demonstrations::of_arm(context, arm).await?);
    Ok(Opened { arm, decomposer, solver, style, prompts, shots, solving })
}

async fn answer_one(
    context: &Context,
    plan: &EvaluatePlan,
    opened: &Opened<'_>,
    (question, repeat): (Arc<Question>, u32),
    sandbox: Option<&Arc<Sandbox>>,
) -> Result<Done, ChatError> {
    if opened.arm.strategy.needs_decomposer() && opened.decomposer.is_none() && question.recorded.is_none() {
        return Ok(Done::new(ItemState::Failed(NO_DECOMPOSITION.into()), &(), Vec::new()));
    }
    let answer = strategy::answer(context, plan, opened, (&question, repeat)).await?;
    let mut graded = grade(&question, &answer);
    let sandbox = sandbox.filter(|_| question.scorer == ScorerKind::Code && !answer.malformed);
    let grade = OptionFuture::from(sandbox.map(|sandbox| tested(sandbox, &question, &answer))).await;
    let calls: Vec<Call> = answer.decompose_calls.into_iter().chain(answer.solve_calls).collect();
    match grade {
        None => {}
        Some(Ok(grade)) => graded.grade = grade,
        // The next command tries again; the answer is there already.
        Some(Err(error)) => {
            let message = format!("the program that answers {} could not be run: {error}", question.id);
            let calls = calls.into_iter().map(|call| call.key).collect();
            return Err(ChatError { calls, ..ChatError::new(ErrorKind::NotRun, message) });
        }
    }
    Ok(Done::new(ItemState::Done, &graded, calls))
}

/// By running it; a machine that can start no process is an error, not the program's.
async fn tested(sandbox: &Arc<Sandbox>, question: &Arc<Question>, answer: &Answer) -> io::Result<Grade> {
    if answer.finish.is_refusal() {
        return Ok(without_answer(Outcome::Refused));
    }
    if answer.finish == Finish::Length && extract::program(&answer.reply).is_none() {
        return Ok(without_answer(Outcome::Truncated));
    }
    let (sandbox, question, reply) = (Arc::clone(sandbox), Arc::clone(question), answer.reply.clone());
    tokio::task::spawn_blocking(move || sandbox.grade(&question, &reply)).await?
}

fn without_answer(outcome: Outcome) -> Grade {
    Grade { correct: false, score: 0.0, answer: None, outcome }
}

/// What came of a decomposer that wrote nothing usable.
fn undecomposed(finish: &Finish) -> Outcome {
    match finish {
        withheld if withheld.is_refusal() => Outcome::Refused,
        Finish::Length => Outcome::Truncated,
        _ => Outcome::NoAnswer,
    }
}

fn grade(question: &Question, answer: &Answer) -> Graded {
    let grade = if answer.malformed {
        without_answer(undecomposed(&answer.finish))
    } else {
        scorers::grade(question.scorer, &answer.reply, &answer.finish, &question.golds)
    };
    Graded {
        grade,
        decomposer_text: answer.decomposer_text.clone(),
        decomposition: answer.decomposition.clone(),
        sub_answers: answer.sub_answers.clone(),
        malformed: answer.malformed,
        reply: answer.reply.clone(),
        finish: Some(answer.finish.clone()),
        scorer_version: scorers::VERSION,
        decompose: Spent::of(&answer.decompose_calls),
        solve: Spent::of(&answer.solve_calls),
    }
}
