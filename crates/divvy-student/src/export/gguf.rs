//! GGUF files for llama.cpp and what is built on it: a whole model, or a LoRA adapter beside one. Rows that llama.cpp
//! rotates pairwise are stored interleaved, as its own converter does; the factors B of an adapter follow their base.

use std::collections::BTreeMap;
use std::path::Path;

use super::{About, Export, ExportError, Precision, copy_of, encode};
use crate::adapter::files::write_atomic;
use crate::adapter::{Adapter, Factors, Scaling};
use crate::config::{Arch, ModelConfig, Projection, RopeScaling, Sliding, Variant};
use crate::gguf::{Entry, GgufFile, Value, implied_score_scale, interleaved, tensor_name, write};
use crate::quant::{TensorType, half_split_row};
use crate::weights::Slot;

type Metadata = BTreeMap<String, Value>;

impl Export<'_> {
    /// Writes the model as one file, atomically.
    ///
    /// # Errors
    /// A tokenizer or variant that GGUF has no form for, or what the system said.
    pub fn gguf(&self, path: &Path) -> Result<(), ExportError> {
        let config = &self.model.config;
        let metadata = self.metadata_for(path)?;
        let slots = Slot::all(config);
        let tensors = self.tensors();
        let mut entries: Vec<Entry> = slots
            .iter()
            .map(|&slot| Entry { name: tensor_name(slot), dtype: tensors.dtype(slot), shape: slot.shape(config) })
            .collect();
        let divisors = divisors(config);
        entries.extend(divisors.as_ref().map(|divisors| Entry {
            name: "rope_freqs.weight".into(),
            dtype: TensorType::F32,
            shape: vec![divisors.len()],
        }));
        write_atomic(path, |out| {
            write(out, &metadata, &entries, |index, out| match slots.get(index) {
                Some(&slot) => tensors.write(slot, 0.0, |row| stored_row(config, slot, row), out),
                None => divisors.iter().flatten().try_for_each(|divisor| out.write_all(&divisor.to_le_bytes())),
            })
        })
        .map_err(ExportError::io(path))
    }

    /// Whether it can be written so; `path` is what an error names.
    ///
    /// # Errors
    /// A tokenizer or variant that GGUF has no form for.
    pub fn check_gguf(&self, path: &Path) -> Result<(), ExportError> {
        self.metadata_for(path).map(drop)
    }

    fn metadata_for(&self, path: &Path) -> Result<Metadata, ExportError> {
        self.metadata().map_err(no_form(path))
    }

    fn metadata(&self) -> Result<Metadata, String> {
        let (config, model) = (&self.model.config, self.model);
        refuse_what_llama_cpp_ignores(config)?;
        let mut metadata = general(self.about, config, "model");
        metadata.extend(shape(config));
        metadata.extend(model.tokenizer.gguf_metadata(config.vocab)?);
        metadata.insert("tokenizer.chat_template".into(), text(model.template_text()));
        metadata.insert("general.file_type".into(), Value::Int(file_type(self.precision)));
        Ok(metadata)
    }
}

/// GGUF's number for it.
fn file_type(precision: Precision) -> i64 {
    match precision {
        Precision::F32 => 0,
        Precision::Bf16 => 32,
    }
}

impl GgufFile {
    /// The base that this is a copy of, where it was written here. A program that stores the weights in fewer bits leaves the
    /// name of the base and changes the file's type.
    pub(crate) fn copy_of(&self) -> Option<String> {
        let metadata = &self.header.metadata;
        let kept = [Precision::F32, Precision::Bf16].map(|precision| Value::Int(file_type(precision)));
        metadata.get("general.file_type").filter(|kind| kept.contains(kind))?;
        let origin: BTreeMap<String, String> = metadata
            .iter()
            .filter_map(|(key, value)| match value {
                Value::Text(text) => Some((key.strip_prefix("divvy.")?.to_owned(), text.clone())),
                _ => None,
            })
            .collect();
        copy_of(origin.iter())
    }
}

fn no_form(path: &Path) -> impl FnOnce(String) -> ExportError + use<> {
    let file = path.display().to_string();
    move |reason| ExportError::NoForm { file, reason }
}

/// Writes an adapter as one file, atomically, to be loaded beside a GGUF file of its base.
///
/// # Errors
/// A base that GGUF has no form for, or what the system said.
pub fn gguf_adapter(path: &Path, config: &ModelConfig, adapter: &Adapter, about: &About) -> Result<(), ExportError> {
    refuse_what_llama_cpp_ignores(config).map_err(no_form(path))?;
    let mut metadata = general(about, config, "adapter");
    metadata.insert("adapter.type".into(), text("lora"));
    metadata.insert("adapter.lora.alpha".into(), Value::Float(alpha(adapter).into()));
    let factors: Vec<Factor<'_>> = (0..config.layers)
        .flat_map(|layer| Projection::ALL.map(|projection| (layer, projection)))
        .filter(|&(layer, projection)| adapter.factors(layer, projection).rank() > 0)
        .flat_map(|(layer, projection)| Factor::both(adapter, layer, projection))
        .collect();
    let entries: Vec<Entry> = factors.iter().map(Factor::entry).collect();
    write_atomic(path, |out| {
        write(out, &metadata, &entries, |index, out| {
            let factor = &factors[index];
            let mut bytes = Vec::new();
            for row in 0..factor.rows {
                let row = if factor.outputs { stored_row(config, factor.slot, row) } else { row };
                encode(TensorType::F32, &factor.values[row * factor.width..][..factor.width], &mut bytes);
                out.write_all(&bytes)?;
            }
            Ok(())
        })
    })
    .map_err(ExportError::io(path))
}

