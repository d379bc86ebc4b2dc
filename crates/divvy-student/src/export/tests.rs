//! What is written is read again by our own loaders, value for value; `DIVVY_TEST_EXPORTS` names a virtual environment in
//! which other programs read it too.

use std::path::Path;

use super::*;
use crate::adapter::{AdapterError, AdapterLabel, LoraSettings, Scaling};
use crate::cache::{CacheFormat, KvCache};
use crate::config::Projection;
use crate::forward::{Scratch, Span};
use crate::gguf::{GgufFile, Header, Value};
use crate::safetensors::{SafetensorsDir, read_config};
use crate::testing::tiny_model;
use crate::train::random::Random;
use crate::weights::TensorSource;

/// Those that llama.cpp has a form for.
const NAMES: [&str; 5] = ["tiny-llama", "tiny-qwen2", "tiny-llama3", "tiny-qwen3", "tiny-gemma3"];

fn adapter(model: &Model, scaling: Scaling) -> Adapter {
    let settings = LoraSettings { rank: 3, alpha: 6.0, scaling };
    let mut adapter = Adapter::new(&model.config, settings, 1);
    let mut random = Random::new(2, 0);
    adapter.layers.iter_mut().flatten().for_each(|factors| {
        factors.b.iter_mut().for_each(|b| *b = random.symmetric(0.2));
    });
    adapter
}

fn about() -> About {
    let origin = [("base".to_owned(), "b".repeat(64)), ("adapter".to_owned(), "a".repeat(64))];
    About { name: "tiny sd-r".into(), licence: Some("Apache-2.0".into()), origin: origin.into() }
}

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let mut cache = KvCache::new(&model.config, CacheFormat::F32);
    let span = Span { tokens, cache: &mut cache, adapter: None, logits: true };
    model.network().forward(&mut [span], &mut Scratch::default())
}

/// All values of a tensor as a loader sees them.
fn values(source: &dyn TensorSource, config: &crate::config::ModelConfig, slot: Slot) -> Vec<f32> {
    let (view, shape) = (source.tensor(slot).unwrap(), slot.shape(config));
    view.expect_shape(&shape).unwrap();
    let width = shape[shape.len() - 1];
    let mut all = vec![0.0; shape.iter().product()];
    all.chunks_exact_mut(width).enumerate().for_each(|(row, out)| view.read_row(row, out));
    all
}

/// Row `row` of a projection with the adapter, in f64.
fn merged(model: &Model, adapter: &Adapter, layer: usize, projection: Projection, row: usize) -> Vec<f64> {
    let factors = adapter.factors(layer, projection);
    let mut base = vec![0.0; factors.inputs];
    model.weights.read_row(&model.config, Slot::Matrix(layer, projection), row, &mut base);
    let rank = adapter.settings.rank;
    let delta = |column: usize| {
        let product =
            |r: usize| f64::from(factors.b[row * rank + r]) * f64::from(factors.a[r * factors.inputs + column]);
        (0..rank).map(product).sum::<f64>() * f64::from(adapter.settings.scale())
    };
    base.iter().enumerate().map(|(column, &value)| f64::from(value) + delta(column)).collect()
}

