//! The shape of a model: everything about it except its numbers. Read by the loaders from GGUF metadata or from
//! `config.json`, used by inference and training alike. Refuses what the engine cannot run before a byte is allocated.

mod rope;
mod variant;

use std::fmt;

use divvy_kernels::Heads;
use serde::{Deserialize, Serialize};

use crate::error::LoadError;

pub use rope::{RopeScaling, Ropes};
pub use variant::{Activation, Sliding, Variant};

/// Model families the engine runs: pre-norm decoders with RoPE (half-split order), grouped-query attention and a gated
/// feed-forward block. What they add to that is in [`Variant`], but for the bias that Qwen2 has on query, key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    Llama,
    /// Llama by another name.
    Mistral,
    Qwen2,
    Qwen3,
    Gemma3,
}

impl Arch {
    /// Every architecture that loads.
    pub const ALL: [Self; 5] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3, Self::Gemma3];

    /// The `model_type` of a Hugging Face configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3_text",
        }
    }

    /// By the `model_type` of a Hugging Face configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// By the architecture that a GGUF file names; Mistral's files call themselves llama.
    #[must_use]
    pub fn from_gguf_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.gguf_name() == name)
    }

    /// The class in `transformers`.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
        }
    }

    /// Whether its Hugging Face checkpoints hold norm weights less one.
    #[must_use]
    pub fn norms_from_one(self) -> bool {
        self == Self::Gemma3
    }

    /// The name in GGUF files.
    #[must_use]
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::Llama | Self::Mistral => "llama",
            Self::Gemma3 => "gemma3",
            other => other.name(),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All sizes of a model. Invariants after [`ModelConfig::check`]: nothing is zero, `query_heads` is a multiple of
/// `kv_heads`, `head_dim` is even, and all products fit comfortably in memory arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    pub arch: Arch,
    pub layers: usize,
    pub hidden: usize,
    pub query_heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Inner width of the feed-forward block.
    pub ffn: usize,
    pub vocab: usize,
    pub rope_theta: f32,
    pub rms_eps: f32,
    /// Query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// The output head is the embedding table.
    pub tied: bool,
    /// Longest sequence, prompt and reply together.
    pub context_length: usize,
    pub variant: Variant,
}

impl ModelConfig {
    /// Width of all query heads.
    #[must_use]
    pub fn query_width(&self) -> usize {
        self.query_heads * self.head_dim
    }

