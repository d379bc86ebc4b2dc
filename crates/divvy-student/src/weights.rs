//! The numbers of a model, laid out for the kernels: bf16 panels, fused where one input feeds several maps. Filled
//! from any [`TensorSource`] row by row in parallel, so no f32 copy of the model ever exists. Read by inference and
//! by training (which keeps its own masters when it changes them).

use std::sync::Arc;

use divvy_kernels::Blocks;

use crate::adapter::Fused;
use crate::config::{ModelConfig, Projection};
use crate::error::LoadError;
use crate::matrix::{Matrix, Numerics, StoredRows};
use crate::quant::TensorView;

/// One decoder layer. `[rows, columns]` = `[outputs, inputs]`; `d` head dimension, `q`/`kv` heads, `f` ffn width.
#[derive(Clone)]
pub struct Layer {
    /// `[hidden]`, before attention.
    pub attn_norm: Vec<f32>,
    /// `[(q + 2kv)·d, hidden]`: rows of the query, then key, then value heads, each head in half-split RoPE order.
    pub qkv: Matrix,
    /// `[(q + 2kv)·d]`, where the family has one.
    pub qkv_bias: Option<Vec<f32>>,
    /// `[d]` each, where queries and keys are normed.
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    /// `[hidden, q·d]`
    pub out: Matrix,
    /// `[hidden]`, on what attention gives.
    pub attn_post_norm: Option<Vec<f32>>,
    /// `[hidden]`, before the feed-forward block.
    pub ffn_norm: Vec<f32>,
    /// `[2f, hidden]`: gate rows, then up rows.
    pub gate_up: Matrix,
    /// `[hidden, f]`
    pub down: Matrix,
    /// `[hidden]`, on what the feed-forward block gives.
    pub ffn_post_norm: Option<Vec<f32>>,
}

/// All weights of a model.
#[derive(Clone)]
pub struct Weights {
    /// `[vocab, hidden]`; a token's embedding is `embed.row(id, …)`.
    pub embed: Matrix,
    pub layers: Vec<Layer>,
    /// `[hidden]`
    pub final_norm: Vec<f32>,
    /// `[vocab, hidden]`; the same allocation as `embed` when the model is tied, but for 8 bits.
    pub head: Matrix,
}

/// Name of a tensor, free of any file format's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    Embed,
    FinalNorm,
    Head,
    AttnNorm(usize),
    FfnNorm(usize),
    QueryNorm(usize),
    KeyNorm(usize),
    AttnPostNorm(usize),
    FfnPostNorm(usize),
    Matrix(usize, Projection),
    /// Only query, key and value have one.
    Bias(usize, Projection),
}

impl Slot {
    /// Every tensor of a model of this shape.
    #[must_use]
    pub fn all(config: &ModelConfig) -> Vec<Self> {
        let mut slots = vec![Self::Embed, Self::FinalNorm];
        slots.extend((!config.tied).then_some(Self::Head));
        for layer in 0..config.layers {
            slots.extend([Self::AttnNorm(layer), Self::FfnNorm(layer)]);
            if config.variant.qk_norm {
                slots.extend([Self::QueryNorm(layer), Self::KeyNorm(layer)]);
            }
            if config.variant.post_norms {
                slots.extend([Self::AttnPostNorm(layer), Self::FfnPostNorm(layer)]);
            }
            slots.extend(Projection::ALL.map(|projection| Self::Matrix(layer, projection)));
            if config.qkv_bias {
                slots.extend(QKV.map(|projection| Self::Bias(layer, projection)));
            }
        }
        slots
    }

    /// `[rows, columns]` of a matrix, `[len]` of a vector.
    #[must_use]
    pub fn shape(self, config: &ModelConfig) -> Vec<usize> {
        match self {
            Self::Embed | Self::Head => vec![config.vocab, config.hidden],
            Self::QueryNorm(_) | Self::KeyNorm(_) => vec![config.head_dim],
            Self::FinalNorm | Self::AttnNorm(_) | Self::FfnNorm(_) | Self::AttnPostNorm(_) | Self::FfnPostNorm(_) => {
                vec![config.hidden]
            }
            Self::Matrix(_, projection) => config.projection_shape(projection).to_vec(),
            Self::Bias(_, projection) => vec![config.projection_shape(projection)[0]],
        }
    }

