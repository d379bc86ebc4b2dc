//! Sample efficiency: arms that differ only in the number of rows that their student was trained on, as one series. A student
//! of several sizes is called `NAME@ROWS`; how many rows it really had is the training's word.

use std::collections::BTreeMap;

use divvy_core::{
    plan::without_seed,
    results::{ArmResult, Results},
};

use crate::{
    number,
    roles::{self, Kind},
    table::{Cell, Column, Table},
};

/// Arms of one student and one arrangement, by rows.
pub(crate) struct Series<'r> {
    /// The slug without the sizes.
    pub name: String,
    pub kind: Kind,
    pub points: Vec<Point<'r>>,
}

pub(crate) struct Point<'r> {
    pub rows: u64,
    pub arm: &'r ArmResult,
}

/// In the order of the arms; a series has two sizes at least.
pub(crate) fn series(results: &Results) -> Vec<Series<'_>> {
    let mut all: Vec<Series<'_>> = Vec::new();
    for arm in results.arms.iter().filter(|arm| arm.n > 0) {
        let Some((name, rows)) = place(results, arm) else { continue };
        let point = Point { rows, arm };
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => all.push(Series { name, kind: roles::kind(results, arm), points: vec![point] }),
        }
    }
    all.retain(|series| series.points.len() > 1);
    all.iter_mut().for_each(|series| series.points.sort_by_key(|point| point.rows));
    all
}

/// The series of an arm and its place in it; `None` unless exactly one part has sizes.
fn place(results: &Results, arm: &ArmResult) -> Option<(String, u64)> {
    let sized = |name: &str| {
        let training = roles::trained(results, name)?;
        // The first seed stands for all: they have the same rows.
        let student = roles::plain(&training.student);
        let (family, _) = without_seed(student).unwrap_or(student).rsplit_once('@')?;
        Some((roles::plain(name).to_owned(), family.to_owned(), training.rows))
    };
    match (arm.decomposer.as_deref().and_then(sized), sized(&arm.solver)) {
        (Some((name, family, rows)), None) | (None, Some((name, family, rows))) => {
            Some((arm.arm.replace(&format!("/{name}"), &format!("/{family}")), rows))
        }
        _ => None,
    }
}

/// Accuracy with its interval, a row for each series, a column for each number of rows.
pub(crate) fn table(results: &Results) -> Option<Table> {
    let all = series(results);
    let sizes: BTreeMap<u64, ()> = all.iter().flat_map(|one| &one.points).map(|point| (point.rows, ())).collect();
    let cell = |series: &Series<'_>, rows: u64| match series.points.iter().find(|point| point.rows == rows) {
        Some(Point { arm, .. }) => with_interval(arm),
        None => Cell::text(number::DASH),
    };
    let row = |series: &Series<'_>| {
        let name = Cell { mark: Some(series.kind.class()), ..Cell::text(series.name.clone()) };
        std::iter::once(name).chain(sizes.keys().map(|rows| cell(series, *rows))).collect()
    };
    let column = |rows: &u64| Column::right(number::count(*rows), "");
    (!all.is_empty()).then(|| Table {
        id: "efficiency",
        caption: "Accuracy (%) by number of training rows, with its 95 % interval".to_owned(),
        columns: std::iter::once(Column::left("Arm (training rows)")).chain(sizes.keys().map(column)).collect(),
        rows: all.iter().map(row).collect(),
    })
}

/// `33.5 (27.3–40.3)`; of several seeds, `33.5 (27.3–40.3), seeds 31.0–35.5`
pub(crate) fn with_interval(arm: &ArmResult) -> Cell {
    let cell = share(arm.n, arm.accuracy, arm.ci);
    match &arm.pool {
        Some(pool) => {
            Cell { text: format!("{}, seeds {}", cell.text, number::percent_interval(pool.spread())), ..cell }
        }
        None => cell,
    }
}

/// The same of any share; nothing where there were no questions.
pub(crate) fn share(n: u64, share: f64, ci: (f64, f64)) -> Cell {
    if n == 0 {
        return Cell::text(number::DASH);
    }
    Cell::number(format!("{} ({})", number::percent(share), number::percent_interval(ci)), share)
}

#[cfg(test)]
pub(crate) mod tests {
    use divvy_core::{
        arm::Strategy,
        results::{Pool, TrainingSummary},
    };

    use super::*;
    use crate::testing;

    /// Two targets of three sizes each; the largest has fewer rows than it wanted.
    pub(crate) fn sized() -> Results {
        let mut results = testing::results();
        let trained = results.training.remove(0);
        for (student, rows) in [("sd@100", 100), ("sd@400", 400), ("sd@1600", 640), ("se@100", 100), ("se@400", 390)] {
            results.training.push(TrainingSummary { student: student.to_owned(), rows, ..trained.clone() });
        }
        for (size, correct) in [("1600", 180), ("100", 60), ("400", 120)] {
            let (slug, student) = (format!("two-stage/sd@{size}/big"), format!("student:sd@{size}"));
            results.arms.push(testing::arm(&slug, Strategy::TwoStage, Some(&student), correct));
        }
        for size in ["100", "400"] {
            let arm = testing::arm(&format!("two-stage/teacher/se@{size}"), Strategy::TwoStage, Some("teacher"), 30);
            results.arms.push(ArmResult { solver: format!("student:se@{size}"), ..arm });
        }
        results
    }

    #[test]
    fn seeds_of_one_size_are_one_point_with_their_spread() {
        let mut results = sized();
        results.training.iter_mut().for_each(|training| training.student += "#1");
        let second: Vec<TrainingSummary> = results.training.clone();
        results.training.extend(
            second
                .into_iter()
                .map(|training| TrainingSummary { student: training.student.replace("#1", "#2"), ..training }),
        );
        let pool = Pool { of: vec!["a".to_owned(), "b".to_owned()], lowest: 0.12, highest: 0.28 };
        results.arms.iter_mut().filter(|arm| arm.arm.contains("sd@")).for_each(|arm| arm.pool = Some(pool.clone()));
        let told: Vec<(String, usize)> =
            series(&results).into_iter().map(|series| (series.name, series.points.len())).collect();
        assert_eq!(told, [("two-stage/sd/big".to_owned(), 3), ("two-stage/teacher/se".to_owned(), 2)]);
        let text = crate::table::markdown(&table(&results).unwrap());
        assert!(text.contains("20.0 (15.0–25.0), seeds 12.0–28.0"), "{text}");
    }

    #[test]
    fn a_series_is_one_arrangement_by_the_rows_that_there_were() {
        let results = sized();
        let told: Vec<(String, Vec<u64>)> = series(&results)
            .into_iter()
            .map(|series| (series.name, series.points.iter().map(|point| point.rows).collect()))
            .collect();
        let expect = [("two-stage/sd/big", vec![100, 400, 640]), ("two-stage/teacher/se", vec![100, 390])];
        assert_eq!(told, expect.map(|(name, rows)| (name.to_owned(), rows)));
        let table = table(&results).unwrap();
        let text = crate::table::markdown(&table);
        assert!(text.contains("| Arm (training rows)  |              100 |"), "{text}");
        assert!(
            text.contains("| two-stage/teacher/se |  10.0 (5.0–15.0) | 10.0 (5.0–15.0) |                – |"),
            "{text}"
        );
        assert_eq!(super::table(&testing::results()), None);
    }
}
