//! What is served, by the name that a client gives as `model`.

use std::{collections::BTreeMap, sync::Arc};

use divvy_core::{
    arm::Arm,
    cost::Prices,
    model::ModelId,
    plan::EvaluatePlan,
    prompts::{
        Demonstration, Prompts,
        decompose::{Manner, Style},
    },
    question::ScorerKind,
};
use divvy_llm::Live;
use serde::Serialize;

/// A model, ready to be asked.
#[derive(Clone)]
pub struct Voice {
    /// Its name in the recipe.
    pub name: String,
    pub id: ModelId,
    /// Its name where it is served, and whose it is, as traces tell it.
    pub called: Arc<str>,
    pub provider: Arc<str>,
    pub live: Arc<Live>,
    /// Goes on with a text instead of answering messages; a model in this process can.
    pub raw: Option<Arc<Live>>,
    /// It runs in this process.
    pub local: bool,
    pub prices: Option<Prices>,
}

/// An arm with its models.
#[derive(Clone)]
pub struct ServedArm {
    pub arm: Arm,
    pub style: Style,
    /// The cap that its decomposer is told.
    pub most: Option<u32>,
    /// The wording of every prompt.
    pub prompts: Prompts,
    /// What its prompt shows before the question …
    pub shots: Vec<Demonstration>,
    /// … and that of a student that solves behind a decomposer.
    pub solving: Vec<Demonstration>,
    pub decomposer: Option<Voice>,
    pub solver: Voice,
    /// What the evaluation found, where there was one.
    pub measured: Option<Measured>,
}

impl ServedArm {
    pub(crate) fn manner(&self) -> Manner<'_> {
        Manner { style: self.style, most: self.most, shots: &self.shots }
    }
}

/// Accuracy of an arm on the recipe's questions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    pub accuracy: f64,
    /// 95 %.
    pub ci: (f64, f64),
    pub n: u64,
    /// `dev` or `test`.
    pub split: String,
}

/// One entry of `/v1/models`.
#[derive(Clone)]
pub enum Served {
    Arm(Box<ServedArm>),
    /// A plain model: messages go to it as they are.
    Model(Voice),
}

impl Served {
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Arm(served) => served.arm.slug(),
            Self::Model(voice) => voice.name.clone(),
        }
    }
}

/// Everything on offer, in the recipe's order.
pub struct Menu {
    pub served: Vec<Arc<Served>>,
    pub plan: EvaluatePlan,
    pub seed: u64,
    /// The form of answer that solvers are asked for.
    pub scorer: ScorerKind,
    /// Name of the recipe.
    pub recipe: String,
    /// Seconds since the epoch.
    pub created: u64,
}

impl Menu {
    /// Every model behind it once, by name.
    pub(crate) fn voices(&self) -> BTreeMap<&str, &Voice> {
        let voices = self.served.iter().flat_map(|served| match &**served {
            Served::Arm(served) => served.decomposer.iter().chain(Some(&served.solver)).collect(),
            Served::Model(voice) => vec![voice],
        });
        voices.map(|voice| (&*voice.name, voice)).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Served>> {
        self.served.iter().find(|served| served.name() == name)
    }
}
