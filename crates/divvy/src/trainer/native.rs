//! Trains a student on this machine with divvy-student.

use std::{ops::ControlFlow, path::Path};

use divvy_core::records::{TrainNews, TrainPoint};
use divvy_flow::train::{Job, Observe, Stopped};
use divvy_student::{
    adapter::AdapterLabel,
    matrix::Numerics,
    model::Model,
    train::{self, Base, StepRecord, TrainError, TrainEvent, Trained, TrainedWeights},
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
    let trained = run(&model, job, &folder.join("checkpoint"), observe)?;
    let content = save(&trained, &model, folder, &label(&model, job)?)?;
    // The student stands: the optimiser's state is of no more use.
    let _ = std::fs::remove_dir_all(folder.join("checkpoint"));
    Ok(Made { content, too_long: trained.skipped })
}

fn run(model: &Model, job: &Job, checkpoint: &Path, observe: &mut Observe<'_>) -> Result<Trained, Stopped> {
    let rows = tokenise(model, &job.rows)?;
    let dev = tokenise(model, &job.dev)?;
    let base = Base { config: &model.config, weights: &model.weights, hash: &model.content_hash };
    let mut total = 0;
    let mut watch = |event: TrainEvent| match event {
        TrainEvent::Started { steps, .. } => {
            total = steps;
            ControlFlow::Continue(())
        }
        TrainEvent::Step(record) => observe(TrainNews::Step(&point(&record), total)),
        TrainEvent::Progress { .. } | TrainEvent::Checkpointed { .. } => ControlFlow::Continue(()),
    };
    train::train(base, &rows, &dev, &config(job), Some(checkpoint), &mut watch).map_err(|error| match error {
        TrainError::Interrupted { .. } => Stopped::Interrupted,
        other => failed(other),
    })
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
