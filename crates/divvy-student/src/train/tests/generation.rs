//! Training and inference agree: what was learnt by heart comes out of the inference pass, token by token, with the
//! adapter as it lies on disk or with the weights as they were saved.

use std::ops::ControlFlow;
use std::process::Command;

use divvy_kernels::argmax;

use super::fixture::{Fixture, LORA, NAMES, settings};
use crate::adapter::{Adapter, AdapterLabel, Scaling};
use crate::cache::{CacheFormat, KvCache};
use crate::config::Ropes;
use crate::forward::{Network, Scratch, Span};
use crate::matrix::Numerics;
use crate::safetensors::{SafetensorsDir, read_config};
use crate::testing;
use crate::train::{Method, TrainConfig, TrainRow, TrainedWeights, train};
use crate::weights::Weights;

fn learnt(fixture: &Fixture, method: Method) -> TrainedWeights {
    let config = TrainConfig { epochs: 150, learning_rate: 2e-2, max_grad_norm: 10.0, ..settings(method) };
    let rows = &fixture.report.rows;
    let trained = train(fixture.base(), rows, &[], &config, None, &mut |_| ControlFlow::Continue(())).unwrap();
    let last = trained.log.last().unwrap();
    assert_eq!(last.correct, last.target_tokens, "{last:?}");
    trained.weights
}

/// The greedy reply of `row.completion.len()` tokens.
fn greedy(fixture: &Fixture, weights: &Weights, adapter: Option<&Adapter>, row: &TrainRow) -> Vec<u32> {
    let config = &fixture.config;
    let ropes = Ropes::new(config, config.context_length);
    let network = Network { config, weights, ropes: &ropes };
    let (mut cache, mut scratch) = (KvCache::new(config, CacheFormat::F32), Scratch::default());
    let (mut tokens, mut reply) = (row.prompt.clone(), Vec::new());
    for _ in 0..row.completion.len() {
        let span = Span { tokens: &tokens, cache: &mut cache, adapter, logits: true };
        let next = argmax(&network.forward(&mut [span], &mut scratch)) as u32;
        tokens = vec![next];
        reply.push(next);
    }
    reply
}

#[test]
fn an_adapter_learnt_by_heart_recites() {
    for name in NAMES {
        let fixture = Fixture::load(name);
        let TrainedWeights::Adapter(adapter) = learnt(&fixture, Method::Lora(LORA)) else {
            panic!("LoRA was asked for")
        };
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path(), &AdapterLabel { base: "tiny".into(), ..AdapterLabel::default() }).unwrap();
        let (loaded, _) = Adapter::load(folder.path(), &fixture.config, &["tiny"]).unwrap();
        for row in &fixture.report.rows {
            assert_eq!(greedy(&fixture, &fixture.weights, Some(&loaded), row), row.completion);
        }
    }
}

#[test]
fn full_weights_learnt_by_heart_recite_after_saving() {
    for name in NAMES {
        let fixture = Fixture::load(name);
        let TrainedWeights::Full(full) = learnt(&fixture, Method::Full) else { panic!("all weights were asked for") };
        let folder = tempfile::tempdir().unwrap();
        full.save(folder.path(), &AdapterLabel::default()).unwrap();
        assert_eq!(read_config(folder.path()).unwrap(), fixture.config);
        let loaded = Weights::load(
            &fixture.config,
            &SafetensorsDir::open(folder.path(), &fixture.config).unwrap(),
            Numerics::Exact,
        )
        .unwrap();
        for row in &fixture.report.rows {
            assert_eq!(greedy(&fixture, &full.weights(), None, row), row.completion);
            assert_eq!(greedy(&fixture, &loaded, None, row), row.completion);
        }
    }
}

/// Needs a Python with torch, transformers and peft, named by `DIVVY_TEST_PYTHON`.
#[test]
fn peft_reads_our_adapter() {
    let Ok(python) = std::env::var("DIVVY_TEST_PYTHON") else {
        println!("SKIPPED: DIVVY_TEST_PYTHON is not set");
        return;
    };
    for (name, scaling) in NAMES.into_iter().zip([Scaling::Plain, Scaling::RankStabilised].into_iter().cycle()) {
        let fixture = Fixture::load(name);
        let adapter = fixture.adapter(scaling);
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path(), &AdapterLabel::default()).unwrap();
        let script = testing::fixture("check_peft.py");
        let output = Command::new(&python).arg(script).arg(testing::fixture(name)).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let says: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let want = if scaling == Scaling::Plain { fixture.report.lora_loss } else { fixture.report.rslora_loss };
        assert!((says["loss"].as_f64().unwrap() - want).abs() < 1e-4 * want, "{says}, the reference is {want}");
    }
}
