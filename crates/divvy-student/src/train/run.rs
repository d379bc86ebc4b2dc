//! The training loop: epochs of shuffled rows, optimiser steps of packed micro-batches, the dev loss, checkpoints, and
//! an observer that sees every event and may stop the run at any of them.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use divvy_kernels::CrossEntropy;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, fingerprint};
use super::course::{learning_rate, steps_per_epoch};
use super::full::FullWeights;
use super::rows::{MicroBatch, TrainRow, epoch_order, room_for, split_into_micro_batches};
use super::settings::{Base, TrainConfig, TrainError};
use super::stop::Best;
use super::trainer::Trainer;
use crate::adapter::Adapter;
use crate::config::ModelConfig;
use crate::weights::Weights;

/// One optimiser step, as logged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Counts from 1.
    pub step: u64,
    pub epoch: u64,
    /// Weighted mean over the step's target tokens, in nats, before the update.
    pub loss: f64,
    pub learning_rate: f64,
    /// Before clipping.
    pub grad_norm: f64,
    /// Tokens of all rows in the step, prompt and completion.
    pub tokens: u64,
    pub target_tokens: u64,
    /// Target tokens that were the model's first choice.
    pub correct: u64,
    pub tokens_per_second: f64,
    /// Loss on the held-out rows after this step, where it was measured.
    pub dev_loss: Option<f64>,
    /// What [`Look`] said, where that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_quality: Option<f64>,
}

/// What has been learnt up to a step.
pub enum Learnt<'a> {
    /// Beside the base.
    Adapter(Adapter),
    /// In its place.
    Whole(&'a Weights),
}

/// Looks at what has been learnt after a step, whenever dev is looked at: how good it is at what it is for, where that is asked; more is
/// better. Whoever breaks it off says [`TrainError::Interrupted`].
pub type Look<'a> = dyn FnMut(u64, Learnt<'_>) -> Result<Option<f64>, TrainError> + 'a;

/// What the observer sees. Breaking at any event stops the run; its last finished step is checkpointed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainEvent {
    Started {
        steps: u64,
        /// Steps a checkpoint had already finished.
        resumed_at: u64,
        rows: usize,
        /// Rows left out because they are too long.
        skipped: usize,
        dev_rows: usize,
        dev_skipped: usize,
        parameters: usize,
        /// Of one epoch, prompt and completion.
        epoch_tokens: u64,
    },
    /// A micro-batch is done; `tokens` of the current step so far, none where dev is looked at.
    Progress {
        step: u64,
        tokens: u64,
    },
    Step(StepRecord),
    Checkpointed {
        step: u64,
    },
}

/// What training made.
pub enum TrainedWeights {
    Adapter(Adapter),
    Full(FullWeights),
}

pub struct Trained {
    pub weights: TrainedWeights,
    pub log: Vec<StepRecord>,
    /// Where it might end early: the step whose weights these are.
    pub kept: Option<Best>,
    /// Rows left out because they are too long, of the training and of the dev set.
    pub skipped: usize,
    pub dev_skipped: usize,
}

/// Trains `base` on `rows`. With a checkpoint directory the run continues where it was stopped, to the same bytes as if
/// it had not been; finished, it returns at once.
///
/// # Errors
/// [`TrainError`]: bad settings or rows, nothing left to train on, a checkpoint that cannot be written or belongs to
/// another run, divergence, or [`TrainError::Interrupted`] when the observer stopped it.
pub fn train(
    base: Base<'_>,
    rows: &[TrainRow],
    dev_rows: &[TrainRow],
    config: &TrainConfig,
    checkpoint_dir: Option<&Path>,
    observe: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    train_by(base, (rows, dev_rows), config, checkpoint_dir, observe, None)
}

/// The same, with someone who looks at what has been learnt whenever dev is looked at.
///
/// # Errors
/// As [`train`], and what `look` says.
pub fn train_by(
    base: Base<'_>,
    (rows, dev_rows): (&[TrainRow], &[TrainRow]),
    config: &TrainConfig,
    checkpoint_dir: Option<&Path>,
    observe: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
    look: Option<&mut Look<'_>>,
) -> Result<Trained, TrainError> {
    config.check()?;
    let (rows, skipped) = admitted(base.config, config, "training", rows)?;
    let (dev_rows, dev_skipped) = admitted(base.config, config, "dev", dev_rows)?;
    if rows.is_empty() {
        return Err(TrainError::NoRows { rows: skipped, skipped, limit: config.max_row_tokens });
    }
    if config.early_stop.is_some() && dev_rows.is_empty() {
        return Err(TrainError::NothingToWatch);
    }
    let fingerprint = fingerprint(&base, config, &rows, &dev_rows);
    let checkpoint = checkpoint_dir.map(|folder| Checkpoint::new(folder, fingerprint)).transpose()?;
    let trainer = Trainer::new(base, config);
    let mut run = Run {
        config,
        rows: &rows,
        dev_rows: &dev_rows,
        trainer,
        checkpoint,
        log: Vec::new(),
        unfinished: None,
        best: None,
        observe,
        look,
    };
    run.resume()?;
    run.started(skipped, dev_skipped)?;
    if let Some(record) = run.unfinished.take() {
        run.finish(record)?;
    }
    while (run.log.len() as u64) < run.steps() && !run.ends_early() {
        run.step()?;
    }
    let kept = run.back_to_best()?;
    Ok(Trained { weights: run.trainer.into_weights(), log: run.log, kept, skipped, dev_skipped })
}

