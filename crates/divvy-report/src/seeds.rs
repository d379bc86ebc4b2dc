//! Students with several seeds: each seed's arm beside the one that pools them, so that the spread is seen.

use divvy_core::results::{ArmResult, Results};

use crate::{
    efficiency::with_interval,
    number, roles,
    table::{Cell, Column, Table},
    tables::{answers, counted},
};

/// Of every pooled arm its seeds, then all of them together; `None` where nothing is pooled.
pub(crate) fn table(results: &Results) -> Option<Table> {
    let rows: Vec<Vec<Cell>> = results.arms.iter().flat_map(|arm| of_arm(results, arm)).collect();
    (!rows.is_empty()).then(|| Table {
        id: "seeds",
        caption: "Accuracy (%) of each seed, and of all together with their spread".to_owned(),
        columns: vec![
            Column::left("Arm"),
            Column::right("n", ""),
            Column::right("Correct", ""),
            Column::right("Accuracy", "%"),
        ],
        rows,
    })
}

fn of_arm(results: &Results, arm: &ArmResult) -> Vec<Vec<Cell>> {
    let Some(pool) = &arm.pool else { return Vec::new() };
    let row = |one: &ArmResult| {
        let name = Cell { mark: Some(roles::kind(results, arm).class()), ..Cell::text(one.arm.clone()) };
        vec![name, answers(one), counted(one.correct), with_interval(one)]
    };
    let seeds = pool.of.iter().filter_map(|slug| results.seeds.iter().find(|seed| seed.arm == *slug));
    seeds.map(row).chain([row(arm)]).collect()
}

/// What the figures of several answers to a question mean.
pub(crate) fn notes(results: &Results) -> Vec<String> {
    let mut notes = Vec::new();
    let several = |arm: &&ArmResult| arm.each > 1;
    if let Some(most) = results.arms.iter().filter(several).map(|arm| arm.each).max() {
        notes.push(format!(
            "Where a question has several answers (up to {most}), n and every count are of answers, as in 300 × 3; accuracy is \
             the mean of the questions’ means. Its interval draws whole questions, and so do the tests (paired bootstrap); tokens \
             and costs are means per answer.",
            most = number::count(most)
        ));
    }
    if results.arms.iter().any(|arm| arm.pool.is_some()) {
        notes.push(
            "All seeds of a student are one arm. Its interval draws questions and seeds; a few seeds say little of all that might \
             have been, so look at the spread beside it. Tests are over questions, for these very seeds."
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use divvy_core::{arm::Strategy, results::Pool};

    use super::*;
    use crate::testing;

    #[test]
    fn every_seed_stands_beside_the_pool() {
        assert_eq!(table(&testing::results()), None);
        assert!(notes(&testing::results()).is_empty());
        let mut results = testing::results();
        let seed = |number: u64, correct| {
            let slug = format!("two-stage/sd#{number}/big");
            testing::arm(&slug, Strategy::TwoStage, Some(&format!("student:sd#{number}")), correct)
        };
        results.seeds = vec![seed(1, 90), seed(2, 120)];
        let whole = testing::arm("two-stage/sd/big", Strategy::TwoStage, Some("student:sd"), 105);
        let of = results.seeds.iter().map(|seed| seed.arm.clone()).collect();
        let pool = Some(Pool { of, lowest: 0.3, highest: 0.4 });
        results.arms.push(ArmResult { n: 600, correct: 210, each: 2, pool, ..whole });
        let text = crate::table::markdown(&table(&results).unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[2].contains("two-stage/sd#1/big") && lines[2].contains("30.0"), "{text}");
        assert!(lines[4].contains("| two-stage/sd/big ") && lines[4].contains("300 × 2"), "{text}");
        assert!(lines[4].contains("35.0 (30.0–40.0), seeds 30.0–40.0"), "{text}");
        assert_eq!(notes(&results).len(), 2);
    }
}
