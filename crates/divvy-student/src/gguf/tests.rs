//! Well-formed files load to the same model as safetensors; hostile ones yield errors that name the place.

use std::path::Path;

use divvy_core::chat::Message;
use proptest::prelude::*;

use super::*;
use crate::cache::{CacheFormat, KvCache};
use crate::config::RopeScaling;
use crate::forward::{Scratch, Span};
use crate::matrix::Numerics;
use crate::model::Model;
use crate::safetensors::read_config;
use crate::testing::{fixture, gguf_bytes, metadata, tiny_model, write_gguf};

fn load(bytes: &[u8]) -> Result<Model, LoadError> {
    let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Model::load(file.path())
}

fn message(result: Result<Model, LoadError>) -> String {
    result.err().expect("must be refused").to_string()
}

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let mut cache = KvCache::new(&model.config, CacheFormat::F32);
    let span = Span { tokens, cache: &mut cache, adapter: None, logits: true };
    model.network().forward(&mut [span], &mut Scratch::default())
}

#[test]
fn a_gguf_file_is_the_same_model_as_its_safetensors() {
    for name in ["tiny-llama", "tiny-qwen2"] {
        let (from_gguf, reference) = (load(&gguf_bytes(name)).unwrap(), tiny_model(name));
        assert_eq!(from_gguf.config, reference.config);
        let tokens = [3, 50, 7, 7, 99];
        assert!(logits(&from_gguf, &tokens) == logits(&reference, &tokens), "{name}");
        let ids = from_gguf.encode_chat(&[Message::user("the")]).unwrap();
        assert_eq!(ids, reference.encode_chat(&[Message::user("the")]).unwrap());
        assert_eq!(from_gguf.content_hash, blake3::hash(&gguf_bytes(name)).to_hex().to_string());
    }
}

#[test]
fn a_model_as_it_is_stored_is_the_same_model() {
    for name in ["tiny-llama", "tiny-qwen2"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, gguf_bytes(name)).unwrap();
        let [exact, stored] = [Numerics::Exact, Numerics::Stored].map(|form| Model::load_as(&path, form).unwrap());
        let tokens = [3, 50, 7, 7, 99];
        assert!(logits(&exact, &tokens) == logits(&stored, &tokens), "{name}");
        for slot in Slot::all(&exact.config) {
            let shape = slot.shape(&exact.config);
            let [mut one, mut other] = [(); 2].map(|()| vec![0.0; *shape.last().unwrap()]);
            exact.weights.read_row(&exact.config, slot, 0, &mut one);
            stored.weights.read_row(&stored.config, slot, 0, &mut other);
            assert!(one == other, "{name} {slot:?}");
        }
    }
}

/// Bytes before the first tensor.
fn header_len(bytes: &[u8]) -> usize {
    let header = Header::parse("x", bytes).unwrap();
    header.tensors.values().map(|info| info.start).min().unwrap()
}

