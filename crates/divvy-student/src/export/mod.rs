//! A model for other programs: a Hugging Face directory, a GGUF file, a GGUF LoRA adapter (a PEFT directory is what
//! `adapter` writes anyway). The base goes out as it was trained on, bf16 whatever it was stored in, and an adapter on
//! it is merged in f32 before the result is rounded. Vectors stay f32: they cost nothing.
//!
//! Whoever wants half a folder never to be seen writes into a folder beside and renames it.

mod gguf;
mod safetensors;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use thiserror::Error;

use crate::adapter::Adapter;
use crate::config::ModelConfig;
use crate::model::Model;
use crate::quant::TensorType;
use crate::weights::{Slot, Weights};

pub use gguf::gguf_adapter;

/// How matrices are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// What the base holds exactly; a merged adapter is rounded.
    #[default]
    Bf16,
    F32,
}

impl Precision {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }

    fn of_matrices(self) -> TensorType {
        match self {
            Self::Bf16 => TensorType::BF16,
            Self::F32 => TensorType::F32,
        }
    }
}

/// What is exported.
#[derive(Clone, Copy)]
pub struct Export<'a> {
    /// Loaded with exact weights.
    pub model: &'a Model,
    /// Merged into the matrices.
    pub adapter: Option<&'a Adapter>,
    pub precision: Precision,
    pub about: &'a About,
}

/// What files say about themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    pub name: String,
    /// As the base is licensed, where that is known.
    pub licence: Option<String>,
    /// Digests and names of what it was made from: into the metadata of safetensors files and, each key after `divvy.`,
    /// of GGUF files. Whatever was made from `base` and nothing else is a copy of it.
    pub origin: BTreeMap<String, String>,
}

/// The base that a file with this origin is a copy of.
pub(crate) fn copy_of<'a>(mut origin: impl Iterator<Item = (&'a String, &'a String)>) -> Option<String> {
    let (key, base) = origin.next()?;
    (key == "base" && origin.next().is_none()).then(|| base.clone())
}

/// A model that could not be written.
#[derive(Debug, Error)]
pub enum ExportError {
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
    #[error("{file}: cannot be written as GGUF: {reason}; export it as safetensors")]
    NoForm { file: String, reason: String },
}

impl ExportError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let file = path.display().to_string();
        move |source| Self::Io { file, source }
    }
}

impl<'a> Export<'a> {
    fn tensors(&self) -> Tensors<'a> {
        let Self { model, adapter, precision, .. } = *self;
        Tensors { config: &model.config, weights: &model.weights, adapter, precision }
    }
}

/// The numbers of what is written.
#[derive(Clone, Copy)]
pub(crate) struct Tensors<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) weights: &'a Weights,
    pub(crate) adapter: Option<&'a Adapter>,
    pub(crate) precision: Precision,
}

impl Tensors<'_> {
    /// Row `row` of a tensor, the adapter merged in.
    fn row(&self, slot: Slot, row: usize, out: &mut [f32]) {
        self.weights.read_row(self.config, slot, row, out);
        if let (Some(adapter), Slot::Matrix(layer, projection)) = (self.adapter, slot) {
            adapter.merge_row(layer, projection, row, out);
        }
    }

    /// How a tensor is stored.
    fn dtype(&self, slot: Slot) -> TensorType {
        let matrix = slot.shape(self.config).len() == 2;
        if matrix { self.precision.of_matrices() } else { TensorType::F32 }
    }

    /// Writes a tensor row by row: `source(row)` is where a row comes from, `plus` is added to every value.
    fn write(&self, slot: Slot, plus: f32, source: impl Fn(usize) -> usize, out: &mut dyn Write) -> io::Result<()> {
        let (shape, dtype) = (slot.shape(self.config), self.dtype(slot));
        let width = shape[shape.len() - 1];
        let (mut values, mut bytes) = (vec![0.0; width], Vec::new());
        for row in 0..shape.iter().product::<usize>() / width {
            self.row(slot, source(row), &mut values);
            values.iter_mut().for_each(|value| *value += plus);
            encode(dtype, &values, &mut bytes);
            out.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// The stored bytes of values, in one of the types that are written.
fn encode(dtype: TensorType, values: &[f32], bytes: &mut Vec<u8>) {
    bytes.clear();
    match dtype {
        TensorType::BF16 => {
            bytes.extend(values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()));
        }
        _ => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
    }
}
