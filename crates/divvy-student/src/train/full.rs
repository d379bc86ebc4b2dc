//! Full fine-tuning: every weight as an f32 master, packed to bf16 again after each step, and the result as a
//! directory in Hugging Face's layout. Parameter order: per layer attention norm, qkv, out, FFN norm, gate and up,
//! down, and the qkv bias where there is one; then final norm, embedding, and the head unless it is tied.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use divvy_kernels::Packed;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::parameters::{Decay, Parameters};
use crate::adapter::Fused;
use crate::adapter::files::{TensorRef, write_atomic, write_tensors_as_bf16};
use crate::config::{Arch, ModelConfig};
use crate::error::LoadError;
use crate::matrix::{Matrix, Numerics};
use crate::safetensors::SafetensorsDir;
use crate::weights::{Layer, Weights};

/// A weight by its place in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    AttnNorm(usize),
    FfnNorm(usize),
    Matrix(usize, Fused),
    QkvBias(usize),
    FinalNorm,
    Embed,
    Head,
}

/// Finds a weight among the parameters.
#[derive(Clone, Copy)]
pub(crate) struct FullIndex {
    layers: usize,
    bias: bool,
    tied: bool,
}

impl FullIndex {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self { layers: config.layers, bias: config.qkv_bias, tied: config.tied }
    }

    /// `None` for a bias the model lacks. A tied head is the embedding.
    pub(crate) fn of(self, slot: Slot) -> Option<usize> {
        let per_layer = 6 + usize::from(self.bias);
        let behind = self.layers * per_layer;
        Some(match slot {
            Slot::AttnNorm(layer) => layer * per_layer,
            Slot::Matrix(layer, Fused::Qkv) => layer * per_layer + 1,
            Slot::Matrix(layer, Fused::Out) => layer * per_layer + 2,
            Slot::FfnNorm(layer) => layer * per_layer + 3,
            Slot::Matrix(layer, Fused::GateUp) => layer * per_layer + 4,
            Slot::Matrix(layer, Fused::Down) => layer * per_layer + 5,
            Slot::QkvBias(layer) => self.bias.then_some(layer * per_layer + 6)?,
            Slot::FinalNorm => behind,
            Slot::Embed => behind + 1,
            Slot::Head => behind + 2 - usize::from(self.tied),
        })
    }
}

pub(crate) fn parameters(config: &ModelConfig, weights: &Weights) -> Parameters {
    let (mut all, hidden) = (Parameters::default(), config.hidden);
    let mut push = |name: String, shape: &[usize], values: Vec<f32>| {
        let decay = if shape.len() == 2 { Decay::Yes } else { Decay::No };
        all.push(name, shape, decay, values);
    };
    for (index, layer) in weights.layers.iter().enumerate() {
        let name = |name: &str| format!("layers.{index}.{name}");
        let fused = |fused: Fused| fused.shape(config);
        push(name("attn_norm"), &[hidden], layer.attn_norm.clone());
        push(name("qkv"), &fused(Fused::Qkv), unpack(layer.qkv.exact()));
        push(name("out"), &fused(Fused::Out), unpack(layer.out.exact()));
        push(name("ffn_norm"), &[hidden], layer.ffn_norm.clone());
        push(name("gate_up"), &fused(Fused::GateUp), unpack(layer.gate_up.exact()));
        push(name("down"), &fused(Fused::Down), unpack(layer.down.exact()));
        if let Some(bias) = &layer.qkv_bias {
            push(name("qkv_bias"), &[bias.len()], bias.clone());
        }
    }
    push("final_norm".into(), &[hidden], weights.final_norm.clone());
    push("embed".into(), &[config.vocab, hidden], unpack(&weights.embed));
    if !config.tied {
        push("head".into(), &[config.vocab, hidden], unpack(weights.head.exact()));
    }
    all
}

fn unpack(packed: &Packed) -> Vec<f32> {
    let mut values = vec![0.0; packed.n() * packed.k()];
    for (row, out) in values.chunks_exact_mut(packed.k()).enumerate() {
        packed.row(row, out);
    }
    values
}

/// The model that the masters amount to.
pub(crate) fn weights(config: &ModelConfig, values: &[Vec<f32>]) -> Weights {
    let index = FullIndex::new(config);
    let get = |slot| index.of(slot).map(|at| &values[at]);
    let vector = |slot| get(slot).expect("every model has its norms").clone();
    let pack = |slot, k| {
        let values = get(slot).expect("every model has its matrices");
        Arc::new(Packed::from_rows(values.len() / k, k, |row, out| out.copy_from_slice(&values[row * k..][..k])))
    };
    let matrix = |layer, fused: Fused| Matrix::Exact(pack(Slot::Matrix(layer, fused), fused.shape(config)[1]));
    let layers = (0..config.layers).map(|layer| Layer {
        attn_norm: vector(Slot::AttnNorm(layer)),
        qkv: matrix(layer, Fused::Qkv),
        qkv_bias: get(Slot::QkvBias(layer)).cloned(),
        out: matrix(layer, Fused::Out),
        ffn_norm: vector(Slot::FfnNorm(layer)),
        gate_up: matrix(layer, Fused::GateUp),
        down: matrix(layer, Fused::Down),
    });
    let layers = layers.collect();
    let embed = pack(Slot::Embed, config.hidden);
    let head = Matrix::Exact(if config.tied { Arc::clone(&embed) } else { pack(Slot::Head, config.hidden) });
    Weights { embed, layers, final_norm: vector(Slot::FinalNorm), head }
}

