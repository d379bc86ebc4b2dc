//! A Hugging Face model directory: `config.json`, and weights in `model.safetensors` or in the shards that
//! `model.safetensors.index.json` lists. Tensors stay in the mapped files; f32, f16 and bf16 are read.

mod config;
mod rope;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use divvy_kernels::MappedFile;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;

use crate::config::{Arch, ModelConfig};
use crate::error::LoadError;
use crate::export;
use crate::quant::{TensorType, TensorView};
use crate::weights::{Slot, TensorSource};
pub(crate) use config::{config_json, read_config};

/// Where one tensor lies: which file, which bytes.
struct Entry {
    file: usize,
    dtype: TensorType,
    shape: Vec<usize>,
    start: usize,
    bytes: usize,
}

/// The mapped weight files of a directory.
pub(crate) struct SafetensorsDir {
    arch: Arch,
    names: Vec<String>,
    maps: Vec<MappedFile>,
    entries: HashMap<String, Entry>,
    /// What the files say about themselves.
    about: BTreeMap<String, String>,
}

impl SafetensorsDir {
    /// # Errors
    /// No weights in `dir`, a damaged file, a shard that is missing.
    pub(crate) fn open(dir: &Path, config: &ModelConfig) -> Result<Self, LoadError> {
        let mut this = Self {
            arch: config.arch,
            names: Vec::new(),
            maps: Vec::new(),
            entries: HashMap::new(),
            about: BTreeMap::new(),
        };
        let read: HashSet<String> = Slot::all(config).into_iter().map(|slot| tensor_name(config.arch, slot)).collect();
        for name in weight_files(dir)? {
            let path = dir.join(name);
            let map = MappedFile::open(&path).map_err(|error| LoadError::io(&path, error))?;
            this.add(path.display().to_string(), map, &read)?;
        }
        this.refuse_another_head(config)?;
        Ok(this)
    }

    /// A tied model's head is its embedding. A file may have it twice, and not another one.
    fn refuse_another_head(&self, config: &ModelConfig) -> Result<(), LoadError> {
        let [embed, head] = [Slot::Embed, Slot::Head].map(|slot| self.entries.get(&tensor_name(self.arch, slot)));
        let (Some(embed), Some(head), true) = (embed, head, config.tied) else { return Ok(()) };
        let bytes = |entry: &Entry| &self.maps[entry.file][entry.start..entry.start + entry.bytes];
        if (embed.dtype, bytes(embed)) == (head.dtype, bytes(head)) {
            return Ok(());
        }
        Err(LoadError::Unsupported {
            file: self.names[head.file].clone(),
            key: "lm_head.weight".into(),
            what: "a head that is not the embedding, beside tie_word_embeddings = true,".into(),
            supported: "a copy of the embedding, or tie_word_embeddings = false in config.json".into(),
        })
    }

    /// Refuses a tensor that no part of such a model reads: without it the model would run, and be another.
    fn add(&mut self, file: String, map: MappedFile, read: &HashSet<String>) -> Result<(), LoadError> {
        let bad = |error: SafeTensorError| LoadError::corrupt(&file, "header", error.to_string());
        let tensors = SafeTensors::deserialize(&map).map_err(bad)?;
        let (_, header) = SafeTensors::read_metadata(&map).map_err(bad)?;
        self.about.extend(header.metadata().clone().into_iter().flatten());
        let base = map.as_ptr() as usize;
        for (name, view) in tensors.tensors() {
            if !read.contains(&name) && !is_derived(&name) {
                return Err(LoadError::UnreadTensor { file, tensor: name, arch: self.arch });
            }
            let Some(dtype) = float_type(view.dtype()) else {
                continue;
            };
            let start = view.data().as_ptr() as usize - base;
            let entry =
                Entry { file: self.maps.len(), dtype, shape: view.shape().to_vec(), start, bytes: view.data().len() };
            self.entries.insert(name, entry);
        }
        self.names.push(file);
        self.maps.push(map);
        Ok(())
    }

    /// The base that this is a copy of, where [`export`] wrote it.
    pub(crate) fn copy_of(&self) -> Option<String> {
        export::copy_of(self.about.iter().filter(|(key, _)| *key != "format"))
    }

    /// All weight bytes, file after file in the order of their names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.maps.iter().map(|map| &map[..])
    }
}

/// Angles that follow from the configuration, which older files hold, and the copy of a tied embedding.
fn is_derived(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight"
}

fn float_type(dtype: Dtype) -> Option<TensorType> {
    match dtype {
        Dtype::F32 => Some(TensorType::F32),
        Dtype::F16 => Some(TensorType::F16),
        Dtype::BF16 => Some(TensorType::BF16),
        _ => None,
    }
}

/// File names of the weights, sorted; names that would leave the directory are refused.
fn weight_files(dir: &Path) -> Result<BTreeSet<String>, LoadError> {
    let single = "model.safetensors";
    if dir.join(single).is_file() {
        return Ok([single.to_owned()].into());
    }
    let path = dir.join("model.safetensors.index.json");
    let file = path.display().to_string();
    if !path.is_file() {
        return Err(LoadError::missing(&dir.display().to_string(), "model.safetensors (or its .index.json)"));
    }
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(&path).map_err(|error| LoadError::io(&path, error))?;
    let index: Index =
        serde_json::from_str(&text).map_err(|error| LoadError::corrupt(&file, "JSON", error.to_string()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(shard) = shards.iter().find(|shard| shard.contains(['/', '\\'])) {
        return Err(LoadError::corrupt(&file, "weight_map", format!("\"{shard}\" is not a plain file name")));
    }
    Ok(shards)
}

impl TensorSource for SafetensorsDir {
    fn tensor(&self, slot: Slot) -> Result<TensorView<'_>, LoadError> {
        let name = tensor_name(self.arch, slot);
        let entry = self.entries.get(&name).ok_or_else(|| {
            LoadError::missing(self.names.first().map_or("", String::as_str), format!("float tensor {name}"))
        })?;
        Ok(TensorView {
            file: &self.names[entry.file],
            name,
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: &self.maps[entry.file][entry.start..entry.start + entry.bytes],
            interleaved_heads: None,
            plus: if self.arch.norms_from_one() && slot.is_norm() { 1.0 } else { 0.0 },
        })
    }
}

pub(crate) fn tensor_name(arch: Arch, slot: Slot) -> String {
    let of = |layer: usize, name: &str| format!("model.layers.{layer}.{name}");
    // Llama's norm before the feed-forward block is called after its place behind attention; Gemma has both.
    let before_ffn = if arch == Arch::Gemma3 { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
    match slot {
        Slot::Embed => "model.embed_tokens.weight".into(),
        Slot::FinalNorm => "model.norm.weight".into(),
        Slot::Head => "lm_head.weight".into(),
        Slot::AttnNorm(layer) => of(layer, "input_layernorm.weight"),
        Slot::FfnNorm(layer) => of(layer, &format!("{before_ffn}.weight")),
        Slot::QueryNorm(layer) => of(layer, "self_attn.q_norm.weight"),
        Slot::KeyNorm(layer) => of(layer, "self_attn.k_norm.weight"),
        Slot::AttnPostNorm(layer) => of(layer, "post_attention_layernorm.weight"),
        Slot::FfnPostNorm(layer) => of(layer, "post_feedforward_layernorm.weight"),
        Slot::Matrix(layer, part) => of(layer, &format!("{}.weight", part.module())),
        Slot::Bias(layer, part) => of(layer, &format!("{}.bias", part.module())),
    }
}

#[cfg(test)]
mod tests;
