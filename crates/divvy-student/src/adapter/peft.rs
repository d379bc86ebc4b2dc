//! An adapter as a directory in PEFT's layout, readable by PEFT, vLLM and the converters of llama.cpp:
//!
//! ```text
//! adapter_config.json          rank, scale, target modules
//! adapter_model.safetensors    base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight [rank, inputs], …
//! divvy.json                   ours: base, prompt and template it was trained with, digest of the content
//! ```
//! `adapter_config.json`, without which nobody loads it, goes first and is written last: a directory that was cut off half-way
//! passes neither for a whole one nor, without its `divvy.json`, for one that another program wrote on any base.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files::{TensorFile, TensorRef, read_tensors, write_atomic, write_tensors};
use super::label::AdapterLabel;
use super::{Adapter, AdapterError, Factors, LoraSettings, Scaling};
use crate::config::{ModelConfig, Projection};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
pub(super) const MANIFEST: &str = "divvy.json";

/// `divvy.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterManifest {
    /// Version of this file's format.
    pub format: u32,
    #[serde(flatten)]
    pub label: AdapterLabel,
    /// [`Adapter::digest`].
    pub digest: String,
}

impl Adapter {
    /// Writes the directory, file by file, each atomically; what is there already under these names is replaced.
    ///
    /// # Errors
    /// [`AdapterError::Io`] naming the file.
    pub fn save(&self, folder: &Path, label: &AdapterLabel) -> Result<AdapterManifest, AdapterError> {
        let manifest = AdapterManifest { format: 1, label: label.clone(), digest: self.digest() };
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        let config = folder.join(CONFIG);
        match fs::remove_file(&config) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_error(&config)(e)),
            _ => {}
        }
        let tensors = self.tensor_refs();
        let path = folder.join(TENSORS);
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_atomic(&path, |out| write_tensors(out, &metadata, &tensors)).map_err(io_error(&path))?;
        write_json(&folder.join(MANIFEST), &json!(manifest))?;
        write_json(&config, &self.peft_config(&label.base_name))?;
        Ok(manifest)
    }

    /// Reads a directory written by [`Adapter::save`] or by PEFT; projections outside its `target_modules` stay
    /// unchanged. `bases` are content hashes, that of the loaded model first: the manifest, where there is one, must name one
    /// of them.
    ///
    /// # Errors
    /// Another base, rank or shape, a missing key, a feature we do not run (DoRA, bias, `modules_to_save`), damage.
    pub fn load(
        folder: &Path,
        config: &ModelConfig,
        bases: &[&str],
    ) -> Result<(Self, Option<AdapterManifest>), AdapterError> {
        let manifest = read_manifest(folder, bases)?;
        let path = folder.join(CONFIG);
        let peft = PeftConfig::read(&path)?;
        let settings = peft.settings(&path)?;
        let path = folder.join(TENSORS);
        let file = path.display().to_string();
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let mut tensors =
            read_tensors(&bytes).map_err(|reason| AdapterError::Corrupt { file: file.clone(), reason })?;
        let adapter = assemble(&file, config, settings, &peft.target_modules, &mut tensors)?;
        if let Some(manifest) = &manifest
            && manifest.digest != adapter.digest()
        {
            let reason = format!("its content is not what {MANIFEST} was written for");
            return Err(AdapterError::Corrupt { file, reason });
        }
        Ok((adapter, manifest))
    }

    /// Every factor under its PEFT key, in key order.
    fn tensor_refs(&self) -> Vec<TensorRef<'_>> {
        let mut refs = Vec::new();
        for (layer, factors) in self.layers.iter().enumerate() {
            for (&projection, f) in Projection::ALL.iter().zip(factors).filter(|(_, f)| f.rank() > 0) {
                let (a, b) = shapes(f.outputs, f.inputs, self.settings.rank);
                refs.push(TensorRef { name: key(layer, projection, 'A'), shape: a.to_vec(), values: &f.a });
                refs.push(TensorRef { name: key(layer, projection, 'B'), shape: b.to_vec(), values: &f.b });
            }
        }
        refs.sort_by(|x, y| x.name.cmp(&y.name));
        refs
    }

    fn peft_config(&self, base_name: &str) -> Value {
        let targeted = |projection: &Projection| self.layers.iter().any(|f| f[*projection as usize].rank() > 0);
        let targets: Vec<_> = Projection::ALL.into_iter().filter(targeted).map(Projection::short_name).collect();
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "r": self.settings.rank,
            "lora_alpha": self.settings.alpha,
            "use_rslora": self.settings.scaling == Scaling::RankStabilised,
            "lora_dropout": 0.0,
            "target_modules": targets,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "modules_to_save": null,
        })
    }
}

