//! What a training run is asked to do, and how it can fail.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::rows::TrainRow;
use super::schedule::Schedule;
use super::stop::EarlyStop;
use crate::adapter::LoraSettings;
use crate::config::ModelConfig;
use crate::weights::Weights;

/// The model that is fine-tuned.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    pub config: &'a ModelConfig,
    pub weights: &'a Weights,
    /// Content hash of the checkpoint, so that a training checkpoint is never resumed on another base.
    pub hash: &'a str,
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Factors beside the seven projections of every layer; the base stays as it is.
    Lora(LoraSettings),
    /// Every matrix, norm, bias and the embedding, with f32 masters; the forward pass sees them rounded to bf16.
    Full,
}

/// What the forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activations {
    /// Each layer's products: fastest.
    Keep,
    /// Each layer's input only; the layer runs again on the way back. Measured: 9 to 20 % slower, two thirds of the memory (LOG.md).
    Recompute,
}

/// A training run. Everything here but the two cadences and `activations` decides the result; where it may end early, how often
/// dev is looked at does, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    pub method: Method,
    pub epochs: u64,
    /// Rows in an optimiser step.
    pub batch_rows: usize,
    /// Most tokens under way at a time, unless a single row has more: bounds the memory.
    pub micro_tokens: usize,
    /// Rows with more tokens, prompt and completion together, are left out and counted.
    pub max_row_tokens: usize,
    /// Peak.
    pub learning_rate: f64,
    /// LoRA+ (Hayou et al. 2024, arXiv:2402.12354): the learning rate of the factors B over that of A; 1: the same.
    pub b_rate: f64,
    pub schedule: Schedule,
    /// Share of all steps over which the rate rises from zero.
    pub warmup_ratio: f64,
    /// Where the schedule ends, as a share of the peak.
    pub min_lr_ratio: f64,
    /// On matrices; norms and biases never decay.
    pub weight_decay: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub epsilon: f32,
    /// The gradient of a step is scaled down to this global norm.
    pub max_grad_norm: f64,
    pub seed: u64,
    /// 0: only at the end, and when interrupted.
    pub checkpoint_every_steps: u64,
    /// 0: only at the end.
    pub eval_every_steps: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStop>,
    pub activations: Activations,
}

