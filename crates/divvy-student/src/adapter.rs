//! LoRA: what fine-tuning adds to a frozen base (Hu et al. 2021, arXiv:2106.09685; rank-stabilised scaling: Kalajdzievski
//! 2023, arXiv:2312.03732). Every one of the seven projections W of every layer gets two factors, `y += s·B·(A·x)`.
//! Trained by `train`, applied row by row by inference (so that several adapters can share one batch), kept on disk
//! as a PEFT directory (`adapter/peft.rs`) that any PEFT, vLLM or llama.cpp converter reads.

mod apply;
pub(crate) mod files;
mod label;
mod peft;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{ModelConfig, Projection};
use crate::train::random::Random;

pub use label::AdapterLabel;
pub use peft::AdapterManifest;

/// How much of `B·A·x` is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// `alpha / rank`, the LoRA paper.
    Plain,
    /// `alpha / √rank`, rsLoRA: keeps the update's size when the rank grows.
    RankStabilised,
}

/// Rank and scale of an adapter, the same for all projections.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraSettings {
    pub rank: usize,
    pub alpha: f32,
    pub scaling: Scaling,
}

impl LoraSettings {
    /// The factor s on `B·A·x`.
    #[must_use]
    pub fn scale(&self) -> f32 {
        match self.scaling {
            Scaling::Plain => self.alpha / self.rank as f32,
            Scaling::RankStabilised => self.alpha / (self.rank as f32).sqrt(),
        }
    }
}

/// The matrices of a layer as they lie in memory; projections that share an input are fused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fused {
    Qkv,
    Out,
    GateUp,
    Down,
}

impl Fused {
    pub const ALL: [Self; 4] = [Self::Qkv, Self::Out, Self::GateUp, Self::Down];

    /// The projections inside, top rows first.
    #[must_use]
    pub fn parts(self) -> &'static [Projection] {
        match self {
            Self::Qkv => &[Projection::Query, Projection::Key, Projection::Value],
            Self::Out => &[Projection::Output],
            Self::GateUp => &[Projection::Gate, Projection::Up],
            Self::Down => &[Projection::Down],
        }
    }

    /// The matrix that a projection lies in.
    #[must_use]
    pub fn holding(projection: Projection) -> Self {
        match projection {
            Projection::Query | Projection::Key | Projection::Value => Self::Qkv,
            Projection::Output => Self::Out,
            Projection::Gate | Projection::Up => Self::GateUp,
            Projection::Down => Self::Down,
        }
    }

    /// `[outputs, inputs]` of the whole.
    #[must_use]
    pub fn shape(self, config: &ModelConfig) -> [usize; 2] {
        let outputs = self.parts().iter().map(|&part| config.projection_shape(part)[0]).sum();
        [outputs, config.projection_shape(self.parts()[0])[1]]
    }
}

/// The two factors of one projection; empty where the adapter leaves it as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// `[rank, inputs]`
    pub a: Vec<f32>,
    /// `[outputs, rank]`
    pub b: Vec<f32>,
    pub inputs: usize,
    pub outputs: usize,
}

impl Factors {
    /// The adapter's, or zero where the projection is left as it is.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.a.len() / self.inputs
    }
}

/// A trained adapter: settings and, per layer, the factors of the seven projections in [`Projection::ALL`] order.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    pub settings: LoraSettings,
    pub layers: Vec<[Factors; 7]>,
    layout: apply::Layout,
}

impl Adapter {
    /// A fresh adapter that changes nothing yet: A uniform in ±1/√inputs (what PEFT's Kaiming initialisation with
    /// a = √5 comes to), B zero.
    #[must_use]
    pub fn new(config: &ModelConfig, settings: LoraSettings, seed: u64) -> Self {
        let layers = (0..config.layers).map(|layer| {
            Projection::ALL.map(|projection| {
                let [outputs, inputs] = config.projection_shape(projection);
                let mut random = Random::new(seed, (layer as u64) << 8 | projection as u64);
                let bound = 1.0 / (inputs as f32).sqrt();
                let a = (0..settings.rank * inputs).map(|_| random.symmetric(bound)).collect();
                Factors { a, b: vec![0.0; outputs * settings.rank], inputs, outputs }
            })
        });
        Self::of(settings, layers.collect())
    }