/// A fully fine-tuned model: the f32 masters.
pub struct FullWeights {
    pub config: ModelConfig,
    pub(crate) values: Vec<Vec<f32>>,
}

/// What the trainer knows about a fully fine-tuned model besides its numbers; the fields of `AdapterLabel`.
pub type FullLabel = crate::adapter::AdapterLabel;

#[derive(Serialize, Deserialize)]
struct FullManifest {
    format: u32,
    #[serde(flatten)]
    label: FullLabel,
    digest: String,
}

impl FullWeights {
    /// A model as it is, before any training: for programs of others, which get the very numbers that are trained here.
    #[must_use]
    pub fn of(config: &ModelConfig, weights: &Weights) -> Self {
        Self { config: config.clone(), values: parameters(config, weights).values }
    }

    /// Reads the weights of a Hugging Face directory into which another program has trained this model.
    ///
    /// # Errors
    /// A missing tensor, or one of another shape.
    pub fn read(folder: &Path, config: &ModelConfig) -> Result<Self, LoadError> {
        let weights = Weights::load(config, &SafetensorsDir::open(folder)?, Numerics::Exact)?;
        Ok(Self::of(config, &weights))
    }

    /// Packed for inference: the numbers that the last forward pass would have seen.
    #[must_use]
    pub fn weights(&self) -> Weights {
        weights(&self.config, &self.values)
    }

    /// BLAKE3 of the bf16 content, as 64 hex digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(b"divvy-full/1");
        for values in &self.values {
            let bytes: Vec<u8> = values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect();
            hash.update(&bytes);
        }
        hash.finalize().to_hex().to_string()
    }

    /// Writes `model.safetensors` (bf16), `config.json` and, last, `divvy.json`. Tokenizer and chat template are those
    /// of the base: [`Model::save_text`](crate::model::Model::save_text) puts them beside it.
    ///
    /// # Errors
    /// The file and what the system said.
    pub fn save(&self, folder: &Path, label: &FullLabel) -> Result<String, crate::adapter::AdapterError> {
        let failed = |path: &Path| {
            let file = path.display().to_string();
            move |source| crate::adapter::AdapterError::Io { file, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let path = folder.join("model.safetensors");
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let tensors = self.named();
        write_atomic(&path, |out| write_tensors_as_bf16(out, &metadata, &tensors)).map_err(failed(&path))?;
        let digest = self.digest();
        let manifest = FullManifest { format: 1, label: label.clone(), digest: digest.clone() };
        for (name, value) in [("config.json", self.hf_config()), ("divvy.json", json!(manifest))] {
            let path = folder.join(name);
            write_atomic(&path, |out| out.write_all(format!("{value:#}\n").as_bytes())).map_err(failed(&path))?;
        }
        Ok(digest)
    }

    /// Every weight under its Hugging Face name, fused matrices cut into their projections, in name order.
    fn named(&self) -> Vec<TensorRef<'_>> {
        let index = FullIndex::new(&self.config);
        let get = |slot| index.of(slot).map(|at| self.values[at].as_slice());
        let mut all = Vec::new();
        let mut whole = |name: String, slot, shape: &[usize]| {
            let values = get(slot).expect("every model has it");
            all.push(TensorRef { name, shape: shape.to_vec(), values });
        };
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        whole("model.embed_tokens.weight".into(), Slot::Embed, &[vocab, hidden]);
        whole("model.norm.weight".into(), Slot::FinalNorm, &[hidden]);
        if !self.config.tied {
            whole("lm_head.weight".into(), Slot::Head, &[vocab, hidden]);
        }
        for layer in 0..self.config.layers {
            let norm = |name: &str| format!("model.layers.{layer}.{name}.weight");
            whole(norm("input_layernorm"), Slot::AttnNorm(layer), &[hidden]);
            whole(norm("post_attention_layernorm"), Slot::FfnNorm(layer), &[hidden]);
        }
        for (layer, fused) in (0..self.config.layers).flat_map(|layer| Fused::ALL.map(|fused| (layer, fused))) {
            let values = get(Slot::Matrix(layer, fused)).expect("every model has its matrices");
            let bias = if fused == Fused::Qkv { get(Slot::QkvBias(layer)) } else { None };
            for &part in fused.parts() {
                let ([rows, columns], first) = (self.config.projection_shape(part), self.config.fused_offset(part));
                let module = format!("model.layers.{layer}.{}", part.module());
                let values = &values[first * columns..][..rows * columns];
                all.push(TensorRef { name: format!("{module}.weight"), shape: vec![rows, columns], values });
                if let Some(bias) = bias {
                    let values = &bias[first..][..rows];
                    all.push(TensorRef { name: format!("{module}.bias"), shape: vec![rows], values });
                }
            }
        }
        all.sort_by(|x, y| x.name.cmp(&y.name));
        all
    }

    fn hf_config(&self) -> Value {
        let config = &self.config;
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
}
