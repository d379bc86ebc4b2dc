//! Who trains a student: divvy's own engine, or PyTorch. Both get the same token ids, made by the very functions that
//! inference uses, and the same steps; the result is a directory named by the job's digest.

mod native;
mod quality;
mod torch;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use divvy_core::{
    digest::Digest,
    model::ModelSource,
    recipe::{self, StopOn, Train},
    results::KeptStep,
};
use divvy_flow::train::{Artefact, Job, Observe, Row, Stopped, Trainer};
use divvy_student::{
    adapter::{AdapterLabel, LoraSettings, Scaling},
    model::Model,
    train::{Activations, EarlyStop, Method, StopBy, TrainConfig, TrainRow},
};

use crate::host::Hosts;

/// Most tokens under way at a time: enough to keep the matrix kernels busy, about a gigabyte of
/// activations for a model of 135 million parameters.
const MICRO_TOKENS: usize = 1024;

pub(crate) struct Trainers {
    pub(crate) hosts: Arc<Hosts>,
    /// The store's folder.
    pub(crate) folder: PathBuf,
    /// Base name in the recipe → file.
    pub(crate) bases: BTreeMap<String, PathBuf>,
    /// Name in the recipe → source.
    pub(crate) sources: BTreeMap<String, String>,
    pub(crate) train: Train,
    /// The recipe's.
    pub(crate) seen_from: PathBuf,
}

/// What training made.
struct Made {
    content: String,
    /// Rows left out because they were too long.
    too_long: usize,
    /// Where training might end early.
    kept: Option<KeptStep>,
}

impl Trainer for Trainers {
    fn train(&self, key: &Digest, job: &Job, observe: &mut Observe<'_>) -> Result<Artefact, Stopped> {
        let base =
            self.bases.get(&job.base).ok_or_else(|| Stopped::Failed(format!("`{}` is not a local model", job.base)))?;
        let began = Instant::now();
        let folder = self.folder.join("students").join(key.short());
        let made = match job.plan.torch {
            Some(plan) => torch::Torch { trainers: self, plan }.train(base, job, &folder, observe)?,
            None => native::train(self, base, job, &folder, observe)?,
        };
        Ok(Artefact {
            path: std::path::absolute(&folder).unwrap_or(folder),
            content: made.content,
            rows: (job.rows.len() - made.too_long) as u64,
            too_long: made.too_long as u64,
            unusable: job.unusable,
            kept: made.kept,
            wall_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
        })
    }
}

impl Trainers {
    /// What other programs call a job's base.
    fn published(&self, job: &Job) -> String {
        let whole = self.bases.get(&job.base).is_some_and(|path| path.is_dir());
        published(&job.base, self.sources.get(&job.base).map_or("", String::as_str), whole)
    }
}

/// Its repository, where it came from there `whole`, as `transformers` loads it; else, a GGUF file or a folder of this machine,
/// its name in the recipe, which tells them nothing.
fn published(name: &str, source: &str, whole: bool) -> String {
    match source.parse() {
        Ok(ModelSource::Hub { repo, .. }) if whole => repo,
        _ => name.to_owned(),
    }
}

fn failed(error: impl std::fmt::Display) -> Stopped {
    Stopped::Failed(error.to_string())
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

fn config(job: &Job, train: &Train) -> TrainConfig {
    let (plan, recompute) = (&job.plan, train.gradient_checkpointing == Some(true));
    let method = match plan.method {
        recipe::Method::Lora => {
            let scaling = if plan.tuning.rslora { Scaling::RankStabilised } else { Scaling::Plain };
            Method::Lora(LoraSettings { rank: plan.rank, alpha: plan.alpha as f32, scaling })
        }
        recipe::Method::Full => Method::Full,
    };
    TrainConfig {
        epochs: plan.epochs,
        batch_rows: plan.batch_rows,
        micro_tokens: train.micro_tokens.unwrap_or(MICRO_TOKENS),
        activations: if recompute { Activations::Recompute } else { Activations::Keep },
        max_row_tokens: plan.max_row_tokens,
        learning_rate: plan.learning_rate,
        b_rate: plan.tuning.lora_plus,
        warmup_ratio: plan.warmup_ratio,
        weight_decay: plan.weight_decay as f32,
        max_grad_norm: plan.max_grad_norm,
        seed: job.seed,
        checkpoint_every_steps: plan.checkpoint_every,
        eval_every_steps: plan.eval_every,
        early_stop: plan.tuning.early_stop.map(|stop| EarlyStop {
            by: match stop.on {
                StopOn::Loss => StopBy::DevLoss,
                StopOn::DecompositionQuality => StopBy::Quality,
            },
            patience: stop.patience,
        }),
        ..TrainConfig::usual(method)
    }
}

fn label(model: &Model, job: &Job, base_name: &str) -> Result<AdapterLabel, Stopped> {
    let (base_name, prompt) = (base_name.to_owned(), job.prompt_id.clone());
    let train = serde_json::to_value(&job.plan).map_err(failed)?;
    Ok(AdapterLabel { base_name, prompt, train, ..AdapterLabel::of(model).map_err(failed)? })
}

#[cfg(test)]
mod tests {
    use super::published;

    #[test]
    fn a_base_is_called_by_its_repository_where_that_can_be_loaded() {
        assert_eq!(published("small", "hf:org/model", true), "org/model");
        for (source, whole) in [("hf:org/model-GGUF:m.gguf", false), ("path:/models/m", true), ("", false)] {
            assert_eq!(published("small", source, whole), "small", "{source}");
        }
    }
}
