//! Reads a finished (or half finished) run back from the store and counts: the one place where records become figures.

mod comparisons;
mod costs;
mod quality;
mod scored;
mod scoring;
mod seeds;
mod sharing;
mod slices;
mod stages;
mod took;

use std::collections::{BTreeMap, HashSet};

use divvy_core::{
    arm::Arm,
    cost::Prices,
    quality::Quality,
    question::Question,
    questions::Questions,
    records::{ItemState, Outcome},
    results::{
        ArmResult, DatasetUse, Example, ModelUse, Results, StepSlice,
        costs::{Costs, StatedTerms},
    },
};
use divvy_store::ItemRow;

use self::{
    scored::{Evaluated, Records},
    scoring::Further,
    seeds::Member,
    sharing::{Sharing, as_scores, has_partial_credit},
};
use crate::{
    context::Context,
    error::FlowError,
    evaluate::{Graded, Spent},
    items, rows,
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
    let records = Records::read(context).await?;
    count(context, heading, records).await
}

/// [`read`], and something of every sheet of rows in the same pass: `make` runs on any thread and in any order, `take` gets what
/// it made in the order of the questions.
///
/// # Errors
/// As [`read`], and what `take` says.
pub async fn read_with<T: Send + 'static>(
    context: &Context,
    heading: Heading,
    make: rows::Make<T>,
    mut take: impl FnMut(T) -> Result<(), FlowError>,
) -> Result<Results, FlowError> {
    let mut records = Records::none_yet(context).await?;
    if let Some(plan) = &context.plan.evaluate {
        rows::each_with_records(context, plan, make, true, |made, part| {
            records.add(part);
            take(made)
        })
        .await?;
    }
    count(context, heading, records).await
}

async fn count(context: &Context, heading: Heading, records: Records) -> Result<Results, FlowError> {
    let training = stages::training(context).await?;
    let scored = scored::read(context, (heading.terms, &heading.prices), &training, records).await?;
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
        seeds: scored.seeds,
        comparisons: scored.comparisons,
        slices: scored.slices,
        scoring: scored.scoring,
        by_dataset: scored.by_dataset,
        costs: scored.costs,
        collection: stages::collection(context).await?,
        screening: stages::screening(context).await?,
        training,
        stages: stages::stages(context).await?,
    })
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

fn by_arm(rows: Vec<ItemRow>) -> costs::ByArm {
    let mut by_arm = costs::ByArm::new();
    for row in rows {
        let answer = seeds::answer(&row.question, row.sample).into_owned();
        by_arm.entry(row.arm.clone()).or_default().insert(answer, row);
    }
    by_arm
}

/// Of all its members as of one arm: the answers to all questions, as often as there are repeats and members.
fn arm_result(
    arm: &Arm,
    (questions, repeats): (&Questions, u32),
    members: &[Member<'_>],
    sharing: &Sharing,
    further: &mut Further,
) -> Result<Evaluated, FlowError> {
    let mut tally = Tally::default();
    for member in members {
        further.hear(member.verdicts);
        for repeat in 0..repeats {
            questions.iter().try_for_each(|question| {
                let row = member.rows.get(&*seeds::answer(&question.id, repeat));
                add_answer(&mut tally, arm, (&question, repeat), row, further)
            })?;
        }
    }
    let (right, scores) = (tally.right.clone(), tally.scores.clone());
    Ok(Evaluated { arm: tally.result(arm, sharing, members.len()), right, scores, members: Vec::new() })
}

fn add_answer(
    tally: &mut Tally,
    arm: &Arm,
    (question, repeat): (&Question, u32),
    row: Option<&ItemRow>,
    further: &mut Further,
) -> Result<(), FlowError> {
    let graded = match row {
        Some(row) if row.state == ItemState::Done => Some(items::payload::<Graded>(row)?.current(question)),
        _ => None,
    };
    if arm.strategy.needs_decomposer() {
        quality::count(&mut tally.quality, arm.strategy, question, graded.as_ref());
    }
    further.add(question, repeat, graded.as_ref());
    tally.without_decomposition += u64::from(row.is_some_and(rows::has_no_decomposition));
    tally.add(question, graded);
    Ok(())
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

    /// 95 % intervals of accuracy and of partial credit.
    fn intervals(&self, sharing: &Sharing, seeds: usize) -> ((f64, f64), Option<(f64, f64)>) {
        if self.right.len() == sharing.questions {
            return (sharing.accuracy(&self.right), sharing.score(&self.right, &self.scores));
        }
        let of = |values: &[f64]| seeds::per_seed(values, sharing.questions, seeds);
        let has_credit = has_partial_credit(&self.right, &self.scores);
        let score = has_credit.then(|| sharing.drawn(&of(&self.scores))).flatten();
        (sharing.pooled(&of(&as_scores(&self.right))), score)
    }

    fn result(self, arm: &Arm, sharing: &Sharing, seeds: usize) -> ArmResult {
        let (ci, score_ci) = self.intervals(sharing, seeds);
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
            each: n.checked_div(sharing.questions as u64).unwrap_or(1).max(1),
            pool: None,
            correct,
            accuracy: share(correct as f64),
            ci,
            passages: sharing.passages(),
            score: share(self.scores.iter().sum()),
            score_ci,
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