/// The rows that fit, and how many are too long. `set` names them in messages.
///
/// # Errors
/// [`TrainError::BadRow`]: nothing to learn, or a token that the model does not have.
pub fn admitted(
    model: &ModelConfig,
    config: &TrainConfig,
    set: &'static str,
    rows: &[TrainRow],
) -> Result<(Vec<TrainRow>, usize), TrainError> {
    let mut fitting = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        if config.admits(model, set, index, row)? {
            fitting.push(row.clone());
        }
    }
    let skipped = rows.len() - fitting.len();
    Ok((fitting, skipped))
}

struct Run<'a, 'q> {
    config: &'a TrainConfig,
    rows: &'a [TrainRow],
    dev_rows: &'a [TrainRow],
    trainer: Trainer<'a>,
    checkpoint: Option<Checkpoint>,
    log: Vec<StepRecord>,
    /// The step whose look at dev was broken off; the weights are its own.
    unfinished: Option<StepRecord>,
    /// The best step's weights, where there is no checkpoint to hold them.
    best: Option<Vec<Vec<f32>>>,
    observe: &'a mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
    look: Option<&'a mut Look<'q>>,
}

impl Run<'_, '_> {
    fn steps_per_epoch(&self) -> u64 {
        steps_per_epoch(self.rows.len(), self.config)
    }

    fn steps(&self) -> u64 {
        self.config.epochs * self.steps_per_epoch()
    }

    fn resume(&mut self) -> Result<(), TrainError> {
        if let Some(checkpoint) = &self.checkpoint
            && let Some(log) = checkpoint.read(&mut self.trainer.parameters)?
        {
            self.log = log;
            self.trainer.refresh();
        }
        let unseen = |record: &StepRecord| {
            self.due(record.step, self.config.eval_every_steps)
                && record.dev_loss.is_none()
                && !self.dev_rows.is_empty()
        };
        if self.log.last().is_some_and(unseen) {
            self.unfinished = self.log.pop();
        }
        Ok(())
    }

    fn started(&mut self, skipped: usize, dev_skipped: usize) -> Result<(), TrainError> {
        self.tell(TrainEvent::Started {
            steps: self.steps(),
            resumed_at: self.log.len() as u64,
            rows: self.rows.len(),
            skipped,
            dev_rows: self.dev_rows.len(),
            dev_skipped,
            parameters: self.trainer.parameters.count(),
            epoch_tokens: self.rows.iter().map(|row| row.tokens() as u64).sum(),
        })
    }

    /// Shows the observer an event; if it breaks, saves the last finished step and stops.
    fn tell(&mut self, event: TrainEvent) -> Result<(), TrainError> {
        if (self.observe)(event).is_continue() {
            return Ok(());
        }
        Err(self.interrupted()?)
    }

    /// Saves the weights and the log as they are, with the step that still waits for its look.
    fn interrupted(&self) -> Result<TrainError, TrainError> {
        let log: Vec<StepRecord> = self.log.iter().copied().chain(self.unfinished).collect();
        let checkpoint = self.checkpoint.as_ref().map(|checkpoint| {
            checkpoint.write(&self.trainer.parameters, &log)?;
            Ok(checkpoint.path().to_owned())
        });
        Ok(TrainError::Interrupted { step: log.len() as u64, checkpoint: checkpoint.transpose()? })
    }

    /// One optimiser step, flat: gather, accumulate, clip, update, measure, log, save.
    fn step(&mut self) -> Result<(), TrainError> {
        let (done, began) = (self.log.len() as u64, Instant::now());
        let (epoch, within) = (done / self.steps_per_epoch(), (done % self.steps_per_epoch()) as usize);
        let order = epoch_order(self.rows.len(), self.config.seed, epoch);
        let chosen = order.chunks(self.config.batch_rows).nth(within).expect("a step lies inside its epoch");
        let total_weight: f64 = chosen.iter().map(|&row| self.rows[row].target_weight()).sum();
        let mut sum = CrossEntropy::default();
        let mut tokens = 0;
        let limit = room_for(self.rows, chosen, self.trainer.share(self.config.micro_tokens));
        // Together at most `micro_tokens`.
        let abreast = (self.config.micro_tokens / limit).max(1);
        for parts in split_into_micro_batches(self.rows, chosen, limit).chunks(abreast) {
            let micro = |part: &Vec<usize>| MicroBatch::of(part.iter().map(|&row| &self.rows[row]), total_weight);
            let loss = self.trainer.accumulate(&parts.iter().map(micro).collect::<Vec<_>>());
            sum.loss_sum += loss.loss_sum;
            sum.correct += loss.correct;
            tokens += parts.iter().flatten().map(|&row| self.rows[row].tokens() as u64).sum::<u64>();
            self.tell(TrainEvent::Progress { step: done + 1, tokens })?;
        }
        let grad_norm = self.trainer.gradient_norm();
        if !(sum.loss_sum.is_finite() && grad_norm.is_finite()) {
            return Err(TrainError::Diverged { step: done + 1, loss: sum.loss_sum, grad_norm });
        }
        let learning_rate = learning_rate(self.rows.len(), self.config, done);
        self.trainer.step(self.config, grad_norm, learning_rate, done + 1);
        let tokens_per_second = tokens as f64 / began.elapsed().as_secs_f64();
        self.finish(StepRecord {
            step: done + 1,
            epoch,
            loss: sum.loss_sum,
            learning_rate,
            grad_norm,
            tokens,
            target_tokens: chosen.iter().map(|&row| self.rows[row].completion.len() as u64).sum(),
            correct: sum.correct as u64,
            tokens_per_second,
            dev_loss: None,
            dev_quality: None,
        })
    }

