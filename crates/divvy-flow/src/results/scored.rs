//! The figures of every arm: over all questions, and of several data sets for each by itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use divvy_core::{
    arm::Arm,
    cost::Prices,
    plan::EvaluatePlan,
    questions::Questions,
    results::{
        ArmResult, ArmSlices, Comparison, DatasetResults, Example, Scoring, TrainingSummary,
        costs::{Costs, StatedTerms},
    },
};
use divvy_store::CallUsage;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::{
    comparisons, costs,
    counted::{ByArm, CountedPart, Counting},
    families::Families,
    outline::Outlines,
    quality,
    scoring::Further,
    seeds::{self, Member, Told},
    sharing::Sharing,
    slices,
    tally::arm_result,
    took::Calls,
};
use crate::{
    context::Context,
    error::FlowError,
    evaluate,
    graders::judge::{self, Verdicts},
    grid::{self, Grid},
    rows::{self, OfCalls},
};

#[derive(Default)]
pub(super) struct Scored {
    pub(super) arms: Vec<ArmResult>,
    pub(super) seeds: Vec<ArmResult>,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) slices: Vec<ArmSlices>,
    pub(super) scoring: Option<Scoring>,
    pub(super) costs: Option<Costs>,
    pub(super) by_dataset: Vec<DatasetResults>,
}

/// An arm with what became of each question, in their order: of all, as often as there are repeats, for each seed.
pub(super) struct Evaluated {
    pub(super) arm: ArmResult,
    pub(super) right: Vec<bool>,
    /// Partial credit.
    pub(super) scores: Vec<f64>,
    /// The arms of the plan that it is made of.
    pub(super) members: Vec<Arm>,
}

impl Evaluated {
    /// The answers of one seed follow those of the other.
    pub(super) fn seeds(&self) -> usize {
        self.members.len().max(1)
    }
}

/// The arms of a report on some questions.
struct Figures {
    evaluated: Vec<Evaluated>,
    seeds: Vec<ArmResult>,
    scoring: Option<Scoring>,
}

/// What the store has of the evaluation, read once.
pub(super) struct Records {
    /// Slug → question → record.
    rows: ByArm,
    calls: Calls,
}

impl Records {
    pub(super) async fn read(context: &Context) -> Result<Self, FlowError> {
        let mut records = Self::none_yet(context).await?;
        if let Some(plan) = &context.plan.evaluate {
            let counting = Counting::of(plan);
            let count = move |part| Ok(counting.count(part));
            rows::each_part(context, plan, OfCalls::Figures, Arc::new(count), |part| {
                records.add(part);
                Ok(())
            })
            .await?;
        }
        Ok(records)
    }

    /// For records that come part by part.
    pub(super) async fn none_yet(context: &Context) -> Result<Self, FlowError> {
        Ok(Self { rows: ByArm::new(), calls: Calls::none_yet(context).await? })
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &CallUsage> {
        self.calls.all()
    }

    pub(super) fn add(&mut self, part: CountedPart) {
        self.calls.extend(part.file(&mut self.rows));
    }
}

/// Records of the evaluation, and how they are read.
struct Book<'a> {
    context: &'a Context,
    plan: &'a EvaluatePlan,
    grid: Grid,
    families: Families,
    records: Records,
    judged: HashMap<String, Verdicts>,
}

pub(super) async fn read(
    context: &Context,
    money: (StatedTerms, &BTreeMap<String, Prices>),
    training: &[TrainingSummary],
    records: Records,
) -> Result<Scored, FlowError> {
    let Some(plan) = &context.plan.evaluate else { return Ok(Scored::default()) };
    let judged = judge::of_arms(context, plan).await?;
    let (all, sets) = (evaluate::questions(context, plan), grid::sets(&context.plan));
    let asked: Vec<_> = sets.iter().map(|set| (set.as_str(), evaluate::of_set(sets, all, set))).collect();
    let asked: Vec<_> = asked.iter().map(|(set, questions)| (*set, Outlines::of(questions))).collect();
    let grid = evaluate::grid(context, plan);
    let with_questions = asked.iter().filter(|(_, questions)| !questions.each.is_empty());
    let partial: Vec<_> = with_questions.map(|(set, questions)| (*set, questions.have_partial_credit())).collect();
    let families = Families::of(&context.plan, plan, &grid, &partial);
    let book = Book { context, plan, grid, families, records, judged };
    let mut each = Vec::new();
    for (set, questions) in &asked {
        each.push(book.one(set, questions, money, training).await?);
    }
    comparisons::adjust(&mut each);
    if each.len() < 2 {
        return Ok(each.into_iter().next().map(alone).unwrap_or_default());
    }
    let (arms, seeds) = book.together(all, &each);
    Ok(Scored { arms, seeds, by_dataset: each, ..Scored::default() })
}

fn alone(one: DatasetResults) -> Scored {
    let DatasetResults { arms, seeds, comparisons, slices, scoring, costs, .. } = one;
    Scored { arms, seeds, comparisons, slices, scoring, costs, by_dataset: Vec::new() }
}

