//! `config.json` of a Hugging Face directory: read into a [`ModelConfig`], and written from one. What would change the
//! numbers and is not run is refused by key. RoPE's own keys are in `rope.rs`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::rope;
use crate::config::{Activation, Arch, ModelConfig, Sliding, Variant};
use crate::error::LoadError;

/// The keys of `config.json` that shape the model.
#[derive(Deserialize)]
struct RawConfig {
    num_hidden_layers: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    rms_norm_eps: f32,
    tie_word_embeddings: Option<bool>,
    max_position_embeddings: usize,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default)]
    use_bidirectional_attention: bool,
    sliding_window: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    query_pre_attn_scalar: Option<f32>,
    attn_logit_softcapping: Option<f32>,
    final_logit_softcapping: Option<f32>,
    partial_rotary_factor: Option<f32>,
    quantization_config: Option<Value>,
    #[serde(flatten)]
    rope: rope::Keys,
}

/// Reads the shape of the model in `dir`.
///
/// # Errors
/// No readable `config.json`, an unknown architecture, or a feature the engine lacks.
pub(crate) fn read_config(dir: &Path) -> Result<ModelConfig, LoadError> {
    let path = dir.join("config.json");
    let file = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| LoadError::io(&path, error))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|error| LoadError::corrupt(&file, "JSON", error.to_string()))?;
    let name = value.get("model_type").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
    let arch = Arch::from_name(&name)
        .ok_or_else(|| LoadError::UnsupportedArchitecture { file: file.clone(), arch: name.clone() })?;
    let raw: RawConfig =
        serde_json::from_value(value).map_err(|error| LoadError::corrupt(&file, "a key", error.to_string()))?;
    let refuse = |(key, what, supported): Fault| LoadError::Unsupported { file: file.clone(), key, what, supported };
    let config = raw.model_config(arch).map_err(refuse)?;
    config.check(&file)?;
    Ok(config)
}

/// What is not run: (key, what it is, what is run).
pub(super) type Fault = (String, String, String);

impl RawConfig {
    fn refuse_unknown_features(&self, arch: Arch) -> Result<(), Fault> {
        let turned_in_part = self.partial_rotary_factor.is_some_and(|share| share != 1.0);
        let capped = self.attn_logit_softcapping.is_some() || self.final_logit_softcapping.is_some();
        for (unknown, key, what, supported) in [
            (self.attention_bias, "attention_bias", "bias on the attention's projections", "the bias of qwen2"),
            (self.mlp_bias, "mlp_bias", "bias in the feed-forward block", "none"),
            (self.use_sliding_window, "use_sliding_window", "sliding-window attention of Qwen", "full attention"),
            (
                self.use_bidirectional_attention,
                "use_bidirectional_attention",
                "attention to what follows",
                "causal attention",
            ),
            (capped, "attn_logit_softcapping, final_logit_softcapping", "soft-capping", "none"),
            (turned_in_part, "partial_rotary_factor", "RoPE on a part of each head", "RoPE on whole heads"),
            (
                self.quantization_config.is_some(),
                "quantization_config",
                "a quantised checkpoint",
                "bf16, f16 and f32 in safetensors, quantised weights in GGUF",
            ),
        ] {
            if unknown {
                return Err((key.into(), what.into(), supported.into()));
            }
        }
        let (act, want) = match arch {
            Arch::Gemma3 => (self.hidden_activation.as_ref(), "gelu_pytorch_tanh"),
            _ => (self.hidden_act.as_ref(), "silu"),
        };
        match act.filter(|act| *act != want) {
            Some(act) => Err(("hidden_act".into(), format!("activation \"{act}\""), want.into())),
            None => Ok(()),
        }
    }

