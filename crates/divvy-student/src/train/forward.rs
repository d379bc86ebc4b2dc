//! The forward pass of training: a whole micro-batch at once, keeping per layer what the backward pass needs and
//! cannot recompute cheaply. Norms and the gated product are recomputed; they cost less than the memory.
//! Shapes in comments: `t` tokens, `h` hidden, `d` head dimension, `q`/`kv` heads, `f` ffn width, `c` targets.

use divvy_kernels::{Direction, Input, Write, attention, rms_norm, rope};

use super::buffers::Buffers;
use super::linear::{LoraMap, linear};
use super::lora;
use super::rows::MicroBatch;
use super::settings::Activations;
use crate::adapter::{Fused, LoraSettings};
use crate::config::{ModelConfig, Ropes};
use crate::forward::{scale, start_with_bias};
use crate::heads::{HeadTape, norm_heads};
use crate::matrix::Matrix;
use crate::weights::{Layer, Weights};

/// What the model is made of at this step.
#[derive(Clone, Copy)]
pub(crate) struct Network<'a> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) weights: &'a Weights,
    pub(crate) lora: Option<(LoraSettings, &'a [Vec<f32>])>,
    pub(crate) ropes: &'a Ropes,
}

impl<'a> Network<'a> {
    pub(crate) fn map(&self, layer: usize, fused: Fused) -> Option<LoraMap<'a>> {
        self.lora.map(|(settings, values)| lora::map(values, &settings, layer, fused))
    }
}

/// What a layer leaves for its backward pass.
pub(crate) struct LayerTape {
    /// `[t, h]`: the residual stream that came in.
    pub(crate) input: Vec<f32>,
    /// Everything else; absent when the layer will run again.
    pub(crate) products: Option<Products>,
}

pub(crate) struct Products {
    /// `[t]`
    pub(crate) attn_inverse: Vec<f32>,
    /// `[t, (q + 2kv)·d]`, rotated.
    pub(crate) qkv: Vec<f32>,
    /// `[t, q·d]`
    pub(crate) attended: Vec<f32>,
    /// `[t, q]`
    pub(crate) lse: Vec<f32>,
    /// `[t, h]`: the residual stream between the two blocks.
    pub(crate) middle: Vec<f32>,
    /// `[t]`
    pub(crate) ffn_inverse: Vec<f32>,
    /// `[t, 2f]`
    pub(crate) gate_up: Vec<f32>,
    /// Where the model norms queries and keys.
    pub(crate) heads: HeadTape,
    /// Where it norms what the blocks give: attention's, then the feed-forward block's.
    pub(crate) given: [Given; 2],
    /// LoRA's `x·Aᵀ` of the four fused matrices, in [`Fused::ALL`] order.
    pub(crate) inner: [Vec<f32>; 4],
}

/// What a block gave and its norm left; empty where there is no norm.
#[derive(Default)]
pub(crate) struct Given {
    /// `[t, h]`
    pub(crate) raw: Vec<f32>,
    /// `[t]`
    pub(crate) inverse: Vec<f32>,
}

impl Products {
    pub(crate) fn give_back(self, buffers: &mut Buffers) {
        let Self { attn_inverse, qkv, attended, lse, middle, ffn_inverse, gate_up, heads, given, inner } = self;
        buffers.give_all([attn_inverse, qkv, attended, lse, middle, ffn_inverse, gate_up]);
        buffers.give_all(heads.raw.into_iter().chain(heads.inverse));
        buffers.give_all(given.into_iter().flat_map(|given| [given.raw, given.inverse]));
        buffers.give_all(inner);
    }
}

/// What a forward pass leaves.
pub(crate) struct Tape {
    pub(crate) layers: Vec<LayerTape>,
    /// `[c, h]`: the last residual stream at target positions, before the final norm.
    pub(crate) last: Vec<f32>,
    /// `[c]`
    pub(crate) final_inverse: Vec<f32>,
    /// `[c, h]`, after the final norm: what the head reads.
    pub(crate) hidden: Vec<f32>,
}

/// Whether the pass will be followed by a backward pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    ForBackward(Activations),
    Nothing,
}

pub(crate) fn forward(network: &Network<'_>, micro: &MicroBatch, keep: Keep, buffers: &mut Buffers) -> Tape {
    let hidden = network.config.hidden;
    let mut stream = buffers.take(micro.tokens.len() * hidden); // [t, h]
    embed(network.weights, &micro.tokens, &mut stream);
    scale(&mut stream, network.config.variant.embed_scale);
    let mut layers = Vec::with_capacity(network.config.layers);
    for (index, layer) in network.weights.layers.iter().enumerate() {
        let (products, output) = layer_forward(network, index, layer, micro, &stream, buffers);
        let input = std::mem::replace(&mut stream, output);
        match keep {
            Keep::ForBackward(Activations::Keep) => layers.push(LayerTape { input, products: Some(products) }),
            Keep::ForBackward(Activations::Recompute) => {
                products.give_back(buffers);
                layers.push(LayerTape { input, products: None });
            }
            Keep::Nothing => {
                products.give_back(buffers);
                buffers.give(input);
            }
        }
    }
    let last = gather(&stream, &micro.target_at, hidden, buffers); // [c, h]
    buffers.give(stream);
    let mut final_inverse = buffers.take(micro.target_at.len());
    let mut normed = buffers.take(last.len());
    rms_norm(&last, &network.weights.final_norm, network.config.rms_eps, &mut normed, &mut final_inverse);
    Tape { layers, last, final_inverse, hidden: normed }
}

