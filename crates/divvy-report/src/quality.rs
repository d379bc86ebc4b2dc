//! Decomposition quality as a table: one row for each decomposer that was collected from or evaluated.

use divvy_core::{
    quality::{Quality, Share},
    records::Stage,
    results::{DecomposerQuality, Pass, Results},
    stats::Interval,
};

use crate::{
    efficiency,
    number::{self, DASH},
    roles,
    table::{Cell, Column, Table},
    tables::counted,
};

/// `None` where nothing was decomposed.
pub(crate) fn table(results: &Results) -> Option<Table> {
    (!results.quality.is_empty()).then(|| Table {
        id: "decompositions",
        caption: "Decompositions, shares with their 95 % intervals".to_owned(),
        columns: vec![
            Column::left("Decomposer"),
            Column::right("n", ""),
            Column::right("Well-formed", "%"),
            Column::right("No decomposition", ""),
            Column::right("Mean subquestions", ""),
            Column::grouped("Against gold steps:", "mean", ""),
            Column::grouped("Against gold steps:", "equal", "%"),
            Column::right("Repeating", "interval in %"),
            Column::right("Leaking", "%"),
            Column::right("With #k", "%"),
            Column::right("Solver right", "%"),
            Column::left("Solver"),
        ],
        rows: results.quality.iter().map(row).collect(),
    })
}

fn row(entry: &DecomposerQuality) -> Vec<Cell> {
    let (quality, intervals) = (&entry.quality.counts, &entry.quality.intervals);
    let mean = quality.mean_subquestions().unwrap_or(f64::NAN);
    let difference = quality.steps.mean_difference();
    let of_n = |count| Share { of: quality.n, count };
    let equal = Share { of: quality.steps.of, count: quality.steps.equal };
    let pass = entry.pass.as_ref();
    vec![
        Cell::text(name(entry)),
        counted(quality.n),
        share(of_n(quality.well_formed), intervals.well_formed),
        counted(quality.declined),
        Cell::number(number::decimal(mean, 1), mean),
        Cell::number(difference.map_or_else(|| DASH.to_owned(), signed), difference.unwrap_or(f64::NAN)),
        share(equal, intervals.equal_steps),
        repeating(quality.repeating, intervals.repeating),
        share(quality.leaking, intervals.leaking),
        share(quality.referring, intervals.referring),
        pass.map_or(Cell::text(DASH), |pass| percent(pass.rate, pass.ci)),
        Cell::text(pass.map_or_else(|| DASH.to_owned(), |pass| roles::plain(&pass.solver).to_owned())),
    ]
}

fn share(share: Share, ci: Option<Interval>) -> Cell {
    share.value().map_or(Cell::text(DASH), |value| percent(value, ci))
}

/// `95.0 (91.2–97.4)`; results of earlier versions have no interval.
fn percent(share: f64, ci: Option<Interval>) -> Cell {
    ci.map_or_else(|| Cell::number(number::percent(share), share), |ci| efficiency::share(1, share, ci))
}

fn repeating(count: u64, ci: Option<Interval>) -> Cell {
    let interval = ci.map(|ci| format!(" ({})", number::percent_interval(ci))).unwrap_or_default();
    Cell::number(format!("{}{interval}", number::count(count)), count as f64)
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
    let Quality { steps, leaking, referring, .. } = &entry.quality.counts;
    let solved = entry.pass.as_ref().map_or_else(|| DASH.to_owned(), |Pass { n, .. }| number::count(*n));
    let [steps, leaking, referring] = [steps.of, leaking.of, referring.of].map(number::count);
    format!("{} {steps}, {leaking}, {referring}, {solved}", name(entry))
}

#[cfg(test)]
mod tests {
    use divvy_core::results::ShareIntervals;

    use super::*;
    use crate::{table::markdown, testing};

    #[test]
    fn shares_stand_with_their_intervals_where_they_have_some() {
        let mut results = testing::results();
        let text = markdown(&table(&results).unwrap());
        for cell in ["| 97.0 (94.4–98.4) |", "| 7 (1.1–4.7) |", "| 60.0 (54.0–65.0) |"] {
            assert!(text.contains(&cell[1..]), "{cell} in {text}");
        }
        for entry in &mut results.quality {
            entry.quality.intervals = ShareIntervals::default();
            entry.pass = None;
        }
        let text = markdown(&table(&results).unwrap());
        assert!(text.contains(" 97.0 |") && text.contains(" 7 |") && !text.contains("(94.4"), "{text}");
    }
}
