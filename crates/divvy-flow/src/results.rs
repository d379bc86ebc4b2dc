//! Reads a finished (or half finished) run back from the store and counts: the one place where records become figures.

mod comparisons;
mod quality;
mod scoring;
mod sharing;

use std::collections::{BTreeMap, HashSet};

use divvy_core::{
    arm::{Arm, Strategy},
    plan::EvaluatePlan,
    quality::Quality,
    question::Question,
    recipe::Rule,
    records::{ItemState, Outcome, Stage},
    results::{
        ArmResult, CollectionSummary, DatasetUse, Example, ModelUse, Results, Scoring, ScreeningSummary, StageTime,
        StepSlice, TrainingSummary,
    },
    screening::reason,
};
use divvy_store::ItemRow;

use self::{scoring::Further, sharing::Sharing};
use crate::{
    context::Context,
    error::FlowError,
    evaluate::{self, Graded, Spent},
    graders::judge,
    items,
    rows::{self, KeptRow},
    train,
};

/// Browsable examples an arm keeps in the report.
const EXAMPLES: usize = 10;

/// What the report needs beside the store.
pub struct Heading {
    /// RFC 3339.
    pub created: String,
    pub version: String,
    /// Model name → source as written in the recipe.
    pub sources: BTreeMap<String, String>,
    /// Name of a local model → its numerics profile.
    pub numerics: BTreeMap<String, String>,
}

/// Counts everything the plan has in the store so far.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn read(context: &Context, heading: Heading) -> Result<Results, FlowError> {
    count(context, heading, None::<rows::Make<()>>, |()| Ok(())).await
}

/// [`read`], and in the same pass something of every sheet of rows: `make` runs on any thread and in any order, `take` gets
/// what it made in the order of the questions.
///
/// # Errors
/// As [`read`], and what `take` says.
pub async fn read_with<T: Send + 'static>(
    context: &Context,
    heading: Heading,
    make: rows::Make<T>,
    take: impl FnMut(T) -> Result<(), FlowError>,
) -> Result<Results, FlowError> {
    count(context, heading, Some(make), take).await
}

async fn count<T: Send + 'static>(
    context: &Context,
    heading: Heading,
    make: Option<rows::Make<T>>,
    take: impl FnMut(T) -> Result<(), FlowError>,
) -> Result<Results, FlowError> {
    let (evaluated, comparisons, scoring) = match &context.plan.evaluate {
        Some(plan) => {
            let sharing = Sharing::of(evaluate::questions(context, plan), context.plan.seed);
            let (evaluated, scoring) = grade_book(context, plan, &sharing, make, take).await?;
            let comparisons = comparisons::of(&context.plan, &evaluated, &sharing);
            (evaluated, comparisons, scoring)
        }
        None => Default::default(),
    };
    let arms: Vec<ArmResult> = evaluated.into_iter().map(|evaluated| evaluated.arm).collect();
    Ok(Results {
        name: context.plan.name.clone(),
        plan: context.digest.hex().to_owned(),
        datasets: datasets(context).await?,
        models: models(context, &heading),
        created: heading.created,
        divvy_version: heading.version,
        comparisons,
        scoring,
        quality: quality::of(context, &arms).await?,
        arms,
        collection: collection(context).await?,
        screening: screening(context).await?,
        training: training(context).await?,
        stages: stages(context).await?,
    })
}

async fn datasets(context: &Context) -> Result<Vec<DatasetUse>, FlowError> {
    let test = context.plan.data.test.clone().unwrap_or_default();
    let openings = context.store.test_openings().await?;
    let seen = openings.iter().filter(|opening| opening.dataset == test).map(|opening| &opening.plan);
    let plans = seen.collect::<HashSet<_>>().len() as u64;
    let used = [
        ("train", &context.plan.data.train, &context.questions.train),
        ("dev", &context.plan.data.train, &context.questions.dev),
        ("test", &test, &context.questions.test),
    ]
    .into_iter()
    .filter(|(_, _, questions)| !questions.is_empty())
    .map(|(split, dataset, questions)| DatasetUse {
        dataset: dataset.clone(),
        split: split.to_owned(),
        rows: questions.len() as u64,
        opened_by: if split == "test" { plans } else { 0 },
    })
    .collect();
    Ok(used)
}

fn models(context: &Context, heading: &Heading) -> Vec<ModelUse> {
    let ids = context.plan.models.iter();
    ids.map(|(name, id)| ModelUse {
        name: name.clone(),
        source: heading.sources.get(name).cloned().unwrap_or_default(),
        numerics: heading.numerics.get(name).cloned(),
        id: id.clone(),
    })
    .collect()
}

/// An arm with what became of each question, in their order.
struct Evaluated {
    arm: ArmResult,
    right: Vec<bool>,
    /// Partial credit.
    scores: Vec<f64>,
}

/// An arm while its rows come in.
struct Counting {
    strategy: Strategy,
    /// There is a row.
    begun: bool,
    tally: Tally,
    further: Further,
}