    /// Width of all key heads (and of all value heads).
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Rows of the fused query-key-value projection.
    #[must_use]
    pub fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.kv_width()
    }

    /// Heads in the rows of the query projection; key and value heads in those of the others.
    #[must_use]
    pub fn heads(&self, projection: Projection) -> usize {
        if projection == Projection::Query { self.query_heads } else { self.kv_heads }
    }

    /// How attention of layer `index` cuts its rows, and how far it sees.
    #[must_use]
    pub fn attention_heads(&self, index: usize) -> Heads {
        let sliding = self.variant.sliding.filter(|sliding| sliding.holds(index));
        Heads {
            window: sliding.map(|sliding| sliding.window),
            scale: self.variant.score_scale,
            ..Heads::new(self.query_heads, self.kv_heads, self.head_dim)
        }
    }

    /// `[rows, columns]` = `[outputs, inputs]` of one projection.
    #[must_use]
    pub fn projection_shape(&self, projection: Projection) -> [usize; 2] {
        match projection {
            Projection::Query => [self.query_width(), self.hidden],
            Projection::Key | Projection::Value => [self.kv_width(), self.hidden],
            Projection::Output => [self.hidden, self.query_width()],
            Projection::Gate | Projection::Up => [self.ffn, self.hidden],
            Projection::Down => [self.hidden, self.ffn],
        }
    }

    /// First row of a projection inside the fused matrix that holds it (`qkv`, `gate_up`); 0 where it stands alone.
    #[must_use]
    pub fn fused_offset(&self, projection: Projection) -> usize {
        match projection {
            Projection::Key => self.query_width(),
            Projection::Value => self.query_width() + self.kv_width(),
            Projection::Up => self.ffn,
            _ => 0,
        }
    }

    /// Number of parameters, the tied head counted once.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let projections: usize =
            Projection::ALL.iter().map(|&p| self.projection_shape(p).iter().product::<usize>()).sum();
        let biases = if self.qkv_bias { self.qkv_width() } else { 0 };
        let norms = if self.variant.post_norms { 4 } else { 2 } * self.hidden;
        let head_norms = if self.variant.qk_norm { 2 * self.head_dim } else { 0 };
        let tables = if self.tied { 1 } else { 2 } * self.vocab * self.hidden;
        self.layers * (projections + biases + norms + head_norms) + tables + self.hidden
    }

    /// Refuses sizes no model of these families has, so that later arithmetic cannot overflow nor allocate wildly.
    ///
    /// # Errors
    /// [`LoadError::BadConfig`] naming `file` and the key.
    pub fn check(&self, file: &str) -> Result<(), LoadError> {
        let bad = |key: &str, value: String, want: &str| Err(LoadError::bad_config(file, key, &value, want));
        for (key, value, most) in [
            ("layers", self.layers, 512),
            ("hidden size", self.hidden, 1 << 16),
            ("attention heads", self.query_heads, 1 << 10),
            ("key/value heads", self.kv_heads, 1 << 10),
            ("head dimension", self.head_dim, 1 << 10),
            ("feed-forward size", self.ffn, 1 << 18),
            ("vocabulary size", self.vocab, 1 << 21),
            ("context length", self.context_length, 1 << 20),
        ] {
            if value == 0 || value > most {
                return bad(key, value.to_string(), &format!("between 1 and {most}"));
            }
        }
        if !self.query_heads.is_multiple_of(self.kv_heads) {
            let heads = format!("{} for {} key/value heads", self.query_heads, self.kv_heads);
            return bad("attention heads", heads, "a multiple of the key/value heads");
        }
        if !self.head_dim.is_multiple_of(2) {
            return bad("head dimension", self.head_dim.to_string(), "even, as RoPE turns pairs");
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return bad("rope theta", self.rope_theta.to_string(), "a finite number of at least 1");
        }
        if !(self.rms_eps > 0.0 && self.rms_eps < 1.0) {
            return bad("norm epsilon", self.rms_eps.to_string(), "between 0 and 1");
        }
        if let Some((key, value, want)) = self.variant.rope.fault() {
            return bad(key, value, want);
        }
        self.check_sliding(file)
    }

    fn check_sliding(&self, file: &str) -> Result<(), LoadError> {
        let bad = |key: &str, value: String, want: &str| Err(LoadError::bad_config(file, key, &value, want));
        let positive = |value: f32| value.is_finite() && value > 0.0;
        if let Some(scale) = self.variant.score_scale.filter(|&scale| !positive(scale)) {
            return bad("attention scale", scale.to_string(), "a positive number");
        }
        let Some(Sliding { window, theta, .. }) = self.variant.sliding else { return Ok(()) };
        if window == 0 {
            return bad("sliding window", window.to_string(), "at least 1");
        }
        match theta {
            Some(theta) if !(theta.is_finite() && theta >= 1.0) => {
                bad("rope theta of the sliding layers", theta.to_string(), "a finite number of at least 1")
            }
            _ => Ok(()),
        }
    }
}

/// The seven linear maps of a layer: what LoRA targets, by the names PEFT uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Projection {
    pub const ALL: [Self; 7] = [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Module path below `model.layers.{i}.` in Hugging Face checkpoints and PEFT adapters.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// Last part of the module path (`q_proj`), as in PEFT's `target_modules`.
    #[must_use]
    pub fn short_name(self) -> &'static str {
        let module = self.module();
        module.rsplit('.').next().unwrap_or(module)
    }
}
