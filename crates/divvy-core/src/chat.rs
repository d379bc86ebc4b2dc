//! What is said to a model and what comes back. A local model and a remote one see the same request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::ModelId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
}

/// Every setting that shapes the reply. All of it is part of the call key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f64,
    pub top_p: f64,
    /// Most tokens the model may write; a reply that hits it finishes with [`Finish::Length`].
    pub max_tokens: u32,
    /// Divides the logit of every token already written (1 = off). Only local models honour it.
    pub repetition_penalty: f64,
    /// Draws among so many of the likeliest tokens (0 = off). Only local models honour it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub top_k: u32,
    /// Leaves out tokens less likely than this share of the likeliest one (0 = off). Only local models honour it.
    #[serde(default, skip_serializing_if = "is_off")]
    pub min_p: f64,
    /// Added to the logit of each token id. Only local models honour it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logit_bias: BTreeMap<u32, f64>,
    pub stop: Vec<String>,
    /// Seed of this very call, already derived from the recipe's seed and the item.
    pub seed: u64,
    /// Local models honour it, and endpoints that can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Box<ReplyFormat>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_off(value: &f64) -> bool {
    *value == 0.0
}

/// The JSON that a reply has to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyFormat {
    pub name: String,
    /// A JSON schema.
    pub schema: serde_json::Value,
}

impl Sampling {
    #[must_use]
    pub fn greedy(max_tokens: u32) -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            max_tokens,
            repetition_penalty: 1.0,
            top_k: 0,
            min_p: 0.0,
            logit_bias: BTreeMap::new(),
            stop: Vec::new(),
            seed: 0,
            format: None,
        }
    }
}

/// One request to a model. `sample` tells apart repeated samples of the same request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    pub model: ModelId,
    pub messages: Vec<Message>,
    pub sampling: Sampling,
    pub sample: u32,
}

/// Why a model stopped writing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// The end token or a stop string.
    #[default]
    Stop,
    /// `max_tokens` or the context was used up: the text is truncated.
    Length,
    /// A provider's own reason (content filter, tool call, …).
    Other(String),
}

impl Finish {
    /// The provider's own word for a reply that it or the model withheld, whole or from somewhere on.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Other(reason) if reason == "content_filter" || reason == "refusal")
    }
}

/// Tokens of one call as the model counted them. `None` where a provider did not say: unknown is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub tokens_in: Option<u64>,
    /// Part of `tokens_in` that a prefix cache served.
    pub tokens_cached: Option<u64>,
    pub tokens_out: Option<u64>,
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub text: String,
    pub finish: Finish,
    pub usage: Usage,
}
