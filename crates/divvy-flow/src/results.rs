//! Reads a finished (or half finished) run back from the store and counts: the one place where records become figures.

mod comparisons;
mod costs;
mod counted;
mod families;
mod once;
mod outline;
mod quality;
mod scored;
mod scoring;
mod seeds;
mod sharing;
mod slices;
mod stages;
mod tally;
mod took;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use divvy_core::{
    cost::Prices,
    questions::Questions,
    records::Stage,
    results::{
        ArmResult, DatasetUse, ModelUse, Results,
        costs::{Costs, StatedTerms},
    },
};

use self::{counted::Counting, scored::Records, stages::Finds};
use crate::{
    context::Context,
    error::FlowError,
    rows::{self, OfCalls, Part},
};

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
        let counting = Counting::of(plan);
        // Figures at least: what calls took is counted.
        let calls = make.calls.max(OfCalls::Figures);
        let both = move |part: Part| Ok(((make.of)(&part.sheet()?), counting.count(part)));
        rows::each_part(context, plan, calls, Arc::new(both), |(made, part)| {
            records.add(part);
            take(made)
        })
        .await?;
    }
    count(context, heading, records).await
}

async fn count(context: &Context, heading: Heading, records: Records) -> Result<Results, FlowError> {
    let mut finds = Finds::none_yet(context).await?;
    finds.look(Stage::Evaluate, records.calls());
    let training = stages::training(context).await?;
    let scored = scored::read(context, (heading.terms, &heading.prices), &training, records).await?;
    let mut results = Results {
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
        collection: stages::collection(context, &mut finds).await?,
        screening: stages::screening(context, &mut finds).await?,
        training,
        students: stages::students(context),
        stages: stages::stages(context, &finds).await?,
    };
    forget_uncounted(&mut results);
    Ok(results)
}

/// A total of tokens to which some call did not add its own is unknown, also over all data sets and of each seed.
fn forget_uncounted(results: &mut Results) {
    let of = |costs: Option<&Costs>| -> HashSet<String> {
        let arms = costs.iter().flat_map(|costs| &costs.arms).filter(|cost| cost.unknown_usage > 0);
        arms.map(|cost| cost.arm.clone()).collect()
    };
    let mut anywhere = of(results.costs.as_ref());
    for set in &mut results.by_dataset {
        let here = of(set.costs.as_ref());
        forget(&here, &mut set.arms, &mut set.seeds);
        anywhere.extend(here);
    }
    forget(&anywhere, &mut results.arms, &mut results.seeds);
}

fn forget(unknown: &HashSet<String>, arms: &mut [ArmResult], seeds: &mut [ArmResult]) {
    for arm in arms.iter_mut().filter(|arm| unknown.contains(&arm.arm)) {
        arm.forget_tokens();
        let of = arm.pool.as_ref().map_or(&[][..], |pool| &pool.of);
        seeds.iter_mut().filter(|seed| of.contains(&seed.arm)).for_each(ArmResult::forget_tokens);
    }
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
