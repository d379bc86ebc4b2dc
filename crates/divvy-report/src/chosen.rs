//! What training chose by dev: the learning rate of a sweep, and the step whose weights were kept.

use divvy_core::{
    recipe::StopOn,
    results::{KeptStep, Results, TrainingSummary, Tried},
};

use crate::{
    number, roles,
    table::{Cell, Column, Table},
};

/// Every rate that was tried; `None` where no student has several.
pub(crate) fn sweeps(results: &Results) -> Option<Table> {
    let rows: Vec<Vec<Cell>> = results.training.iter().flat_map(of_student).collect();
    (!rows.is_empty()).then(|| Table {
        id: "sweeps",
        caption: "Learning rates that were tried; the least loss on dev is kept".to_owned(),
        columns: vec![
            Column::left("Student"),
            Column::right("Learning rate", ""),
            Column::right("Dev loss", "nats/token"),
            Column::left("Kept"),
        ],
        rows,
    })
}

fn of_student(training: &TrainingSummary) -> Vec<Vec<Cell>> {
    let row = |tried: &Tried| {
        let loss = tried.dev_loss.map_or(Cell::text("diverged"), |loss| Cell::number(number::decimal(loss, 4), loss));
        vec![
            Cell::text(roles::plain(&training.student)),
            Cell::number(tried.learning_rate.to_string(), tried.learning_rate),
            loss,
            Cell::text(if tried.kept { "yes" } else { "" }),
        ]
    };
    training.sweep.iter().map(row).collect()
}

/// Where each student's training was to end by what dev says; `None` where none was.
pub(crate) fn steps(results: &Results) -> Option<Table> {
    let rows: Vec<Vec<Cell>> =
        results.training.iter().filter_map(|training| Some(kept(training, training.kept.as_ref()?))).collect();
    (!rows.is_empty()).then(|| Table {
        id: "kept-steps",
        caption: "The step whose weights were kept, by what dev said".to_owned(),
        columns: vec![
            Column::left("Student"),
            Column::right("Kept step", ""),
            Column::right("Steps taken", ""),
            Column::left("By"),
            Column::right("Value on dev", ""),
        ],
        rows,
    })
}

fn kept(training: &TrainingSummary, kept: &KeptStep) -> Vec<Cell> {
    let (by, value) = match kept.on {
        StopOn::Loss => ("loss (nats/token)", number::decimal(kept.value, 4)),
        StopOn::DecompositionQuality => ("well-formed decompositions (%)", number::percent(kept.value)),
    };
    vec![
        Cell::text(roles::plain(&training.student)),
        Cell::number(number::count(kept.step), kept.step as f64),
        Cell::number(number::count(kept.of), kept.of as f64),
        Cell::text(by),
        Cell::number(value, kept.value),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{table::markdown, testing};

    #[test]
    fn what_was_chosen_stands_beside_what_was_not() {
        let mut results = testing::results();
        assert_eq!((sweeps(&results), steps(&results)), (None, None));
        let tried = |learning_rate, dev_loss, kept| Tried { learning_rate, dev_loss, kept };
        results.training[0].sweep = vec![tried(0.001, Some(0.5), true), tried(0.1, None, false)];
        results.training[0].kept = Some(KeptStep { step: 20, of: 40, on: StopOn::DecompositionQuality, value: 0.95 });
        let rates = markdown(&sweeps(&results).unwrap());
        assert!(rates.contains("0.5000") && rates.contains("diverged") && rates.matches("yes").count() == 1, "{rates}");
        let steps = markdown(&steps(&results).unwrap());
        assert!(steps.contains("95.0") && steps.contains("| sd-r"), "{steps}");
    }
}
