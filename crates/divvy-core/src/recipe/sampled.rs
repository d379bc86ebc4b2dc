//! How a model's words are drawn. Without these keys a model is greedy: it writes the likeliest token, always.

use serde::Deserialize;

/// `solving` and `decomposing` of `[evaluate]`; `[collect]` and `[screen]` have the same keys of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampled {
    /// 0 is greedy.
    pub temperature: Option<f64>,
    /// Draws among the likeliest tokens that have so much of the probability together.
    pub top_p: Option<f64>,
    /// For local models: draws among so many of the likeliest tokens.
    pub top_k: Option<u32>,
    /// For local models: leaves out tokens less likely than this share of the likeliest one.
    pub min_p: Option<f64>,
    /// For local models: divides the logits of tokens already written. 1 is off.
    pub repetition_penalty: Option<f64>,
    /// Draws by this instead of the recipe's seed.
    pub seed: Option<u64>,
}