    /// An adapter with these factors.
    #[must_use]
    pub fn of(settings: LoraSettings, layers: Vec<[Factors; 7]>) -> Self {
        Self { settings, layers, layout: apply::Layout::default() }
    }

    #[must_use]
    pub fn factors(&self, layer: usize, projection: Projection) -> &Factors {
        &self.layers[layer][projection as usize]
    }

    /// BLAKE3 of settings and factors, as 64 hex digits: what this adapter is, wherever it lies.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(b"divvy-adapter/1");
        let settings =
            [self.settings.rank as u64, u64::from(self.settings.alpha.to_bits()), self.settings.scaling as u64];
        for number in settings.into_iter().chain([self.layers.len() as u64]) {
            hash.update(&number.to_le_bytes());
        }
        for factors in self.layers.iter().flatten() {
            for values in [&factors.a, &factors.b] {
                hash.update(&(values.len() as u64).to_le_bytes());
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                hash.update(&bytes);
            }
        }
        hash.finalize().to_hex().to_string()
    }

    /// Number of trained values.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.layers.iter().flatten().map(|factors| factors.a.len() + factors.b.len()).sum()
    }

    /// Whether this adapter was made for a model of this shape.
    ///
    /// # Errors
    /// [`AdapterError::WrongShape`] naming the first projection that differs.
    pub fn check(&self, config: &ModelConfig) -> Result<(), AdapterError> {
        if self.layers.len() != config.layers {
            let (got, want) = (self.layers.len().to_string(), config.layers.to_string());
            return Err(AdapterError::WrongShape { what: "number of layers".into(), got, want });
        }
        for (layer, factors) in self.layers.iter().enumerate() {
            for (projection, factors) in Projection::ALL.iter().zip(factors) {
                let (got, want) = ([factors.outputs, factors.inputs], config.projection_shape(*projection));
                if got != want {
                    let what = format!("layers.{layer}.{}", projection.module());
                    return Err(AdapterError::WrongShape { what, got: format!("{got:?}"), want: format!("{want:?}") });
                }
            }
        }
        Ok(())
    }
}

/// An adapter that could not be written, read or used.
#[derive(Debug, Error)]
pub enum AdapterError {
    #[error("{file}: {source}")]
    Io { file: String, source: std::io::Error },
    #[error("{file}: the file is damaged: {reason}; copy or train the adapter again")]
    Corrupt { file: String, reason: String },
    #[error("{file}: {key} is missing; an adapter needs both factors of every projection in its target_modules")]
    MissingKey { file: String, key: String },
    #[error("{file}: {key} has shape {got:?}, rank and base model ask for {want:?}; is this the adapter's base model?")]
    Shape { file: String, key: String, got: Vec<usize>, want: Vec<usize> },
    #[error("{file}: {key} is {value}, which is not supported; supported: {want}")]
    Unsupported { file: String, key: String, value: String, want: String },
    #[error(
        "the adapter does not fit this model: {what} is {got}, the model has {want}; load it on the base it was trained on"
    )]
    WrongShape { what: String, got: String, want: String },
    #[error(
        "{file}: the adapter was trained on the base {trained_on}, this model is {loaded}; load that base, or train again"
    )]
    WrongBase { file: String, trained_on: String, loaded: String },
    #[error(
        "{file}: the adapter was trained with another {what} than this model has, and would be asked in words that it does not \
         know; load the base with its own {what}, or train again"
    )]
    OtherWords { file: String, what: &'static str },
}

#[cfg(test)]
mod tests;
