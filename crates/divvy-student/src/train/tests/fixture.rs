//! The tiny checkpoints and their reference numbers.

use serde::Deserialize;

use crate::adapter::files::{TensorFile, read_tensors};
use crate::adapter::{Adapter, Factors, LoraSettings, Scaling};
use crate::config::{ModelConfig, Projection};
use crate::matrix::Numerics;
use crate::safetensors::{SafetensorsDir, read_config};
use crate::testing;
use crate::train::{Base, Method, TrainConfig, TrainRow};
use crate::weights::Weights;

pub(crate) use crate::testing::NAMES;
pub(crate) const LORA: LoraSettings = LoraSettings { rank: 4, alpha: 8.0, scaling: Scaling::Plain };

#[derive(Deserialize)]
pub(crate) struct Curve {
    pub(crate) losses: Vec<f64>,
    pub(crate) grad_norms: Vec<f64>,
}

#[derive(Deserialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<TrainRow>,
    pub(crate) full_loss: f64,
    pub(crate) lora_loss: f64,
    pub(crate) rslora_loss: f64,
    pub(crate) lora_curve: Curve,
    pub(crate) full_curve_rounded: Curve,
}

pub(crate) struct Fixture {
    pub(crate) config: ModelConfig,
    pub(crate) weights: Weights,
    pub(crate) reference: TensorFile,
    pub(crate) report: Report,
}

impl Fixture {
    pub(crate) fn load(name: &str) -> Self {
        Self::load_as(name, Numerics::Exact)
    }

    pub(crate) fn load_as(name: &str, numerics: Numerics) -> Self {
        let folder = testing::fixture(name);
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let config = read_config(&folder).unwrap();
        let weights = Weights::load(&config, &SafetensorsDir::open(&folder, &config).unwrap(), numerics).unwrap();
        let reference = read_tensors(&read("reference.safetensors")).unwrap();
        Self { config, weights, reference, report: serde_json::from_slice(&read("reference.json")).unwrap() }
    }

    pub(crate) fn base(&self) -> Base<'_> {
        Base { config: &self.config, weights: &self.weights, hash: "tiny" }
    }

    /// The adapter that peft started from; its B is not zero.
    pub(crate) fn adapter(&self, scaling: Scaling) -> Adapter {
        let settings = LoraSettings { scaling, ..LORA };
        let factor = |layer, p: Projection, which| {
            let key = format!("lora.init.base_model.model.model.layers.{layer}.{}.lora_{which}.weight", p.module());
            self.reference.tensors[&key].values.clone()
        };
        let layers = (0..self.config.layers).map(|layer| {
            Projection::ALL.map(|p| {
                let [outputs, inputs] = self.config.projection_shape(p);
                Factors { a: factor(layer, p, 'A'), b: factor(layer, p, 'B'), inputs, outputs }
            })
        });
        Adapter::of(settings, layers.collect())
    }
}

/// The settings of `make_fixtures.py`.
pub(crate) fn settings(method: Method) -> TrainConfig {
    TrainConfig {
        method,
        epochs: 10,
        batch_rows: 4,
        micro_tokens: 64,
        max_row_tokens: 32,
        learning_rate: 1e-2,
        warmup_ratio: 0.2,
        min_lr_ratio: 0.1,
        weight_decay: 0.01,
        beta2: 0.95,
        ..TrainConfig::usual(method)
    }
}
