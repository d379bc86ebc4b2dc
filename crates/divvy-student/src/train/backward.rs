//! The backward pass, layer by layer in reverse, by hand. `dx` is the gradient of the loss with respect to the residual
//! stream; each block adds its share to it on the way down. Gradients of parameters are added to, so micro-batches
//! accumulate.

use divvy_kernels::{
    CrossEntropy, Direction, Input, Packed, Write, attention_backward, chunked_cross_entropy, gated_backward,
    linear_cross_entropy, matmul, mm_tn, rms_norm_backward, rope,
};

use super::buffers::Buffers;
use super::forward::{Given, LayerTape, Network, Products, Tape, layer_forward};
use super::full::{FullIndex, Slot};
use super::linear::{Sink, linear_backward};
use super::lora;
use super::rows::MicroBatch;
use crate::adapter::Fused;
use crate::heads::norm_heads_backward;
use crate::matrix::Matrix;
use crate::weights::{Layer, Weights};

/// The transposes of the big matrices, packed for `dx = dy·W`.
pub(crate) struct Turned {
    /// In [`Fused::ALL`] order; `None` where a base is kept as it is stored, and turned when its turn comes.
    pub(crate) layers: Vec<Option<[Packed; 4]>>,
    pub(crate) head: Packed,
}

impl Turned {
    pub(crate) fn of(weights: &Weights) -> Self {
        let turn = |layer: &Layer| {
            let all = Fused::ALL.map(|fused| layer.matrix(fused));
            let is_stored = all.iter().any(|matrix| matches!(matrix, Matrix::Stored(_)));
            (!is_stored).then(|| all.map(|matrix| matrix.exact().transposed()))
        };
        Self { layers: weights.layers.iter().map(turn).collect(), head: weights.head.exact().transposed() }
    }

    /// Of weights of the same shapes, in the memory that these have.
    pub(crate) fn turn_again(&mut self, weights: &Weights) {
        for (turned, layer) in self.layers.iter_mut().zip(&weights.layers) {
            let each = turned.iter_mut().flatten().zip(Fused::ALL);
            each.for_each(|(turned, fused)| turned.transpose_of(layer.matrix(fused).exact()));
        }
        self.head.transpose_of(weights.head.exact());
    }
}

/// Everything the backward pass reads but the tape, and the gradients it adds to.
pub(crate) struct Backward<'a> {
    pub(crate) network: Network<'a>,
    pub(crate) turned: &'a Turned,
    pub(crate) micro: &'a MicroBatch,
    pub(crate) gradients: &'a mut [Vec<f32>],
    /// Where a weight's gradient lies when every weight is trained; `None` for LoRA.
    pub(crate) full: Option<FullIndex>,
}

