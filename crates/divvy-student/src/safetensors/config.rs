//! `config.json` of a Hugging Face directory: read into a [`ModelConfig`], and written from one.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{Arch, ModelConfig};
use crate::error::LoadError;

/// The keys of `config.json` that shape the model.
#[derive(Deserialize)]
struct RawConfig {
    model_type: String,
    num_hidden_layers: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    rope_theta: Option<f32>,
    rms_norm_eps: f32,
    #[serde(default)]
    tie_word_embeddings: bool,
    max_position_embeddings: usize,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    /// Older spelling of RoPE variants.
    rope_scaling: Option<Value>,
    /// Spelling since transformers 5, which holds theta too.
    rope_parameters: Option<Value>,
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
    raw.refuse_unknown_features(&file)?;
    let config = raw.model_config(arch);
    config.check(&file)?;
    Ok(config)
}

impl RawConfig {
    fn refuse_unknown_features(&self, file: &str) -> Result<(), LoadError> {
        let scaled = [&self.rope_scaling, &self.rope_parameters].into_iter().flatten().find_map(|rope| {
            let kind = rope.get("rope_type").or_else(|| rope.get("type"))?.as_str()?;
            (kind != "default").then(|| format!("RoPE scaling \"{kind}\""))
        });
        let bias = (self.attention_bias || self.mlp_bias).then(|| format!("bias in {}", self.model_type));
        let window = self.use_sliding_window.then(|| "sliding-window attention".to_owned());
        match scaled.or(bias).or(window) {
            None => Ok(()),
            Some(what) => Err(LoadError::Unsupported {
                file: file.to_owned(),
                key: "config".into(),
                what,
                supported: "plain RoPE, full attention, bias on q, k and v of qwen2 only".into(),
            }),
        }
    }

    fn model_config(&self, arch: Arch) -> ModelConfig {
        let nested = self.rope_parameters.as_ref().and_then(|rope| rope.get("rope_theta")?.as_f64());
        ModelConfig {
            arch,
            layers: self.num_hidden_layers,
            hidden: self.hidden_size,
            query_heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1)),
            ffn: self.intermediate_size,
            vocab: self.vocab_size,
            rope_theta: self.rope_theta.or(nested.map(|theta| theta as f32)).unwrap_or(10_000.0),
            rms_eps: self.rms_norm_eps,
            qkv_bias: arch == Arch::Qwen2,
            tied: self.tie_word_embeddings,
            context_length: self.max_position_embeddings,
        }
    }
}

/// The configuration as `transformers` reads it.
pub(crate) fn config_json(config: &ModelConfig) -> Value {
    let architecture = match config.arch {
        Arch::Llama => "LlamaForCausalLM",
        Arch::Qwen2 => "Qwen2ForCausalLM",
    };
    json!({
        "architectures": [architecture],
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
    })
}
