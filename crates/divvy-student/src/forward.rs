//! The forward pass of inference: one ragged batch of new tokens of many sequences, each over its own cache. All
//! sequences share every matrix product; a row's result has the same bits whatever else is in the batch.

use divvy_kernels::{CachedQuery, Direction, Write, attend_cached, gated, rms_norm, rope};

use crate::adapter::{Adapter, Fused};
use crate::cache::KvCache;
use crate::config::{ModelConfig, Ropes};
use crate::heads::{HeadTape, norm_heads};
use crate::matrix::Matrix;
use crate::weights::{Layer, Weights};

/// New tokens of one sequence; they extend `cache`.
pub struct Span<'a> {
    pub tokens: &'a [u32],
    pub cache: &'a mut KvCache,
    pub adapter: Option<&'a Adapter>,
    /// Whether the logits after the last token are wanted.
    pub logits: bool,
}

/// Buffers kept between passes, so that none is allocated and faulted in again.
#[derive(Default)]
pub struct Scratch {
    x: Vec<f32>,
    normed: Vec<f32>,
    inv_rms: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    /// What a block gives, where that is normed before it joins the residual stream.
    given: Vec<f32>,
    heads: HeadTape,
    positions: Vec<u32>,
    /// What the last pass returned, once its reader gives it back.
    pub logits: Vec<f32>,
}

/// What a pass needs of a model.
pub struct Network<'a> {
    pub config: &'a ModelConfig,
    pub weights: &'a Weights,
    pub ropes: &'a Ropes,
}

