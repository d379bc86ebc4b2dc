//! Hands a student over to PyTorch: the base's weights as this program reads them, the rows as token ids, every step's rows
//! and rate, for LoRA the very factors to begin with. What comes back is kept as divvy's own engine would keep it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use divvy_core::{
    plan::TorchPlan,
    recipe::{Launch, Train},
};
use divvy_flow::train::{Job, Observe, Stopped};
use divvy_launch::{
    LaunchError,
    job::{Folder, Row, Settings, Step},
    local,
    python::Python,
    ray,
    slurm::{self, Slurm},
    words::Crew,
};
use divvy_student::{
    adapter::{Adapter, AdapterLabel},
    config::ModelConfig,
    model::Model,
    train::{self, FullWeights, Method, TrainConfig, TrainError, TrainRow},
};

use super::{MICRO_TOKENS, Made, Trainers, config, failed, label, tokenise};
use crate::output::{ask, say};

pub(super) struct Torch<'a> {
    pub(super) trainers: &'a Trainers,
    pub(super) plan: TorchPlan,
}

/// What is known of the base when its weights have left the memory.
struct Base {
    config: ModelConfig,
    label: AdapterLabel,
    /// In Hugging Face's layout.
    folder: PathBuf,
}

impl Torch<'_> {
    pub(super) fn train(
        &self,
        base: &Path,
        job: &Job,
        folder: &Path,
        observe: &mut Observe<'_>,
    ) -> Result<Made, Stopped> {
        let handed = Folder::new(std::path::absolute(folder.join("torch")).map_err(failed)?);
        let (base, too_long) = self.hand_over(base, job, &handed)?;
        if handed.result().is_dir() {
            local::replay(&handed, observe).map_err(failed)?;
        } else {
            self.launch(job, &base, &handed, observe).map_err(stopped)?;
        }
        let content = take_back(&handed, &base, config(job, &self.trainers.train).method, folder)?;
        // The student stands: what it was made with is of no more use.
        let _ = fs::remove_dir_all(handed.path());
        Ok(Made { content, too_long, kept: None })
    }

    fn settings(&self) -> &Train {
        &self.trainers.train
    }

    fn launch(&self, job: &Job, base: &Base, handed: &Folder, observe: &mut Observe<'_>) -> Result<(), LaunchError> {
        let train = self.settings();
        let named = train.python.as_ref().map(|python| self.interpreter(python));
        let crew =
            Crew { processes: train.processes.unwrap_or(1), nodes: train.nodes.unwrap_or(1), meet: train.meet.clone() };
        match train.launch {
            Launch::Local | Launch::Torchrun => local::train(handed, &Python::find(named)?, &crew, observe),
            Launch::Slurm => {
                let name = format!("divvy {} {}", job.base, job.plan.target.name());
                let slurm = Slurm { crew, options: train.slurm.clone().unwrap_or_default(), name };
                let trained = slurm::train(handed, &Python::find(named)?, &slurm, observe);
                trained.or_else(|error| leave_or_stop(error, || slurm::stop(handed)))
            }
            Launch::Ray => {
                let place = ray::Place {
                    address: train.address.clone().unwrap_or_default(),
                    token: ray::Token::find(train.token_env.as_deref())?,
                    crew,
                    gpus: train.gpus.unwrap_or(0),
                    shared: train.shared.unwrap_or(false),
                    // The one that runs Ray there.
                    python: named.unwrap_or_else(|| "python".into()),
                    base: base.folder.clone(),
                };
                let trained = ray::train(handed, &place, observe);
                trained.or_else(|error| leave_or_stop(error, || ray::stop(handed, &place)))
            }
        }
    }

    /// A bare name is looked up where programs lie; a path is relative to the recipe.
    fn interpreter(&self, named: &str) -> PathBuf {
        let bare = Path::new(named).components().count() == 1;
        if bare { named.into() } else { self.trainers.seen_from.join(named) }
    }

    /// Writes everything that training needs. The base is loaded for that alone: PyTorch needs the memory.
    fn hand_over(&self, base: &Path, job: &Job, folder: &Folder) -> Result<(Base, usize), Stopped> {
        let model = Model::load(base).map_err(failed)?;
        let config = config(job, &self.trainers.train);
        let (rows, too_long) = fitting(&model, &config, "training", &tokenise(&model, &job.rows)?)?;
        let (dev, _) = fitting(&model, &config, "dev", &tokenise(&model, &job.dev)?)?;
        if rows.is_empty() {
            return Err(failed(TrainError::NoRows { rows: too_long, skipped: too_long, limit: config.max_row_tokens }));
        }
        let base = Base {
            label: label(&model, job, &self.trainers.published(job))?,
            folder: self.base(&model)?,
            config: model.config.clone(),
        };
        let steps =
            train::course(rows.len(), &config).map(|step| Step { rows: step.rows, learning_rate: step.learning_rate });
        folder.write(&self.job(job, &base), &rows, &dev, steps).map_err(failed)?;
        if let Method::Lora(settings) = config.method {
            let start = Adapter::new(&model.config, settings, config.seed);
            start.save(&folder.start(), &base.label).map_err(failed)?;
        }
        Ok((base, too_long))
    }

    fn job(&self, job: &Job, base: &Base) -> Settings {
        let (train, plan) = (self.settings(), &job.plan);
        Settings {
            base: base.folder.clone(),
            precision: self.plan.precision,
            quantised: self.plan.quantised,
            packing: train.packing.unwrap_or(true),
            gradient_checkpointing: train.gradient_checkpointing.unwrap_or(false),
            fsdp: train.fsdp.unwrap_or(false),
            b_rate: plan.tuning.lora_plus,
            micro_tokens: train.micro_tokens.unwrap_or(MICRO_TOKENS).max(plan.max_row_tokens),
            seed: job.seed,
            weight_decay: plan.weight_decay,
            max_grad_norm: plan.max_grad_norm,
            checkpoint_every: plan.checkpoint_every,
            eval_every: plan.eval_every,
        }
    }

    /// The base as others read it, written once: whatever file it came from, the numbers are those that are trained here.
    fn base(&self, model: &Model) -> Result<PathBuf, Stopped> {
        let bases = std::path::absolute(self.trainers.folder.join("bases")).map_err(failed)?;
        let folder = bases.join(&model.content_hash[..12]);
        if folder.is_dir() {
            return Ok(folder);
        }
        let beside = bases.join(format!("{}.{}.tmp", &model.content_hash[..12], std::process::id()));
        model.save_text(&beside).map_err(failed)?;
        FullWeights::of(&model.config, &model.weights).save(&beside, &AdapterLabel::default()).map_err(failed)?;
        match fs::rename(&beside, &folder) {
            // Another run was faster.
            Err(_) if folder.is_dir() => fs::remove_dir_all(&beside).map_err(failed)?,
            renamed => renamed.map_err(failed)?,
        }
        Ok(folder)
    }
}

