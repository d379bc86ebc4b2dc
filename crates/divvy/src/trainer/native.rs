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
    adapter::AdapterLabel,
    matrix::Numerics,
    model::Model,
    train::{
        self, Base, Journal, Learnt, Look, StepRecord, TrainConfig, TrainError, TrainEvent, Trained, TrainedWeights,
    },
};

use super::{
    Made, Trainers, config, failed, label,
    quality::{Dev, Sample},
    tokenise,
};
use crate::host::Hosts;

pub(super) fn train(
    trainers: &Trainers,
    base: &Path,
    job: &Job,
    folder: &Path,
    observe: &mut Observe<'_>,
) -> Result<Made, Stopped> {
    let model = load(&trainers.hosts, base, trainers.train.quantised, &job.base)?;
    let trained = run(&model, (job, &config(job, &trainers.train)), folder, observe)?;
    let content = save(&trained, &model, folder, &label(&model, job, &trainers.published(job))?)?;
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

fn run(
    model: &Arc<Model>,
    (job, config): (&Job, &TrainConfig),
    folder: &Path,
    observe: &mut Observe<'_>,
) -> Result<Trained, Stopped> {
    let rows = tokenise(model, &job.rows)?;
    let dev = tokenise(model, &job.dev)?;
    let base = Base { config: &model.config, weights: &model.weights, hash: &model.content_hash };
    let mut total = 0;
    // Whoever trains and whoever judges tell the same one, and write into the same log, in turn.
    let log = RefCell::new(Log { folder: folder.join("log"), journal: None, failed: None });
    let observe = RefCell::new(observe);
    let tell = |news: TrainNews<'_>| (*observe.borrow_mut())(news);
    let mut watch = |event: TrainEvent| match event {
        TrainEvent::Started { steps, resumed_at, .. } => {
            total = steps;
            log.borrow_mut().begin(resumed_at)
        }
        TrainEvent::Step(record) => match log.borrow_mut().step(&record) {
            ControlFlow::Continue(()) => tell(TrainNews::Step(&point(&record), total)),
            stop => stop,
        },
        TrainEvent::Progress { .. } | TrainEvent::Checkpointed { .. } => tell(TrainNews::Nothing),
    };
    let dev_questions = Dev::of(model, job);
    let judges = job.plan.tuning.early_stop.is_some_and(|stop| stop.on == StopOn::DecompositionQuality);
    let mut look = |step: u64, learnt: Learnt<'_>| {
        let goes_on = || tell(TrainNews::Nothing).is_continue();
        let (quality, samples) = if judges {
            let (quality, samples) = dev_questions.quality(learnt, &goes_on)?;
            (Some(quality), samples)
        } else {
            (None, dev_questions.samples(learnt, &goes_on)?)
        };
        match log.borrow_mut().samples(step, &samples) {
            ControlFlow::Continue(()) => Ok(quality),
            ControlFlow::Break(()) => Err(TrainError::Interrupted { step: 0, checkpoint: None }),
        }
    };
    // A base as it is stored is unpacked for every token: nobody waits for that.
    let look: Option<&mut Look<'_>> = if model.weights.is_quantised() { None } else { Some(&mut look) };
    let checkpoint = folder.join("checkpoint");
    let trained = train::train_by(base, (&rows, &dev), config, Some(&checkpoint), &mut watch, look);
    trained.map_err(|error| match (error, log.into_inner().failed) {
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

    fn samples(&mut self, step: u64, samples: &[Sample]) -> ControlFlow<()> {
        let Some(journal) = &mut self.journal else { return ControlFlow::Continue(()) };
        match samples.iter().try_for_each(|sample| journal.sample(step, &sample.id, &sample.text)) {
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
        dev_quality: record.dev_quality,
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