    fn model_config(&self, arch: Arch) -> Result<ModelConfig, Fault> {
        self.refuse_unknown_features(arch)?;
        Ok(ModelConfig {
            arch,
            layers: self.num_hidden_layers,
            hidden: self.hidden_size,
            query_heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1)),
            ffn: self.intermediate_size,
            vocab: self.vocab_size,
            rope_theta: self.rope.theta(arch),
            rms_eps: self.rms_norm_eps,
            qkv_bias: arch == Arch::Qwen2,
            tied: self.tie_word_embeddings.unwrap_or(arch == Arch::Gemma3),
            context_length: self.max_position_embeddings,
            variant: self.variant(arch)?,
        })
    }

    fn variant(&self, arch: Arch) -> Result<Variant, Fault> {
        let plain = Variant { rope: self.rope.scaling(self.max_position_embeddings)?, ..Variant::default() };
        Ok(match arch {
            Arch::Llama | Arch::Qwen2 => plain,
            Arch::Qwen3 => Variant { qk_norm: true, ..plain },
            Arch::Mistral => {
                let window = self.sliding_window.filter(|&window| window < self.max_position_embeddings);
                Variant { sliding: window.map(|window| Sliding { window, every: 0, theta: None }), ..plain }
            }
            Arch::Gemma3 => Variant {
                qk_norm: true,
                post_norms: true,
                activation: Activation::GeluTanh,
                embed_scale: (self.hidden_size as f32).sqrt(),
                score_scale: self.score_scale(),
                sliding: self.sliding()?,
                ..plain
            },
        })
    }

    /// `None` where it is the usual one.
    fn score_scale(&self) -> Option<f32> {
        let scalar = self.query_pre_attn_scalar.unwrap_or(256.0);
        (Some(scalar) != self.head_dim.map(|dim| dim as f32)).then(|| 1.0 / scalar.sqrt())
    }

    /// The layers with a window, which have to follow a pattern: all but every so-manieth.
    fn sliding(&self) -> Result<Option<Sliding>, Fault> {
        let Some(window) = self.sliding_window else { return Ok(None) };
        let every = match &self.layer_types {
            Some(kinds) => kinds.iter().position(|kind| kind == "full_attention").map_or(0, |first| first + 1),
            None => self.sliding_window_pattern.unwrap_or(6),
        };
        let sliding = Sliding { window, every, theta: Some(self.rope.local_theta()) };
        let kinds = self.layer_types.as_deref().unwrap_or_default().iter().enumerate();
        let expected = |index| if sliding.holds(index) { "sliding_attention" } else { "full_attention" };
        match kinds.into_iter().find(|(index, kind)| *kind != expected(*index)) {
            None => Ok(Some(sliding)),
            Some((index, kind)) => {
                let what = format!("\"{kind}\" in layer {index}");
                Err((
                    "layer_types".into(),
                    what,
                    "sliding_attention but for every so-manieth layer, full_attention".into(),
                ))
            }
        }
    }
}

/// The configuration as `transformers` reads it.
pub(crate) fn config_json(config: &ModelConfig) -> Value {
    let mut json = json!({
        "architectures": [config.arch.class()],
        "model_type": config.arch.name(),
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.query_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context_length,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.rms_eps,
        "tie_word_embeddings": config.tied,
        "torch_dtype": "bfloat16",
    });
    if let Some(scaling) = rope::scaling_json(&config.variant.rope) {
        json["rope_scaling"] = scaling;
    }
    match config.arch {
        Arch::Mistral => json["sliding_window"] = json!(config.variant.sliding.map(|sliding| sliding.window)),
        Arch::Gemma3 => gemma_keys(config, &mut json),
        Arch::Llama | Arch::Qwen2 | Arch::Qwen3 => {}
    }
    json
}

fn gemma_keys(config: &ModelConfig, json: &mut Value) {
    let scale = config.variant.score_scale;
    json["hidden_activation"] = json!("gelu_pytorch_tanh");
    // A whole number in every checkpoint, and `transformers` insists.
    let scalar = scale.map_or(config.head_dim, |scale| (1.0 / (scale * scale)).round() as usize);
    json["query_pre_attn_scalar"] = json!(scalar);
    json["attention_bias"] = json!(false);
    let Some(sliding) = config.variant.sliding else { return };
    let kind = |index| if sliding.holds(index) { "sliding_attention" } else { "full_attention" };
    json["sliding_window"] = json!(sliding.window);
    json["layer_types"] = (0..config.layers).map(kind).collect();
    json["rope_local_base_freq"] = json!(sliding.theta.unwrap_or(config.rope_theta));
}