impl Counting {
    fn add(&mut self, question: &Question, row: Option<KeptRow>) {
        self.begun |= row.is_some();
        let row = row.unwrap_or_default();
        if self.strategy.needs_decomposer() {
            quality::count(&mut self.tally.quality, self.strategy, question, row.graded.as_ref());
        }
        self.further.add(question, row.graded.as_ref());
        self.tally.without_decomposition += u64::from(row.without_decomposition);
        self.tally.add(question, row.graded);
    }
}

/// Every arm; those without a single row are left out.
async fn grade_book<T: Send + 'static>(
    context: &Context,
    plan: &EvaluatePlan,
    sharing: &Sharing,
    make: Option<rows::Make<T>>,
    mut take: impl FnMut(T) -> Result<(), FlowError>,
) -> Result<(Vec<Evaluated>, Option<Scoring>), FlowError> {
    let mut judged = judge::of_arms(context, plan).await?;
    let begin = |arm: &Arm| {
        let further = Further::of(plan, &arm.slug(), judged.remove(&arm.slug()));
        Counting { strategy: arm.strategy, begun: false, tally: Tally::default(), further }
    };
    let mut arms: Vec<Counting> = plan.arms.iter().map(begin).collect();
    let with_calls = make.is_some();
    rows::each(context, plan, make, with_calls, |part| {
        for (question, rows) in part.questions.iter().zip(part.rows) {
            arms.iter_mut().zip(rows).for_each(|(arm, row)| arm.add(question, row));
        }
        part.made.map_or(Ok(()), &mut take)
    })
    .await?;
    let (mut evaluated, mut further) = (Vec::new(), Vec::new());
    for (arm, Counting { tally, further: more, .. }) in plan.arms.iter().zip(arms).filter(|(_, arm)| arm.begun) {
        let (right, scores) = (tally.right.clone(), tally.scores.clone());
        evaluated.push(Evaluated { arm: tally.result(arm, sharing), right, scores });
        further.push(more);
    }
    Ok((evaluated, scoring::of(further, sharing)))
}

/// Sums over the questions of one arm.
#[derive(Default)]
struct Tally {
    right: Vec<bool>,
    scores: Vec<f64>,
    /// Of those that have no grade.
    without_decomposition: u64,
    no_answer: u64,
    truncated: u64,
    refused: u64,
    errors: u64,
    decompose: Sum,
    solve: Sum,
    malformed: u64,
    subquestions: u64,
    decomposed: u64,
    quality: Quality,
    steps: BTreeMap<u32, (u64, u64)>,
    examples: Vec<Example>,
}

#[derive(Default)]
struct Sum {
    tokens_in: u64,
    tokens_out: u64,
    /// Becomes `None` for good at the first unknown price.
    unknown: bool,
    nanos: i64,
}

impl Sum {
    fn add(&mut self, spent: Spent) {
        self.tokens_in += spent.tokens_in;
        self.tokens_out += spent.tokens_out;
        match spent.cost_nanos {
            Some(nanos) => self.nanos += nanos,
            None => self.unknown = true,
        }
    }
}

impl Tally {
    fn add(&mut self, question: &Question, graded: Option<Graded>) {
        let correct = graded.as_ref().is_some_and(|graded| graded.grade.correct);
        self.right.push(correct);
        self.scores.push(graded.as_ref().map_or(0.0, |graded| graded.grade.score));
        if let Some(steps) = question.steps {
            let slice = self.steps.entry(steps).or_default();
            slice.0 += 1;
            slice.1 += u64::from(correct);
        }
        let Some(graded) = graded else {
            self.errors += 1;
            return;
        };
        match graded.grade.outcome {
            Outcome::Answered => {}
            Outcome::NoAnswer => self.no_answer += 1,
            Outcome::Truncated => self.truncated += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Error => self.errors += 1,
        }
        self.decompose.add(graded.decompose);
        self.solve.add(graded.solve);
        self.malformed += u64::from(graded.malformed);
        if let Some(decomposition) = &graded.decomposition {
            self.decomposed += 1;
            self.subquestions += decomposition.steps().len() as u64;
        }
        if self.examples.len() < EXAMPLES {
            self.examples.push(example(question, graded));
        }
    }

