//! The tiny checkpoints and their reference numbers.

use std::path::PathBuf;
use std::sync::Arc;

use divvy_kernels::Packed;
use serde::Deserialize;

use crate::adapter::files::{TensorFile, read_tensors};
use crate::adapter::{Adapter, Factors, Fused, LoraSettings, Scaling};
use crate::config::{Arch, ModelConfig, Projection};
use crate::train::{Activations, Base, Method, Schedule, TrainConfig, TrainRow};
use crate::weights::{Layer, Weights};

pub(crate) const NAMES: [&str; 2] = ["tiny-llama", "tiny-qwen2"];
pub(crate) const LORA: LoraSettings = LoraSettings { rank: 4, alpha: 8.0, scaling: Scaling::Plain };

#[derive(Deserialize)]
pub(crate) struct Curve {
    pub(crate) losses: Vec<f64>,
    pub(crate) grad_norms: Vec<f64>,
}

#[derive(Deserialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<TrainRow>,
    pub(crate) full_loss: f64,
    pub(crate) lora_loss: f64,
    pub(crate) rslora_loss: f64,
    pub(crate) lora_curve: Curve,
    pub(crate) full_curve_rounded: Curve,
}

pub(crate) struct Fixture {
    pub(crate) config: ModelConfig,
    pub(crate) weights: Weights,
    pub(crate) reference: TensorFile,
    pub(crate) report: Report,
}

impl Fixture {
    pub(crate) fn load(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let config = config(&serde_json::from_slice(&read("config.json")).unwrap());
        let model = read_tensors(&read("model.safetensors")).unwrap();
        let weights = weights(&config, &model);
        let reference = read_tensors(&read("reference.safetensors")).unwrap();
        Self { config, weights, reference, report: serde_json::from_slice(&read("reference.json")).unwrap() }
    }

    pub(crate) fn base(&self) -> Base<'_> {
        Base { config: &self.config, weights: &self.weights, hash: "tiny" }
    }

    /// The adapter that peft started from; its B is not zero.
    pub(crate) fn adapter(&self, scaling: Scaling) -> Adapter {
        let settings = LoraSettings { scaling, ..LORA };
        let factor = |layer, p: Projection, which| {
            let key = format!("lora.init.base_model.model.model.layers.{layer}.{}.lora_{which}.weight", p.module());
            self.reference.tensors[&key].values.clone()
        };
        let layers = (0..self.config.layers).map(|layer| {
            Projection::ALL.map(|p| {
                let [outputs, inputs] = self.config.projection_shape(p);
                Factors { a: factor(layer, p, 'A'), b: factor(layer, p, 'B'), inputs, outputs }
            })
        });
        Adapter { settings, layers: layers.collect() }
    }
}

/// The settings of `make_fixtures.py`.
pub(crate) fn settings(method: Method) -> TrainConfig {
    TrainConfig {
        method,
        epochs: 10,
        batch_rows: 4,
        micro_tokens: 64,
        max_row_tokens: 32,
        learning_rate: 1e-2,
        schedule: Schedule::Cosine,
        warmup_ratio: 0.2,
        min_lr_ratio: 0.1,
        weight_decay: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        max_grad_norm: 1.0,
        seed: 1,
        checkpoint_every_steps: 0,
        eval_every_steps: 0,
        activations: Activations::Keep,
    }
}

fn config(json: &serde_json::Value) -> ModelConfig {
    let number = |key: &str| json[key].as_u64().unwrap_or_else(|| panic!("{key}")) as usize;
    let (hidden, query_heads) = (number("hidden_size"), number("num_attention_heads"));
    let arch = Arch::from_name(json["model_type"].as_str().unwrap()).unwrap();
    ModelConfig {
        arch,
        layers: number("num_hidden_layers"),
        hidden,
        query_heads,
        kv_heads: number("num_key_value_heads"),
        head_dim: hidden / query_heads,
        ffn: number("intermediate_size"),
        vocab: number("vocab_size"),
        rope_theta: json["rope_parameters"]["rope_theta"].as_f64().unwrap() as f32,
        rms_eps: json["rms_norm_eps"].as_f64().unwrap() as f32,
        qkv_bias: arch == Arch::Qwen2,
        tied: json["tie_word_embeddings"].as_bool().unwrap(),
        context_length: number("max_position_embeddings"),
    }
}

fn weights(config: &ModelConfig, file: &TensorFile) -> Weights {
    let get = |name: &str| &file.tensors.get(name).unwrap_or_else(|| panic!("{name}")).values;
    let pack = |values: &[f32], k: usize| {
        Packed::from_rows(values.len() / k, k, |row, out| out.copy_from_slice(&values[row * k..][..k]))
    };
    let matrix = |layer: usize, fused: Fused| {
        let name = |part: &Projection| format!("model.layers.{layer}.{}.weight", part.module());
        let rows: Vec<f32> = fused.parts().iter().flat_map(|part| get(&name(part)).iter().copied()).collect();
        pack(&rows, fused.shape(config)[1])
    };
    let bias = |layer: usize| {
        let name = |part: &Projection| format!("model.layers.{layer}.{}.bias", part.module());
        Fused::Qkv.parts().iter().flat_map(|part| get(&name(part)).iter().copied()).collect()
    };
    let layers = (0..config.layers).map(|layer| Layer {
        attn_norm: get(&format!("model.layers.{layer}.input_layernorm.weight")).clone(),
        qkv: matrix(layer, Fused::Qkv),
        qkv_bias: config.qkv_bias.then(|| bias(layer)),
        out: matrix(layer, Fused::Out),
        ffn_norm: get(&format!("model.layers.{layer}.post_attention_layernorm.weight")).clone(),
        gate_up: matrix(layer, Fused::GateUp),
        down: matrix(layer, Fused::Down),
    });
    let layers = layers.collect();
    let embed = Arc::new(pack(get("model.embed_tokens.weight"), config.hidden));
    let head = if config.tied { Arc::clone(&embed) } else { Arc::new(pack(get("lm_head.weight"), config.hidden)) };
    Weights { embed, layers, final_norm: get("model.norm.weight").clone(), head }
}