    /// Whether it is the weight of an RMS norm.
    #[must_use]
    pub fn is_norm(self) -> bool {
        !matches!(self, Self::Embed | Self::Head | Self::Matrix(..) | Self::Bias(..))
    }
}

const QKV: [Projection; 3] = [Projection::Query, Projection::Key, Projection::Value];

/// A checkpoint that can hand out its tensors by slot, rows in Hugging Face order (a source un-permutes if its
/// format permutes) and norms as they multiply (a source adds the one that its format leaves out).
pub trait TensorSource: Sync {
    /// # Errors
    /// When the tensor is absent or its type is unknown.
    fn tensor(&self, slot: Slot) -> Result<TensorView<'_>, LoadError>;
}

impl Weights {
    /// Reads every tensor the configuration asks for, the matrices in this form.
    ///
    /// # Errors
    /// A missing tensor or one of another shape than the configuration says, by name.
    pub fn load(config: &ModelConfig, source: &dyn TensorSource, numerics: Numerics) -> Result<Self, LoadError> {
        let table = |slot, numerics| matrix(source, &[(slot, config.vocab)], config.hidden, numerics);
        // Nothing is multiplied with an embedding, and the loss reads the head many times for each batch.
        let (of_embed, of_head) = match numerics {
            Numerics::Exact | Numerics::Stored => (Numerics::Exact, Numerics::Exact),
            Numerics::Int8 => (Numerics::Exact, Numerics::Int8),
            Numerics::Blocks => (Numerics::Blocks, Numerics::Blocks),
        };
        let embed = table(Slot::Embed, of_embed)?;
        let head = match config.tied {
            true if of_embed == of_head => embed.clone(),
            true => table(Slot::Embed, of_head)?,
            false => table(Slot::Head, of_head)?,
        };
        let layers =
            (0..config.layers).map(|index| Layer::load(config, source, index, numerics)).collect::<Result<_, _>>()?;
        let final_norm = vector(source, Slot::FinalNorm, config.hidden)?;
        Ok(Self { embed, layers, final_norm, head })
    }

    /// Whether it was loaded as [`Numerics::Stored`] and gains by it: of a checkpoint in f32, f16 or bf16 nothing is quantised.
    #[must_use]
    pub fn is_quantised(&self) -> bool {
        let quantised = |matrix: &Matrix| matches!(matrix, Matrix::Stored(rows) if rows.is_quantised());
        self.layers.iter().any(|layer| Fused::ALL.iter().any(|fused| quantised(layer.matrix(*fused))))
    }

    /// Row `row` of a tensor as the model computes with it (a vector is one row).
    ///
    /// # Panics
    /// On a row or tensor that the model lacks, and on matrices in 8 bits.
    pub fn read_row(&self, config: &ModelConfig, slot: Slot, row: usize, out: &mut [f32]) {
        match slot {
            Slot::Embed => self.embed.row(row, out),
            Slot::Head => self.head.row(row, out),
            Slot::FinalNorm => out.copy_from_slice(&self.final_norm),
            Slot::AttnNorm(layer) => out.copy_from_slice(&self.layers[layer].attn_norm),
            Slot::FfnNorm(layer) => out.copy_from_slice(&self.layers[layer].ffn_norm),
            Slot::QueryNorm(layer) => copy(&self.layers[layer].query_norm, out),
            Slot::KeyNorm(layer) => copy(&self.layers[layer].key_norm, out),
            Slot::AttnPostNorm(layer) => copy(&self.layers[layer].attn_post_norm, out),
            Slot::FfnPostNorm(layer) => copy(&self.layers[layer].ffn_post_norm, out),
            Slot::Matrix(layer, projection) => {
                let matrix = self.layers[layer].matrix(Fused::holding(projection));
                matrix.row(config.fused_offset(projection) + row, out);
            }
            Slot::Bias(layer, projection) => {
                let bias = self.layers[layer].qkv_bias.as_deref().expect("a model with biases has one a layer");
                out.copy_from_slice(&bias[config.fused_offset(projection)..][..out.len()]);
            }
        }
    }
}

