//! The recipe: what a person writes in TOML, key for key. Optional keys are optional here; unknown keys are refused.
//! Turning it into a [`crate::plan::Plan`], where nothing is optional, is the next module's work.
//!
//! ```toml
//! name = "quickstart"
//! seed = 1
//! [data.train]
//! dataset = "synth"
//! rows = 400
//! ```

mod batch;
mod costs;
mod data;
mod error;
mod model;
mod one_or_many;
mod prompts;
mod sampled;
mod scoring;
mod screen;
mod secrets;
mod student;
#[cfg(test)]
mod tests;
mod train;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    arm::{ArmPair, Strategy, Way},
    cost,
    prompts::PromptName,
};
pub use batch::{Batch, BatchFallback, Mode};
pub use costs::Costs;
pub use data::{Columns, Data, DataSet, OnBadRow, OnLeak};
pub use error::{RecipeError, nearest};
pub use model::{FurtherEndpoint, KvCache, Model, Numerics, Price, Structured};
pub use one_or_many::OneOrMany;
pub use prompts::{Prompt, PromptVariant, WrittenDemonstration, WrittenStep};
pub use sampled::Sampled;
pub use scoring::{Code, FurtherScorer, Judge};
pub use screen::{Format, Rule, Screen};
pub use student::{EarlyStop, Method, Mix, RowWeights, StopOn, Student, StudentPrompt};
pub use train::{Engine, Launch, Precision, Quantised, Train};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the run in the store and in the report.
    pub name: String,
    /// The one seed from which every item's seed is derived.
    #[serde(default = "one")]
    pub seed: u64,
    /// A PostgreSQL server that several machines share: `postgres://USER@HOST/DATABASE`. Without it, and without `--store`,
    /// the records lie in a folder.
    pub store: Option<String>,
    pub data: Data,
    #[serde(default)]
    pub models: BTreeMap<String, Model>,
    pub collect: Collect,
    pub screen: Option<Screen>,
    #[serde(default)]
    pub students: BTreeMap<String, Student>,
    #[serde(default)]
    pub train: Train,
    pub evaluate: Option<Evaluate>,
    /// Its own wording of prompts.
    #[serde(default)]
    pub prompts: BTreeMap<PromptName, Prompt>,
    #[serde(default)]
    pub budget: Budget,
    #[serde(default)]
    pub costs: Costs,
    #[serde(default)]
    pub serve: Serve,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// `recorded` (the data set's own decompositions) or a name from `[models]`.
    pub teacher: String,
    /// Decompositions a question; more than one needs a temperature.
    pub samples: Option<u32>,
    pub temperature: Option<f64>,
    /// How its words are drawn, see [`Sampled`].
    pub top_p: Option<f64>,
    pub top_k: Option<u32>,
    pub min_p: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub seed: Option<u64>,
    pub max_tokens: Option<u32>,
    /// Most subquestions kept of one decomposition (paper, Table 10: three on DROP).
    pub max_subquestions: Option<usize>,
    /// Demonstrations that the teacher is shown: those of `[prompts.decompose]`, else recorded decompositions of other
    /// training questions.
    #[serde(default)]
    pub shots: usize,
}

/// What a student is trained on (paper, section 3 and Table 8). The teacher's answers are the replies of the solver that
/// screens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Target {
    /// Decomposer on all teacher decompositions.
    #[serde(rename = "SD-T")]
    SdT,
    /// Decomposer on the screened ones.
    #[serde(rename = "SD-R")]
    SdR,
    /// Solver: question and subquestions → the teacher's whole reply.
    #[serde(rename = "SE-T")]
    SeT,
    /// Solver: the teacher's sub-answers, then the gold answer.
    #[serde(rename = "SE-A")]
    SeA,
    /// Solver: the teacher's final answer alone.
    #[serde(rename = "SE-T-direct")]
    SeTDirect,
    /// Solver: the gold answer alone.
    #[serde(rename = "SE-A-direct")]
    SeADirect,
    /// Answers in one call: question → gold answer.
    #[serde(rename = "direct")]
    Direct,
    /// Decomposer and solver in one: SD-T and SE-A-direct rows together.
    #[serde(rename = "joint")]
    Joint,
}

