//! Which rows every optimiser step takes, and at which rate. It follows from settings and seed alone, so that another engine
//! can be given the very same course.

use super::rows::epoch_order;
use super::schedule::{factor, warmup_steps};
use super::settings::TrainConfig;

/// One optimiser step.
#[derive(Clone, Debug, PartialEq)]
pub struct CourseStep {
    /// By their place among the rows that fit.
    pub rows: Vec<usize>,
    pub learning_rate: f64,
}

/// Every step of a run over so many rows.
pub fn course(rows: usize, config: &TrainConfig) -> impl Iterator<Item = CourseStep> {
    let rate = move |done| learning_rate(rows, config, done);
    let epochs = (0..config.epochs).flat_map(move |epoch| {
        let order = epoch_order(rows, config.seed, epoch);
        order.chunks(config.batch_rows).map(<[usize]>::to_vec).collect::<Vec<_>>()
    });
    (0..).zip(epochs).map(move |(done, rows)| CourseStep { rows, learning_rate: rate(done) })
}

pub(super) fn steps_per_epoch(rows: usize, config: &TrainConfig) -> u64 {
    rows.div_ceil(config.batch_rows) as u64
}

pub(super) fn learning_rate(rows: usize, config: &TrainConfig, done: u64) -> f64 {
    let TrainConfig { schedule, warmup_ratio, min_lr_ratio, learning_rate, epochs, .. } = *config;
    let steps = epochs * steps_per_epoch(rows, config);
    learning_rate * factor(schedule, done, steps, warmup_steps(warmup_ratio, steps), min_lr_ratio)
}