    fn result(self, arm: &Arm, sharing: &Sharing) -> ArmResult {
        let n = self.right.len() as u64;
        let correct = self.right.iter().filter(|right| **right).count() as u64;
        let share = |part: f64| if n == 0 { 0.0 } else { part / n as f64 };
        let two_stage = arm.strategy.needs_decomposer();
        ArmResult {
            arm: arm.slug(),
            strategy: arm.strategy,
            variant: arm.variant,
            decomposer: arm.decomposer.clone(),
            solver: arm.solver.clone(),
            n,
            correct,
            accuracy: share(correct as f64),
            ci: sharing.accuracy(&self.right),
            passages: sharing.passages(),
            score: share(self.scores.iter().sum()),
            score_ci: sharing.score(&self.right, &self.scores),
            no_answer: self.no_answer + self.without_decomposition,
            truncated: self.truncated,
            refused: self.refused,
            errors: self.errors - self.without_decomposition,
            tokens_in: self.decompose.tokens_in + self.solve.tokens_in,
            tokens_out: self.decompose.tokens_out + self.solve.tokens_out,
            decompose_tokens_in: self.decompose.tokens_in,
            decompose_tokens_out: self.decompose.tokens_out,
            solve_tokens_in: self.solve.tokens_in,
            solve_tokens_out: self.solve.tokens_out,
            cost_nanos: (!self.decompose.unknown && !self.solve.unknown)
                .then_some(self.decompose.nanos + self.solve.nanos),
            well_formed: two_stage.then(|| share(n.saturating_sub(self.malformed + self.errors) as f64)),
            mean_subquestions: (two_stage && self.decomposed > 0)
                .then(|| self.subquestions as f64 / self.decomposed as f64),
            decompositions: two_stage.then_some(self.quality),
            by_steps: self.steps.into_iter().map(|(steps, (n, correct))| StepSlice { steps, n, correct }).collect(),
            examples: self.examples,
        }
    }
}

fn example(question: &Question, graded: Graded) -> Example {
    Example {
        question_id: question.id.0.clone(),
        premise: question.premise.clone(),
        question: question.text.clone(),
        gold: question.golds.iter().map(ToString::to_string).collect(),
        subquestions: rows::subquestions(&graded),
        sub_answers: graded.sub_answers,
        reply: graded.reply,
        answer: graded.grade.answer,
        correct: graded.grade.correct,
        outcome: graded.grade.outcome,
    }
}

async fn collection(context: &Context) -> Result<Option<CollectionSummary>, FlowError> {
    let rows = context.store.items(&context.digest, Stage::Collect).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let (tokens_in, tokens_out) = tokens(context, &rows).await?;
    Ok(Some(CollectionSummary {
        teacher: context.plan.collect.teacher.clone(),
        candidates: rows.len() as u64,
        usable: done(&rows),
        reasons: reasons(rows.iter().filter(|row| row.state != ItemState::Done), ""),
        tokens_in,
        tokens_out,
    }))
}

async fn screening(context: &Context) -> Result<Option<ScreeningSummary>, FlowError> {
    let Some(plan) = &context.plan.screen else { return Ok(None) };
    let rows = context.store.items(&context.digest, Stage::Screen).await?;
    let (tokens_in, tokens_out) = tokens(context, &rows).await?;
    Ok(Some(ScreeningSummary {
        solver: plan.solver.clone(),
        candidates: rows.len() as u64,
        kept: done(&rows),
        // Where nobody looked at gold, nothing is known to be correct.
        reasons: reasons(rows.iter(), if plan.rule == Rule::Agreement { reason::AGREED } else { reason::CORRECT }),
        tokens_in,
        tokens_out,
    }))
}

fn done(rows: &[ItemRow]) -> u64 {
    rows.iter().filter(|row| row.state == ItemState::Done).count() as u64
}

/// Reason → rows, largest first; `kept` is the reason of those that are done.
fn reasons<'a>(rows: impl Iterator<Item = &'a ItemRow>, kept: &'a str) -> Vec<(String, u64)> {
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        let reason = match &row.state {
            ItemState::Done => kept,
            ItemState::Rejected(reason) | ItemState::Failed(reason) => reason,
            ItemState::Pending => "pending",
        };
        *reasons.entry(reason.to_owned()).or_default() += 1;
    }
    let mut reasons: Vec<(String, u64)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    reasons
}

/// In and out, of every call behind these rows.
async fn tokens(context: &Context, rows: &[ItemRow]) -> Result<(u64, u64), FlowError> {
    let calls: Vec<_> = rows.iter().flat_map(|row| row.calls.iter().cloned()).collect();
    let usages = context.store.call_usages(&calls).await?;
    Ok(items::sum_usage(usages.into_iter().map(|call| call.usage)))
}

async fn training(context: &Context) -> Result<Vec<TrainingSummary>, FlowError> {
    let mut summaries = Vec::new();
    for (name, plan) in &context.plan.students {
        let key = train::key(context, name).await?;
        let Some(record) = context.store.artefact(&key).await? else { continue };
        let Ok(artefact) = serde_json::from_str::<train::Artefact>(&record.meta_json) else { continue };
        summaries.push(TrainingSummary {
            student: name.clone(),
            base: plan.base.clone(),
            target: plan.target.name().to_owned(),
            method: format!("{:?}", plan.method).to_lowercase(),
            rows: artefact.rows,
            too_long: artefact.too_long,
            unusable: artefact.unusable,
            epochs: plan.epochs as f64,
            wall_ms: artefact.wall_ms,
            curve: context.store.metrics(&key).await?,
        });
    }
    Ok(summaries)
}

async fn stages(context: &Context) -> Result<Vec<StageTime>, FlowError> {
    let times = context.store.stage_times(&context.digest).await?;
    Ok(times.into_iter().map(|(stage, wall_ms)| StageTime { stage: stage.name().to_owned(), wall_ms }).collect())
}
