//! The rows of a plan that are settled, with the calls that each made, and how many are left.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use divvy_core::{
    arm::Arm,
    digest::{Digest, derive_seed},
    plan::{EvaluatePlan, JudgePlan, ScreenPlan},
    question::{Question, QuestionId},
    records::Stage,
};

use crate::{
    context::Context,
    error::FlowError,
    evaluate,
    graders::judge::Docket,
    items::{self, ItemKey},
    paid::STAGES,
    screen,
    settled::{Marks, Settled, place},
};

/// What is asked of every row alike: a stage, or one arm of the evaluation.
pub(super) struct Part<'a> {
    pub(super) stage: Stage,
    pub(super) arm: Option<&'a Arm>,
    pub(super) total: u64,
    /// Settled, whether they are among `rows` or not.
    pub(super) done: u64,
    /// What may still be needed; no more than the others.
    pub(super) left: u64,
    pub(super) rows: Vec<Row>,
}

impl Part<'_> {
    pub(super) fn name(&self) -> String {
        match (self.stage, self.arm) {
            (Stage::Judge, Some(arm)) => format!("judge of {arm}"),
            (_, Some(arm)) => arm.slug(),
            (stage, None) => stage.name().to_owned(),
        }
    }
}

/// A settled row.
pub(super) struct Row {
    pub(super) question: QuestionId,
    items: Vec<ItemKey>,
    /// In the order in which they were made.
    pub(super) calls: Vec<Digest>,
}

/// In running order. Of more settled rows than `most`, some are chosen by the seed. The store is read item by item, so that
/// there may be any number of them.
pub(super) async fn parts(context: &Context, most: usize) -> Result<Vec<Part<'_>>, FlowError> {
    let mut parts = Vec::new();
    let collected = Settled::of(context, Stage::Collect).await?;
    let screening = match &context.plan.screen {
        None => None,
        Some(plan) => {
            let screened = Settled::of(context, Stage::Screen).await?;
            Some(screening(context, plan, (&collected, &screened), most))
        }
    };
    if context.plan.collects() {
        let part = collecting(context, &collected, most);
        let waves = screening.as_ref().filter(|_| context.plan.collects_in_waves());
        parts.push(match waves {
            None => part,
            Some(screening) => Part { left: part.left.min(in_waves(context, &collected, screening)), ..part },
        });
    }
    parts.extend(screening);
    if let Some(plan) = &context.plan.evaluate {
        let settled = Marks::of(context, Stage::Evaluate).await?;
        parts.extend(plan.arms.iter().map(|arm| answering(context, plan, arm, &settled, most)));
        if let Some(judge) = &plan.judge {
            let docket = Docket::read(context, plan).await?;
            parts.extend(plan.arms.iter().map(|arm| judging(context, (plan, judge), arm, &docket, most)));
        }
    }
    read_calls(context, &mut parts).await?;
    Ok(parts)
}

/// What each chosen row asked, of all parts of a stage together.
async fn read_calls(context: &Context, parts: &mut [Part<'_>]) -> Result<(), FlowError> {
    for stage in STAGES {
        let mut rows: Vec<&mut Row> =
            parts.iter_mut().filter(|part| part.stage == stage).flat_map(|part| &mut part.rows).collect();
        let questions: BTreeSet<QuestionId> = rows.iter().map(|row| row.question.clone()).collect();
        if questions.is_empty() {
            continue;
        }
        let questions: Vec<QuestionId> = questions.into_iter().collect();
        let items = context.store.items_among(&context.digest, stage, &questions).await?;
        let calls: HashMap<ItemKey, Vec<Digest>> =
            items.into_iter().map(|item| (items::key_of(&item), item.calls)).collect();
        for row in &mut rows {
            row.calls = row.items.iter().filter_map(|item| calls.get(item)).flatten().cloned().collect();
        }
    }
    Ok(())
}

fn collecting<'a>(context: &Context, settled: &Settled, most: usize) -> Part<'a> {
    let samples = context.plan.collect.samples;
    part(context, (Stage::Collect, None), context.questions.for_students(), most, |position, question| {
        let item = |number| settled.has(number).then(|| key(question, place(number, samples).1, ""));
        numbers(position, samples).map(item).collect()
    })
}

/// The decompositions of one question, see [`place`].
fn numbers(position: usize, samples: u32) -> Range<usize> {
    let samples = samples as usize;
    position * samples..(position + 1) * samples
}

/// Questions left to collect where the screening has collected what it needs: those of dev, and of those that are still to be
/// screened the ones that are not collected yet.
fn in_waves(context: &Context, collected: &Settled, screening: &Part<'_>) -> u64 {
    let waits = |position: &usize| collected.missing(numbers(*position, context.plan.collect.samples)) > 0;
    let waiting = |positions: Range<usize>| positions.filter(waits).count() as u64;
    let (train, dev) = (context.questions.train.len(), context.questions.dev.len());
    let of_train = waiting(0..screening.total as usize);
    let ready = screening.total - screening.done - of_train;
    waiting(train..train + dev) + of_train.min(screening.left.saturating_sub(ready))
}

/// A row is screened when every decomposition of it is, and it has none left to be collected.
fn screening<'a>(
    context: &Context,
    plan: &ScreenPlan,
    (collected, screened): (&Settled, &Settled),
    most: usize,
) -> Part<'a> {
    let (samples, rows) = (context.plan.collect.samples, screen::screened(context, plan));
    let questions = context.questions.train.iter().take(rows);
    let mut part = part(context, (Stage::Screen, None), questions, most, |position, question| {
        let all = numbers(position, samples);
        let is_over = |number: usize| collected.is_rejected(number) || screened.has(number);
        let item = |number| key(question, place(number, samples).1, "");
        (collected.missing(all.clone()) == 0 && all.clone().all(is_over))
            .then(|| all.filter(|number| collected.is_done(*number)).map(item).collect())
    });
    let kept = screen::kept(screened, (plan.rule, samples), 0..rows * samples as usize);
    part.left = part.left.min(wanted(plan, kept, part.done));
    part
}