impl Book<'_> {
    async fn one(
        &self,
        set: &str,
        questions: &Outlines<'_>,
        money: (StatedTerms, &BTreeMap<String, Prices>),
        training: &[TrainingSummary],
    ) -> Result<DatasetResults, FlowError> {
        let sharing = Sharing::of(questions, self.context.plan.seed);
        let Figures { evaluated, seeds, scoring } = self.evaluated(questions, &sharing);
        let Records { rows, calls } = &self.records;
        let slices = slices::of(questions, &evaluated, &sharing, (&self.context.plan, self.plan, rows));
        let costs = costs::of(self.context, money, questions, &evaluated, (rows, calls), training).await?;
        let paid = |arm: &ArmResult| super::money(costs.as_ref(), arm);
        let comparisons = comparisons::of(self.families.on(set), &evaluated, questions, &sharing);
        let paid = |Evaluated { arm, .. }| ArmResult { cost_nanos: paid(&arm), ..arm };
        let arms: Vec<ArmResult> = evaluated.into_iter().map(paid).collect();
        let quality = quality::of_arms(self.context, &arms);
        Ok(DatasetResults { dataset: set.to_owned(), arms, seeds, comparisons, slices, quality, scoring, costs })
    }

    /// Every arm with the questions that it is asked; one without a single record among them is left out. Of one data set, an
    /// arm is asked all questions or none.
    fn evaluated(&self, questions: &Outlines<'_>, sharing: &Sharing) -> Figures {
        let told = seeds::told(&self.context.plan, self.plan);
        let counted: Vec<_> = told.par_iter().filter_map(|told| self.counted(told, questions, sharing)).collect();
        let (mut evaluated, mut seeds, mut further) = (Vec::new(), Vec::new(), Further::of(self.plan));
        for (one, alone, said) in counted {
            evaluated.push(one);
            seeds.extend(alone);
            further.append(said);
        }
        Figures { evaluated, seeds, scoring: further.scoring() }
    }

    /// One arm with each of its seeds and what further scorers say; `None` without a record.
    fn counted(
        &self,
        told: &Told,
        asked: &Outlines<'_>,
        sharing: &Sharing,
    ) -> Option<(Evaluated, Vec<ArmResult>, Further)> {
        let members = self.begun(told, asked.questions)?;
        let mut further = Further::of(self.plan);
        further.begin(&told.arm.slug(), asked.questions.len());
        let whole = self.one_arm(told, &members, asked, sharing, &mut further);
        further.end(sharing);
        let alone = self.alone(told, &members, asked, sharing);
        Some((pooled(whole, members, &alone), alone, further))
    }

    /// The members that have a record among these questions; `None` where none has.
    fn begun(&self, told: &Told, questions: &Questions) -> Option<Vec<Arm>> {
        let has_record = |arm: &&Arm| {
            let Some(rows) = self.records.rows.get(&arm.slug()) else { return false };
            let asked = self.grid.asked(arm, questions);
            let mut repeats = 0..self.plan.repeats;
            repeats.any(|repeat| asked.iter().any(|question| rows.get(&question.id, repeat).is_some()))
        };
        let begun: Vec<Arm> = told.members.iter().filter(has_record).cloned().collect();
        (!begun.is_empty()).then_some(begun)
    }

    fn one_arm(
        &self,
        told: &Told,
        members: &[Arm],
        asked: &Outlines<'_>,
        sharing: &Sharing,
        further: &mut Further,
    ) -> Evaluated {
        let slugs: Vec<String> = members.iter().map(Arm::slug).collect();
        let member = |slug: &String| Member { rows: &self.records.rows[slug], verdicts: self.judged.get(slug) };
        let members: Vec<Member<'_>> = slugs.iter().map(member).collect();
        arm_result(&told.arm, (asked, self.plan.repeats), &members, sharing, further)
    }

    /// Each seed by itself, of an arm that stands for several.
    fn alone(&self, told: &Told, members: &[Arm], asked: &Outlines<'_>, sharing: &Sharing) -> Vec<ArmResult> {
        let one = |arm: &Arm| {
            let told = Told { arm: arm.clone(), pools: false, members: Vec::new() };
            let alone = std::slice::from_ref(arm);
            self.one_arm(&told, alone, asked, sharing, &mut Further::nobody()).arm
        };
        members.iter().filter(|_| told.pools).map(one).collect()
    }

    /// Over all data sets, with the examples of each; and the seeds by themselves.
    fn together(&self, all: &Questions, each: &[DatasetResults]) -> (Vec<ArmResult>, Vec<ArmResult>) {
        let examples = |slug: &str| -> Vec<Example> {
            let arms = each.iter().flat_map(|one| &one.arms).filter(|arm| arm.arm == slug);
            arms.flat_map(|arm| arm.examples.clone()).collect()
        };
        let (mut arms, mut seeds) = (Vec::new(), Vec::new());
        for told in seeds::told(&self.context.plan, self.plan) {
            let asked = self.grid.asked(&told.arm, all);
            let Some(members) = self.begun(&told, &asked) else { continue };
            let asked = Outlines::of(&asked);
            let sharing = Sharing::of(&asked, self.context.plan.seed);
            let whole = self.one_arm(&told, &members, &asked, &sharing, &mut Further::nobody());
            let alone = self.alone(&told, &members, &asked, &sharing);
            let arm = pooled(whole, members, &alone).arm;
            let paid = each.iter().flat_map(|one| &one.arms).filter(|one| one.arm == arm.arm);
            let cost_nanos = paid.map(|one| one.cost_nanos).sum();
            arms.push(ArmResult { examples: examples(&arm.arm), cost_nanos, ..arm });
            seeds.extend(alone);
        }
        (arms, seeds)
    }
}

fn pooled(whole: Evaluated, members: Vec<Arm>, alone: &[ArmResult]) -> Evaluated {
    Evaluated { arm: ArmResult { pool: seeds::pool(alone), ..whole.arm }, members, ..whole }
}
