//! `[students.NAME]`: what a student is trained from, on what, and how.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::{OneOrMany, Target};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    #[default]
    Lora,
    Full,
}

/// What a student reads, in training and ever after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudentPrompt {
    /// What every other decomposer reads.
    #[default]
    Instruction,
    /// The question without the instruction: fewer tokens to train on and to pay for.
    Question,
}

/// How much a student's rows count in the loss, one beside another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowWeights {
    #[default]
    Equal,
    /// A decomposition by the share of the solver's samples that were right with it.
    PassRate,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Student {
    /// A local model from `[models]`.
    pub base: String,
    pub target: Target,
    /// Names of the training sets that it learns from, perhaps with weights; all when absent.
    pub data: Option<Mix>,
    /// At most so many training rows. Of a list, each size makes a student of its own, `NAME@ROWS`, whose rows are among
    /// those of every larger one.
    pub rows: Option<OneOrMany<usize>>,
    /// What its training draws by, first factors and order of rows, instead of the recipe's seed. Of a list, each makes a
    /// student of its own, `NAME#SEED`, on the same rows; the report pools them.
    pub seeds: Option<OneOrMany<u64>>,
    #[serde(default)]
    pub prompt: StudentPrompt,
    /// Demonstrations in its prompts, in training and ever after: those that the recipe writes, else recorded ones of other
    /// training questions.
    #[serde(default)]
    pub shots: usize,
    #[serde(default)]
    pub method: Method,
    pub rank: Option<usize>,
    pub alpha: Option<f64>,
    /// Scale LoRA by alpha / √rank instead of alpha / rank.
    #[serde(default)]
    pub rslora: bool,
    /// LoRA+: how many times as fast the factors B learn as the factors A.
    pub lora_plus: Option<f64>,
    /// How much each row counts.
    #[serde(default)]
    pub weights: RowWeights,
    pub epochs: Option<u64>,
    /// Of a list, each is tried, and the student with the least loss on dev is kept.
    pub learning_rate: Option<OneOrMany<f64>>,
    /// Rows of one optimiser step.
    pub batch_rows: Option<usize>,
    pub warmup_ratio: Option<f64>,
    pub weight_decay: Option<f64>,
    pub max_grad_norm: Option<f64>,
    /// Longer rows are left out, and counted.
    pub max_row_tokens: Option<usize>,
    /// Optimiser steps between two checkpoints.
    pub checkpoint_every: Option<u64>,
    pub eval_every: Option<u64>,
    /// Training ends when dev no longer gains, and the best student of its way is kept.
    pub early_stop: Option<EarlyStop>,
}

/// When training ends before its last epoch: dev is looked at every `eval_every` steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    #[serde(default)]
    pub on: StopOn,
    /// Looks at dev in a row that may bring nothing better.
    pub patience: u32,
}

/// What is better on dev.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopOn {
    /// Less loss.
    #[default]
    Loss,
    /// More decompositions, written greedily, that can be read.
    DecompositionQuality,
}

/// The training sets of a student: `["gsm8k", "drop"]`, or with weights `{ gsm8k = 1, drop = 0.5 }`. A weight says how
/// often each row of the set is learnt: of 2, twice; of 0.5, half of the rows, chosen by the seed.
#[derive(Clone, Debug, PartialEq)]
pub enum Mix {
    Names(Vec<String>),
    Weights(BTreeMap<String, f64>),
}

impl<'de> Deserialize<'de> for Mix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Mix;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names of training sets, or a table with a weight for each")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Mix, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element()? {
            names.push(name);
        }
        Ok(Mix::Names(names))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, table: A) -> Result<Mix, A::Error> {
        Deserialize::deserialize(MapAccessDeserializer::new(table)).map(Mix::Weights)
    }
}
