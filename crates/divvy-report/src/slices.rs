//! The tables of slices: what decomposing gains by number of steps, accuracy by kind of answer, by passage and by the teacher's number of subquestions, each with its n and its
//! interval. Steps that are known are in `tables`.

use std::collections::BTreeMap;

use divvy_core::results::{ArmSlices, Comparison, Results, Slice};

use crate::{
    efficiency::share,
    number,
    table::{Cell, Column, Table},
    tables,
};

/// Passages shown; the JSON form has them all.
const PASSAGES: usize = 12;

/// Where it pays to decompose: a row a comparison of an arm that does with one that does not, a column a number of steps; `None`
/// where no data set knows them.
pub(crate) fn gains(results: &Results) -> Option<Table> {
    let counts =
        tables::most_at(results.comparisons.iter().flat_map(|pair| &pair.by_steps).map(|step| (step.steps, step.n)));
    let cell = |pair: &Comparison, steps: u32| {
        let step = pair.by_steps.iter().find(|step| step.steps == steps);
        step.map_or(Cell::text(number::DASH), |step| {
            let told = format!("{} ({})", number::points(step.difference), number::points_interval(step.ci));
            Cell::number(told, step.difference)
        })
    };
    let row = |pair: &Comparison| {
        let pair_of = [pair.a.clone(), pair.b.clone()].map(Cell::text);
        pair_of.into_iter().chain(counts.keys().map(|steps| cell(pair, *steps))).collect()
    };
    let weighed = results.comparisons.iter().filter(|pair| !pair.by_steps.is_empty());
    (!counts.is_empty()).then(|| Table {
        id: "gains",
        caption: "A − B (points) by number of reasoning steps, where one of them decomposes, with its 95 % interval, not adjusted"
            .to_owned(),
        columns: ["A", "B"].map(Column::left).into_iter().chain(tables::step_columns(&counts)).collect(),
        rows: weighed.map(row).collect(),
    })
}

/// A row an arm, a column a kind; `None` where all questions ask for one kind.
pub(crate) fn answers(results: &Results) -> Option<Table> {
    let caption = "Accuracy (%) by kind of answer, with its 95 % interval";
    across(results, ("answers", caption), "Arm (answer)", |arm| &arm.by_answer).filter(|table| table.columns.len() > 2)
}

/// A column a number; `None` where the data set itself says how many steps a question takes, or no teacher decomposed it.
pub(crate) fn subquestions(results: &Results) -> Option<Table> {
    let caption =
        "Accuracy (%) by the teacher's number of subquestions, as no gold steps are known, with its 95 % interval";
    across(results, ("subquestions", caption), "Arm (subquestions)", |arm| &arm.by_subquestions)
}

/// The passages with most questions; `None` where none is shared.
pub(crate) fn passages(results: &Results) -> Option<Table> {
    let caption = "Accuracy (%) by passage, with its 95 % interval, where most questions share one";
    across(results, ("passages", caption), "Arm (passage)", |arm| &arm.by_passage)
}

fn across(
    results: &Results,
    (id, caption): (&'static str, &str),
    first: &str,
    of: impl Fn(&ArmSlices) -> &Vec<Slice>,
) -> Option<Table> {
    // Every arm of a data set is asked the same questions.
    let shown: Vec<&Slice> =
        results.slices.iter().map(&of).find(|slices| !slices.is_empty())?.iter().take(PASSAGES).collect();
    let row = |arm: &ArmSlices| {
        let slices: BTreeMap<&str, &Slice> = of(arm).iter().map(|slice| (slice.of.as_str(), slice)).collect();
        let cell = |slice: &&Slice| slices.get(slice.of.as_str()).map_or(Cell::text(number::DASH), |slice| told(slice));
        std::iter::once(Cell::text(arm.arm.clone())).chain(shown.iter().map(cell)).collect()
    };
    let column = |slice: &&Slice| Column::right(format!("{} (n = {})", slice.of, number::count(slice.n)), "");
    Some(Table {
        id,
        caption: caption.to_owned(),
        columns: std::iter::once(Column::left(first)).chain(shown.iter().map(column)).collect(),
        rows: results.slices.iter().map(row).collect(),
    })
}

fn told(slice: &Slice) -> Cell {
    share(slice.n, number::ratio(slice.correct, slice.n).unwrap_or(f64::NAN), slice.ci)
}
