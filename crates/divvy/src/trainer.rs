//! Trains a student on this machine with divvy-student: rows become token ids through the very functions that inference
//! uses, and the result is a directory named by the job's digest.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use divvy_core::{digest::Digest, recipe, records::TrainPoint};
use divvy_flow::train::{Artefact, Job, Observe, Row, Stopped, Trainer};
use divvy_student::{
    adapter::{AdapterLabel, LoraSettings, Scaling},
    matrix::Numerics,
    model::Model,
    train::{
        self, Activations, Base, Journal, Method, Schedule, StepRecord, TrainConfig, TrainError, TrainEvent, TrainRow,
        Trained, TrainedWeights,
    },
};

use crate::host::Hosts;

/// Most tokens in one forward and backward pass: enough to keep the matrix kernels busy, about a gigabyte of
/// activations for a model of 135 million parameters.
const MICRO_TOKENS: usize = 1024;

pub(crate) struct Native {
    pub(crate) hosts: Arc<Hosts>,
    /// `STORE/students`
    pub(crate) folder: PathBuf,
    /// Base name in the recipe → file.
    pub(crate) bases: std::collections::BTreeMap<String, PathBuf>,
}

impl Trainer for Native {
    fn train(&self, key: &Digest, job: &Job, observe: &mut Observe<'_>) -> Result<Artefact, Stopped> {
        let path =
            self.bases.get(&job.base).ok_or_else(|| Stopped::Failed(format!("`{}` is not a local model", job.base)))?;
        let model = self.hosts.model(path, Numerics::Exact).map_err(|error| Stopped::Failed(error.to_string()))?;
        let began = Instant::now();
        let folder = self.folder.join(key.short());
        let trained = run(&model, job, &folder, observe)?;
        let content = save(&trained, &model, &folder, &label(&model, job)?)?;
        // The student stands: the optimiser's state is of no more use.
        let _ = std::fs::remove_dir_all(folder.join("checkpoint"));
        Ok(Artefact {
            path: std::path::absolute(&folder).unwrap_or(folder),
            content,
            rows: (job.rows.len() - trained.skipped) as u64,
            too_long: trained.skipped as u64,
            unusable: job.unusable,
            wall_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
        })
    }
}

fn failed(error: impl std::fmt::Display) -> Stopped {
    Stopped::Failed(error.to_string())
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
            ControlFlow::Continue(()) => observe(&point(&record), total),
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

fn tokenise(model: &Model, rows: &[Row]) -> Result<Vec<TrainRow>, Stopped> {
    let ids = |row: &Row| {
        let prompt = model.encode_chat(&row.prompt)?;
        Ok(TrainRow { prompt, completion: model.encode_completion(&row.completion)?, weight: row.weight as f32 })
    };
    rows.iter()
        .map(|row| ids(row).map_err(|error: divvy_student::error::TextError| failed(format!("{}: {error}", row.id))))
        .collect()
}

fn config(job: &Job) -> TrainConfig {
    let plan = &job.plan;
    TrainConfig {
        method: match plan.method {
            recipe::Method::Lora => {
                let scaling = if plan.tuning.rslora { Scaling::RankStabilised } else { Scaling::Plain };
                Method::Lora(LoraSettings { rank: plan.rank, alpha: plan.alpha as f32, scaling })
            }
            recipe::Method::Full => Method::Full,
        },
        epochs: plan.epochs,
        batch_rows: plan.batch_rows,
        micro_tokens: MICRO_TOKENS.max(plan.max_row_tokens),
        max_row_tokens: plan.max_row_tokens,
        learning_rate: plan.learning_rate,
        b_rate: plan.tuning.lora_plus,
        schedule: Schedule::Cosine,
        warmup_ratio: plan.warmup_ratio,
        min_lr_ratio: 0.0,
        weight_decay: plan.weight_decay as f32,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        max_grad_norm: plan.max_grad_norm,
        seed: job.seed,
        checkpoint_every_steps: plan.checkpoint_every,
        eval_every_steps: plan.eval_every,
        activations: Activations::Keep,
    }
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

/// A text whose ids whoever serves the adapter must reproduce.
const CANARY: &str = "Ann has 3 boxes of 12 pens.\n1. How many pens does Ann have in all?";

fn label(model: &Model, job: &Job) -> Result<AdapterLabel, Stopped> {
    Ok(AdapterLabel {
        base: model.content_hash.clone(),
        base_name: job.base.clone(),
        prompt: job.prompt_id.clone(),
        template: Digest::of("template/1", &model.template_text()).hex().to_owned(),
        canary: model.encode_completion(CANARY).map_err(failed)?,
        train: serde_json::to_value(&job.plan).map_err(failed)?,
    })
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