impl Layer {
    pub(crate) fn matrix(&self, fused: Fused) -> &Matrix {
        match fused {
            Fused::Qkv => &self.qkv,
            Fused::Out => &self.out,
            Fused::GateUp => &self.gate_up,
            Fused::Down => &self.down,
        }
    }

    fn load(
        config: &ModelConfig,
        source: &dyn TensorSource,
        index: usize,
        numerics: Numerics,
    ) -> Result<Self, LoadError> {
        let fused = |parts: &[Projection]| {
            let slots: Vec<(Slot, usize)> =
                parts.iter().map(|&p| (Slot::Matrix(index, p), config.projection_shape(p)[0])).collect();
            matrix(source, &slots, config.projection_shape(parts[0])[1], numerics)
        };
        let qkv_bias = if config.qkv_bias {
            let mut bias = Vec::with_capacity(config.qkv_width());
            for part in QKV {
                bias.extend(vector(source, Slot::Bias(index, part), config.projection_shape(part)[0])?);
            }
            Some(bias)
        } else {
            None
        };
        let optional = |has: bool, slot: Slot| has.then(|| vector(source, slot, slot.shape(config)[0])).transpose();
        let (qk_norm, post_norms) = (config.variant.qk_norm, config.variant.post_norms);
        Ok(Self {
            query_norm: optional(qk_norm, Slot::QueryNorm(index))?,
            key_norm: optional(qk_norm, Slot::KeyNorm(index))?,
            attn_post_norm: optional(post_norms, Slot::AttnPostNorm(index))?,
            ffn_post_norm: optional(post_norms, Slot::FfnPostNorm(index))?,
            attn_norm: vector(source, Slot::AttnNorm(index), config.hidden)?,
            qkv: fused(&QKV)?,
            qkv_bias,
            out: fused(&[Projection::Output])?,
            ffn_norm: vector(source, Slot::FfnNorm(index), config.hidden)?,
            gate_up: fused(&[Projection::Gate, Projection::Up])?,
            down: fused(&[Projection::Down])?,
        })
    }
}

fn copy(norm: &Option<Vec<f32>>, out: &mut [f32]) {
    out.copy_from_slice(norm.as_deref().expect("a model of this variant has it in every layer"));
}

fn view(source: &dyn TensorSource, slot: Slot, rows: usize, columns: usize) -> Result<TensorView<'_>, LoadError> {
    let view = source.tensor(slot)?;
    view.expect_shape(&[rows, columns])?;
    Ok(view)
}

/// Stacks tensors of `columns` columns on top of each other and packs them.
fn matrix(
    source: &dyn TensorSource,
    parts: &[(Slot, usize)],
    columns: usize,
    numerics: Numerics,
) -> Result<Matrix, LoadError> {
    let mut views = Vec::with_capacity(parts.len());
    let mut rows = 0;
    for &(slot, part_rows) in parts {
        views.push((rows, view(source, slot, part_rows, columns)?));
        rows += part_rows;
    }
    if numerics == Numerics::Stored {
        let parts = views.iter().map(|(first, view)| (*first, view.stored())).collect();
        return Ok(Matrix::Stored(Arc::new(StoredRows::of(parts, columns))));
    }
    if numerics == Numerics::Blocks && views.iter().all(|(_, view)| view.block_format().is_some()) {
        return Ok(Matrix::Blocks(Arc::new(Blocks::of(views.iter().map(|(_, view)| view.block_part()).collect()))));
    }
    Ok(Matrix::from_rows(numerics, rows, columns, |row, out| {
        let (first, view) = views.iter().rev().find(|(first, _)| *first <= row).expect("the first part starts at 0");
        view.read_row(row - first, out);
    }))
}

fn vector(source: &dyn TensorSource, slot: Slot, len: usize) -> Result<Vec<f32>, LoadError> {
    let view = source.tensor(slot)?;
    view.expect_shape(&[len])?;
    let mut out = vec![0.0; len];
    view.read_row(0, &mut out);
    Ok(out)
}
