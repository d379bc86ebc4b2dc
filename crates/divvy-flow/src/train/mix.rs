//! How training sets are mixed, and how a student's rows are limited. Both are chosen by the seed and by what a row is made
//! of, never by its place: the smaller choice is a part of the larger, and students of one recipe that want so many rows
//! get the rows of the same questions, whatever they learn from them.

use std::collections::{BTreeMap, BTreeSet};

use divvy_core::{digest::derive_seed, plan::StudentPlan};

use super::rows::Taught;

/// In their old order; a row that is learnt several times stands there several times.
pub(super) fn mixed(rows: Vec<Taught>, plan: &StudentPlan, seed: u64) -> Vec<Taught> {
    let rows = if plan.mix.is_empty() { rows } else { weighted(rows, &plan.mix, seed) };
    match plan.rows {
        Some(most) if most < rows.len() => {
            let chosen = first(&rows.iter().collect::<Vec<_>>(), most, seed);
            keep(rows, &chosen)
        }
        _ => rows,
    }
}

/// A weight of 2.5 is every row twice, and half of the rows once more.
fn weighted(rows: Vec<Taught>, mix: &BTreeMap<String, f64>, seed: u64) -> Vec<Taught> {
    let mut by_set: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, taught) in rows.iter().enumerate() {
        by_set.entry(taught.from.question.set()).or_default().push(at);
    }
    let mut copies = vec![0; rows.len()];
    for (set, weight) in mix {
        let Some(at) = by_set.get(set.as_str()) else { continue };
        let some = (weight.fract() * at.len() as f64).round() as usize;
        let once_more = first(&at.iter().map(|at| &rows[*at]).collect::<Vec<_>>(), some, seed);
        for (position, at) in at.iter().enumerate() {
            copies[*at] = weight.trunc() as usize + usize::from(once_more.contains(&position));
        }
    }
    rows.into_iter().zip(copies).flat_map(|(taught, copies)| std::iter::repeat_n(taught, copies)).collect()
}

/// Positions of the first so many in the seed's order, in which each copy of a row has a place of its own, so that the sets
/// keep their shares.
fn first(rows: &[&Taught], most: usize, seed: u64) -> BTreeSet<usize> {
    let mut copies: BTreeMap<(&str, u32, &str), usize> = BTreeMap::new();
    let mut draws: Vec<(u64, usize)> = Vec::with_capacity(rows.len());
    for (at, taught) in rows.iter().enumerate() {
        let (question, sample) = (&taught.from.question.0, taught.from.sample);
        let copy = copies.entry((question, sample, &taught.row.completion)).or_default();
        draws.push((derive_seed(seed, &format!("mix/{question}/{sample}/{copy}")), at));
        *copy += 1;
    }
    draws.sort_unstable();
    draws.into_iter().take(most).map(|(_, at)| at).collect()
}

fn keep(rows: Vec<Taught>, chosen: &BTreeSet<usize>) -> Vec<Taught> {
    rows.into_iter().enumerate().filter(|(at, _)| chosen.contains(at)).map(|(_, taught)| taught).collect()
}

#[cfg(test)]
mod tests;