#[test]
fn the_base_comes_back_bit_for_bit() {
    for name in NAMES {
        let (model, folder, about) = (tiny_model(name), tempfile::tempdir().unwrap(), about());
        let export = Export { model: &model, adapter: None, precision: Precision::Bf16, about: &about };
        export.safetensors(&folder.path().join("hf")).unwrap();
        export.gguf(&folder.path().join("base.gguf")).unwrap();
        for path in ["hf", "base.gguf"] {
            let read = Model::load(&folder.path().join(path)).unwrap();
            assert_eq!(read.config, model.config, "{name}");
            let tokens = [3, 50, 7, 7, 99];
            assert!(logits(&read, &tokens) == logits(&model, &tokens), "{name} {path}");
            for text in ["the 12 cats", "x<|im_end|>"] {
                assert_eq!(read.encode_completion(text).unwrap(), model.encode_completion(text).unwrap());
            }
            assert_eq!(read.template_text(), model.template_text());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays behind");
    }
}

/// What was trained on a base fits a copy of it, and says the same there; a student, or a copy in fewer bits, is another model.
#[test]
fn a_copy_of_the_base_takes_the_bases_adapter() {
    for name in NAMES {
        let (model, folder) = (tiny_model(name), tempfile::tempdir().unwrap());
        let (adapter, at) = (adapter(&model, Scaling::Plain), |name: &str| folder.path().join(name));
        adapter.save(&at("peft"), &AdapterLabel::of(&model).unwrap()).unwrap();
        let origin = [("base".to_owned(), model.content_hash.clone())];
        let about = About { origin: origin.into(), ..about() };
        let base = Export { model: &model, adapter: None, precision: Precision::Bf16, about: &about };
        base.safetensors(&at("hf")).unwrap();
        base.gguf(&at("base.gguf")).unwrap();
        for path in ["hf", "base.gguf"] {
            let read = Model::load(&at(path)).unwrap();
            let again = read.adapter(&at("peft")).unwrap();
            assert_eq!(adapted(&read, &again), adapted(&model, &adapter), "{name} {path}");
        }
        let mut student = about.clone();
        student.origin.insert("student".to_owned(), "c".repeat(64));
        let merged = Export { adapter: Some(&adapter), about: &student, ..base };
        merged.safetensors(&at("merged")).unwrap();
        merged.gguf(&at("merged.gguf")).unwrap();
        let bytes = std::fs::read(at("base.gguf")).unwrap();
        std::fs::write(at("fewer.gguf"), with_file_type(bytes, 15)).unwrap();
        for path in ["merged", "merged.gguf", "fewer.gguf"] {
            let error = Model::load(&at(path)).unwrap().adapter(&at("peft")).unwrap_err();
            assert!(matches!(error, AdapterError::WrongBase { .. }), "{name} {path}: {error}");
        }
    }
}

fn adapted(model: &Model, adapter: &Adapter) -> Vec<f32> {
    let mut cache = KvCache::new(&model.config, CacheFormat::F32);
    let span = Span { tokens: &PROMPT, cache: &mut cache, adapter: Some(adapter), logits: true };
    model.network().forward(&mut [span], &mut Scratch::default())
}

/// The same GGUF file as if another program had stored its weights in this type: behind the key stand the kind of value, in four
/// bytes, and the value.
fn with_file_type(mut bytes: Vec<u8>, file_type: u8) -> Vec<u8> {
    let key = b"general.file_type";
    let behind = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    bytes[behind + 4] = file_type;
    bytes
}

#[test]
fn an_adapter_is_merged_before_anything_is_rounded() {
    for name in NAMES {
        let (model, folder, about) = (tiny_model(name), tempfile::tempdir().unwrap(), about());
        let adapter = adapter(&model, Scaling::RankStabilised);
        for precision in [Precision::F32, Precision::Bf16] {
            let export = Export { model: &model, adapter: Some(&adapter), precision, about: &about };
            let (hf, gguf) = (folder.path().join(precision.name()), folder.path().join("merged.gguf"));
            export.safetensors(&hf).unwrap();
            export.gguf(&gguf).unwrap();
            check_merged(&model, &adapter, precision, &hf, &gguf);
        }
    }
}

fn check_merged(model: &Model, adapter: &Adapter, precision: Precision, hf: &Path, gguf: &Path) {
    assert_eq!(read_config(hf).unwrap(), model.config);
    let source = SafetensorsDir::open(hf, &model.config).unwrap();
    let map = divvy_kernels::MappedFile::open(gguf).unwrap();
    let file = GgufFile::open("merged.gguf", map).unwrap();
    let tolerance = if precision == Precision::F32 { 1e-6 } else { 4e-3 };
    for slot in Slot::all(&model.config) {
        let got = values(&source, &model.config, slot);
        assert!(got == values(&file, &model.config, slot), "{slot:?} differs between the formats");
        let Slot::Matrix(layer, projection) = slot else { continue };
        let width = model.config.projection_shape(projection)[1];
        for (row, got) in got.chunks_exact(width).enumerate() {
            for (got, want) in got.iter().zip(merged(model, adapter, layer, projection, row)) {
                assert!((f64::from(*got) - want).abs() <= tolerance * want.abs().max(0.1), "{slot:?}: {got}, {want}");
            }
        }
    }
}

#[test]
fn a_gguf_adapter_lies_as_its_base_does() {
    for name in NAMES {
        let (model, folder) = (tiny_model(name), tempfile::tempdir().unwrap());
        let mut adapter = adapter(&model, Scaling::RankStabilised);
        let left_alone = &mut adapter.layers[0][Projection::Down as usize];
        (left_alone.a, left_alone.b) = (Vec::new(), Vec::new());
        let path = folder.path().join("lora.gguf");
        gguf_adapter(&path, &model.config, &adapter, &about()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header = Header::parse("lora.gguf", &bytes).unwrap();
        assert_eq!(header.metadata["general.type"], Value::Text("adapter".into()));
        assert_eq!(header.metadata["divvy.base"], Value::Text("b".repeat(64)));
        let Value::Float(alpha) = header.metadata["adapter.lora.alpha"] else { panic!("alpha is a number") };
        assert!((alpha / 3.0 - 6.0 / 3f64.sqrt()).abs() < 1e-5, "llama.cpp divides by the rank: {alpha}");
        assert_eq!(header.tensors.len(), 2 * (7 * model.config.layers - 1));
        let stored = |name: &str| {
            let info = &header.tensors[name];
            let bytes = bytes[info.start..info.start + info.bytes].as_chunks().0;
            (info.shape.clone(), bytes.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>())
        };
        let factors = adapter.factors(1, Projection::Key);
        assert_eq!(stored("blk.1.attn_k.weight.lora_a"), (vec![3, factors.inputs], factors.a.clone()));
        let (shape, b) = stored("blk.1.attn_k.weight.lora_b");
        assert_eq!(shape, [factors.outputs, 3]);
        // The pair (0, 4) of a head of eight lies side by side where llama.cpp rotates neighbours.
        let second = if name.starts_with("tiny-llama") { 4 } else { 1 };
        assert_eq!(b[3..6], factors.b[3 * second..][..3]);
        assert_eq!(stored("blk.0.attn_v.weight.lora_b").1, adapter.factors(0, Projection::Value).b);
    }
}

#[test]
fn what_llama_cpp_would_get_wrong_is_refused() {
    let (model, folder, about) = (tiny_model("tiny-mistral"), tempfile::tempdir().unwrap(), about());
    let export = Export { model: &model, adapter: None, precision: Precision::Bf16, about: &about };
    let error = export.gguf(&folder.path().join("m.gguf")).unwrap_err().to_string();
    assert!(error.contains("m.gguf") && error.contains("sliding windows") && error.contains("safetensors"), "{error}");
    let adapter = adapter(&model, Scaling::Plain);
    let error =
        gguf_adapter(&folder.path().join("lora.gguf"), &model.config, &adapter, &about).unwrap_err().to_string();
    assert!(error.contains("lora.gguf") && error.contains("sliding windows"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    export.safetensors(folder.path()).unwrap();
    assert_eq!(Model::load(folder.path()).unwrap().config, model.config);
}

/// No key of GGUF scales attention's scores: only what the architecture implies can be written.
#[test]
fn a_scale_of_scores_is_written_where_llama_cpp_knows_it() {
    let (mut model, folder, about) = (tiny_model("tiny-gemma3"), tempfile::tempdir().unwrap(), about());
    let config = &mut model.config;
    config.variant.score_scale = crate::gguf::implied_score_scale(config.arch, 62, config.hidden, config.query_heads);
    let adapter = adapter(&model, Scaling::Plain);
    let path = folder.path().join("lora.gguf");
    let error = gguf_adapter(&path, &model.config, &adapter, &about).unwrap_err().to_string();
    assert!(error.contains("attention scores of another scale"), "{error}");
    model.config.layers = 62;
    gguf_adapter(&path, &model.config, &Adapter::new(&model.config, adapter.settings, 1), &about).unwrap();
    model.config.variant.score_scale = None;
    assert!(gguf_adapter(&path, &model.config, &adapter, &about).is_err(), "llama.cpp would scale it");
}

#[test]
fn a_tokenizer_without_a_name_in_gguf_is_refused() {
    let mut model = tiny_model("tiny-llama");
    let folder = tempfile::tempdir().unwrap();
    model.save_text(folder.path()).unwrap();
    let path = folder.path().join("tokenizer.json");
    let json =
        std::fs::read_to_string(&path).unwrap().replace("\"individual_digits\": true", "\"individual_digits\": false");
    std::fs::write(&path, json).unwrap();
    model.tokenizer =
        crate::tokenizer::TextTokenizer::from_directory(folder.path(), model.config.vocab).unwrap().into();
    let about = about();
    let export = Export { model: &model, adapter: None, precision: Precision::Bf16, about: &about };
    let error = export.gguf(&folder.path().join("m.gguf")).unwrap_err().to_string();
    assert!(error.contains("m.gguf") && error.contains("none of gpt-2"), "{error}");
}

/// Needs a virtual environment with torch, transformers, peft and xllamacpp, or a place for one, named by `DIVVY_TEST_EXPORTS`.
#[test]
fn other_programs_load_what_we_export() {
    let Some(python) = crate::testing::export_readers() else { return };
    let names = NAMES.into_iter().chain(["tiny-mistral"]);
    for (name, scaling) in names.zip([Scaling::Plain, Scaling::RankStabilised].into_iter().cycle()) {
        let (mut model, folder) = (tiny_model(name), tempfile::tempdir().unwrap());
        if name == "tiny-mistral" {
            // As in version 0.3: llama.cpp knows no window in this family.
            model.config.variant.sliding = None;
        }
        let adapter = adapter(&model, scaling);
        export_all(&model, &adapter, folder.path());
        let script = crate::testing::fixture("check_exports.py");
        let output = std::process::Command::new(&python).arg(script).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let says: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        println!("{name}: {}", says["apart"]);
        assert!(says["adapter_matters"].as_f64().unwrap() > 0.1, "{says}");
        for (who, apart) in says["apart"].as_object().unwrap() {
            // llama.cpp has Gemma's gate from a table in f16.
            let most = if name == "tiny-gemma3" && who.starts_with("llama.cpp") { 3e-3 } else { 1e-3 };
            assert!(apart["worst"].as_f64().unwrap() < most && apart["parted"] == 0, "{name}, {who}: {apart}");
        }
        let ids: Vec<u32> = serde_json::from_value(says["ids"].clone()).unwrap();
        assert_eq!(ids, model.tokenizer.encode("the cats").unwrap());
        check_ours(&model, &adapter, &serde_json::from_value::<Vec<f64>>(says["first"].clone()).unwrap());
    }
}

const PROMPT: [u32; 6] = [3, 50, 7, 7, 99, 12];

fn export_all(model: &Model, adapter: &Adapter, folder: &Path) {
    let (at, about) = (|name: &str| folder.join(name), about());
    let base = Export { model, adapter: None, precision: Precision::F32, about: &about };
    let merged = Export { adapter: Some(adapter), ..base };
    base.safetensors(&at("hf")).unwrap();
    base.gguf(&at("base.gguf")).unwrap();
    merged.safetensors(&at("merged")).unwrap();
    merged.gguf(&at("merged.gguf")).unwrap();
    gguf_adapter(&at("lora.gguf"), &model.config, adapter, &about).unwrap();
    adapter.save(&at("peft"), &AdapterLabel::default()).unwrap();
    let prompts = [PROMPT.to_vec(), (1..40).collect(), vec![5]];
    std::fs::write(at("prompts.json"), serde_json::to_string(&prompts).unwrap()).unwrap();
}

/// Our own pass says what the others say, as closely as factors in bf16 can where the processor multiplies in it.
fn check_ours(model: &Model, adapter: &Adapter, want: &[f64]) {
    let most = if divvy_kernels::Isa::current().rounds() { 0.1 } else { 1e-3 };
    let logits = adapted(model, adapter);
    let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    for (token, (&logit, want)) in logits.iter().zip(want).enumerate().filter(|(_, (_, want))| **want > -8.0) {
        let got = f64::from(logit) - total.ln();
        assert!((got - want).abs() < most, "token {token}: {got}, the others say {want}");
    }
}
