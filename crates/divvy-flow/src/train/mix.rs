//! How training sets are mixed, and how a student's rows are limited. Both are chosen by the seed and by what a row is made
//! of, never by its place: the smaller choice is a part of the larger, and students of one recipe that want so many rows
//! get the rows of the same questions, whatever they learn from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use divvy_core::{digest::derive_seed, plan::StudentPlan, question::QuestionId};

use super::rows::Taught;

/// Whether a student of this plan learns some rows only, or some of them several times.
pub(crate) fn chooses(plan: &StudentPlan) -> bool {
    !plan.mix.is_empty() || plan.rows.is_some()
}

/// All that a choice knows of a row.
pub(crate) struct Mark {
    question: QuestionId,
    sample: u32,
    /// A hash: it only tells an item's rows apart.
    completion: u64,
}

impl Mark {
    pub(crate) fn of(taught: &Taught) -> Self {
        let mut hasher = DefaultHasher::new();
        taught.row.completion.hash(&mut hasher);
        Self { question: taught.from.question.clone(), sample: taught.from.sample, completion: hasher.finish() }
    }
}

/// In their old order; a row that is learnt several times stands there several times.
pub(super) fn mixed(rows: Vec<Taught>, plan: &StudentPlan, seed: u64) -> Vec<Taught> {
    if !chooses(plan) {
        return rows;
    }
    let copies = copies(&rows.iter().map(Mark::of).collect::<Vec<_>>(), plan, seed);
    rows.into_iter().zip(copies).flat_map(|(taught, copies)| std::iter::repeat_n(taught, copies)).collect()
}

/// How often each row is learnt.
pub(crate) fn copies(rows: &[Mark], plan: &StudentPlan, seed: u64) -> Vec<usize> {
    let mut copies = if plan.mix.is_empty() { vec![1; rows.len()] } else { weighted(rows, &plan.mix, seed) };
    if let Some(most) = plan.rows.filter(|most| *most < copies.iter().sum()) {
        let repeated = copies.iter().enumerate().flat_map(|(at, copies)| std::iter::repeat_n(at, *copies));
        let learnt: Vec<usize> = repeated.collect();
        copies.fill(0);
        for position in first(learnt.iter().map(|at| &rows[*at]), most, seed) {
            copies[learnt[position]] += 1;
        }
    }
    copies
}

/// A weight of 2.5 is every row twice, and half of the rows once more.
fn weighted(rows: &[Mark], mix: &BTreeMap<String, f64>, seed: u64) -> Vec<usize> {
    let mut by_set: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        by_set.entry(row.question.set()).or_default().push(at);
    }
    let mut copies = vec![0; rows.len()];
    for (set, weight) in mix {
        let Some(at) = by_set.get(set.as_str()) else { continue };
        let some = (weight.fract() * at.len() as f64).round() as usize;
        let once_more = first(at.iter().map(|at| &rows[*at]), some, seed);
        for (position, at) in at.iter().enumerate() {
            copies[*at] = weight.trunc() as usize + usize::from(once_more.contains(&position));
        }
    }
    copies
}

/// Positions of the first so many in the seed's order, in which each copy of a row has a place of its own, so that the sets
/// keep their shares.
fn first<'m>(rows: impl Iterator<Item = &'m Mark>, most: usize, seed: u64) -> BTreeSet<usize> {
    let mut copies: BTreeMap<(&str, u32, u64), usize> = BTreeMap::new();
    let mut draws: Vec<(u64, usize)> = Vec::new();
    for (at, Mark { question, sample, completion }) in rows.enumerate() {
        let copy = copies.entry((&question.0, *sample, *completion)).or_default();
        draws.push((derive_seed(seed, &format!("mix/{question}/{sample}/{copy}")), at));
        *copy += 1;
    }
    draws.sort_unstable();
    draws.into_iter().take(most).map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests;