/// PEFT's key of one factor; `which` is `A` or `B`.
pub(crate) fn key(layer: usize, projection: Projection, which: char) -> String {
    format!("base_model.model.model.layers.{layer}.{}.lora_{which}.weight", projection.module())
}

fn shapes(outputs: usize, inputs: usize, rank: usize) -> ([usize; 2], [usize; 2]) {
    ([rank, inputs], [outputs, rank])
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> AdapterError + use<> {
    let file = path.display().to_string();
    move |source| AdapterError::Io { file, source }
}

fn write_json(path: &Path, value: &Value) -> Result<(), AdapterError> {
    let text = format!("{value:#}\n");
    write_atomic(path, |out| out.write_all(text.as_bytes())).map_err(io_error(path))
}

fn read_manifest(folder: &Path, bases: &[&str]) -> Result<Option<AdapterManifest>, AdapterError> {
    let path = folder.join(MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(&path)(e)),
    };
    let file = path.display().to_string();
    let manifest: AdapterManifest = serde_json::from_slice(&text)
        .map_err(|e| AdapterError::Corrupt { file: file.clone(), reason: e.to_string() })?;
    if manifest.format != 1 {
        let (key, value, want) = ("format".into(), manifest.format.to_string(), "1".into());
        return Err(AdapterError::Unsupported { file, key, value, want });
    }
    if !bases.contains(&manifest.label.base.as_str()) {
        let loaded = bases.first().copied().unwrap_or_default().to_owned();
        return Err(AdapterError::WrongBase { file, trained_on: manifest.label.base, loaded });
    }
    Ok(Some(manifest))
}