impl Network<'_> {
    /// Runs the spans and returns the wanted logits, `[spans that want them, vocab]`, in their order.
    ///
    /// # Panics
    /// When a token is outside the vocabulary or a position outside the RoPE table.
    pub fn forward(&self, spans: &mut [Span<'_>], scratch: &mut Scratch) -> Vec<f32> {
        let rows: usize = spans.iter().map(|span| span.tokens.len()).sum();
        scratch.size(self.config, rows);
        self.embed(spans, scratch);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            self.attention(index, layer, spans, scratch);
            self.feed_forward(index, layer, spans, scratch);
        }
        for span in spans.iter_mut() {
            span.cache.len += span.tokens.len();
        }
        self.logits(spans, scratch)
    }

    fn embed(&self, spans: &[Span<'_>], scratch: &mut Scratch) {
        scratch.positions.clear();
        let tokens = spans.iter().flat_map(|span| span.tokens);
        for (token, row) in tokens.zip(scratch.x.chunks_exact_mut(self.config.hidden)) {
            self.weights.embed.row(*token as usize, row);
        }
        scale(&mut scratch.x, self.config.variant.embed_scale);
        for span in spans {
            let first = span.cache.len;
            scratch.positions.extend((first..first + span.tokens.len()).map(|position| position as u32));
        }
    }

    fn attention(&self, index: usize, layer: &Layer, spans: &mut [Span<'_>], scratch: &mut Scratch) {
        let Scratch { x, normed, inv_rms, qkv, attended, given, heads, positions, .. } = scratch;
        let (config, rows) = (self.config, positions.len());
        rms_norm(x, &layer.attn_norm, config.rms_eps, normed, inv_rms);
        let write = start_with_bias(qkv, layer.qkv_bias.as_deref());
        layer.qkv.matmul(normed, qkv, rows, write); // [rows, (q + 2kv)·d]
        adapt(index, Fused::Qkv, config, spans, normed, qkv);
        let (stride, query_width) = (config.qkv_width(), config.query_width());
        norm_heads(config, layer, qkv, heads);
        let table = self.ropes.of(config, index);
        rope(qkv, stride, config.query_heads, positions, table, Direction::Forward);
        rope(&mut qkv[query_width..], stride, config.kv_heads, positions, table, Direction::Forward);
        extend_caches(index, config, spans, qkv);
        self.attend(index, spans, qkv, attended);
        let last = (index, Fused::Out, &layer.out, layer.attn_post_norm.as_deref());
        self.join(last, spans, attended, Stream { x, given, normed, inv_rms });
    }

    /// Adds what a block's last matrix gives to the residual stream, through a norm where there is one.
    fn join(&self, (index, fused, matrix, norm): Last<'_>, spans: &[Span<'_>], from: &[f32], stream: Stream<'_>) {
        let Stream { x, given, normed, inv_rms } = stream;
        let (into, write) = if norm.is_some() { (&mut *given, Write::Set) } else { (&mut *x, Write::Add) };
        matrix.matmul(from, into, inv_rms.len(), write);
        adapt(index, fused, self.config, spans, from, into);
        if let Some(norm) = norm {
            rms_norm(given, norm, self.config.rms_eps, normed, inv_rms);
            x.iter_mut().zip(normed).for_each(|(x, value)| *x += *value);
        }
    }

    fn attend(&self, index: usize, spans: &[Span<'_>], qkv: &[f32], attended: &mut [f32]) {
        let config = self.config;
        let heads = config.attention_heads(index);
        let (mut qkv, mut attended) = (qkv, attended);
        let mut jobs = Vec::with_capacity(spans.len());
        for span in spans {
            let (q, rest) = qkv.split_at(span.tokens.len() * config.qkv_width());
            let (out, left) = attended.split_at_mut(span.tokens.len() * config.query_width());
            (qkv, attended) = (rest, left);
            let (pages, first_position) = (span.cache.pages(index), span.cache.len);
            jobs.push(CachedQuery { q, q_stride: config.qkv_width(), pages, first_position, out });
        }
        attend_cached(&mut jobs, &heads);
    }

    fn feed_forward(&self, index: usize, layer: &Layer, spans: &[Span<'_>], scratch: &mut Scratch) {
        let Scratch { x, normed, inv_rms, gate_up, inner, given, positions, .. } = scratch;
        let (config, rows) = (self.config, positions.len());
        rms_norm(x, &layer.ffn_norm, config.rms_eps, normed, inv_rms);
        layer.gate_up.matmul(normed, gate_up, rows, Write::Set); // [rows, 2f]
        adapt(index, Fused::GateUp, config, spans, normed, gate_up);
        gated(config.variant.activation.gate(), gate_up, inner, config.ffn);
        let last = (index, Fused::Down, &layer.down, layer.ffn_post_norm.as_deref());
        self.join(last, spans, inner, Stream { x, given, normed, inv_rms });
    }

    /// Only last rows that somebody asked for go through the head, by far the largest matrix.
    fn logits(&self, spans: &[Span<'_>], scratch: &mut Scratch) -> Vec<f32> {
        let hidden = self.config.hidden;
        let mut last = Vec::new();
        let mut row = 0;
        for span in spans {
            row += span.tokens.len();
            if span.logits {
                last.extend_from_slice(&scratch.x[(row - 1) * hidden..row * hidden]);
            }
        }
        let wanted = last.len() / hidden;
        let mut logits = std::mem::take(&mut scratch.logits);
        logits.resize(wanted * self.config.vocab, 0.0);
        if wanted > 0 {
            let (normed, inv_rms) = (&mut scratch.normed[..last.len()], &mut scratch.inv_rms[..wanted]);
            rms_norm(&last, &self.weights.final_norm, self.config.rms_eps, normed, inv_rms);
            self.weights.head.matmul(normed, &mut logits, wanted, Write::Set);
        }
        logits
    }
}

impl Scratch {
    fn size(&mut self, config: &ModelConfig, rows: usize) {
        self.x.resize(rows * config.hidden, 0.0);
        self.normed.resize(rows * config.hidden, 0.0);
        self.inv_rms.resize(rows, 0.0);
        self.qkv.resize(rows * config.qkv_width(), 0.0);
        self.attended.resize(rows * config.query_width(), 0.0);
        self.gate_up.resize(rows * 2 * config.ffn, 0.0);
        self.inner.resize(rows * config.ffn, 0.0);
        if config.variant.post_norms {
            self.given.resize(rows * config.hidden, 0.0);
        }
    }
}

/// A block's last matrix: layer, which, its numbers, and the norm behind it.
type Last<'a> = (usize, Fused, &'a Matrix, Option<&'a [f32]>);

/// The residual stream and what it takes to add to it.
struct Stream<'a> {
    x: &'a mut [f32],
    given: &'a mut [f32],
    normed: &'a mut [f32],
    inv_rms: &'a mut [f32],
}

/// Embeddings as the first layer takes them.
pub(crate) fn scale(values: &mut [f32], factor: f32) {
    if factor != 1.0 {
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

/// Fills `y` with the bias, if there is one, and says how the product is then written.
pub(crate) fn start_with_bias(y: &mut [f32], bias: Option<&[f32]>) -> Write {
    let Some(bias) = bias else { return Write::Set };
    y.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias));
    Write::Add
}

/// Writes the new keys and values of every span to its cache of layer `index`.
fn extend_caches(index: usize, config: &ModelConfig, spans: &mut [Span<'_>], qkv: &[f32]) {
    let (keys, width) = (config.query_width(), config.kv_width());
    let mut rows = qkv.chunks_exact(config.qkv_width());
    for span in spans {
        for (position, row) in (span.cache.len..).zip(rows.by_ref().take(span.tokens.len())) {
            span.cache.put(index, position, &row[keys..keys + width], &row[keys + width..]);
        }
    }
}

/// Adds each span's adapter to its rows; neighbours with the same adapter go together.
fn adapt(index: usize, fused: Fused, config: &ModelConfig, spans: &[Span<'_>], x: &[f32], y: &mut [f32]) {
    let [outputs, inputs] = fused.shape(config);
    let mut row = 0;
    let same = |a: &Span<'_>, b: &Span<'_>| a.adapter.map(std::ptr::from_ref) == b.adapter.map(std::ptr::from_ref);
    for group in spans.chunk_by(same) {
        let end = row + group.iter().map(|span| span.tokens.len()).sum::<usize>();
        if let Some(adapter) = group[0].adapter {
            adapter.apply(index, fused, &x[row * inputs..end * inputs], &mut y[row * outputs..end * outputs]);
        }
        row = end;
    }
}

#[cfg(test)]
mod tests;
