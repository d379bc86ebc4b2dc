//! RoPE in `config.json`, in its two spellings: `rope_theta` and `rope_scaling`, and since transformers 5 `rope_parameters`,
//! which has both and, where layers differ, one set for each kind of layer.

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::Fault;
use crate::config::{Arch, RopeScaling};

#[derive(Deserialize)]
pub(super) struct Keys {
    rope_theta: Option<f32>,
    rope_local_base_freq: Option<f32>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
}

#[derive(Deserialize)]
struct Scaling {
    rope_type: Option<String>,
    /// The oldest spelling of `rope_type`; some configurations have both.
    #[serde(rename = "type")]
    kind: Option<String>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
    beta_fast: Option<f32>,
    beta_slow: Option<f32>,
    attention_factor: Option<f32>,
    mscale: Option<f32>,
    mscale_all_dim: Option<f32>,
    truncate: Option<bool>,
    partial_rotary_factor: Option<f32>,
}

impl Keys {
    /// The newer spelling's set for layers that see everything, or the only one.
    fn full(&self) -> Option<&Value> {
        self.rope_parameters.as_ref().map(|all| all.get("full_attention").unwrap_or(all))
    }

    pub(super) fn theta(&self, arch: Arch) -> f32 {
        let nested = self.full().and_then(|rope| rope.get("rope_theta")?.as_f64());
        let usual = if arch == Arch::Gemma3 { 1e6 } else { 1e4 };
        self.rope_theta.or(nested.map(|theta| theta as f32)).unwrap_or(usual)
    }

    /// Of layers with a window, where they have one of their own.
    pub(super) fn local_theta(&self) -> f32 {
        let nested =
            self.rope_parameters.as_ref().and_then(|all| all.get("sliding_attention")?.get("rope_theta")?.as_f64());
        self.rope_local_base_freq.or(nested.map(|theta| theta as f32)).unwrap_or(1e4)
    }

    pub(super) fn scaling(&self, context: usize) -> Result<RopeScaling, Fault> {
        let Some(value) = self.rope_scaling.as_ref().filter(|value| !value.is_null()).or(self.full()) else {
            return Ok(RopeScaling::None);
        };
        let fault = |what: String| {
            let supported = "default, linear, llama3, yarn with all the numbers that they need";
            ("rope_scaling".to_owned(), what, supported.to_owned())
        };
        let keys = Scaling::deserialize(value).map_err(|error| fault(error.to_string()))?;
        if keys.partial_rotary_factor.is_some_and(|share| share != 1.0) {
            return Err(fault("RoPE on a part of each head (partial_rotary_factor)".to_owned()));
        }
        let kind = keys.rope_type.as_deref().or(keys.kind.as_deref()).unwrap_or("default");
        let number = |value: Option<f32>, key: &str| value.ok_or_else(|| fault(format!("{kind} without {key}")));
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: number(keys.factor, "factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: number(keys.factor, "factor")?,
                low: number(keys.low_freq_factor, "low_freq_factor")?,
                high: number(keys.high_freq_factor, "high_freq_factor")?,
                original: keys.original_max_position_embeddings.unwrap_or(context),
            }),
            "yarn" => {
                let factor = number(keys.factor, "factor")?;
                Ok(RopeScaling::Yarn {
                    factor,
                    original: keys.original_max_position_embeddings.unwrap_or(context),
                    beta_fast: keys.beta_fast.unwrap_or(32.0),
                    beta_slow: keys.beta_slow.unwrap_or(1.0),
                    attention: keys.attention(factor),
                    whole: keys.truncate.unwrap_or(true),
                })
            }
            other => Err(fault(format!("RoPE scaling \"{other}\""))),
        }
    }
}

impl Scaling {
    fn attention(&self, factor: f32) -> f32 {
        let temperature = |scale: f32| 1.0 + scale * (RopeScaling::yarn_attention(factor) - 1.0);
        match (self.attention_factor, self.mscale, self.mscale_all_dim) {
            (Some(attention), ..) => attention,
            (None, Some(one), Some(all)) if one != 0.0 && all != 0.0 => temperature(one) / temperature(all),
            _ => RopeScaling::yarn_attention(factor),
        }
    }
}

/// The older spelling, which every version reads; `None` for plain RoPE.
pub(super) fn scaling_json(scaling: &RopeScaling) -> Option<Value> {
    match *scaling {
        RopeScaling::None => None,
        RopeScaling::Linear { factor } => Some(json!({ "rope_type": "linear", "factor": factor })),
        RopeScaling::Llama3 { factor, low, high, original } => Some(json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        })),
        RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attention, whole } => Some(json!({
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "attention_factor": attention,
            "truncate": whole,
        })),
    }
}
