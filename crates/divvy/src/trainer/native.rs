//! Trains a student on this machine with divvy-student.

use std::{
    cell::RefCell,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use divvy_core::{
    recipe::{Quantised, StopOn},
    records::{TrainNews, TrainPoint},
    results::KeptStep,
};
use divvy_flow::train::{Job, Observe, Stopped};
use divvy_student::{
    adapter::{Adapter, AdapterLabel},
    matrix::Numerics,
    model::Model,
    train::{self, Base, Journal, Quality, StepRecord, TrainError, TrainEvent, Trained, TrainedWeights},
};

use super::{Made, config, failed, label, quality::Dev, tokenise};
use crate::host::Hosts;

pub(super) fn train(
    hosts: &Hosts,
    (base, quantised): (&Path, Option<Quantised>),
    job: &Job,
    folder: &Path,
    observe: &mut Observe<'_>,
) -> Result<Made, Stopped> {
    let model = load(hosts, base, quantised, &job.base)?;
    let trained = run(&model, job, folder, observe)?;
    let content = save(&trained, &model, folder, &label(&model, job)?)?;
    // The student stands: the optimiser's state is of no more use.
    let _ = std::fs::remove_dir_all(folder.join("checkpoint"));
    Ok(Made { content, too_long: trained.skipped, kept: kept(&trained, job) })
}

/// A base in its stored form is for this student alone: those who answer read it in another form.
fn load(hosts: &Hosts, base: &Path, quantised: Option<Quantised>, name: &str) -> Result<Arc<Model>, Stopped> {
    if quantised.is_none() {
        return hosts.model(base, Numerics::Exact).map_err(failed);
    }
    let model = Model::load_as(base, Numerics::Stored).map_err(failed)?;
    if !model.weights.is_quantised() {
        return Err(Stopped::Failed(format!(
            "the weights of `{name}` are not quantised, and would gain nothing: leave train.quantised out, or take a GGUF file \
             such as Q4_K_M as the base"
        )));
    }
    Ok(Arc::new(model))
}

/// The record says which step's weights these are.
fn kept(trained: &Trained, job: &Job) -> Option<KeptStep> {
    let (best, stop) = (trained.kept?, job.plan.tuning.early_stop?);
    Some(KeptStep { step: best.step, of: trained.log.len() as u64, on: stop.on, value: best.value })
}

fn run(model: &Arc<Model>, job: &Job, folder: &Path, observe: &mut Observe<'_>) -> Result<Trained, Stopped> {
    let rows = tokenise(model, &job.rows)?;
    let dev = tokenise(model, &job.dev)?;
    let base = Base { config: &model.config, weights: &model.weights, hash: &model.content_hash };
    let (mut total, mut log) = (0, Log { folder: folder.join("log"), journal: None, failed: None });
    // Whoever trains and whoever judges tell the same one, in turn.
    let observe = RefCell::new(observe);
    let tell = |news: TrainNews<'_>| (*observe.borrow_mut())(news);
    let mut watch = |event: TrainEvent| match event {
        TrainEvent::Started { steps, resumed_at, .. } => {
            total = steps;
            log.begin(resumed_at)
        }
        TrainEvent::Step(record) => match log.step(&record) {
            ControlFlow::Continue(()) => tell(TrainNews::Step(&point(&record), total)),
            stop => stop,
        },
        TrainEvent::Progress { .. } | TrainEvent::Checkpointed { .. } => ControlFlow::Continue(()),
    };
    let judged = Dev::of(model, job);
    let mut judge = |adapter: &Adapter| judged.quality(adapter, &|| tell(TrainNews::Nothing).is_continue());
    let judges = job.plan.tuning.early_stop.is_some_and(|stop| stop.on == StopOn::DecompositionQuality);
    let judge: Option<&mut Quality<'_>> = if judges { Some(&mut judge) } else { None };
    let checkpoint = folder.join("checkpoint");
    let trained = train::train_by(base, (&rows, &dev), &config(job), Some(&checkpoint), &mut watch, judge);
    trained.map_err(|error| match (error, log.failed) {
        (TrainError::Interrupted { .. }, Some(reason)) => Stopped::Failed(reason),
        (TrainError::Interrupted { .. }, None) => Stopped::Interrupted,
        (error @ TrainError::Diverged { .. }, _) => Stopped::Diverged(error.to_string()),
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