/// The part of `adapter_config.json` that changes what an adapter computes. Unknown keys are PEFT's own business, but
/// each feature that we would get wrong in silence is looked at and refused.
#[derive(Debug, Deserialize)]
struct PeftConfig {
    peft_type: String,
    r: usize,
    lora_alpha: f32,
    #[serde(default)]
    use_rslora: bool,
    target_modules: Targets,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A string whose text does not matter to us.
#[derive(Debug, Deserialize)]
#[serde(from = "String")]
struct IgnoredPattern;

impl From<String> for IgnoredPattern {
    fn from(_: String) -> Self {
        Self
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Targets {
    Names(Vec<String>),
    /// A regular expression or `all-linear`: the file must then hold every projection.
    Pattern(IgnoredPattern),
}

impl Targets {
    fn holds(&self, projection: Projection) -> bool {
        match self {
            Self::Names(names) => {
                names.iter().any(|name| projection.module() == name || projection.short_name() == name)
            }
            Self::Pattern(_) => true,
        }
    }
}

/// Initialisations that leave the base as it is. Others take out of it what they put into the factors (PiSSA, OLoRA, CorDA,
/// LoftQ): such factors belong to a base that is not the file's.
const BASE_STAYS: [&str; 3] = ["gaussian", "eva", "orthogonal"];
const BASE_CHANGES: &str = "true, false, gaussian, eva, orthogonal, which leave the base as it is (PEFT converts an adapter of \
    another kind where it is saved with path_initial_model_for_weight_conversion)";

impl PeftConfig {
    fn read(path: &Path) -> Result<Self, AdapterError> {
        let text = fs::read(path).map_err(io_error(path))?;
        serde_json::from_slice(&text)
            .map_err(|e| AdapterError::Corrupt { file: path.display().to_string(), reason: e.to_string() })
    }

    fn settings(&self, path: &Path) -> Result<LoraSettings, AdapterError> {
        self.check().map_err(|(key, value, want)| {
            let (file, key, want) = (path.display().to_string(), key.to_owned(), want.to_owned());
            AdapterError::Unsupported { file, key, value, want }
        })?;
        let scaling = if self.use_rslora { Scaling::RankStabilised } else { Scaling::Plain };
        Ok(LoraSettings { rank: self.r, alpha: self.lora_alpha, scaling })
    }

    /// Or the key that we would get wrong, its value, and what is supported.
    fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        let refuse = |key, value, want| Err((key, value, want));
        if self.peft_type != "LORA" {
            return refuse("peft_type", self.peft_type.clone(), "LORA");
        }
        if self.r == 0 || self.r > 4096 {
            return refuse("r", self.r.to_string(), "1 to 4096");
        }
        for key in [
            "use_dora",
            "fan_in_fan_out",
            "modules_to_save",
            "rank_pattern",
            "alpha_pattern",
            "layers_to_transform",
            "layer_replication",
            "alora_invocation_tokens",
            "lora_bias",
        ] {
            match self.others.get(key) {
                None | Some(Value::Null | Value::Bool(false)) => {}
                Some(Value::Object(map)) if map.is_empty() => {}
                Some(Value::Array(list)) if list.is_empty() => {}
                Some(value) => return refuse(key, value.to_string(), "absent, null, false or empty"),
            }
        }
        match self.others.get("bias") {
            None | Some(Value::Null) => {}
            Some(bias) if bias == "none" => {}
            Some(bias) => return refuse("bias", bias.to_string(), "none"),
        }
        match self.others.get("init_lora_weights") {
            None | Some(Value::Null | Value::Bool(_)) => Ok(()),
            Some(Value::String(init)) if BASE_STAYS.contains(&init.to_lowercase().as_str()) => Ok(()),
            Some(init) => refuse("init_lora_weights", init.to_string(), BASE_CHANGES),
        }
    }
}

/// Takes the factors out of `tensors`; whatever is left then belongs to no projection and is refused.
fn assemble(
    file: &str,
    config: &ModelConfig,
    settings: LoraSettings,
    targets: &Targets,
    tensors: &mut TensorFile,
) -> Result<Adapter, AdapterError> {
    let mut layers = Vec::with_capacity(config.layers);
    for layer in 0..config.layers {
        let mut factors = Vec::with_capacity(7);
        for projection in Projection::ALL {
            let [outputs, inputs] = config.projection_shape(projection);
            let (a_shape, b_shape) = shapes(outputs, inputs, settings.rank);
            let mut take = |which, shape: [usize; 2]| {
                if targets.holds(projection) {
                    take_factor(file, tensors, key(layer, projection, which), shape)
                } else {
                    Ok(Vec::new())
                }
            };
            factors.push(Factors { a: take('A', a_shape)?, b: take('B', b_shape)?, inputs, outputs });
        }
        layers.push(factors.try_into().expect("seven projections were pushed"));
    }
    if let Some(key) = tensors.tensors.keys().next() {
        let (file, want) = (file.to_owned(), format!("LoRA factors of {} layers × 7 projections", config.layers));
        return Err(AdapterError::Unsupported { file, key: "tensor".into(), value: key.clone(), want });
    }
    Ok(Adapter::of(settings, layers))
}

fn take_factor(file: &str, tensors: &mut TensorFile, key: String, want: [usize; 2]) -> Result<Vec<f32>, AdapterError> {
    let Some(tensor) = tensors.tensors.remove(&key) else {
        return Err(AdapterError::MissingKey { file: file.to_owned(), key });
    };
    if tensor.shape != want {
        return Err(AdapterError::Shape { file: file.to_owned(), key, got: tensor.shape, want: want.to_vec() });
    }
    Ok(tensor.values)
}