    /// Looks at dev where that is due, then logs and saves the step. Broken off meanwhile, the step is saved as one that is
    /// not finished: the weights are its own, and the look is taken again.
    fn finish(&mut self, mut record: StepRecord) -> Result<(), TrainError> {
        let looked = if self.due(record.step, self.config.eval_every_steps) { self.look(&mut record) } else { Ok(()) };
        self.log.push(record);
        if let Err(TrainError::Interrupted { .. }) = looked {
            return Err(self.interrupted()?);
        }
        looked?;
        self.hold_best(&record)?;
        if self.due(record.step, self.config.checkpoint_every_steps) || self.ends_early() {
            self.save(record.step)?;
        }
        self.tell(TrainEvent::Step(record))
    }

    fn due(&self, step: u64, every: u64) -> bool {
        (every > 0 && step.is_multiple_of(every)) || step == self.steps()
    }

    fn look(&mut self, record: &mut StepRecord) -> Result<(), TrainError> {
        let loss = self.dev_loss(record.step)?;
        if let Some(loss) = loss.filter(|loss| !loss.is_finite()) {
            return Err(TrainError::Diverged { step: record.step, loss, grad_norm: record.grad_norm });
        }
        record.dev_quality = self.dev_quality(record.step)?;
        // Last, as it tells a step that was looked at from one whose look was broken off.
        record.dev_loss = loss;
        Ok(())
    }

    /// Weighted mean loss over the dev rows; `None` when there are none.
    fn dev_loss(&mut self, step: u64) -> Result<Option<f64>, TrainError> {
        let all: Vec<usize> = (0..self.dev_rows.len()).collect();
        if all.is_empty() {
            return Ok(None);
        }
        let total: f64 = self.dev_rows.iter().map(TrainRow::target_weight).sum();
        let limit = room_for(self.dev_rows, &all, self.config.micro_tokens);
        let mut loss = 0.0;
        for part in split_into_micro_batches(self.dev_rows, &all, limit) {
            let micro = MicroBatch::of(part.iter().map(|&row| &self.dev_rows[row]), total);
            loss += self.trainer.measure(&micro).loss_sum;
            if (self.observe)(TrainEvent::Progress { step, tokens: 0 }).is_break() {
                return Err(TrainError::Interrupted { step, checkpoint: None });
            }
        }
        Ok(Some(loss))
    }

    /// What whoever looks at what has been learnt says of it.
    fn dev_quality(&mut self, step: u64) -> Result<Option<f64>, TrainError> {
        let Some(look) = &mut self.look else { return Ok(None) };
        look(step, self.trainer.learnt())
    }

    fn ends_early(&self) -> bool {
        self.config.early_stop.is_some_and(|stop| stop.is_due(&self.log))
    }

    /// Sets the weights aside if no step before had better ones.
    fn hold_best(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        let best = self.config.early_stop.and_then(|stop| stop.best(&self.log));
        if best.is_none_or(|best| best.step != record.step) {
            return Ok(());
        }
        let Some(checkpoint) = &self.checkpoint else {
            self.best = Some(self.trainer.parameters.values.clone());
            return Ok(());
        };
        checkpoint.write_best(record.step, &self.trainer.parameters)
    }

    /// Puts the best step's weights in the place of the last one's.
    fn back_to_best(&mut self) -> Result<Option<Best>, TrainError> {
        let Some(best) = self.config.early_stop.and_then(|stop| stop.best(&self.log)) else { return Ok(None) };
        if best.step != self.log.len() as u64 {
            match (&self.checkpoint, self.best.take()) {
                (Some(checkpoint), _) => checkpoint.read_best(best.step, &mut self.trainer.parameters)?,
                (None, Some(values)) => self.trainer.parameters.values = values,
                (None, None) => unreachable!("without a checkpoint nothing is resumed, and the best step was seen"),
            }
        }
        Ok(Some(best))
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let Some(checkpoint) = &self.checkpoint else { return Ok(()) };
        checkpoint.write(&self.trainer.parameters, &self.log)?;
        if let Some(best) = self.config.early_stop.and_then(|stop| stop.best(&self.log)) {
            checkpoint.forget_best_but(best.step)?;
        }
        self.tell(TrainEvent::Checkpointed { step })
    }
}
