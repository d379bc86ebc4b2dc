//! A Hugging Face model directory: `config.json`, and weights in `model.safetensors` or in the shards that
//! `model.safetensors.index.json` lists. Tensors stay in the mapped files; f32, f16 and bf16 are read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use divvy_kernels::MappedFile;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::config::{Arch, ModelConfig, Projection};
use crate::error::LoadError;
use crate::quant::{TensorType, TensorView};
use crate::weights::{Slot, TensorSource};

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
    rope_scaling: Option<serde_json::Value>,
    /// Spelling since transformers 5, which holds theta too.
    rope_parameters: Option<serde_json::Value>,
}

/// Reads the shape of the model in `dir`.
///
/// # Errors
/// No readable `config.json`, an unknown architecture, or a feature the engine lacks.
pub(crate) fn read_config(dir: &Path) -> Result<ModelConfig, LoadError> {
    let path = dir.join("config.json");
    let file = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| LoadError::io(&path, error))?;
    let value: serde_json::Value =
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
    names: Vec<String>,
    maps: Vec<MappedFile>,
    entries: HashMap<String, Entry>,
}

impl SafetensorsDir {
    /// # Errors
    /// No weights in `dir`, a damaged file, a shard that is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, LoadError> {
        let mut this = Self { names: Vec::new(), maps: Vec::new(), entries: HashMap::new() };
        for name in weight_files(dir)? {
            let path = dir.join(name);
            let map = MappedFile::open(&path).map_err(|error| LoadError::io(&path, error))?;
            this.add(path.display().to_string(), map)?;
        }
        Ok(this)
    }

    fn add(&mut self, file: String, map: MappedFile) -> Result<(), LoadError> {
        let tensors =
            SafeTensors::deserialize(&map).map_err(|error| LoadError::corrupt(&file, "header", error.to_string()))?;
        let base = map.as_ptr() as usize;
        for (name, view) in tensors.tensors() {
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

    /// All weight bytes, file after file in the order of their names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.maps.iter().map(|map| &map[..])
    }
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
        let name = tensor_name(slot);
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
        })
    }
}

fn tensor_name(slot: Slot) -> String {
    let projection = |layer: usize, projection: Projection| format!("model.layers.{layer}.{}", projection.module());
    match slot {
        Slot::Embed => "model.embed_tokens.weight".into(),
        Slot::FinalNorm => "model.norm.weight".into(),
        Slot::Head => "lm_head.weight".into(),
        Slot::AttnNorm(layer) => format!("model.layers.{layer}.input_layernorm.weight"),
        Slot::FfnNorm(layer) => format!("model.layers.{layer}.post_attention_layernorm.weight"),
        Slot::Matrix(layer, part) => format!("{}.weight", projection(layer, part)),
        Slot::Bias(layer, part) => format!("{}.bias", projection(layer, part)),
    }
}

#[cfg(test)]
mod tests;
