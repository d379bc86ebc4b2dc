//! The shape of a model: everything about it except its numbers. Read by the loaders from GGUF metadata or from
//! `config.json`, used by inference and training alike. Refuses what the engine cannot run before a byte is allocated.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::LoadError;

/// A million positions in heads of 128: half a gigabyte of cosines and sines, which a file of some kilobytes could ask for.
const MOST_ANGLES: usize = 1 << 27;

/// Model families the engine runs. Both are pre-norm decoders with RoPE (half-split order), grouped-query attention
/// and SwiGLU; Qwen2 adds a bias to the query, key and value projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    Llama,
    Qwen2,
}

impl Arch {
    /// Every architecture that loads, by the name both file formats use.
    pub const ALL: [Self; 2] = [Self::Llama, Self::Qwen2];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }

    /// The name in GGUF files.
    #[must_use]
    pub fn gguf_name(self) -> &'static str {
        self.name()
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
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
        let tables = if self.tied { 1 } else { 2 } * self.vocab * self.hidden;
        self.layers * (projections + biases + 2 * self.hidden) + tables + self.hidden
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
        if self.context_length * self.head_dim > MOST_ANGLES {
            let want = format!("at most {} with heads of {}", MOST_ANGLES / self.head_dim, self.head_dim);
            return bad("context length", self.context_length.to_string(), &want);
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
        Ok(())
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