impl TrainConfig {
    /// One epoch in steps of 16 rows, with AdamW's usual settings (Loshchilov and Hutter 2019, arXiv:1711.05101) and none of what
    /// is optional: for a caller to say otherwise where it matters.
    #[must_use]
    pub fn usual(method: Method) -> Self {
        Self {
            method,
            epochs: 1,
            batch_rows: 16,
            micro_tokens: 1024,
            max_row_tokens: 1024,
            learning_rate: 1e-4,
            b_rate: 1.0,
            schedule: Schedule::Cosine,
            warmup_ratio: 0.1,
            min_lr_ratio: 0.0,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_grad_norm: 1.0,
            seed: 1,
            checkpoint_every_steps: 0,
            eval_every_steps: 0,
            early_stop: None,
            activations: Activations::Keep,
        }
    }

    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// [`TrainError::BadSetting`] naming the setting and what it may be.
    pub fn check(&self) -> Result<(), TrainError> {
        let rank = match self.method {
            Method::Lora(settings) => settings.rank,
            Method::Full => 1,
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let ratio = |x: f64| (0.0..=1.0).contains(&x);
        let beta = |x: f32| (0.0..1.0).contains(&x);
        for (good, setting, value, want) in [
            (rank > 0, "rank", rank.to_string(), "at least 1"),
            (self.epochs > 0, "epochs", self.epochs.to_string(), "at least 1"),
            (self.batch_rows > 0, "batch_rows", self.batch_rows.to_string(), "at least 1"),
            (self.max_row_tokens > 1, "max_row_tokens", self.max_row_tokens.to_string(), "at least 2"),
            (self.micro_tokens > 0, "micro_tokens", self.micro_tokens.to_string(), "at least 1"),
            (positive(self.learning_rate), "learning_rate", self.learning_rate.to_string(), "a positive number"),
            (positive(self.b_rate), "b_rate", self.b_rate.to_string(), "a positive number"),
            (ratio(self.warmup_ratio), "warmup_ratio", self.warmup_ratio.to_string(), "between 0 and 1"),
            (ratio(self.min_lr_ratio), "min_lr_ratio", self.min_lr_ratio.to_string(), "between 0 and 1"),
            (self.weight_decay >= 0.0, "weight_decay", self.weight_decay.to_string(), "0 or more"),
            (beta(self.beta1), "beta1", self.beta1.to_string(), "in [0, 1)"),
            (beta(self.beta2), "beta2", self.beta2.to_string(), "in [0, 1)"),
            (self.epsilon > 0.0, "epsilon", self.epsilon.to_string(), "a positive number"),
            (positive(self.max_grad_norm), "max_grad_norm", self.max_grad_norm.to_string(), "a positive number"),
        ] {
            if !good {
                return Err(TrainError::BadSetting { setting, value, want });
            }
        }
        Ok(())
    }

    /// Whether this row can be used; a row that is merely too long is `Ok(false)`.
    pub(crate) fn admits(
        &self,
        model: &ModelConfig,
        set: &'static str,
        index: usize,
        row: &TrainRow,
    ) -> Result<bool, TrainError> {
        let bad = |reason: String| Err(TrainError::BadRow { set, index, reason });
        if row.prompt.is_empty() || row.completion.is_empty() {
            return bad("prompt and completion need at least one token each".into());
        }
        if !(row.weight.is_finite() && row.weight > 0.0) {
            return bad(format!("its weight is {}, must be a positive number; leave the row out instead", row.weight));
        }
        if let Some(id) = row.prompt.iter().chain(&row.completion).find(|&&id| id as usize >= model.vocab) {
            return bad(format!("token id {id} is outside the model's vocabulary of {}", model.vocab));
        }
        Ok(row.tokens() <= self.max_row_tokens && row.tokens() <= model.context_length)
    }
}

/// Why there is no trained student.
#[derive(Debug, Error)]
pub enum TrainError {
    #[error("training setting {setting} is {value}, must be {want}")]
    BadSetting { setting: &'static str, value: String, want: &'static str },
    #[error("{set} row {index}: {reason}")]
    BadRow { set: &'static str, index: usize, reason: String },
    #[error(
        "no training row is left: {skipped} of {rows} have more than {limit} tokens; raise max_row_tokens, or shorten the prompt"
    )]
    NoRows { rows: usize, skipped: usize, limit: usize },
    #[error(
        "training diverged at step {step}: loss {loss}, gradient norm {grad_norm}; lower the learning rate or lengthen the warm-up"
    )]
    Diverged { step: u64, loss: f64, grad_norm: f64 },
    #[error(
        "training is to end by what dev says, and no dev row fits; raise max_row_tokens, carve more dev rows, or leave early_stop out"
    )]
    NothingToWatch,
    #[error("training was interrupted after {step} steps; {}", resume_hint(.checkpoint.as_ref()))]
    Interrupted { step: u64, checkpoint: Option<PathBuf> },
    #[error("{file}: {source}")]
    Io { file: String, source: std::io::Error },
    #[error("{file}: the training checkpoint is damaged: {reason}; delete it to start over")]
    BadCheckpoint { file: String, reason: String },
    #[error(
        "{file}: the checkpoint belongs to another run (other rows, settings or base model); delete it or choose another directory"
    )]
    OtherRun { file: String },
}

fn resume_hint(checkpoint: Option<&PathBuf>) -> String {
    match checkpoint {
        Some(path) => format!("run the same again to continue from {}", path.display()),
        None => "no checkpoint directory was given, so it starts over".to_owned(),
    }
}
