//! The backward pass: probabilities are computed again from the saved log-denominators, block against block. One task
//! owns one key head of one sequence, so that its key and value gradients need no locks and have one order of summation.

use super::block::{Matrix, Rows, product, product_turned};
use super::{BLOCK, Heads, check_starts};
use crate::dispatch::{Shared, per_isa};
use crate::{Isa, Write, math};
use rayon::prelude::*;
use std::ops::Range;

/// Writes the gradient of [`super::attention`] with respect to `qkv`; `out` and `lse` as the forward pass left them.
///
/// # Panics
/// When shapes or sequence starts do not fit.
pub fn attention_backward(
    qkv: &[f32],
    heads: &Heads,
    sequence_starts: &[usize],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
) {
    heads.check();
    let tokens = lse.len() / heads.query;
    assert_eq!(qkv.len(), tokens * heads.joint(), "attention_backward: qkv is [t, {}]", heads.joint());
    assert_eq!(out.len(), tokens * heads.query * heads.dim, "attention_backward: out is [t, query · dim]");
    assert_eq!(dout.len(), out.len(), "attention_backward: dout has the shape of out");
    assert_eq!(dqkv.len(), qkv.len(), "attention_backward: dqkv has the shape of qkv");
    check_starts(sequence_starts, tokens);
    let pass = Pass { isa: Isa::current(), heads, qkv, out, lse, dout, dqkv: Shared::new(dqkv) };
    let mut tasks: Vec<(Range<usize>, usize)> = sequence_starts
        .windows(2)
        .filter(|pair| pair[1] > pair[0])
        .flat_map(|pair| (0..heads.kv).map(|kv| (pair[0]..pair[1], kv)))
        .collect();
    tasks.sort_by_key(|(sequence, _)| std::cmp::Reverse(sequence.len()));
    tasks.into_par_iter().with_max_len(1).for_each(|(sequence, kv)| pass.key_head(sequence, kv));
}

struct Pass<'a> {
    isa: Isa,
    heads: &'a Heads,
    qkv: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
    dqkv: Shared,
}

/// One block of queries of one head, packed.
struct Queries {
    /// `[BLOCK, dim]`, times the scale
    query: Matrix,
    /// `[BLOCK, dim]`
    dout: Matrix,
    lse: Vec<f32>,
    /// Σ out · dout of each row
    along: Vec<f32>,
    /// `[BLOCK, dim]`, gradient with respect to the unscaled query once all keys went by and it is scaled
    dquery: Matrix,
    first: usize,
    count: usize,
}

impl Pass<'_> {
    fn key_head(&self, sequence: Range<usize>, kv: usize) {
        let (heads, len) = (self.heads, sequence.len());
        let mut queries: Vec<Vec<Queries>> = Vec::new();
        for head in kv * heads.group()..(kv + 1) * heads.group() {
            let blocks = (0..len).step_by(BLOCK);
            queries.push(blocks.map(|first| self.pack(&sequence, head, first, BLOCK.min(len - first))).collect());
        }
        for first in (0..len).step_by(BLOCK) {
            self.key_block(&sequence, kv, first, BLOCK.min(len - first), &mut queries);
        }
        for (index, blocks) in queries.iter().enumerate() {
            let offset = (kv * heads.group() + index) * heads.dim;
            for block in blocks {
                self.write(sequence.start + block.first, block.count, offset, &block.dquery, heads.scale());
            }
        }
    }

    fn pack(&self, sequence: &Range<usize>, head: usize, first: usize, count: usize) -> Queries {
        let Heads { query: per_row, dim, .. } = *self.heads;
        let rows = |values, stride| Rows { values, offset: head * dim, stride };
        let from = sequence.start + first;
        let mut packed = Queries {
            query: Matrix::new(BLOCK, dim),
            dout: Matrix::new(BLOCK, dim),
            dquery: Matrix::new(BLOCK, dim),
            lse: (from..from + count).map(|token| self.lse[token * per_row + head]).collect(),
            along: Vec::new(),
            first,
            count,
        };
        packed.query.copy(rows(self.qkv, self.heads.joint()), from, count, dim, self.heads.scale());
        let (out, dout) = (rows(self.out, per_row * dim), rows(self.dout, per_row * dim));
        packed.dout.copy(dout, from, count, dim, 1.0);
        packed.along =
            (from..from + count).map(|token| dot(self.isa, out.row(token, dim), dout.row(token, dim))).collect();
        packed
    }

    /// All queries at or behind a block of keys, as far as their window reaches.
    fn key_block(&self, sequence: &Range<usize>, kv: usize, first: usize, count: usize, queries: &mut [Vec<Queries>]) {
        let (heads, dim) = (self.heads, self.heads.dim);
        let from = sequence.start + first;
        let keys = Rows { values: self.qkv, offset: (heads.query + kv) * dim, stride: heads.joint() };
        let values = Rows { offset: (heads.query + heads.kv + kv) * dim, ..keys };
        let mut packed = Keys::new(dim);
        packed.key.copy(keys, from, count, dim, 1.0);
        packed.key_turned.copy_turned(keys, from, count, dim);
        packed.value_turned.copy_turned(values, from, count, dim);
        let meets = |block: &&mut Queries| block.first >= first && heads.first_seen(block.first) < first + count;
        for block in queries.iter_mut().flatten().filter(meets) {
            packed.meet(self.isa, first, count, heads, block);
        }
        // The queries were scaled, so the gradient of the keys already is.
        self.write(from, count, keys.offset, &packed.dkey, 1.0);
        self.write(from, count, values.offset, &packed.dvalue, 1.0);
    }

    fn write(&self, token: usize, count: usize, offset: usize, gradient: &Matrix, factor: f32) {
        for row in 0..count {
            // SAFETY: each (token, head) belongs to one task, and the borrow outlives the tasks.
            let to = unsafe { self.dqkv.slice((token + row) * self.heads.joint() + offset, self.heads.dim) };
            to.iter_mut().zip(gradient.row(row)).for_each(|(to, value)| *to = factor * value);
        }
    }
}