#[test]
fn truncation_anywhere_is_an_error() {
    let bytes = gguf_bytes("tiny-llama");
    for len in (0..header_len(&bytes)).chain([bytes.len() - 1]) {
        assert!(Header::parse("x", &bytes[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn no_flipped_bit_of_the_header_panics() {
    let bytes = gguf_bytes("tiny-qwen2");
    let config = read_config(&fixture("tiny-qwen2")).unwrap();
    for at in 0..header_len(&bytes) {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            let Ok(header) = Header::parse("x", &bytes) else { continue };
            if let Ok(arch) = header.arch() {
                let _ = header.config(arch);
                if at % 16 == 0 {
                    let _ = crate::tokenizer::TextTokenizer::from_gguf(&header, config.vocab);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn noise_behind_the_magic_is_an_error_or_a_header(noise in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = Header::parse("x", &[b"GGUF\x03\0\0\0".as_slice(), &noise].concat());
    }

    #[test]
    fn overwritten_stretches_never_panic(at in 0usize..4000, noise in proptest::collection::vec(any::<u8>(), 1..16)) {
        let mut bytes = gguf_bytes("tiny-llama");
        bytes[at..at + noise.len()].copy_from_slice(&noise);
        let _ = Header::parse("x", &bytes).map(|header| header.arch().map(|arch| header.config(arch)));
    }
}

#[test]
fn absurd_counts_and_lengths_are_refused_at_once() {
    let head = |tensors: u64, entries: u64, rest: &[u8]| {
        [b"GGUF\x03\0\0\0", &tensors.to_le_bytes()[..], &entries.to_le_bytes(), rest].concat()
    };
    let error = |bytes: &[u8]| Header::parse("m.gguf", bytes).unwrap_err().to_string();
    assert!(error(&head(u64::MAX, 0, &[])).contains("tensor count"));
    assert!(error(&head(0, 1 << 40, &[])).contains("metadata count"));
    assert!(error(&head(0, 1, &u64::MAX.to_le_bytes())).contains("metadata key"));
    let array = [&1u64.to_le_bytes()[..], b"k", &9u32.to_le_bytes(), &4u32.to_le_bytes(), &(1u64 << 60).to_le_bytes()];
    assert!(error(&head(0, 1, &array.concat())).contains("m.gguf: k: "));
}

#[test]
fn lists_take_no_more_memory_than_a_few_times_their_bytes() {
    let metadata = [
        ("bytes", Value::Narrow { kind: 0, bytes: vec![7; 1000] }),
        ("shorts", Value::Narrow { kind: 3, bytes: vec![7; 1000] }),
        ("ints", Value::Ints((0..1000).collect())),
        ("floats", Value::Floats(vec![0.5; 1000])),
        ("texts", Value::Texts(vec![String::new(); 1000])),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    let header = Header::parse("x", &write_gguf(&metadata, &[])).unwrap();
    assert_eq!(header.metadata, metadata, "what is read is what was written");
    let room = header.metadata.values().map(|value| match value {
        Value::Narrow { bytes, .. } => bytes.capacity(),
        Value::Ints(values) => values.capacity(),
        Value::Floats(values) => values.capacity(),
        Value::Texts(texts) => texts.capacity(),
        other => panic!("{other:?}"),
    });
    assert_eq!(room.collect::<Vec<_>>(), [1000; 5]);
    let error = header.ints("bytes").unwrap_err().to_string();
    assert!(error.contains("bytes: expected a list of whole numbers in 32 or 64 bits"), "{error}");
}

#[test]
fn a_wide_context_costs_nothing_before_it_is_used() {
    let mut metadata = metadata(&read_config(&fixture("tiny-llama")).unwrap());
    metadata.insert("llama.context_length".into(), Value::Int(1 << 20));
    metadata.insert("llama.attention.key_length".into(), Value::Int(1 << 10));
    let embed = ("token_embd.weight".to_owned(), vec![101, 48], vec![0.0; 101 * 48]);
    let header = Header::parse("x", &write_gguf(&metadata, &[embed])).unwrap();
    let config = header.config(Arch::Llama).unwrap();
    let table = crate::config::Ropes::new(&config, config.context_length);
    assert_eq!(table.of(&config, 0).positions(), 1 << 20);
}

/// The tensors of a model with one more, as a file.
fn with_tensor(name: &str, extra: &str) -> Vec<u8> {
    let bytes = gguf_bytes(name);
    let header = Header::parse("x", &bytes).unwrap();
    let tensors = header.tensors.iter().map(|(name, info)| {
        let values = bytes[info.start..info.start + info.bytes].as_chunks().0;
        (name.clone(), info.shape.clone(), values.iter().map(|b| f32::from_le_bytes(*b)).collect())
    });
    let extra = (extra.to_owned(), vec![48], vec![1.0; 48]);
    write_gguf(&header.metadata, &tensors.chain([extra]).collect::<Vec<_>>())
}

#[test]
fn a_tensor_that_nothing_reads_is_refused_by_name() {
    for (model, tensor) in [
        ("tiny-llama", "blk.0.attn_output.bias"),
        ("tiny-llama", "blk.1.ffn_down.bias"),
        ("tiny-llama", "blk.0.attn_q.bias"),
        ("tiny-llama", "blk.9.attn_norm.weight"),
        ("tiny-llama", "blk.0.attn_q_norm.weight"),
        ("tiny-qwen2", "blk.0.attn_output.bias"),
    ] {
        let error = message(load(&with_tensor(model, tensor)));
        assert!(error.contains(&format!("tensor {tensor} is part of no")) && error.contains(".gguf"), "{error}");
    }
    let path = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    std::fs::write(path.path(), with_tensor("tiny-llama", "blk.0.ffn_up.bias")).unwrap();
    assert!(crate::model::Speech::load(path.path()).is_err(), "nor is it read for its words alone");
}

#[test]
fn real_files_hold_nothing_that_is_not_read() {
    for file in ["SmolLM2-135M-Instruct.Q4_1.gguf", "qwen2.5-coder-0.5b.gguf", "qwen2.5-coder-1.5b.gguf"] {
        if let Some(path) = crate::testing::real_model(file) {
            crate::model::Speech::load(&path).unwrap();
        }
    }
}

fn refused(change: impl Fn(&mut std::collections::BTreeMap<String, Value>)) -> String {
    let mut metadata = metadata(&read_config(&fixture("tiny-llama")).unwrap());
    change(&mut metadata);
    let embed = ("token_embd.weight".to_owned(), vec![101, 48], vec![0.0; 101 * 48]);
    message(load(&write_gguf(&metadata, &[embed])))
}

/// Its 62 layers tell the 27B, whose queries are scaled by hidden size and heads: 5376 / 32 = 168, and not by 128.
#[test]
fn gemma_3_27b_scales_its_scores_as_llama_cpp_does() {
    let config = read_config(&fixture("tiny-gemma3")).unwrap();
    let of = |layers: i64| {
        let named = |key: String| key.replace("gemma3_text.", "gemma3.");
        let mut metadata: BTreeMap<_, _> =
            metadata(&config).into_iter().map(|(key, value)| (named(key), value)).collect();
        let sizes = [("block_count", layers), ("embedding_length", 5376), ("attention.head_count", 32)];
        for (key, value) in sizes.into_iter().chain([("attention.head_count_kv", 16), ("attention.key_length", 128)]) {
            metadata.insert(format!("gemma3.{key}"), Value::Int(value));
        }
        let embed = ("token_embd.weight".to_owned(), vec![101, 48], vec![0.0; 101 * 48]);
        Header::parse("x", &write_gguf(&metadata, &[embed])).unwrap().config(Arch::Gemma3).unwrap().variant.score_scale
    };
    assert_eq!(of(62), Some(1.0 / 168_f32.sqrt()));
    assert_eq!(of(48), None);
}

#[test]
fn bad_metadata_is_named() {
    let set = |key: &'static str, value: Value| refused(move |m| drop(m.insert(key.into(), value.clone())));
    let error = set("general.architecture", Value::Text("gemma2".into()));
    assert!(error.contains("gemma2") && error.contains("llama, mistral, qwen2"), "{error}");
    for (key, value, word) in [
        ("llama.block_count", Value::Int(0), "layers"),
        ("llama.block_count", Value::Int(1 << 30), "layers"),
        ("llama.attention.head_count_kv", Value::Int(4), "key/value heads"),
        ("llama.context_length", Value::Text("long".into()), "llama.context_length"),
        ("llama.rope.freq_base", Value::Float(f64::NAN), "rope theta"),
        ("llama.rope.scaling.type", Value::Text("longrope".into()), "longrope"),
        ("llama.rope.scaling.type", Value::Text("yarn".into()), "original_context_length is missing"),
        ("general.alignment", Value::Int(7), "general.alignment"),
        ("tokenizer.ggml.pre", Value::Text("dbrx".into()), "dbrx"),
        ("tokenizer.ggml.model", Value::Text("bert".into()), "gpt2"),
        ("tokenizer.ggml.model", Value::Text("llama".into()), "tokenizer.ggml.scores is missing"),
        ("tokenizer.ggml.eos_token_id", Value::Int(500), "500"),
        ("tokenizer.ggml.merges", Value::Texts(vec!["x".into()]), "merge"),
        ("tokenizer.ggml.merges", Value::Texts(vec!["the the".into()]), "makes no token"),
        ("tokenizer.ggml.token_type", Value::Ints(vec![1]), "1 types"),
        ("tokenizer.chat_template", Value::Text("{% for".into()), "chat template"),
    ] {
        let error = set(key, value);
        assert!(error.contains(word) && error.contains(".gguf"), "{key}: {error}");
    }
    let untold = refused(|m| drop(m.remove("tokenizer.chat_template")));
    assert!(untold.contains("tokenizer.chat_template (a base model's"), "{untold}");
    let missing = refused(|m| drop(m.remove("llama.feed_forward_length")));
    assert!(missing.contains("llama.feed_forward_length is missing"), "{missing}");
}

/// Of a stretched RoPE llama.cpp's keys are heeded, or refused where the stretch would be another.
#[test]
fn the_keys_of_yarn_are_read_or_refused() {
    let read = |more: &[(&str, f64)]| {
        let mut metadata = metadata(&read_config(&fixture("tiny-llama")).unwrap());
        let key = |name: &str| format!("llama.rope.scaling.{name}");
        metadata.insert(key("type"), Value::Text("yarn".into()));
        metadata.insert(key("original_context_length"), Value::Int(64));
        metadata.extend(more.iter().map(|(name, value)| (key(name), Value::Float(*value))));
        let embed = ("token_embd.weight".to_owned(), vec![101, 48], vec![0.0; 101 * 48]);
        let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
        std::fs::write(file.path(), write_gguf(&metadata, &[embed])).unwrap();
        GgufFile::open("yarn.gguf", MappedFile::open(file.path()).unwrap())?.config()
    };
    let stretched = read(&[("factor", 4.0), ("yarn_beta_fast", 16.0), ("yarn_beta_slow", 2.0)]).unwrap();
    let RopeScaling::Yarn { factor, beta_fast, beta_slow, .. } = stretched.variant.rope else {
        panic!("{stretched:?}")
    };
    assert_eq!((factor, beta_fast, beta_slow), (4.0, 16.0, 2.0));
    assert!(read(&[("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)]).is_ok());
    for (key, value) in [("yarn_ext_factor", 0.5), ("yarn_attn_factor", 2.0), ("yarn_log_multiplier", 0.1)] {
        let error = read(&[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("is not supported"), "{error}");
    }
}

#[test]
fn only_known_divisors_of_frequencies_are_taken() {
    let metadata = metadata(&read_config(&fixture("tiny-llama")).unwrap());
    let embed = ("token_embd.weight".to_owned(), vec![101, 48], vec![0.0; 101 * 48]);
    let divided = |by: Vec<f32>| {
        let divisors = ("rope_freqs.weight".to_owned(), vec![by.len()], by);
        message(load(&write_gguf(&metadata, &[embed.clone(), divisors])))
    };
    assert!(divided(vec![1.0, 2.0, 3.0, 4.0]).contains("divisors of no known model"));
    assert!(divided(vec![1.0; 3]).contains("rope_freqs.weight: expected 4 numbers"));
}

#[test]
fn tensors_that_are_absent_misshapen_or_misplaced_are_named() {
    assert!(refused(|_| ()).contains("output_norm.weight") || refused(|_| ()).contains("blk.0"));
    let metadata = metadata(&read_config(&fixture("tiny-llama")).unwrap());
    let narrow = ("token_embd.weight".to_owned(), vec![101, 32], vec![0.0; 101 * 32]);
    let error = message(load(&write_gguf(&metadata, &[narrow])));
    assert!(error.contains("token_embd.weight") && error.contains("[101, 32]"), "{error}");
    let one = |name: &str| (name.to_owned(), vec![8], vec![0.0; 8]);
    let good = write_gguf(&metadata, &[one("aaaa"), one("bbbb")]);
    let place = |offset: u64| {
        let mut bytes = good.clone();
        let at = bytes.windows(4).position(|window| window == b"bbbb").unwrap() + 4 + 4 + 8 + 4;
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        Header::parse("x", &bytes).unwrap_err().to_string()
    };
    assert!(place(0).contains("overlaps"));
    assert!(place(4).contains("alignment"));
    assert!(place(1 << 20).contains("bbbb") && place(u64::MAX - 31).contains("bbbb"));
}

#[test]
fn what_is_no_model_is_refused() {
    assert!(message(load(b"hello")).contains("not a model"));
    assert!(message(load(b"")).contains("not a model"));
    assert!(message(Model::load(Path::new("/nowhere/m.gguf"))).contains("/nowhere/m.gguf"));
    assert!(message(load(b"GGUF\x01\0\0\0")).contains("version 1"));
    assert!(message(load(b"GGUF\0\0\0\x03")).contains("version"));
}