/// Rows that are screened until enough are kept, at the rate of those so far.
fn wanted(plan: &ScreenPlan, kept: usize, rows: u64) -> u64 {
    let Some(until) = plan.until else { return u64::MAX };
    match until.saturating_sub(kept) as u64 {
        0 => 0,
        _ if kept == 0 => u64::MAX,
        missing => (missing * rows).div_ceil(kept as u64),
    }
}

/// The item, if it is settled.
fn one_of(settled: &Marks, item: ItemKey) -> Option<ItemKey> {
    settled.is_done(&item).map(|_| item)
}

fn answering<'a>(context: &Context, plan: &EvaluatePlan, arm: &'a Arm, settled: &Marks, most: usize) -> Part<'a> {
    let slug = arm.slug();
    part(context, (Stage::Evaluate, Some(arm)), asked(context, plan, arm), most, |_, question| {
        (0..plan.repeats).map(|repeat| one_of(settled, key(question, repeat, &slug))).collect()
    })
}

/// The questions of an arm.
fn asked<'a>(context: &'a Context, plan: &EvaluatePlan, arm: &'a Arm) -> impl Iterator<Item = Arc<Question>> + 'a {
    let grid = evaluate::grid(context, plan);
    evaluate::questions(context, plan).iter().filter(move |question| grid.asks(arm, &question.dataset))
}

/// A row is judged when its answer is, or when it has none.
fn judging<'a>(
    context: &Context,
    (plan, judge): (&EvaluatePlan, &JudgePlan),
    arm: &'a Arm,
    docket: &Docket,
    most: usize,
) -> Part<'a> {
    let slug = arm.slug();
    part(context, (Stage::Judge, Some(arm)), asked(context, plan, arm), most, |_, question| {
        let of_answer = |repeat| docket.settled(context, judge, key(question, repeat, &slug));
        let settled = (0..plan.repeats).map(of_answer).collect::<Option<Vec<_>>>()?;
        Some(settled.into_iter().flatten().collect())
    })
}

fn key(question: &Question, sample: u32, arm: &str) -> ItemKey {
    ItemKey { question: question.id.clone(), sample, arm: arm.to_owned() }
}

fn part<'a>(
    context: &Context,
    (stage, arm): (Stage, Option<&'a Arm>),
    questions: impl Iterator<Item = Arc<Question>>,
    most: usize,
    items_of: impl Fn(usize, &Question) -> Option<Vec<ItemKey>>,
) -> Part<'a> {
    let (mut total, mut settled, mut chosen) = (0, 0, Chosen::new(most));
    for (position, question) in questions.enumerate() {
        total += 1;
        if let Some(items) = items_of(position, &question) {
            settled += 1;
            // The same rows in every part: a call that two arms share is then found in both.
            let order = derive_seed(context.plan.seed, &format!("forecast/{}", question.id));
            chosen.put(order, Row { question: question.id.clone(), items, calls: Vec::new() });
        }
    }
    Part { stage, arm, total, done: settled, left: total - settled, rows: chosen.rows() }
}

/// The first so many rows by their numbers, of any number of them; of fewer, all as they came.
struct Chosen<T> {
    most: usize,
    put: usize,
    rows: Vec<(u64, T)>,
}

impl<T> Chosen<T> {
    fn new(most: usize) -> Self {
        Self { most, put: 0, rows: Vec::new() }
    }

    fn put(&mut self, order: u64, row: T) {
        self.put += 1;
        self.rows.push((order, row));
        // Not at every row: each one is sorted a few times in all.
        if self.rows.len() > 2 * self.most {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.rows.sort_by_key(|(order, _)| *order);
        self.rows.truncate(self.most);
    }

    fn rows(mut self) -> Vec<T> {
        if self.put > self.most {
            self.cut();
        }
        self.rows.into_iter().map(|(_, row)| row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_rows_the_first_by_their_numbers_are_chosen_and_of_few_all() {
        let chosen = |most, rows: u64| {
            let mut chosen = Chosen::new(most);
            (0..rows).for_each(|row| chosen.put(derive_seed(7, &row.to_string()), row));
            chosen.rows()
        };
        let mut all: Vec<u64> = (0..1000).collect();
        all.sort_by_key(|row| derive_seed(7, &row.to_string()));
        assert_eq!(chosen(20, 1000), all[..20]);
        assert_eq!(chosen(20, 20), (0..20).collect::<Vec<_>>());
        assert_eq!((chosen(0, 9), chosen(20, 0)), (Vec::new(), Vec::new()));
    }
}
