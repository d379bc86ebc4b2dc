//! What sets a model apart from plain Llama: norms on queries and keys, norms behind the blocks, the gate, windows, scales.
//! A family sets some of it (`Arch`), a checkpoint's configuration the rest.

use divvy_kernels::Gate;
use serde::{Deserialize, Serialize};

use super::rope::RopeScaling;

/// The default is plain Llama.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// An RMS norm over each query and key head, before rotation (Qwen3, Gemma 3).
    pub qk_norm: bool,
    /// A norm on what attention and feed-forward block give, before it joins the residual stream (Gemma 3).
    pub post_norms: bool,
    pub activation: Activation,
    /// Embeddings are multiplied by this (Gemma: the root of the hidden size).
    pub embed_scale: f32,
    /// Attention scores are multiplied by this instead of `1 / sqrt(head dimension)`.
    pub score_scale: Option<f32>,
    pub sliding: Option<Sliding>,
    pub rope: RopeScaling,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            qk_norm: false,
            post_norms: false,
            activation: Activation::Silu,
            embed_scale: 1.0,
            score_scale: None,
            sliding: None,
            rope: RopeScaling::None,
        }
    }
}

/// The gate of the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    Silu,
    GeluTanh,
}

impl Activation {
    #[must_use]
    pub fn gate(self) -> Gate {
        match self {
            Self::Silu => Gate::Silu,
            Self::GeluTanh => Gate::GeluTanh,
        }
    }
}

/// Layers that see only so far back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sliding {
    /// Positions that a query sees, its own among them.
    pub window: usize,
    /// Every so many layers one sees everything; 0: none does.
    pub every: usize,
    /// RoPE base of the layers with a window, never stretched; `None`: as the others.
    pub theta: Option<f32>,
}

impl Sliding {
    /// Whether layer `index` has the window.
    #[must_use]
    pub fn holds(&self, index: usize) -> bool {
        self.every == 0 || !(index + 1).is_multiple_of(self.every)
    }
}
