//! The plan: a recipe with every choice made. No options, no defaults left to guess; its digest stands beside every
//! artefact. Where things lie (paths, URLs, keys, prices, concurrency) is not part of it, *what* they are is.

#[cfg(test)]
mod tests;

mod batch;
mod declared;
mod draw;
mod names;
mod prompts;
mod scoring;
mod seeds;
mod sets;
mod shown;
mod train;
mod tuning;
mod usages;
mod worded;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::names::Names;
pub use self::{
    draw::{Draw, PartSampling},
    prompts::demonstrates,
    seeds::without_seed,
    sets::SetNames,
    shown::Showing,
    train::TorchPlan,
    tuning::Tuning,
};
use crate::{
    arm::{Arm, ArmPair},
    chat::Sampling,
    digest::Digest,
    prompts::{Prompts, decompose::Style},
    recipe::{EvalSplit, Format, FurtherScorer, Method, Recipe, RecipeError, Rule, Structured, Target},
};

/// What the recipe's `[collect] teacher` is called when it is used as a decomposer.
pub const TEACHER: &str = "teacher";
/// The teacher that is not a model: the data set's own decompositions.
pub const RECORDED: &str = "recorded";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    pub seed: u64,
    pub data: DataPlan,
    /// Name in the recipe → identity of the model (digest in hex). Filled by [`Plan::with_inputs`].
    pub models: BTreeMap<String, String>,
    /// Models that are held to a schema when they decompose.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub structured: BTreeMap<String, Structured>,
    pub collect: CollectPlan,
    pub screen: Option<ScreenPlan>,
    pub students: BTreeMap<String, StudentPlan>,
    pub evaluate: Option<EvaluatePlan>,
    /// The wording of every prompt: of teachers, solvers and students, in training and ever after.
    #[serde(default, skip_serializing_if = "Prompts::is_built_in")]
    pub prompts: Prompts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataPlan {
    pub train: SetNames,
    pub test: SetNames,
    /// Rows carved from each training set …
    pub dev_rows: usize,
    /// … but from these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dev_rows_of: BTreeMap<String, usize>,
    /// Digest of the questions of each split, as loaded. Filled by [`Plan::with_inputs`].
    pub content: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectPlan {
    pub teacher: String,
    pub samples: u32,
    pub temperature: f64,
    #[serde(flatten)]
    pub draw: Draw,
    pub max_tokens: u32,
    pub max_subquestions: usize,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shots: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScreenPlan {
    /// `None`: nobody is asked, and the keys of asking stand at nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solver: Option<String>,
    pub samples: u32,
    pub temperature: f64,
    #[serde(flatten)]
    pub draw: Draw,
    pub max_tokens: u32,
    pub rule: Rule,
    pub threshold: f64,
    /// `None`: every question.
    pub rows: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<usize>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shots: usize,
    /// `None`: any form will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudentPlan {
    pub base: String,
    pub target: Target,
    /// The prompt it is trained on and asked with …
    pub style: Style,
    /// … and the demonstrations in it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shots: usize,
    pub method: Method,
    pub rank: usize,
    pub alpha: f64,
    pub epochs: u64,
    pub learning_rate: f64,
    pub batch_rows: usize,
    pub warmup_ratio: f64,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
    pub max_row_tokens: usize,
    pub checkpoint_every: u64,
    pub eval_every: u64,
    /// Training set → how often each of its rows is learnt. Empty where there is one set, learnt once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mix: BTreeMap<String, f64>,
    /// Most training rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Of its training; the plan's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Rates that are tried, ascending, of which `learning_rate` is the first. Empty where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<f64>,
    #[serde(flatten)]
    pub tuning: Tuning,
    /// Trained by PyTorch; by divvy's own engine when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch: Option<TorchPlan>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluatePlan {
    pub split: EvalSplit,
    pub arms: Vec<Arm>,
    pub direct_tokens: u32,
    pub solve_tokens: u32,
    pub decompose_tokens: u32,
    pub max_subquestions: usize,
    /// Of decomposers.
    pub repetition_penalty: f64,
    #[serde(default, skip_serializing_if = "PartSampling::is_usual")]
    pub solving: PartSampling,
    /// Its penalty stands above.
    #[serde(default, skip_serializing_if = "PartSampling::is_usual")]
    pub decomposing: PartSampling,
    /// Answers to each question.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub repeats: u32,
    /// Declared beforehand: the plan's digest covers them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<ArmPair>,
    /// No part of the plan's identity: they grade what was answered anyway.
    #[serde(skip)]
    pub scorers: Vec<FurtherScorer>,
    /// `None`: no program is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<CodePlan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgePlan>,
}

/// How programs are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodePlan {
    pub interpreter: String,
    pub seconds: u64,
    pub memory_mb: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgePlan {
    pub model: String,
    pub max_tokens: u32,
}

fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_once(repeats: &u32) -> bool {
    *repeats == 1
}

impl EvaluatePlan {
    /// What a decomposer is asked with.
    #[must_use]
    pub fn decomposing(&self) -> Sampling {
        let sampling = self.decomposing.sampling(self.decompose_tokens);
        Sampling { repetition_penalty: self.repetition_penalty, ..sampling }
    }
}

impl StudentPlan {
    /// Whether it learns rows of this training set.
    #[must_use]
    pub fn learns_from(&self, set: &str) -> bool {
        self.mix.is_empty() || self.mix.contains_key(set)
    }
}

impl Plan {
    /// Fills every default and checks every name. Pure: models and data are joined by [`Plan::with_inputs`].
    ///
    /// # Errors
    /// [`RecipeError`] naming the key: an undefined model or student, samples without temperature, a threshold outside
    /// 0..=1, a `two-stage` without decomposers, SD-R without a screening, …
    pub fn resolve(recipe: &Recipe, origin: &str) -> Result<Self, RecipeError> {
        let names = Names { recipe, origin };
        let plan = Self {
            name: recipe.name.clone(),
            seed: recipe.seed,
            data: names.data()?,
            models: BTreeMap::new(),
            structured: structured(recipe),
            collect: names.collect()?,
            screen: recipe.screen.as_ref().map(|screen| names.screen(screen)).transpose()?,
            students: names.students()?,
            evaluate: recipe.evaluate.as_ref().map(|evaluate| names.evaluate(evaluate)).transpose()?,
            prompts: names.prompts()?,
        };
        names.shots(&plan)?;
        names.caps(&plan)?;
        names.sources()?;
        names.money(&plan)?;
        names.terms()?;
        Ok(plan)
    }

    /// Adds what the inputs *are*: model identities and the digests of the loaded questions.
    #[must_use]
    pub fn with_inputs(mut self, models: BTreeMap<String, String>, content: BTreeMap<String, String>) -> Self {
        self.models = models;
        self.data.content = content;
        self
    }

    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of("plan/1", self)
    }

    /// How a decomposer is asked: a student with the prompt it was trained on. Of a model whose endpoint is still to be tried
    /// this is how it is asked when the trial fails.
    #[must_use]
    pub fn style(&self, decomposer: &str) -> Style {
        let student = self.student(decomposer);
        match self.structured(decomposer) {
            Structured::On => Style::Structured,
            Structured::Auto | Structured::Off => student.map_or_else(Style::default, |student| student.style),
        }
    }

    #[must_use]
    pub fn structured(&self, decomposer: &str) -> Structured {
        let name = if decomposer == TEACHER { &self.collect.teacher } else { decomposer };
        self.structured.get(name).copied().unwrap_or_default()
    }

    /// Students that answer in one call, with nothing screened, have no use for decompositions.
    #[must_use]
    pub fn collects(&self) -> bool {
        self.screen.is_some()
            || self.students.is_empty()
            || self.students.values().any(|student| student.target.needs_decompositions())
    }

    /// Whether the teacher is asked as the screening goes on, for as many decompositions as that needs to keep enough, and for
    /// none beyond the rows that are screened. Who learns from every decomposition, screened or not, needs them all, and so does
    /// whoever trains elsewhere on what was collected; recorded ones cost nothing.
    #[must_use]
    pub fn collects_in_waves(&self) -> bool {
        let learns_all =
            |student: &StudentPlan| student.target.needs_decompositions() && !student.target.needs_screening();
        let ends_early =
            |screen: &ScreenPlan| screen.until.is_some() || (screen.rows.is_some() && !self.students.is_empty());
        self.screen.as_ref().is_some_and(ends_early)
            && self.collect.teacher != RECORDED
            && !self.students.values().any(learns_all)
    }

    fn asks_teacher(&self) -> bool {
        let mut arms = self.evaluate.iter().flat_map(|evaluate| &evaluate.arms);
        self.collects() || arms.any(|arm| arm.decomposer.as_deref() == Some(TEACHER))
    }

    /// Names from `[models]` that this plan talks to, or trains from.
    #[must_use]
    pub fn models_in_use(&self) -> Vec<String> {
        let mut names: Vec<String> = self.students.values().map(|student| student.base.clone()).collect();
        names.extend(self.asks_teacher().then(|| self.collect.teacher.clone()));
        names.extend(self.screen.iter().filter_map(|screen| screen.solver.clone()));
        names.extend(
            self.evaluate.iter().filter_map(|evaluate| evaluate.judge.as_ref()).map(|judge| judge.model.clone()),
        );
        for arm in self.evaluate.iter().flat_map(|evaluate| &evaluate.arms) {
            names.push(arm.solver.clone());
            names.extend(arm.decomposer.clone());
        }
        names.retain(|name| name != RECORDED && name != TEACHER && !name.starts_with("student:"));
        names.sort();
        names.dedup();
        names
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Of the models that decompose; on others it has no effect.
fn structured(recipe: &Recipe) -> BTreeMap<String, Structured> {
    let names = recipe.evaluate.iter().flat_map(|evaluate| &evaluate.decomposers).chain([&recipe.collect.teacher]);
    let all = names.filter_map(|name| Some((name.clone(), recipe.models.get(name)?.structured)));
    all.filter(|(_, structured)| *structured != Structured::Off).collect()
}