/// llama.cpp scales by alpha over rank and knows no other way.
fn alpha(adapter: &Adapter) -> f32 {
    match adapter.settings.scaling {
        Scaling::Plain => adapter.settings.alpha,
        Scaling::RankStabilised => adapter.settings.scale() * adapter.settings.rank as f32,
    }
}

/// One factor of an adapter.
struct Factor<'a> {
    slot: Slot,
    /// Whether its rows are the outputs of the base's matrix.
    outputs: bool,
    rows: usize,
    width: usize,
    values: &'a [f32],
}

impl<'a> Factor<'a> {
    fn both(adapter: &'a Adapter, layer: usize, projection: Projection) -> [Self; 2] {
        let Factors { a, b, inputs, outputs } = adapter.factors(layer, projection);
        let (slot, rank) = (Slot::Matrix(layer, projection), adapter.settings.rank);
        [
            Self { slot, outputs: false, rows: rank, width: *inputs, values: a },
            Self { slot, outputs: true, rows: *outputs, width: rank, values: b },
        ]
    }

    fn entry(&self) -> Entry {
        let which = if self.outputs { "lora_b" } else { "lora_a" };
        let name = format!("{}.{which}", tensor_name(self.slot));
        Entry { name, dtype: TensorType::F32, shape: vec![self.rows, self.width] }
    }
}

/// Which of our rows a GGUF file holds as its row `row`.
fn stored_row(config: &ModelConfig, slot: Slot, row: usize) -> usize {
    match slot {
        Slot::Matrix(_, projection) if interleaved(config.arch, projection) => half_split_row(row, config.head_dim),
        _ => row,
    }
}

fn general(about: &About, config: &ModelConfig, kind: &str) -> Metadata {
    let mut metadata = Metadata::new();
    let mut put = |key: &str, value: &str| drop(metadata.insert(key.to_owned(), text(value)));
    put("general.architecture", config.arch.gguf_name());
    put("general.type", kind);
    put("general.name", &about.name);
    if let Some(licence) = &about.licence {
        put("general.license", &licence.to_lowercase());
    }
    about.origin.iter().for_each(|(key, value)| put(&format!("divvy.{key}"), value));
    metadata
}

/// The sizes, under the names of llama.cpp.
fn shape(config: &ModelConfig) -> Metadata {
    let key = |name: &str| format!("{}.{name}", config.arch.gguf_name());
    let sizes = [
        ("block_count", config.layers),
        ("context_length", config.context_length),
        ("embedding_length", config.hidden),
        ("feed_forward_length", config.ffn),
        ("attention.head_count", config.query_heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
        ("vocab_size", config.vocab),
    ];
    let mut metadata: Metadata = sizes.map(|(name, size)| (key(name), Value::Int(size as i64))).into();
    metadata.extend(variant(config));
    metadata.insert(key("rope.freq_base"), Value::Float(config.rope_theta.into()));
    metadata.insert(key("attention.layer_norm_rms_epsilon"), Value::Float(config.rms_eps.into()));
    metadata
}

/// It knows no window in its llama architecture and only the usual scores and YaRN: such a file would load, and be wrong.
fn refuse_what_llama_cpp_ignores(config: &ModelConfig) -> Result<(), String> {
    let Variant { sliding, score_scale, rope, .. } = &config.variant;
    let implied = implied_score_scale(config.arch, config.layers, config.hidden, config.query_heads);
    let unusual = match *rope {
        RopeScaling::Yarn { beta_fast, beta_slow, whole, .. } => (beta_fast, beta_slow, whole) != (32.0, 1.0, true),
        _ => false,
    };
    for (ignored, what) in [
        (sliding.is_some() && config.arch != Arch::Gemma3, "sliding windows of this architecture"),
        (*score_scale != implied, "attention scores of another scale"),
        (unusual, "these settings of YaRN"),
    ] {
        if ignored {
            return Err(format!("llama.cpp has no {what}"));
        }
    }
    Ok(())
}

/// Windows and stretched RoPE; the rest of a variant is implied by the architecture's name.
fn variant(config: &ModelConfig) -> Metadata {
    let mut metadata = Metadata::new();
    let mut put =
        |name: &str, value: Value| drop(metadata.insert(format!("{}.{name}", config.arch.gguf_name()), value));
    if let Some(Sliding { window, every, theta }) = config.variant.sliding {
        put("attention.sliding_window", Value::Int(window as i64));
        put("attention.sliding_window_pattern", Value::Int(every as i64));
        put("rope.freq_base_swa", Value::Float(theta.unwrap_or(config.rope_theta).into()));
    }
    match config.variant.rope {
        // Llama 3's is a tensor.
        RopeScaling::None | RopeScaling::Llama3 { .. } => {}
        RopeScaling::Linear { factor } => {
            put("rope.scaling.type", text("linear"));
            put("rope.scaling.factor", Value::Float(factor.into()));
        }
        RopeScaling::Yarn { factor, original, attention, .. } => {
            put("rope.scaling.type", text("yarn"));
            put("rope.scaling.factor", Value::Float(factor.into()));
            put("rope.scaling.original_context_length", Value::Int(original as i64));
            let usual = RopeScaling::yarn_attention(factor);
            put("rope.scaling.attn_factor", Value::Float((attention / usual).into()));
        }
    }
    metadata
}

/// What llama.cpp divides the frequencies of Llama 3.x by.
fn divisors(config: &ModelConfig) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { .. } = config.variant.rope else { return None };
    let frequencies = |scaling: RopeScaling| scaling.frequencies(config.rope_theta, config.head_dim);
    let (plain, stretched) = (frequencies(RopeScaling::None), frequencies(config.variant.rope));
    Some(plain.iter().zip(stretched).map(|(plain, stretched)| (plain / stretched) as f32).collect())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
