//! Trains a student on this machine with divvy-student.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use divvy_core::records::{TrainNews, TrainPoint};
use divvy_flow::train::{Job, Observe, Stopped};
use divvy_student::{
    adapter::AdapterLabel,
    matrix::Numerics,
    model::Model,
    train::{self, Base, Journal, StepRecord, TrainError, TrainEvent, Trained, TrainedWeights},
};

use super::{Made, config, failed, label, tokenise};
use crate::host::Hosts;

pub(super) fn train(
    hosts: &Hosts,
    base: &Path,
    job: &Job,
    folder: &Path,
    observe: &mut Observe<'_>,
) -> Result<Made, Stopped> {
    let model = hosts.model(base, Numerics::Exact).map_err(failed)?;
    let trained = run(&model, job, folder, observe)?;
    let content = save(&trained, &model, folder, &label(&model, job)?)?;
    // The student stands: the optimiser's state is of no more use.
    let _ = std::fs::remove_dir_all(folder.join("checkpoint"));
    Ok(Made { content, too_long: trained.skipped })
}

fn run(model: &Model, job: &Job, folder: &Path, observe: &mut Observe<'_>) -> Result<Trained, Stopped> {
    let rows = tokenise(model, &job.rows)?;
    let dev = tokenise(model, &job.dev)?;
    let base = Base { config: &model.config, weights: &model.weights, hash: &model.content_hash };
    let (mut total, mut log) = (0, Log { folder: folder.join("log"), journal: None, failed: None });
    let mut watch = |event: TrainEvent| match event {
        TrainEvent::Started { steps, resumed_at, .. } => {
            total = steps;
            log.begin(resumed_at)
        }
        TrainEvent::Step(record) => match log.step(&record) {
            ControlFlow::Continue(()) => observe(TrainNews::Step(&point(&record), total)),
            stop => stop,
        },
        TrainEvent::Progress { .. } | TrainEvent::Checkpointed { .. } => ControlFlow::Continue(()),
    };
    let trained = train::train(base, &rows, &dev, &config(job), Some(&folder.join("checkpoint")), &mut watch);
    trained.map_err(|error| match (error, log.failed) {
        (TrainError::Interrupted { .. }, Some(reason)) => Stopped::Failed(reason),
        (TrainError::Interrupted { .. }, None) => Stopped::Interrupted,
        (other, _) => failed(other),
    })
}

/// The training log in the student's folder; where it cannot be written, the run stops at its checkpoint.
struct Log {
    folder: PathBuf,
    journal: Option<Journal>,
    failed: Option<String>,
}

impl Log {
    fn begin(&mut self, resumed_at: u64) -> ControlFlow<()> {
        match Journal::open(&self.folder, resumed_at, seconds()) {
            Ok(journal) => {
                self.journal = Some(journal);
                ControlFlow::Continue(())
            }
            Err(error) => self.fail(&error),
        }
    }

    fn step(&mut self, record: &StepRecord) -> ControlFlow<()> {
        match self.journal.as_mut().map_or(Ok(()), |journal| journal.step(record, seconds())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &std::io::Error) -> ControlFlow<()> {
        self.failed = Some(format!("cannot write the training log in `{}`: {error}", self.folder.display()));
        ControlFlow::Break(())
    }
}

fn seconds() -> f64 {
    crate::clock::now_ms() as f64 / 1000.0
}

fn point(record: &StepRecord) -> TrainPoint {
    TrainPoint {
        step: record.step,
        loss: record.loss,
        learning_rate: record.learning_rate,
        grad_norm: record.grad_norm,
        tokens: record.tokens,
        tokens_per_second: record.tokens_per_second,
        dev_loss: record.dev_loss,
    }
}

/// An adapter beside its base, or full weights with the base's tokenizer. Returns the content digest.
fn save(trained: &Trained, base: &Model, folder: &Path, label: &AdapterLabel) -> Result<String, Stopped> {
    match &trained.weights {
        TrainedWeights::Adapter(adapter) => Ok(adapter.save(folder, label).map_err(failed)?.digest),
        TrainedWeights::Full(full) => {
            base.save_text(folder).map_err(failed)?;
            full.save(folder, label).map_err(failed)
        }
    }
}
