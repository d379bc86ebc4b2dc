//! For this crate's tests: the tiny reference models as they lie in `tests/fixtures`, with a tokenizer made up for
//! them, and a writer of GGUF files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{ModelConfig, Ropes};
use crate::gguf::{Header, Value};
use crate::matrix::Numerics;
use crate::model::Model;
use crate::quant::{TensorType, TensorView};
use crate::safetensors::{SafetensorsDir, read_config};
use crate::template::ChatTemplate;
use crate::tokenizer::TextTokenizer;
use crate::train::random::Random;
use crate::weights::{Slot, TensorSource, Weights};
use crate::{config::Projection, gguf};

pub(crate) const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The tiny checkpoints with PyTorch's numbers beside them.
pub(crate) const NAMES: [&str; 6] =
    ["tiny-llama", "tiny-qwen2", "tiny-llama3", "tiny-mistral", "tiny-qwen3", "tiny-gemma3"];

/// A folder of `tests/fixtures`, or the one that an absolute path names.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Models from the registries, where the tester has put them; says loudly when not.
pub(crate) fn real_model(file: &str) -> Option<PathBuf> {
    let path = std::env::var_os("DIVVY_TEST_MODELS").map(|dir| Path::new(&dir).join(file));
    let found = path.filter(|path| path.is_file());
    if found.is_none() {
        println!("SKIPPED: {file} not found; set DIVVY_TEST_MODELS to the directory that holds it");
    }
    found
}

/// What reads our exports, at the versions that they were last checked with.
const READERS: [&str; 4] = ["torch==2.15.0", "transformers==5.23.0", "peft==0.21.2", "xllamacpp==2026.10.11549"];

/// The Python of the virtual environment that `DIVVY_TEST_EXPORTS` names. Where its folder is empty or missing, it is made there
/// with [`READERS`] (some GB), beside it first, so that no half of it is ever in its place.
pub(crate) fn export_readers() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("DIVVY_TEST_EXPORTS").map(PathBuf::from) else {
        println!("SKIPPED: DIVVY_TEST_EXPORTS is not set");
        return None;
    };
    if folder.read_dir().map_or(true, |mut entries| entries.next().is_none()) {
        make_environment(&folder, &READERS);
    }
    let python = folder.join("bin/python");
    assert!(python.exists(), "{} holds something, but no virtual environment", folder.display());
    Some(python)
}

/// A virtual environment with these packages, by the machine's own `python3` and pip.
fn make_environment(folder: &Path, packages: &[&str]) {
    let beside = folder.with_extension(format!("part-{}", std::process::id()));
    let run = |program: &Path, arguments: &[&str], last: &[&str]| {
        let status = std::process::Command::new(program).args(arguments).args(last).status().unwrap();
        assert!(status.success(), "{} {arguments:?} {last:?} ended with {status}", program.display());
    };
    run(Path::new("python3"), &["-m", "venv"], &[beside.to_str().unwrap()]);
    run(&beside.join("bin/python"), &["-m", "pip", "install", "--quiet"], packages);
    std::fs::rename(&beside, folder).unwrap();
}

#[test]
fn an_environment_works_where_it_was_moved_to() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("venv");
    let has = |module: &str| std::process::Command::new("python3").args(["-c", module]).output();
    if !has("import venv, ensurepip").is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: there is no python3 with venv and pip");
        return;
    }
    make_environment(&folder, &["--no-index", "pip"]);
    let python = std::process::Command::new(folder.join("bin/python")).args(["-c", "import pip"]).status().unwrap();
    assert!(python.success());
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "nothing lies beside it");
}

/// 101 tokens: ASCII letters by themselves, space and newline in the byte alphabet, a few merges, three controls.
fn vocabulary() -> (Vec<String>, Vec<i64>, Vec<String>) {
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).into();
    tokens.extend(('!'..='~').map(String::from));
    tokens.extend(["Ġ", "Ċ", "th", "the"].map(str::to_owned));
    let types = (0..tokens.len()).map(|id| if id < 3 { 3 } else { 1 }).collect();
    (tokens, types, vec!["t h".into(), "th e".into()])
}

