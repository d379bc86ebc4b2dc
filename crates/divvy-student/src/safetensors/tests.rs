//! Shards load like one file; damaged and foreign directories are refused by name.

use ::safetensors::tensor::{TensorView as Raw, serialize_to_file};

use super::*;
use crate::testing::fixture;

/// A copy of a fixture's directory that a test may damage.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn open_error(dir: &Path) -> String {
    SafetensorsDir::open(dir, &read_config(&fixture("tiny-llama")).unwrap()).err().expect("must be refused").to_string()
}

fn config_error(change: impl Fn(&mut serde_json::Value)) -> String {
    let dir = copy("tiny-llama");
    let path = dir.path().join("config.json");
    let mut json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    read_config(dir.path()).expect_err("must be refused").to_string()
}

#[test]
fn shards_hold_the_same_tensors() {
    let dir = copy("tiny-qwen2");
    let config = read_config(dir.path()).unwrap();
    let whole = SafetensorsDir::open(dir.path(), &config).unwrap();
    let (mut shards, mut index) = ([Vec::new(), Vec::new()], serde_json::Map::new());
    for (i, slot) in Slot::all(&config).into_iter().enumerate() {
        let view = whole.tensor(slot).unwrap();
        index.insert(view.name.clone(), format!("part-{}.safetensors", i % 2).into());
        shards[i % 2].push((view.name, Raw::new(Dtype::BF16, view.shape.clone(), view.bytes).unwrap()));
    }
    let split = tempfile::tempdir().unwrap();
    for (i, shard) in shards.into_iter().enumerate() {
        serialize_to_file(shard, None, &split.path().join(format!("part-{i}.safetensors"))).unwrap();
    }
    let index = serde_json::json!({ "weight_map": index }).to_string();
    std::fs::write(split.path().join("model.safetensors.index.json"), index).unwrap();
    let parts = SafetensorsDir::open(split.path(), &config).unwrap();
    for slot in Slot::all(&config) {
        assert_eq!(parts.tensor(slot).unwrap().bytes, whole.tensor(slot).unwrap().bytes, "{slot:?}");
    }
    std::fs::remove_file(split.path().join("part-1.safetensors")).unwrap();
    let error = SafetensorsDir::open(split.path(), &config).err().expect("a shard is missing").to_string();
    assert!(error.contains("part-1.safetensors"), "{error}");
}

#[test]
fn damaged_weights_are_refused() {
    let dir = copy("tiny-llama");
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for len in [0, 7, 8, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert!(open_error(dir.path()).contains("model.safetensors"), "cut at {len}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(open_error(dir.path()).contains("model.safetensors"));
    let index = r#"{"weight_map": {"a": "../../etc/passwd"}}"#;
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    assert!(open_error(dir.path()).contains("not a plain file name"));
}

#[test]
fn a_tensor_that_no_part_of_the_model_reads_is_refused() {
    let dir = copy("tiny-llama");
    let config = read_config(dir.path()).unwrap();
    let whole = SafetensorsDir::open(dir.path(), &config).unwrap();
    let views = || {
        Slot::all(&config).into_iter().map(|slot| {
            let view = whole.tensor(slot).unwrap();
            (view.name.clone(), Raw::new(Dtype::BF16, view.shape.clone(), view.bytes).unwrap())
        })
    };
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("model.safetensors");
    let numbers = [0_u8; 16];
    let with = |name: &str, dtype| {
        let more = (name.to_owned(), Raw::new(dtype, vec![4], &numbers).unwrap());
        serialize_to_file(views().chain([more]), None, &path).unwrap();
        SafetensorsDir::open(other.path(), &config).map(|_| ())
    };
    for (name, dtype) in
        [("model.layers.0.self_attn.o_proj.bias", Dtype::F32), ("model.layers.0.mlp.qweight", Dtype::I32)]
    {
        let error = with(name, dtype).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("another model's"), "{error}");
    }
    with("model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::F32).unwrap();
}

#[test]
fn the_head_of_a_tied_model_is_its_embedding() {
    let dir = copy("tiny-llama");
    let read = read_config(dir.path()).unwrap();
    let whole = SafetensorsDir::open(dir.path(), &read).unwrap();
    let config = ModelConfig { tied: true, ..read };
    let slots = Slot::all(&config);
    let other = tempfile::tempdir().unwrap();
    let with = |head: &[u8]| {
        let view = |slot| {
            let view = whole.tensor(slot).unwrap();
            (view.name.clone(), Raw::new(Dtype::BF16, view.shape.clone(), view.bytes).unwrap())
        };
        let shape = whole.tensor(Slot::Embed).unwrap().shape;
        let head = ("lm_head.weight".to_owned(), Raw::new(Dtype::BF16, shape, head).unwrap());
        serialize_to_file(slots.iter().copied().map(view).chain([head]), None, &other.path().join("model.safetensors"))
            .unwrap();
        SafetensorsDir::open(other.path(), &config).map(|_| ())
    };
    let embed = whole.tensor(Slot::Embed).unwrap().bytes.to_vec();
    with(&embed).unwrap();
    let error = with(&vec![0; embed.len()]).unwrap_err().to_string();
    assert!(error.contains("lm_head.weight") && error.contains("tie_word_embeddings"), "{error}");
}

#[test]
fn configurations_we_would_run_wrongly_are_refused() {
    let gemma = config_error(|json| json["model_type"] = "gemma2".into());
    assert!(gemma.contains("gemma2") && gemma.contains("llama, mistral, qwen2"), "{gemma}");
    for (key, value, word) in [
        ("rope_scaling", serde_json::json!({"rope_type": "yarn"}), "yarn without factor"),
        ("rope_scaling", serde_json::json!({"type": "longrope", "factor": 2.0}), "longrope"),
        ("rope_scaling", serde_json::json!({"rope_type": "linear", "factor": 0.5}), "scaling factor"),
        ("hidden_act", "gelu".into(), "activation \"gelu\""),
        ("final_logit_softcapping", 30.0.into(), "soft-capping"),
        ("attention_bias", true.into(), "bias"),
        ("use_sliding_window", true.into(), "sliding"),
        ("partial_rotary_factor", 0.5.into(), "part of each head"),
        (
            "rope_parameters",
            serde_json::json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
            "part of each head",
        ),
        ("quantization_config", serde_json::json!({"quant_method": "gptq"}), "quantised weights in GGUF"),
        ("hidden_size", (-1).into(), "config.json"),
        ("num_hidden_layers", 0.into(), "layers"),
        ("num_key_value_heads", 5.into(), "key/value heads"),
        ("rms_norm_eps", 7.into(), "epsilon"),
    ] {
        let error = config_error(|json| json[key] = value.clone());
        assert!(error.contains(word), "{key}: {error}");
    }
}

#[test]
fn layers_with_a_window_follow_a_pattern_or_are_refused() {
    let dir = copy("tiny-gemma3");
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let read = |layers: [&str; 6]| {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["layer_types"] = layers.into_iter().map(|kind| format!("{kind}_attention")).collect();
        std::fs::write(&path, json.to_string()).unwrap();
        read_config(dir.path())
    };
    let every = |layers| read(layers).unwrap().variant.sliding.unwrap().every;
    assert_eq!(every(["sliding", "sliding", "full", "sliding", "sliding", "full"]), 3);
    assert_eq!(every(["sliding"; 6]), 0);
    let error = read(["full", "sliding", "full", "sliding", "full", "sliding"]).unwrap_err().to_string();
    assert!(error.contains("layer_types") && error.contains("layer 1"), "{error}");
}
