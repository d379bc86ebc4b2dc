//! Typed access to GGUF metadata, and the model's shape read from it.

use super::{DIVISORS, Header, Value};
use crate::config::{Activation, Arch, ModelConfig, RopeScaling, Sliding, Variant};
use crate::error::LoadError;

impl Header {
    fn wrong_type(&self, key: &str, want: &str) -> LoadError {
        LoadError::corrupt(&self.file, key, format!("expected {want}"))
    }

    fn missing_key(&self, key: &str) -> LoadError {
        LoadError::missing(&self.file, format!("metadata key {key}"))
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Int(value)) => {
                usize::try_from(*value).map(Some).map_err(|_| self.wrong_type(key, "a number of at least 0"))
            }
            Some(_) => Err(self.wrong_type(key, "a whole number")),
        }
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, LoadError> {
        self.optional_size(key)?.ok_or_else(|| self.missing_key(key))
    }

    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong_type(key, "a text")),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, LoadError> {
        self.optional_text(key)?.ok_or_else(|| self.missing_key(key))
    }

    pub(crate) fn texts(&self, key: &str) -> Result<&[String], LoadError> {
        match self.metadata.get(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            Some(_) => Err(self.wrong_type(key, "a list of texts")),
            None => Err(self.missing_key(key)),
        }
    }

    pub(crate) fn ints(&self, key: &str) -> Result<&[i64], LoadError> {
        match self.metadata.get(key) {
            Some(Value::Ints(values)) => Ok(values),
            Some(_) => Err(self.wrong_type(key, "a list of whole numbers in 32 or 64 bits")),
            None => Err(self.missing_key(key)),
        }
    }

    pub(crate) fn floats(&self, key: &str) -> Result<&[f64], LoadError> {
        match self.metadata.get(key) {
            Some(Value::Floats(values)) => Ok(values),
            Some(_) => Err(self.wrong_type(key, "a list of floating-point numbers")),
            None => Err(self.missing_key(key)),
        }
    }

    pub(crate) fn optional_bool(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong_type(key, "true or false")),
        }
    }

    fn optional_float(&self, key: &str) -> Result<Option<f32>, LoadError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value as f32)),
            Some(_) => Err(self.wrong_type(key, "a floating-point number")),
        }
    }

    pub(super) fn arch(&self) -> Result<Arch, LoadError> {
        let name = self.text("general.architecture")?;
        Arch::from_gguf_name(name)
            .ok_or_else(|| LoadError::UnsupportedArchitecture { file: self.file.clone(), arch: name.to_owned() })
    }

    pub(super) fn config(&self, arch: Arch) -> Result<ModelConfig, LoadError> {
        let key = |name: &str| format!("{}.{name}", arch.gguf_name());
        let hidden = self.size(&key("embedding_length"))?;
        let query_heads = self.size(&key("attention.head_count"))?;
        let rotated = self.optional_size(&key("rope.dimension_count"))?;
        let head_dim = match self.optional_size(&key("attention.key_length"))? {
            Some(length) => length,
            None => rotated.unwrap_or(hidden / query_heads.max(1)),
        };
        if rotated.is_some_and(|rotated| rotated != head_dim) {
            let value = rotated.unwrap_or_default().to_string();
            return Err(LoadError::bad_config(&self.file, &key("rope.dimension_count"), &value, "the head dimension"));
        }
        let embed = self.tensors.get("token_embd.weight");
        let embed = embed.ok_or_else(|| LoadError::missing(&self.file, "tensor token_embd.weight"))?;
        let epsilon = key("attention.layer_norm_rms_epsilon");
        let rope_theta = self.optional_float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
        let layers = self.size(&key("block_count"))?;
        let mut variant = self.variant(arch, hidden, rope_theta, head_dim)?;
        variant.score_scale = implied_score_scale(arch, layers, hidden, query_heads);
        let config = ModelConfig {
            arch,
            layers,
            hidden,
            query_heads,
            kv_heads: self.optional_size(&key("attention.head_count_kv"))?.unwrap_or(query_heads),
            head_dim,
            ffn: self.size(&key("feed_forward_length"))?,
            vocab: embed.shape[0],
            rope_theta,
            rms_eps: self.optional_float(&epsilon)?.ok_or_else(|| self.missing_key(&epsilon))?,
            qkv_bias: arch == Arch::Qwen2,
            tied: !self.tensors.contains_key("output.weight"),
            context_length: self.size(&key("context_length"))?,
            variant,
        };
        config.check(&self.file)?;
        Ok(config)
    }

    /// What the architecture's name implies in llama.cpp, and what the metadata say.
    fn variant(&self, arch: Arch, hidden: usize, theta: f32, head_dim: usize) -> Result<Variant, LoadError> {
        let rope = self.rope_scaling(arch, theta, head_dim)?;
        let plain = Variant { rope, ..Variant::default() };
        Ok(match arch {
            Arch::Llama | Arch::Mistral | Arch::Qwen2 => plain,
            Arch::Qwen3 => Variant { qk_norm: true, ..plain },
            Arch::Gemma3 => Variant {
                qk_norm: true,
                post_norms: true,
                activation: Activation::GeluTanh,
                embed_scale: (hidden as f32).sqrt(),
                sliding: self.sliding(arch)?,
                ..plain
            },
        })
    }

    /// llama.cpp's defaults where the file does not say: every sixth layer sees everything, the others turn at base 10,000.
    fn sliding(&self, arch: Arch) -> Result<Option<Sliding>, LoadError> {
        let key = |name: &str| format!("{}.{name}", arch.gguf_name());
        let Some(window) = self.optional_size(&key("attention.sliding_window"))? else { return Ok(None) };
        Ok(Some(Sliding {
            window,
            every: self.optional_size(&key("attention.sliding_window_pattern"))?.unwrap_or(6),
            theta: Some(self.optional_float(&key("rope.freq_base_swa"))?.unwrap_or(10_000.0)),
        }))
    }

    /// A stretched RoPE changes every angle; running such a model unstretched would be silently wrong.
    fn rope_scaling(&self, arch: Arch, theta: f32, head_dim: usize) -> Result<RopeScaling, LoadError> {
        let key = |name: &str| format!("{}.rope.scaling.{name}", arch.gguf_name());
        let factor = || Ok(self.optional_float(&key("factor"))?.unwrap_or(1.0));
        let original = || self.size(&key("original_context_length"));
        if self.tensors.contains_key(DIVISORS) {
            return self.llama3(theta, head_dim);
        }
        match self.optional_text(&key("type"))? {
            None | Some("none") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: factor()? }),
            Some("yarn") => {
                let (factor, original) = (factor()?, original()?);
                self.refuse_other_yarns(key)?;
                let extra = self.optional_float(&key("attn_factor"))?.unwrap_or(1.0);
                let attention = extra * RopeScaling::yarn_attention(factor);
                let beta = |name, usual| Ok(self.optional_float(&key(name))?.unwrap_or(usual));
                let (beta_fast, beta_slow) = (beta("yarn_beta_fast", 32.0)?, beta("yarn_beta_slow", 1.0)?);
                Ok(RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attention, whole: true })
            }
            Some(other) => Err(self.unsupported_rope(&key("type"), other)),
        }
    }

    /// Keys of llama.cpp that make another stretch of it, unless they say what goes without saying.
    fn refuse_other_yarns(&self, key: impl Fn(&str) -> String) -> Result<(), LoadError> {
        for (name, usual) in [("yarn_ext_factor", 1.0), ("yarn_attn_factor", 1.0), ("yarn_log_multiplier", 0.0)] {
            let key = key(name);
            match self.optional_float(&key)? {
                Some(other) if other != usual => return Err(self.unsupported_rope(&key, &format!("{other}"))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Llama 3.x files hold the divisor of every frequency instead of the four numbers that they follow from.
    fn llama3(&self, theta: f32, head_dim: usize) -> Result<RopeScaling, LoadError> {
        let divisors = self.divisors.as_ref().filter(|divisors| divisors.len() == head_dim / 2);
        let divisors = divisors.ok_or_else(|| {
            LoadError::corrupt(&self.file, DIVISORS, format!("expected {} numbers in F32", head_dim / 2))
        })?;
        let plain = RopeScaling::None.frequencies(theta, head_dim);
        let fits = |scaling: &RopeScaling| {
            let stretched = scaling.frequencies(theta, head_dim);
            let close = |((s, p), d): ((&f64, &f64), &f32)| (p / s / f64::from(*d) - 1.0).abs() < 1e-4;
            stretched.iter().zip(&plain).zip(divisors).all(close)
        };
        let known = [8.0, 32.0].map(|factor| RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192 });
        known.into_iter().find(fits).ok_or_else(|| self.unsupported_rope(DIVISORS, "divisors of no known model"))
    }

    fn unsupported_rope(&self, key: &str, what: &str) -> LoadError {
        LoadError::Unsupported {
            file: self.file.clone(),
            key: key.to_owned(),
            what: format!("RoPE scaling ({what})"),
            supported: "none, linear, yarn, and Llama 3.1's and 3.2's rope_freqs.weight".into(),
        }
    }
}

/// The scale of attention scores that a GGUF file implies where it is not the usual one. No key has it: llama.cpp knows
/// Gemma 3's model of 27B by its layers (`llama_model_gemma3`).
pub(crate) fn implied_score_scale(arch: Arch, layers: usize, hidden: usize, query_heads: usize) -> Option<f32> {
    let large = arch == Arch::Gemma3 && layers == 62;
    large.then(|| 1.0 / (hidden as f32 / query_heads.max(1) as f32).sqrt())
}
