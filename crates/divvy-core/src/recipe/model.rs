//! `[models.NAME]`: where a model is, how it is asked, and what it costs.

use serde::{Deserialize, Serialize};

use super::{Batch, Mode};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// See [`crate::model::ModelSource`]; a file's path is relative to the recipe's folder.
    pub source: String,
    /// For an endpoint: the model's name there.
    pub model: Option<String>,
    /// For an endpoint: the environment variable that holds the API key. The key itself never stands in a recipe.
    pub api_key_env: Option<String>,
    /// For an endpoint: who the model belongs to. Replies are kept under provider and model name, so that another URL
    /// pays nothing twice; the host of `source` when absent.
    pub provider: Option<String>,
    /// For an endpoint: its share of the requests, where `endpoints` names more.
    pub weight: Option<u32>,
    /// Further endpoints that serve this same model: they share the load and stand in for each other.
    #[serde(default)]
    pub endpoints: Vec<FurtherEndpoint>,
    /// For a local model.
    #[serde(default)]
    pub numerics: Numerics,
    /// For a local model.
    #[serde(default)]
    pub kv_cache: KvCache,
    /// For a local model: tokens whose keys and values are held at once, those of prompts that may come again among them. Requests
    /// that do not fit beside the others wait. What half of the free memory takes, when absent.
    pub kv_cache_tokens: Option<usize>,
    /// Expected SHA-256 of the weights file.
    pub sha256: Option<String>,
    /// Requests in flight (endpoint) or sequences in a batch (local). At an endpoint, names with the same URL, `model` and
    /// `api_key_env` ask one model there: they keep to this and to the next two together, and the smallest number that any of
    /// those in use gives holds.
    pub concurrency: Option<usize>,
    /// For an endpoint: what may be sent in any minute, retries included; tokens in and out together.
    pub requests_per_minute: Option<u64>,
    pub tokens_per_minute: Option<u64>,
    /// Dollars per million tokens, or per hour of a machine, as decimal strings; [`crate::cost::list`] where absent.
    pub price: Option<Price>,
    /// For a model that decomposes: it is held to JSON by a schema.
    #[serde(default)]
    pub structured: Structured,
    /// Seconds one request may take, all retries included, time in line not, at an endpoint no more than half of them for each try.
    /// Ten minutes there where absent.
    pub timeout_seconds: Option<u64>,
    /// For an endpoint: replies are streamed, and one that stands still for so many seconds is given up.
    pub stall_seconds: Option<u64>,
    /// For an endpoint: `online` (default) or `batch`.
    #[serde(default)]
    pub mode: Mode,
    /// For the mode `batch`.
    pub batch: Option<Batch>,
}

impl Model {
    /// How a local model computes, as its identity and reports name it: `exact`, `fast`, `fast+kv-bf16`.
    #[must_use]
    pub fn profile(&self) -> String {
        let cache = match self.kv_cache {
            KvCache::F32 => "",
            KvCache::Bf16 => "+kv-bf16",
            KvCache::Int8 => "+kv-int8",
        };
        format!("{}{cache}", self.numerics.name())
    }
}

/// Whether decompositions are asked for as JSON (`response_format` with a schema).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Structured {
    #[default]
    Off,
    /// Where it can, a local model always: found out with the first question, and remembered in the store.
    Auto,
    On,
}

/// Another place where a model is served.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherEndpoint {
    pub url: String,
    /// The model's name there, if it has another.
    pub model: Option<String>,
    /// A key goes only where it is named.
    pub api_key_env: Option<String>,
    pub weight: Option<u32>,
    pub concurrency: Option<usize>,
    pub requests_per_minute: Option<u64>,
    pub tokens_per_minute: Option<u64>,
}

/// How closely a local model keeps to its stored numbers when it answers. Training is always exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numerics {
    #[default]
    Exact,
    /// Products in 8 bits where the processor gains by them. Some answers differ from the exact ones, so the profile is
    /// part of the model's identity.
    Fast,
    /// Weights in the bits of their file, where it has quantised blocks; activations beside them in 8 bits.
    Stored,
}

impl Numerics {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
            Self::Stored => "stored",
        }
    }
}

/// In which numbers a local model keeps the keys and values of the tokens it has seen. Smaller ones take half or a bit over a
/// quarter of the memory and change some answers, so that they are part of the model's identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvCache {
    #[default]
    F32,
    Bf16,
    Int8,
}

/// Either `input` and `output`, or `machine_hour`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub input: Option<String>,
    pub output: Option<String>,
    /// For the part of the input that a prefix cache served; the input price when absent.
    pub cached_input: Option<String>,
    /// For an hour of the machine that the model runs on. A call is charged its share of the time that the machine works.
    pub machine_hour: Option<String>,
    /// Share of the price that a batch saves: `"0.5"` is half off; none when absent.
    pub batch_discount: Option<String>,
}
