//! Decomposition quality as a table: one row for each decomposer that was collected from or evaluated.

use divvy_core::{
    quality::{Quality, Share},
    records::Stage,
    results::{DecomposerQuality, Pass, Results},
};

use crate::{
    number::{self, DASH},
    roles,
    table::{Cell, Column, Table},
    tables::counted,
};

/// `None` where nothing was decomposed.
pub(crate) fn table(results: &Results) -> Option<Table> {
    (!results.quality.is_empty()).then(|| Table {
        id: "decompositions",
        caption: "Decompositions".to_owned(),
        columns: vec![
            Column::left("Decomposer"),
            Column::right("n", ""),
            Column::right("Well-formed", "%"),
            Column::right("No decomposition", ""),
            Column::right("Mean subquestions", ""),
            Column::grouped("Against gold steps:", "mean", ""),
            Column::grouped("Against gold steps:", "equal", "%"),
            Column::right("Repeating", ""),
            Column::right("Leaking", "%"),
            Column::right("With #k", "%"),
            Column::right("Solver right", "%"),
            Column::left("Solver"),
        ],
        rows: results.quality.iter().map(row).collect(),
    })
}

fn row(entry: &DecomposerQuality) -> Vec<Cell> {
    let quality = &entry.quality;
    let well_formed = number::ratio(quality.well_formed, quality.n).unwrap_or(f64::NAN);
    let mean = quality.mean_subquestions().unwrap_or(f64::NAN);
    let difference = quality.steps.mean_difference();
    let equal = Share { of: quality.steps.of, count: quality.steps.equal };
    let pass = entry.pass.as_ref();
    let rate = pass.map_or(f64::NAN, |pass| pass.rate);
    vec![
        Cell::text(name(entry)),
        counted(quality.n),
        Cell::number(number::percent(well_formed), well_formed),
        counted(quality.declined),
        Cell::number(number::decimal(mean, 1), mean),
        Cell::number(difference.map_or_else(|| DASH.to_owned(), signed), difference.unwrap_or(f64::NAN)),
        share(equal),
        counted(quality.repeating),
        share(quality.leaking),
        share(quality.referring),
        Cell::number(number::percent(rate), rate),
        Cell::text(pass.map_or_else(|| DASH.to_owned(), |pass| roles::plain(&pass.solver).to_owned())),
    ]
}

fn share(share: Share) -> Cell {
    let value = share.value().unwrap_or(f64::NAN);
    Cell::number(number::percent(value), value)
}

fn signed(difference: f64) -> String {
    // Not where it is shown as nothing.
    let sign = if difference >= 0.05 { "+" } else { "" };
    format!("{sign}{}", number::decimal(difference, 1))
}

/// `sd-r`, `big+shots=1`, `self-ask/small/big`, `big (collected)`.
fn name(entry: &DecomposerQuality) -> String {
    let decomposer = roles::plain(&entry.decomposer);
    let asked = match &entry.heard {
        Some(heard) => format!("{}/{decomposer}/{}{}", heard.strategy, roles::plain(&heard.solver), entry.variant),
        None => format!("{decomposer}{}", entry.variant),
    };
    if entry.stage == Stage::Collect { format!("{asked} (collected)") } else { asked }
}

/// What the columns mean, with the denominators of those whose n is not the table's.
pub(crate) fn notes(results: &Results) -> Vec<String> {
    if results.quality.is_empty() {
        return Vec::new();
    }
    let denominators: Vec<String> = results.quality.iter().map(denominators).collect();
    vec![
        "Decompositions: “no decomposition” is a decomposer’s own word, its question is solved in one call. Leaking: a \
         subquestion names an answer that nobody could know yet. Solver right: with these decompositions, over all n; of \
         collected ones, over those that were screened."
            .to_owned(),
        format!("Their denominators (gold steps, leaking, with #k, solver right): {}.", denominators.join("; ")),
    ]
}

fn denominators(entry: &DecomposerQuality) -> String {
    let Quality { steps, leaking, referring, .. } = &entry.quality;
    let solved = entry.pass.as_ref().map_or_else(|| DASH.to_owned(), |Pass { n, .. }| number::count(*n));
    let [steps, leaking, referring] = [steps.of, leaking.of, referring.of].map(number::count);
    format!("{} {steps}, {leaking}, {referring}, {solved}", name(entry))
}