impl Backward<'_> {
    /// Loss of the micro-batch and, added up, all gradients. Uses up the tape.
    pub(crate) fn run(&mut self, tape: Tape, buffers: &mut Buffers) -> CrossEntropy {
        let Tape { layers, last, final_inverse, hidden } = tape;
        let mut dhidden = buffers.take(hidden.len()); // [c, h]
        let loss = self.head(&hidden, &mut dhidden);
        let mut dlast = buffers.take(last.len());
        dlast.fill(0.0);
        let weights = self.network.weights;
        let dweight = gradient_of(self.gradients, self.full, Slot::FinalNorm);
        rms_norm_backward(&last, &weights.final_norm, &final_inverse, &dhidden, &mut dlast, dweight);
        let mut dx = self.scatter(&dlast, buffers); // [t, h]
        buffers.give_all([hidden, dhidden, dlast, last, final_inverse]);
        for (index, tape) in layers.into_iter().enumerate().rev() {
            self.layer(index, tape, &mut dx, buffers);
        }
        self.embedding(&dx);
        buffers.give(dx);
        loss
    }

    fn head(&mut self, hidden: &[f32], dhidden: &mut [f32]) -> CrossEntropy {
        let (head, turned) = (self.network.weights.head.exact(), &self.turned.head);
        let (targets, weights) = (&self.micro.targets, &self.micro.weights);
        let Some(dhead) = gradient_of(self.gradients, self.full, Slot::Head) else {
            return linear_cross_entropy(hidden, head, targets, weights, Some((turned, dhidden)));
        };
        let (width, vocabulary) = (head.k(), head.n());
        let mut back = |rows: std::ops::Range<usize>, dlogits: &[f32]| {
            let (range, m) = (rows.start * width..rows.end * width, rows.len());
            matmul(dlogits, turned, &mut dhidden[range.clone()], m, Write::Set);
            mm_tn(dlogits, &hidden[range], dhead, m, vocabulary, width, 1.0, Write::Add);
        };
        let logits = |rows: std::ops::Range<usize>, out: &mut [f32]| {
            matmul(&hidden[rows.start * width..rows.end * width], head, out, rows.len(), Write::Set);
        };
        chunked_cross_entropy(vocabulary, targets, weights, logits, Some(&mut back))
    }

    /// `[c, h]` at target positions to `[t, h]`, zero elsewhere.
    fn scatter(&self, dlast: &[f32], buffers: &mut Buffers) -> Vec<f32> {
        let width = self.network.config.hidden;
        let mut dx = buffers.take(self.micro.tokens.len() * width);
        dx.fill(0.0);
        for (row, &at) in dlast.chunks_exact(width).zip(&self.micro.target_at) {
            dx[at * width..][..width].copy_from_slice(row);
        }
        dx
    }

    fn layer(&mut self, index: usize, tape: LayerTape, dx: &mut [f32], buffers: &mut Buffers) {
        let LayerTape { input, products } = tape;
        let products = products.unwrap_or_else(|| {
            let layer = &self.network.weights.layers[index];
            let (products, output) = layer_forward(&self.network, index, layer, self.micro, &input, buffers);
            buffers.give(output);
            products
        });
        self.feed_forward(index, &products, dx, buffers);
        self.attention(index, &input, &products, dx, buffers);
        products.give_back(buffers);
        buffers.give(input);
    }

    fn feed_forward(&mut self, index: usize, products: &Products, dx: &mut [f32], buffers: &mut Buffers) {
        let (config, t) = (self.network.config, self.micro.tokens.len());
        let layer = &self.network.weights.layers[index];
        let gate = config.variant.activation.gate();
        let activated = Input::gated(gate, &products.gate_up, config.ffn);
        let mut dactivated = buffers.take(t * config.ffn);
        let norm = (layer.ffn_post_norm.as_deref(), Slot::FfnPostNorm(index));
        let dgiven = self.given(norm, &products.given[1], dx, buffers);
        let dy = dgiven.as_deref().unwrap_or(dx);
        self.linear(index, Fused::Down, products, &activated, dy, Some(&mut dactivated), buffers);
        let mut dgate_up = buffers.take(t * 2 * config.ffn);
        gated_backward(gate, &products.gate_up, &dactivated, &mut dgate_up, config.ffn);
        drop(activated);
        buffers.give_all([dactivated].into_iter().chain(dgiven));

        let mut inverse = buffers.take(t);
        let normed = Input::normed(&products.middle, &layer.ffn_norm, config.rms_eps, &mut inverse);
        let mut dnormed = buffers.take(dx.len());
        self.linear(index, Fused::GateUp, products, &normed, &dgate_up, Some(&mut dnormed), buffers);
        let dweight = gradient_of(self.gradients, self.full, Slot::FfnNorm(index));
        rms_norm_backward(&products.middle, &layer.ffn_norm, &products.ffn_inverse, &dnormed, dx, dweight);
        buffers.give_all([dgate_up, inverse, dnormed]);
    }

    fn attention(&mut self, index: usize, input: &[f32], products: &Products, dx: &mut [f32], buffers: &mut Buffers) {
        let (config, t) = (self.network.config, self.micro.tokens.len());
        let heads = config.attention_heads(index);
        let layer = &self.network.weights.layers[index];
        let Products { qkv, attended, lse, .. } = products;
        let mut dattended = buffers.take(attended.len());
        let norm = (layer.attn_post_norm.as_deref(), Slot::AttnPostNorm(index));
        let dgiven = self.given(norm, &products.given[0], dx, buffers);
        let dy = dgiven.as_deref().unwrap_or(dx);
        let attended_rows = Input::new(attended, t, config.query_width());
        self.linear(index, Fused::Out, products, &attended_rows, dy, Some(&mut dattended), buffers);
        let mut dqkv = buffers.take(qkv.len());
        attention_backward(qkv, &heads, &self.micro.starts, attended, lse, &dattended, &mut dqkv);
        let rotated = config.query_heads + config.kv_heads;
        let table = self.network.ropes.of(config, index);
        rope(&mut dqkv, config.qkv_width(), rotated, &self.micro.positions, table, Direction::Backward);
        let norms = [(&layer.query_norm, Slot::QueryNorm(index)), (&layer.key_norm, Slot::KeyNorm(index))];
        for (part, (norm, slot)) in norms.into_iter().enumerate() {
            if let Some(weight) = norm {
                let dweight = gradient_of(self.gradients, self.full, slot);
                norm_heads_backward(config, (part, weight), &products.heads, &mut dqkv, dweight);
            }
        }
        if let Some(dbias) = gradient_of(self.gradients, self.full, Slot::QkvBias(index)) {
            add_rows(&dqkv, dbias);
        }

        let mut inverse = buffers.take(t);
        let normed = Input::normed(input, &layer.attn_norm, config.rms_eps, &mut inverse);
        if index == 0 && self.full.is_none() {
            // Nothing below the first layer is trained.
            self.linear(index, Fused::Qkv, products, &normed, &dqkv, None, buffers);
        } else {
            let mut dnormed = buffers.take(dx.len());
            self.linear(index, Fused::Qkv, products, &normed, &dqkv, Some(&mut dnormed), buffers);
            let dweight = gradient_of(self.gradients, self.full, Slot::AttnNorm(index));
            rms_norm_backward(input, &layer.attn_norm, &products.attn_inverse, &dnormed, dx, dweight);
            buffers.give(dnormed);
        }
        buffers.give_all([dattended, dqkv, inverse].into_iter().chain(dgiven));
    }

    /// Gradient of what a block gave, where a norm stands between it and the residual stream.
    fn given(
        &mut self,
        (norm, slot): (Option<&[f32]>, Slot),
        given: &Given,
        dx: &[f32],
        buffers: &mut Buffers,
    ) -> Option<Vec<f32>> {
        let norm = norm?;
        let mut draw = buffers.take(dx.len());
        draw.fill(0.0);
        let dweight = gradient_of(self.gradients, self.full, slot);
        rms_norm_backward(&given.raw, norm, &given.inverse, dx, &mut draw, dweight);
        Some(draw)
    }

    fn linear(
        &mut self,
        index: usize,
        fused: Fused,
        products: &Products,
        x: &Input<'_>,
        dy: &[f32],
        dx: Option<&mut [f32]>,
        buffers: &mut Buffers,
    ) {
        let sink = match (self.network.map(index, fused), self.full) {
            (Some(map), _) => {
                let (da, db) = self.gradients[lora::index(index, fused)..].split_at_mut(1);
                Sink::Lora { map, u: &products.inner[fused as usize], da: &mut da[0], db: &mut db[0] }
            }
            (None, Some(full)) => {
                let dw = full.of(Slot::Matrix(index, fused)).expect("every matrix is trained");
                Sink::Full { dw: &mut self.gradients[dw] }
            }
            (None, None) => unreachable!("a run trains factors or weights"),
        };
        let mut rooms = std::mem::take(&mut buffers.rooms);
        let turned = match &self.turned.layers[index] {
            Some(turned) => &turned[fused as usize],
            None => self.network.weights.layers[index].matrix(fused).turned(&mut rooms.packed, &mut rooms.turned),
        };
        linear_backward(x, dy, turned, sink, dx, self.micro.tokens.len(), buffers);
        buffers.rooms = rooms;
    }

    /// The embedding's own share of its gradient (a tied head has added the other one).
    fn embedding(&mut self, dx: &[f32]) {
        let (width, scale) = (self.network.config.hidden, self.network.config.variant.embed_scale);
        let Some(gradient) = gradient_of(self.gradients, self.full, Slot::Embed) else { return };
        for (row, &token) in dx.chunks_exact(width).zip(&self.micro.tokens) {
            let into = &mut gradient[token as usize * width..][..width];
            into.iter_mut().zip(row).for_each(|(sum, value)| *sum += scale * value);
        }
    }
}

/// Gradient buffer of a weight that only full fine-tuning trains.
fn gradient_of(gradients: &mut [Vec<f32>], full: Option<FullIndex>, slot: Slot) -> Option<&mut [f32]> {
    let at = full?.of(slot)?;
    Some(&mut gradients[at])
}

fn add_rows(rows: &[f32], sum: &mut [f32]) {
    for row in rows.chunks_exact(sum.len()) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}