pub(crate) fn tokenizer_metadata() -> BTreeMap<String, Value> {
    let (tokens, types, merges) = vocabulary();
    let entries = [
        ("tokenizer.ggml.model", Value::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Value::Text("smollm".into())),
        ("tokenizer.ggml.tokens", Value::Texts(tokens)),
        ("tokenizer.ggml.token_type", Value::Ints(types)),
        ("tokenizer.ggml.merges", Value::Texts(merges)),
        ("tokenizer.ggml.eos_token_id", Value::Int(2)),
        ("tokenizer.chat_template", Value::Text(CHATML.into())),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(crate) fn tiny_tokenizer() -> TextTokenizer {
    let header =
        Header { file: "tiny".into(), metadata: tokenizer_metadata(), tensors: Default::default(), divisors: None };
    TextTokenizer::from_gguf(&header, 101).unwrap()
}

pub(crate) fn tiny_model(name: &str) -> Model {
    tiny_model_as(name, Numerics::Exact)
}

pub(crate) fn tiny_model_as(name: &str, numerics: Numerics) -> Model {
    let dir = fixture(name);
    let config = read_config(&dir).unwrap();
    let weights = Weights::load(&config, &SafetensorsDir::open(&dir, &config).unwrap(), numerics).unwrap();
    let ropes = Ropes::new(&config, config.context_length);
    let template = ChatTemplate::new(CHATML.into()).unwrap();
    let (tokenizer, template, ropes) = (Arc::new(tiny_tokenizer()), Arc::new(template), Arc::new(ropes));
    Model { config, weights, tokenizer, template, ropes, content_hash: name.into(), copy_of: None }
}

/// The model in `fixtures/name` as the bytes of a GGUF file with f32 tensors.
pub(crate) fn gguf_bytes(name: &str) -> Vec<u8> {
    let dir = fixture(name);
    let config = read_config(&dir).unwrap();
    let source = SafetensorsDir::open(&dir, &config).unwrap();
    let tensors = Slot::all(&config).into_iter().map(|slot| {
        let view = source.tensor(slot).unwrap();
        (gguf::tensor_name(slot), view.shape.clone(), values(&config, slot, &view))
    });
    write_gguf(&metadata(&config), &tensors.collect::<Vec<_>>())
}

/// All values of a tensor, query and key rows interleaved where the family's GGUF files interleave them.
fn values(config: &ModelConfig, slot: Slot, view: &TensorView<'_>) -> Vec<f32> {
    let width = view.shape[view.shape.len() - 1];
    let rows = if view.shape.len() == 2 { view.shape[0] } else { 1 };
    let interleaved =
        config.arch.gguf_name() == "llama" && matches!(slot, Slot::Matrix(_, Projection::Query | Projection::Key));
    let mut out = vec![0.0; rows * width];
    for (row, out) in out.chunks_exact_mut(width).enumerate() {
        let (head, within) = (row / config.head_dim, row % config.head_dim);
        let split = head * config.head_dim + within / 2 + within % 2 * (config.head_dim / 2);
        view.read_row(if interleaved { split } else { row }, out);
    }
    out
}

/// A llama of random weights as the bytes of a GGUF file whose matrices are Q8_0: blocks of a scale in f16 and 32 whole numbers.
pub(crate) fn quantised_gguf() -> Vec<u8> {
    let tiny = read_config(&fixture("tiny-llama")).unwrap();
    let config = ModelConfig { hidden: 64, query_heads: 8, kv_heads: 2, head_dim: 8, ffn: 96, tied: true, ..tiny };
    let slots = Slot::all(&config);
    let entry = |slot: &Slot| {
        let dtype = if slot.is_norm() { TensorType::F32 } else { TensorType::Q8_0 };
        gguf::Entry { name: gguf::tensor_name(*slot), dtype, shape: slot.shape(&config) }
    };
    let mut random = Random::new(5, 1);
    let mut out = Vec::new();
    gguf::write(&mut out, &metadata(&config), &slots.iter().map(entry).collect::<Vec<_>>(), |index, out| {
        let values: usize = slots[index].shape(&config).iter().product();
        if slots[index].is_norm() {
            return (0..values).try_for_each(|_| out.write_all(&1.0_f32.to_le_bytes()));
        }
        (0..values / 32).try_for_each(|_| {
            // 2⁻¹⁰ and up, in f16.
            out.write_all(&(0x1400 + random.below(256) as u16).to_le_bytes())?;
            (0..32).try_for_each(|_| out.write_all(&[random.below(256) as u8]))
        })
    })
    .unwrap();
    out
}

/// The model of [`quantised_gguf`].
pub(crate) fn quantised_model(numerics: Numerics) -> Model {
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(file.path(), quantised_gguf()).unwrap();
    Model::load_as(file.path(), numerics).unwrap()
}

pub(crate) fn metadata(config: &ModelConfig) -> BTreeMap<String, Value> {
    let mut metadata = tokenizer_metadata();
    metadata.insert("general.architecture".into(), Value::Text(config.arch.to_string()));
    for (key, value) in [
        ("block_count", config.layers),
        ("embedding_length", config.hidden),
        ("attention.head_count", config.query_heads),
        ("attention.head_count_kv", config.kv_heads),
        ("feed_forward_length", config.ffn),
        ("context_length", config.context_length),
    ] {
        metadata.insert(format!("{}.{key}", config.arch), Value::Int(value as i64));
    }
    for (key, value) in [("rope.freq_base", config.rope_theta), ("attention.layer_norm_rms_epsilon", config.rms_eps)] {
        metadata.insert(format!("{}.{key}", config.arch), Value::Float(value.into()));
    }
    metadata
}

pub(crate) fn write_gguf(metadata: &BTreeMap<String, Value>, tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let entries: Vec<gguf::Entry> = tensors
        .iter()
        .map(|(name, shape, _)| gguf::Entry { name: name.clone(), dtype: TensorType::F32, shape: shape.clone() })
        .collect();
    let mut out = Vec::new();
    gguf::write(&mut out, metadata, &entries, |index, out| {
        tensors[index].2.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
    })
    .unwrap();
    out
}