impl Target {
    pub const ALL: [Self; 8] =
        [Self::SdT, Self::SdR, Self::SeT, Self::SeA, Self::SeTDirect, Self::SeADirect, Self::Direct, Self::Joint];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SdT => "SD-T",
            Self::SdR => "SD-R",
            Self::SeT => "SE-T",
            Self::SeA => "SE-A",
            Self::SeTDirect => "SE-T-direct",
            Self::SeADirect => "SE-A-direct",
            Self::Direct => "direct",
            Self::Joint => "joint",
        }
    }

    /// It learns to write decompositions.
    #[must_use]
    pub fn decomposes(self) -> bool {
        matches!(self, Self::SdT | Self::SdR | Self::Joint)
    }

    /// The one strategy whose solver prompt it was trained on; `None` for a decomposer.
    #[must_use]
    pub fn solves(self) -> Option<Strategy> {
        match self {
            Self::SdT | Self::SdR => None,
            Self::Direct => Some(Strategy::Direct),
            Self::SeT | Self::SeA | Self::SeTDirect | Self::SeADirect | Self::Joint => Some(Strategy::TwoStage),
        }
    }

    #[must_use]
    pub fn needs_gold(self) -> bool {
        matches!(self, Self::SeA | Self::SeADirect | Self::Direct | Self::Joint)
    }

    /// Its rows have decompositions in them.
    #[must_use]
    pub fn needs_decompositions(self) -> bool {
        self != Self::Direct
    }

    /// Its rows are what the screening's solver said.
    #[must_use]
    pub fn repeats_replies(self) -> bool {
        matches!(self, Self::SeT | Self::SeA | Self::SeTDirect)
    }

    /// It is made of the screening's verdicts or replies.
    #[must_use]
    pub fn needs_screening(self) -> bool {
        matches!(self, Self::SdR | Self::SeT | Self::SeA | Self::SeTDirect)
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// Names from `[models]`, or `student:NAME` for a student trained to answer.
    pub solvers: Vec<String>,
    /// A strategy, with demonstrations in its prompt, a cap on its subquestions or other words where wanted: `cot+shots=4`,
    /// `two-stage+max=3`, `cot+prompt=terse`. Each is an arm of its own.
    pub strategies: Vec<Way>,
    /// For `two-stage`, `sequential` and `self-ask`: names from `[models]`, `student:NAME`, or `teacher`.
    #[serde(default)]
    pub decomposers: Vec<String>,
    /// Of the arms that strategies, decomposers and solvers make, only these; `*` stands for anything. All when empty.
    #[serde(default)]
    pub arms: Vec<String>,
    /// Also students in parts that they were not trained for: what did training cost them there (paper, Table 7)?
    #[serde(default)]
    pub untaught: bool,
    /// Which split is scored: `dev` while you tune, `test` for the final table.
    pub split: Option<EvalSplit>,
    pub direct_tokens: Option<u32>,
    pub solve_tokens: Option<u32>,
    pub decompose_tokens: Option<u32>,
    pub max_subquestions: Option<usize>,
    /// Loop control for local decomposers: divides the logits of tokens already written. 1 is off.
    pub repetition_penalty: Option<f64>,
    /// How solvers and decomposers are sampled; greedily when absent.
    pub solving: Option<Sampled>,
    pub decomposing: Option<Sampled>,
    /// Every question is answered so often; accuracy is the mean. Needs a temperature.
    pub repeats: Option<u32>,
    /// What this run is to decide, said before it is measured: Holm's adjustment is over these, and every other comparison
    /// is exploratory. Without any, the report asks its own questions.
    #[serde(default)]
    pub comparisons: Vec<ArmPair>,
    /// The same answers by further rules, beside each question's own; nothing is asked for it.
    #[serde(default)]
    pub scorers: Vec<FurtherScorer>,
    /// Whether and how programs of models are run.
    pub code: Option<Code>,
    /// A model that reads each answer beside gold and says whether it is right.
    pub judge: Option<Judge>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvalSplit {
    Dev,
    #[default]
    Test,
}

impl EvalSplit {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Most calls for the plan, by all commands together; cached ones are not counted.
    pub calls: Option<u64>,
    /// Most tokens, in and out together.
    pub tokens: Option<u64>,
    /// Most minutes of one `divvy` command; what is in flight then comes to its end, nothing more is sent, and batches stay out.
    pub minutes: Option<u64>,
    /// Most money, as a decimal string: `"5.00"`. Every endpoint needs a price then, its own or a listed one; a local model without one costs
    /// nothing. What a machine's hours cost is known afterwards: calls in flight at the cap come to their end.
    pub dollars: Option<String>,
}

impl Budget {
    /// The most money, which a plan has checked.
    #[must_use]
    pub fn price_nanos(&self) -> Option<i64> {
        self.dollars.as_deref().and_then(|dollars| cost::parse_dollars(dollars).ok())
    }
}

/// How `divvy serve` behaves. No part of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// Arms to serve, as the report names them; all when empty. Plain models are served beside them.
    #[serde(default)]
    pub arms: Vec<String>,
    /// Requests answered at once.
    pub concurrency: Option<usize>,
    /// Requests that may wait for their turn; more are refused.
    pub queue: Option<usize>,
    /// For one request, waiting included.
    pub deadline_seconds: Option<u64>,
    /// What happens when a decomposer fails: the solver answers alone (default), or the request fails.
    #[serde(default)]
    pub fallback: Fallback,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    #[default]
    Solve,
    Fail,
}

impl Recipe {
    /// Reads a recipe. `origin` is the file's name, for messages.
    ///
    /// # Errors
    /// [`RecipeError`] with file, line and column, and the nearest valid key for an unknown one.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text).map_err(|error| RecipeError::from_toml(&error, text, origin))?;
        recipe.store.as_deref().map_or(Ok(()), |store| check_store(store, origin))?;
        Ok(recipe)
    }
}

/// Whether a store is a server, or else a folder.
#[must_use]
pub fn is_server(store: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| store.starts_with(scheme))
}

fn check_store(store: &str, origin: &str) -> Result<(), RecipeError> {
    let wrong = |message: &str| RecipeError::at_key(origin, "store", message);
    if !is_server(store) {
        return Err(wrong("it names a server, postgres://USER@HOST/DATABASE").hint("a folder is named with --store"));
    }
    let rest = store.split_once("://").map_or(store, |(_, rest)| rest);
    let user = rest.split(['/', '?']).next().and_then(|place| place.rsplit_once('@')).map_or("", |(user, _)| user);
    if user.contains(':') || store.contains("password=") {
        return Err(
            wrong("a password does not belong in a recipe").hint("put it in PGPASSWORD, ~/.pgpass or DIVVY_STORE")
        );
    }
    Ok(())
}

fn one() -> u64 {
    1
}
