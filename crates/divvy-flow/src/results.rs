//! Reads a finished (or half finished) run back from the store and counts: the one place where records become figures.

mod comparisons;
mod costs;
mod quality;
mod scored;
mod scoring;
mod sharing;
mod slices;
mod took;

use std::collections::{BTreeMap, HashMap, HashSet};

use divvy_core::{
    arm::Arm,
    cost::Prices,
    quality::Quality,
    question::Question,
    questions::Questions,
    recipe::Rule,
    records::{ItemState, Outcome, Stage},
    results::{
        ArmResult, CollectionSummary, DatasetUse, Example, ModelUse, Results, ScreeningSummary, StageTime, StepSlice,
        TrainingSummary,
        costs::{Costs, StatedTerms},
    },
    screening::reason,
};
use divvy_store::ItemRow;

use self::{scored::Evaluated, scoring::Further, sharing::Sharing};
use crate::{
    context::Context,
    error::FlowError,
    evaluate::{Graded, Spent},
    items, rows, train,
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
    /// Name of a model → its price in the recipe as it stands; none where there is no price.
    pub prices: BTreeMap<String, Prices>,
    /// On what terms costs are counted.
    pub terms: StatedTerms,
}

/// Counts everything the plan has in the store so far.
///
/// # Errors
/// The store's, or an unreadable record.
pub async fn read(context: &Context, heading: Heading) -> Result<Results, FlowError> {
    let training = training(context).await?;
    let scored = scored::read(context, (heading.terms, &heading.prices), &training).await?;
    Ok(Results {
        name: context.plan.name.clone(),
        plan: context.digest.hex().to_owned(),
        split: context.plan.evaluate.as_ref().map(|plan| plan.split).unwrap_or_default(),
        datasets: datasets(context).await?,
        models: models(context, &heading),
        created: heading.created,
        divvy_version: heading.version,
        quality: quality::of(context, &scored.arms).await?,
        arms: scored.arms,
        comparisons: scored.comparisons,
        slices: scored.slices,
        scoring: scored.scoring,
        by_dataset: scored.by_dataset,
        costs: scored.costs,
        collection: collection(context).await?,
        screening: screening(context).await?,
        training,
        stages: stages(context).await?,
    })
}

/// [`read`], then something of every sheet of rows: `make` runs on any thread and in any order, `take` gets what it made in the
/// order of the questions.
///
/// # Errors
/// As [`read`], and what `take` says.
pub async fn read_with<T: Send + 'static>(
    context: &Context,
    heading: Heading,
    make: rows::Make<T>,
    take: impl FnMut(T) -> Result<(), FlowError>,
) -> Result<Results, FlowError> {
    let results = read(context, heading).await?;
    if let Some(plan) = &context.plan.evaluate {
        rows::each(context, plan, make, true, take).await?;
    }
    Ok(results)
}

/// The one figure, wherever it is shown.
fn money(costs: Option<&Costs>, arm: &ArmResult) -> Option<i64> {
    let cost = costs?.arms.iter().find(|cost| cost.arm == arm.arm)?;
    cost.money.as_ref().map(|money| money.total)
}

async fn datasets(context: &Context) -> Result<Vec<DatasetUse>, FlowError> {
    let openings = context.store.test_openings().await?;
    let opened_by = |set: &String| {
        let seen = openings.iter().filter(|opening| opening.dataset == *set).map(|opening| &opening.plan);
        seen.collect::<HashSet<_>>().len() as u64
    };
    let (data, questions) = (&context.plan.data, &context.questions);
    let mut used = Vec::new();
    for (split, sets, questions) in [
        ("train", &data.train, &questions.train),
        ("dev", &data.train, &questions.dev),
        ("test", &data.test, &questions.test),
    ] {
        let rows = rows_of(sets, questions);
        used.extend(sets.iter().zip(rows).filter(|(_, rows)| *rows > 0).map(|(set, rows)| DatasetUse {
            dataset: set.clone(),
            split: split.to_owned(),
            rows,
            opened_by: if split == "test" { opened_by(set) } else { 0 },
        }));
    }
    Ok(used)
}

/// How many questions are of each set.
fn rows_of(sets: &[String], questions: &Questions) -> Vec<u64> {
    if sets.len() == 1 {
        return vec![questions.len() as u64];
    }
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    questions.iter().for_each(|question| *rows.entry(question.dataset.clone()).or_default() += 1);
    sets.iter().map(|set| rows.get(set).copied().unwrap_or(0)).collect()
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

async fn by_arm(context: &Context) -> Result<costs::ByArm, FlowError> {
    let mut by_arm = costs::ByArm::new();
    for row in context.store.items(&context.digest, Stage::Evaluate).await? {
        by_arm.entry(row.arm.clone()).or_default().insert(row.question.0.clone(), row);
    }
    Ok(by_arm)
}

fn arm_result(
    arm: &Arm,
    questions: &Questions,
    rows: &HashMap<String, ItemRow>,
    sharing: &Sharing,
    further: &mut Further,
) -> Result<Evaluated, FlowError> {
    let mut tally = Tally::default();
    for question in questions.iter() {
        let row = rows.get(&question.id.0);
        let graded = match row {
            Some(row) if row.state == ItemState::Done => Some(items::payload::<Graded>(row)?.current(&question)),
            _ => None,
        };
        if arm.strategy.needs_decomposer() {
            quality::count(&mut tally.quality, arm.strategy, &question, graded.as_ref());
        }
        further.add(&question, graded.as_ref());
        tally.without_decomposition += u64::from(row.is_some_and(rows::has_no_decomposition));
        tally.add(&question, graded);
    }
    let (right, scores) = (tally.right.clone(), tally.scores.clone());
    Ok(Evaluated { arm: tally.result(arm, sharing), right, scores })
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
}

impl Sum {
    fn add(&mut self, spent: Spent) {
        self.tokens_in += spent.tokens_in;
        self.tokens_out += spent.tokens_out;
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
            variant: arm.variant.clone(),
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
            // Counted with all other costs, from the calls.
            cost_nanos: None,
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