/// Whoever broke off the waiting says what becomes of the job; where nobody can be asked it goes on.
fn leave_or_stop(error: LaunchError, stop: impl FnOnce() -> bool) -> Result<(), LaunchError> {
    let LaunchError::Left { what, .. } = &error else { return Err(error) };
    if ask(&format!("{what} goes on without this program. Stop it, too? [y/N] ")) && stop() {
        say(&format!("{what} is stopped"));
    } else {
        say(&error.to_string());
    }
    Err(LaunchError::Stopped)
}

fn stopped(error: LaunchError) -> Stopped {
    match error {
        LaunchError::Stopped | LaunchError::Left { .. } => Stopped::Interrupted,
        other => failed(other),
    }
}

/// The rows that fit, as PyTorch reads them, and how many are too long.
fn fitting(
    model: &Model,
    config: &TrainConfig,
    set: &'static str,
    rows: &[TrainRow],
) -> Result<(Vec<Row>, usize), Stopped> {
    let (rows, too_long) = train::admitted(&model.config, config, set, rows).map_err(failed)?;
    if rows.iter().any(|row| row.weight != 1.0) {
        return Err(failed("rows that count differently are for engine = \"native\" alone, so far"));
    }
    Ok((rows.iter().map(|row| Row::new(&row.prompt, &row.completion)).collect(), too_long))
}

/// Keeps what was trained as if it had been trained here. Returns the content digest.
fn take_back(handed: &Folder, base: &Base, method: Method, folder: &Path) -> Result<String, Stopped> {
    let (result, label) = (handed.result(), &base.label);
    match method {
        Method::Lora(_) => {
            let (adapter, _) = Adapter::load(&result, &base.config, &[&label.base]).map_err(failed)?;
            Ok(adapter.save(folder, label).map_err(failed)?.digest)
        }
        Method::Full => {
            let full = FullWeights::read(&result, &base.config).map_err(failed)?;
            for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
                fs::copy(base.folder.join(name), folder.join(name)).map_err(failed)?;
            }
            full.save(folder, label).map_err(failed)
        }
    }
}