/// A block of keys and values, what it needs and what it gathers.
struct Keys {
    key: Matrix,
    key_turned: Matrix,
    value_turned: Matrix,
    dkey: Matrix,
    dvalue: Matrix,
    /// `[queries, keys]`: scores, then probabilities
    weights: Matrix,
    /// `[queries, keys]`: gradient of the probabilities, then of the scores
    dweights: Matrix,
}

impl Keys {
    fn new(dim: usize) -> Keys {
        let (rows, turned, square) =
            (|| Matrix::new(BLOCK, dim), || Matrix::new(dim, BLOCK), || Matrix::new(BLOCK, BLOCK));
        Keys {
            key: rows(),
            key_turned: turned(),
            value_turned: turned(),
            dkey: rows(),
            dvalue: rows(),
            weights: square(),
            dweights: square(),
        }
    }

    fn meet(&mut self, isa: Isa, first: usize, count: usize, heads: &Heads, block: &mut Queries) {
        let (rows, dim) = (block.count, heads.dim);
        product(isa, &block.query, &self.key_turned, &mut self.weights, rows, dim, Write::Set);
        product(isa, &block.dout, &self.value_turned, &mut self.dweights, rows, dim, Write::Set);
        for row in 0..rows {
            let seen = heads.seen(block.first + row, first, count);
            let (weights, dweights) = (self.weights.row_mut(row), self.dweights.row_mut(row));
            score_gradient(isa, weights, dweights, seen, block.lse[row], block.along[row]);
        }
        product_turned(isa, &self.weights, &block.dout, &mut self.dvalue, BLOCK, rows, Write::Add);
        product_turned(isa, &self.dweights, &block.query, &mut self.dkey, BLOCK, rows, Write::Add);
        product(isa, &self.dweights, &self.key, &mut block.dquery, rows, BLOCK, Write::Add);
    }
}

per_isa! {
    /// Scores → probabilities; gradient of probabilities → gradient of scores; zero outside `seen`.
    fn score_gradient(weights: &mut [f32], dweights: &mut [f32], seen: Range<usize>, lse: f32, along: f32)
        = score_gradient_body
}

#[inline(always)]
fn score_gradient_body(weights: &mut [f32], dweights: &mut [f32], seen: Range<usize>, lse: f32, along: f32) {
    weights[..seen.start].fill(f32::NEG_INFINITY);
    weights[seen.end..].fill(f32::NEG_INFINITY);
    for (weight, gradient) in weights.iter_mut().zip(dweights) {
        *weight = math::exp(*weight - lse);
        *gradient = *weight * (*gradient - along);
    }
}

per_isa! {
    fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body
}

#[inline(always)]
fn dot_body(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    math::sum(a.len(), |i| a[i] * b[i])
}