fn embed(weights: &Weights, tokens: &[u32], stream: &mut [f32]) {
    let hidden = weights.embed.exact().k();
    for (row, &token) in stream.chunks_exact_mut(hidden).zip(tokens) {
        weights.embed.row(token as usize, row);
    }
}

fn gather(stream: &[f32], at: &[usize], width: usize, buffers: &mut Buffers) -> Vec<f32> {
    let mut rows = buffers.take(at.len() * width);
    for (row, &from) in rows.chunks_exact_mut(width).zip(at) {
        row.copy_from_slice(&stream[from * width..][..width]);
    }
    rows
}

/// One decoder layer on `x` `[t, h]`: what the backward pass needs, and the residual stream that goes out.
pub(crate) fn layer_forward(
    network: &Network<'_>,
    index: usize,
    layer: &Layer,
    micro: &MicroBatch,
    x: &[f32],
    buffers: &mut Buffers,
) -> (Products, Vec<f32>) {
    let (config, t) = (network.config, micro.tokens.len());
    let mut attn_inverse = buffers.take(t);
    let normed = Input::normed(x, &layer.attn_norm, config.rms_eps, &mut attn_inverse);

    let mut qkv = buffers.take(t * config.qkv_width());
    let write = start_with_bias(&mut qkv, layer.qkv_bias.as_deref());
    let qkv_inner = linear(&normed, &layer.qkv, network.map(index, Fused::Qkv), &mut qkv, t, write, buffers);
    let rotated = config.query_heads + config.kv_heads;
    let mut heads = HeadTape::default();
    norm_heads(config, layer, &mut qkv, &mut heads);
    let table = network.ropes.of(config, index);
    rope(&mut qkv, config.qkv_width(), rotated, &micro.positions, table, Direction::Forward);
    let mut attended = buffers.take(t * config.query_width());
    let mut lse = buffers.take(t * config.query_heads);
    attention(&qkv, &config.attention_heads(index), &micro.starts, &mut attended, &mut lse);
    let mut middle = buffers.copy_of(x);
    let out = (&layer.out, network.map(index, Fused::Out));
    let attended_rows = Input::new(&attended, t, config.query_width());
    let (out_inner, attn_given) =
        join(config, &attended_rows, out, layer.attn_post_norm.as_deref(), &mut middle, buffers);

    let mut ffn_inverse = buffers.take(t);
    let normed = Input::normed(&middle, &layer.ffn_norm, config.rms_eps, &mut ffn_inverse);
    let mut gate_up = buffers.take(t * 2 * config.ffn);
    let map = network.map(index, Fused::GateUp);
    let gate_up_inner = linear(&normed, &layer.gate_up, map, &mut gate_up, t, Write::Set, buffers);
    let activated = Input::gated(config.variant.activation.gate(), &gate_up, config.ffn);
    let mut output = buffers.copy_of(&middle);
    let down = (&layer.down, network.map(index, Fused::Down));
    let (down_inner, ffn_given) = join(config, &activated, down, layer.ffn_post_norm.as_deref(), &mut output, buffers);

    let inner = [qkv_inner, out_inner, gate_up_inner, down_inner];
    let given = [attn_given, ffn_given];
    (Products { attn_inverse, qkv, attended, lse, middle, ffn_inverse, gate_up, heads, given, inner }, output)
}

/// Adds what a block gives to the residual stream, through a norm where there is one. Returns LoRA's `x·Aᵀ` too.
fn join(
    config: &ModelConfig,
    x: &Input<'_>,
    (w, map): (&Matrix, Option<LoraMap<'_>>),
    norm: Option<&[f32]>,
    stream: &mut [f32],
    buffers: &mut Buffers,
) -> (Vec<f32>, Given) {
    let t = stream.len() / config.hidden;
    let Some(norm) = norm else {
        return (linear(x, w, map, stream, t, Write::Add, buffers), Given::default());
    };
    let (mut raw, mut inverse) = (buffers.take(stream.len()), buffers.take(t));
    let inner = linear(x, w, map, &mut raw, t, Write::Set, buffers);
    let mut normed = buffers.take(stream.len());
    rms_norm(&raw, norm, config.rms_eps, &mut normed, &mut inverse);
    stream.iter_mut().zip(&normed).for_each(|(x, value)| *x += value);
    buffers.give(normed);
    (inner, Given { raw, inverse })
}
