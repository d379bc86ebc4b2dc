//! Logits against transformers; and that neither caching, chunking nor company changes a single bit.

use std::collections::HashMap;

use safetensors::SafeTensors;

use super::*;
use crate::adapter::{LoraSettings, Scaling};
use crate::cache::CacheFormat;
use crate::matrix::Numerics;
use crate::model::Model;
use crate::testing::{NAMES, fixture, quantised_model, tiny_model, tiny_model_as};

/// Row 1 of the reference and its logits `[tokens, vocab]`.
fn reference(name: &str) -> (Vec<u32>, Vec<f32>) {
    let json = std::fs::read_to_string(fixture(name).join("reference.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let row = &json["rows"][1];
    let ids = |key: &str| row[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect::<Vec<_>>();
    let bytes = std::fs::read(fixture(name).join("reference.safetensors")).unwrap();
    let logits = SafeTensors::deserialize(&bytes).unwrap().tensor("logits").unwrap().data().to_vec();
    let logits = logits.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    ([ids("prompt"), ids("completion")].concat(), logits)
}

/// In logits: what f32 allows, and what is left of it on AMX, where products round their input to bf16 (0.058 under
/// emulation).
fn tolerance() -> f32 {
    if divvy_kernels::Isa::current().rounds() { 0.2 } else { 1e-3 }
}

/// Logits after every chunk, the sequence fed in chunks of `size`.
fn chunked(model: &Model, tokens: &[u32], size: usize) -> HashMap<usize, Vec<f32>> {
    chunked_as(model, CacheFormat::F32, tokens, size)
}

fn chunked_as(model: &Model, format: CacheFormat, tokens: &[u32], size: usize) -> HashMap<usize, Vec<f32>> {
    let (mut cache, mut scratch) = (KvCache::new(&model.config, format), Scratch::default());
    let mut after = HashMap::new();
    for tokens in tokens.chunks(size) {
        let span = Span { tokens, cache: &mut cache, adapter: None, logits: true };
        let logits = model.network().forward(&mut [span], &mut scratch);
        after.insert(cache.len, logits);
    }
    after
}

#[test]
fn logits_are_those_of_transformers() {
    for name in NAMES {
        let (model, (tokens, want)) = (tiny_model(name), reference(name));
        let got = chunked(&model, &tokens, 1);
        for (at, want) in want.chunks_exact(model.config.vocab).enumerate() {
            let worst = got[&(at + 1)].iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < tolerance(), "{name}, position {at}: off by {worst}");
        }
    }
}

/// The difference of two rows of logits, as a share of their own deviation from their mean (0.12 at worst in 8 bits, for these random weights).
fn distance(got: &[f32], want: &[f32]) -> f32 {
    let mean = want.iter().sum::<f32>() / want.len() as f32;
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
    norm(&mut got.iter().zip(want).map(|(a, b)| a - b)) / norm(&mut want.iter().map(|value| value - mean))
}

#[test]
fn eight_bits_stay_close_to_transformers() {
    for name in NAMES {
        let (model, (tokens, want)) = (tiny_model_as(name, Numerics::Int8), reference(name));
        let got = chunked(&model, &tokens, 1);
        for (at, want) in want.chunks_exact(model.config.vocab).enumerate() {
            let distance = distance(&got[&(at + 1)], want);
            assert!(distance < 0.2, "{name}, position {at}: off by {distance}");
        }
    }
}

#[test]
fn blocks_as_they_are_stored_stay_close_to_themselves_unpacked() {
    let [exact, stored] = [Numerics::Exact, Numerics::Blocks].map(quantised_model);
    assert!(
        matches!(stored.weights.layers[0].qkv, Matrix::Blocks(_)) && matches!(stored.weights.head, Matrix::Blocks(_))
    );
    let tokens: Vec<u32> = (0..40).map(|i| (i * 37 + 11) % 101).collect();
    let (want, got) = (chunked(&exact, &tokens, 1), chunked(&stored, &tokens, 1));
    for (len, got) in got {
        let distance = distance(&got, &want[&len]);
        assert!(distance > 0.0 && distance < 0.2, "{len} tokens: off by {distance}");
    }
}

#[test]
fn floats_are_stored_as_they_are_computed_with() {
    let [exact, stored] = [Numerics::Exact, Numerics::Blocks].map(|numerics| tiny_model_as("tiny-llama", numerics));
    let tokens: Vec<u32> = (0..20).map(|i| (i * 37 + 11) % 101).collect();
    assert!(chunked(&exact, &tokens, 20) == chunked(&stored, &tokens, 20));
}

#[test]
fn cached_chunked_and_whole_agree_to_the_bit() {
    let forms = [Numerics::Exact, Numerics::Int8];
    let tiny = NAMES.into_iter().flat_map(|name| forms.map(|form| (name, form, tiny_model_as(name, form))));
    let stored = Numerics::Blocks;
    for (name, numerics, model) in tiny.chain([("quantised", stored, quantised_model(stored))]) {
        let tokens: Vec<u32> = (0..100).map(|i| (i * 37 + 11) % 101).collect();
        let single = chunked(&model, &tokens, 1);
        for size in [3, 16, 64, 70, 100] {
            for (len, logits) in chunked(&model, &tokens, size) {
                assert!(logits == single[&len], "{name} {numerics:?}: chunks of {size}, {len} tokens");
            }
        }
    }
}

#[test]
fn smaller_caches_agree_to_the_bit_and_stay_close() {
    for (format, most) in [(CacheFormat::Bf16, 0.02), (CacheFormat::Int8, 0.05)] {
        let model = tiny_model("tiny-qwen2");
        let tokens: Vec<u32> = (0..100).map(|i| (i * 37 + 11) % 101).collect();
        let (single, exact) = (chunked_as(&model, format, &tokens, 1), chunked(&model, &tokens, 100));
        for size in [16, 70, 100] {
            for (len, logits) in chunked_as(&model, format, &tokens, size) {
                assert!(logits == single[&len], "{format:?}: chunks of {size}, {len} tokens");
            }
        }
        let distance = distance(&single[&100], &exact[&100]);
        assert!(distance > 0.0 && distance < most, "{format:?}: off by {distance}");
    }
}

#[test]
fn a_row_does_not_depend_on_its_company_or_their_adapters() {
    let model = tiny_model("tiny-qwen2");
    let mut adapter = Adapter::new(&model.config, LoraSettings { rank: 4, alpha: 8.0, scaling: Scaling::Plain }, 1);
    for factors in adapter.layers.iter_mut().flatten() {
        factors.b.iter_mut().enumerate().for_each(|(i, value)| *value = (i % 7) as f32 * 0.02 - 0.05);
    }
    let prompts: [Vec<u32>; 4] = [vec![5, 6, 7], (0..70).collect(), vec![9], vec![5, 6, 7]];
    let adapters = [None, Some(&adapter), Some(&adapter), Some(&adapter)];
    let run = |which: &[usize]| {
        let mut caches: Vec<KvCache> = which.iter().map(|_| KvCache::new(&model.config, CacheFormat::F32)).collect();
        let mut spans: Vec<Span<'_>> = which
            .iter()
            .zip(&mut caches)
            .map(|(&i, cache)| Span { tokens: &prompts[i], cache, adapter: adapters[i], logits: true })
            .collect();
        model.network().forward(&mut spans, &mut Scratch::default())
    };
    let together = run(&[0, 1, 2, 3]);
    for (i, logits) in together.chunks_exact(model.config.vocab).enumerate() {
        assert!(logits == run(&[i]), "sequence {i}");
    }
    let rows: Vec<_> = together.chunks_exact(model.config.vocab).collect();
    assert_ne!(rows[0], rows[3], "the adapter changes something");
}
