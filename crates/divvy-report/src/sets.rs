//! Several data sets in one report: what each says, in words and side by side. Everything else is told for each by itself.

use divvy_core::results::{ArmResult, DatasetResults, Results};

use crate::{
    efficiency::with_interval,
    number, roles,
    table::{Cell, Column, Table},
    verdict::{self, Verdict},
};

/// The answer for each data set, in the recipe's order; one without a name where one data set was scored.
pub(crate) fn verdicts(results: &Results) -> Vec<(&str, Verdict)> {
    results.by_data_set().into_iter().map(|(set, one)| (set, verdict::verdict(&one))).collect()
}

/// All answers in a line, those that are alike together: `Distil neither part: stories and facts. Distil the decomposer: passages.`
pub(crate) fn title(verdicts: &[(&str, Verdict)]) -> String {
    let mut alike: Vec<(&str, Vec<&str>)> = Vec::new();
    for (set, verdict) in verdicts {
        match alike.iter_mut().find(|(other, _)| *other == verdict.short) {
            Some((_, sets)) => sets.push(set),
            None => alike.push((&verdict.short, vec![set])),
        }
    }
    let line = |(answer, sets): &(&str, Vec<&str>)| format!("{answer}: {}.", listed(sets));
    alike.iter().map(line).collect::<Vec<_>>().join(" ")
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        names => names.concat(),
    }
}

/// Every arm on every data set; `None` where there is one.
pub(crate) fn overview(results: &Results) -> Option<Table> {
    let sets = &results.by_dataset;
    let column = |set: &DatasetResults| {
        let n = set.arms.iter().map(ArmResult::questions).max().unwrap_or(0);
        Column::right(format!("{} (n = {})", set.dataset, number::count(n)), "")
    };
    let row = |arm: &ArmResult| {
        let name = Cell { mark: Some(roles::kind(results, arm).class()), ..Cell::text(arm.arm.clone()) };
        let of = |set: &DatasetResults| set.arms.iter().find(|other| other.arm == arm.arm).cloned();
        let cells = sets.iter().map(|set| of(set).map_or(Cell::text(number::DASH), |arm| with_interval(&arm)));
        std::iter::once(name).chain(cells).collect()
    };
    (!sets.is_empty()).then(|| Table {
        id: "data-sets",
        caption: "Accuracy (%) of every arm on every data set, with its 95 % interval".to_owned(),
        columns: std::iter::once(Column::left("Arm")).chain(sets.iter().map(column)).collect(),
        rows: results.arms.iter().map(row).collect(),
    })
}
