//! Full fine-tuning: every weight as an f32 master, packed to bf16 again after each step, and the result as a
//! directory in Hugging Face's layout. Parameter order: per layer attention norm, qkv, out, FFN norm, gate and up,
//! down, and what the variant has besides (qkv bias, norms of queries and keys, norms behind the blocks); then final norm,
//! embedding, and the head unless it is tied.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use divvy_kernels::Packed;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::parameters::{Decay, Parameters};
use crate::adapter::Fused;
use crate::adapter::files::write_atomic;
use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::export::{Precision, Tensors};
use crate::matrix::{Matrix, Numerics};
use crate::safetensors::{SafetensorsDir, config_json};
use crate::weights::{Layer, Weights};

/// A weight by its place in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    AttnNorm(usize),
    FfnNorm(usize),
    Matrix(usize, Fused),
    QkvBias(usize),
    QueryNorm(usize),
    KeyNorm(usize),
    AttnPostNorm(usize),
    FfnPostNorm(usize),
    FinalNorm,
    Embed,
    Head,
}

/// Finds a weight among the parameters.
#[derive(Clone, Copy)]
pub(crate) struct FullIndex {
    layers: usize,
    bias: bool,
    qk_norm: bool,
    post_norms: bool,
    tied: bool,
}

impl FullIndex {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let (qk_norm, post_norms) = (config.variant.qk_norm, config.variant.post_norms);
        Self { layers: config.layers, bias: config.qkv_bias, qk_norm, post_norms, tied: config.tied }
    }

    /// `None` for a bias or norm the model lacks. A tied head is the embedding.
    pub(crate) fn of(self, slot: Slot) -> Option<usize> {
        let heads = 6 + usize::from(self.bias);
        let post = heads + 2 * usize::from(self.qk_norm);
        let per_layer = post + 2 * usize::from(self.post_norms);
        let behind = self.layers * per_layer;
        Some(match slot {
            Slot::AttnNorm(layer) => layer * per_layer,
            Slot::Matrix(layer, Fused::Qkv) => layer * per_layer + 1,
            Slot::Matrix(layer, Fused::Out) => layer * per_layer + 2,
            Slot::FfnNorm(layer) => layer * per_layer + 3,
            Slot::Matrix(layer, Fused::GateUp) => layer * per_layer + 4,
            Slot::Matrix(layer, Fused::Down) => layer * per_layer + 5,
            Slot::QkvBias(layer) => self.bias.then_some(layer * per_layer + 6)?,
            Slot::QueryNorm(layer) => self.qk_norm.then_some(layer * per_layer + heads)?,
            Slot::KeyNorm(layer) => self.qk_norm.then_some(layer * per_layer + heads + 1)?,
            Slot::AttnPostNorm(layer) => self.post_norms.then_some(layer * per_layer + post)?,
            Slot::FfnPostNorm(layer) => self.post_norms.then_some(layer * per_layer + post + 1)?,
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
        for (what, values) in [
            ("qkv_bias", &layer.qkv_bias),
            ("query_norm", &layer.query_norm),
            ("key_norm", &layer.key_norm),
            ("attn_post_norm", &layer.attn_post_norm),
            ("ffn_post_norm", &layer.ffn_post_norm),
        ] {
            if let Some(values) = values {
                push(name(what), &[values.len()], values.clone());
            }
        }
    }
    push("final_norm".into(), &[hidden], weights.final_norm.clone());
    push("embed".into(), &[config.vocab, hidden], unpack(weights.embed.exact()));
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

/// The model that the masters amount to, in the memory of the one that they amounted to a step before.
pub(crate) fn weights(config: &ModelConfig, values: &[Vec<f32>], before: Option<Weights>) -> Weights {
    let (index, mut rooms) = (FullIndex::new(config), before.into_iter().flat_map(rooms));
    let get = |slot| index.of(slot).map(|at| &values[at]);
    let vector = |slot| get(slot).expect("every model has its norms").clone();
    let mut pack = |slot, k| {
        let values = get(slot).expect("every model has its matrices");
        let mut packed = rooms.next().unwrap_or_else(Packed::empty);
        packed.refill(values.len() / k, k, |row, out| out.copy_from_slice(&values[row * k..][..k]));
        Arc::new(packed)
    };
    let mut matrix = |layer, fused: Fused| Matrix::Exact(pack(Slot::Matrix(layer, fused), fused.shape(config)[1]));
    let layers = (0..config.layers).map(|layer| Layer {
        attn_norm: vector(Slot::AttnNorm(layer)),
        qkv: matrix(layer, Fused::Qkv),
        qkv_bias: get(Slot::QkvBias(layer)).cloned(),
        query_norm: get(Slot::QueryNorm(layer)).cloned(),
        key_norm: get(Slot::KeyNorm(layer)).cloned(),
        attn_post_norm: get(Slot::AttnPostNorm(layer)).cloned(),
        ffn_post_norm: get(Slot::FfnPostNorm(layer)).cloned(),
        out: matrix(layer, Fused::Out),
        ffn_norm: vector(Slot::FfnNorm(layer)),
        gate_up: matrix(layer, Fused::GateUp),
        down: matrix(layer, Fused::Down),
    });
    let layers = layers.collect();
    let embed = pack(Slot::Embed, config.hidden);
    let head = Matrix::Exact(if config.tied { Arc::clone(&embed) } else { pack(Slot::Head, config.hidden) });
    Weights { embed: Matrix::Exact(embed), layers, final_norm: vector(Slot::FinalNorm), head }
}

/// Its matrices, in the order in which [`weights`] packs them.
fn rooms(before: Weights) -> impl Iterator<Item = Packed> {
    let Weights { embed, layers, head, .. } = before;
    let in_layers = layers.into_iter().flat_map(|Layer { qkv, out, gate_up, down, .. }| [qkv, out, gate_up, down]);
    // A tied head is the embedding, which comes when the last of the two is taken apart.
    in_layers.chain([embed, head]).filter_map(|matrix| match matrix {
        Matrix::Exact(packed) => Arc::into_inner(packed),
        _ => None,
    })
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
        let weights = Weights::load(config, &SafetensorsDir::open(folder, config)?, Numerics::Exact)?;
        Ok(Self::of(config, &weights))
    }

    /// Packed for inference: the numbers that the last forward pass would have seen.
    #[must_use]
    pub fn weights(&self) -> Weights {
        weights(&self.config, &self.values, None)
    }

    /// BLAKE3 of what is saved, as 64 hex digits: matrices in bf16, vectors in f32.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(b"divvy-full/2");
        let (index, mut rounded) = (FullIndex::new(&self.config), vec![false; self.values.len()]);
        for slot in matrices(&self.config) {
            rounded[index.of(slot).expect("every model has its matrices")] = true;
        }
        for (values, rounded) in self.values.iter().zip(rounded) {
            let bytes: Vec<u8> = if rounded {
                values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect()
            } else {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            };
            hash.update(&bytes);
        }
        hash.finalize().to_hex().to_string()
    }

    /// Writes `model.safetensors` (matrices in bf16), `config.json` and, last, `divvy.json`. Tokenizer and chat template are those
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
        let weights = self.weights();
        let tensors = Tensors { config: &self.config, weights: &weights, adapter: None, precision: Precision::Bf16 };
        tensors.write_safetensors(&path, BTreeMap::new()).map_err(failed(&path))?;
        let digest = self.digest();
        let manifest = FullManifest { format: 1, label: label.clone(), digest: digest.clone() };
        for (name, value) in [("config.json", config_json(&self.config)), ("divvy.json", json!(manifest))] {
            let path = folder.join(name);
            write_atomic(&path, |out| out.write_all(format!("{value:#}\n").as_bytes())).map_err(failed(&path))?;
        }
        Ok(digest)
    }
}

/// The weights that are kept in bf16.
fn matrices(config: &ModelConfig) -> Vec<Slot> {
    let fused = (0..config.layers).flat_map(|layer| Fused::ALL.map(|fused| Slot::Matrix(layer, fused)));
    fused.chain([Slot::Embed, Slot::Head]).collect()
}
