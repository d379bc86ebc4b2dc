//! The backward pass: probabilities are computed again from the saved log-denominators, block against block. One task
//! owns one key head of one sequence, so that its key and value gradients need no locks and have one order of summation.

use super::block::{Matrix, Rows};
use super::operand::{KeptLeft, KeptRight, Numerics, Part};
use super::{BLOCK, Heads, check_starts};
use crate::dispatch::{Shared, per_isa};
use crate::operands::LeftTiles;
use crate::packed::Line;
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
    let numerics = Numerics::training(Isa::current());
    attention_backward_in(numerics, qkv, heads, sequence_starts, out, lse, dout, dqkv);
}

pub(super) fn attention_backward_in(
    numerics: Numerics,
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
    let pass = Pass { numerics, heads, qkv, out, lse, dout, dqkv: Shared::new(dqkv) };
    let mut tasks: Vec<(Range<usize>, usize)> = sequence_starts
        .windows(2)
        .filter(|pair| pair[1] > pair[0])
        .flat_map(|pair| (0..heads.kv).map(|kv| (pair[0]..pair[1], kv)))
        .collect();
    tasks.sort_by_key(|(sequence, _)| std::cmp::Reverse(sequence.len()));
    tasks.into_par_iter().with_max_len(1).for_each(|(sequence, kv)| pass.key_head(sequence, kv));
}

struct Pass<'a> {
    numerics: Numerics,
    heads: &'a Heads,
    qkv: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
    dqkv: Shared,
}

/// One block of queries of one head, packed. Everything here is computed keys by queries: so the weights and their
/// gradient lie as the products that sum over queries read them, and nothing is turned between products.
struct Queries {
    /// `[BLOCK, dim]`, times the scale
    query: KeptRight,
    /// `[dim, BLOCK]`, the same turned
    query_turned: KeptRight,
    /// `[BLOCK, dim]`
    dout: KeptRight,
    /// `[dim, BLOCK]`
    dout_turned: KeptRight,
    /// `[BLOCK]`, infinite behind `count`: what is not there weighs nothing
    lse: Vec<f32>,
    /// `[BLOCK]`: Σ out · dout of each row
    along: Vec<f32>,
    /// `[dim, BLOCK]`, gradient with respect to the unscaled query once all keys went by and it is scaled
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
        let mut scratch = Scratch::new();
        for first in (0..len).step_by(BLOCK) {
            self.key_block(&sequence, kv, first, BLOCK.min(len - first), &mut queries, &mut scratch);
        }
        for (index, blocks) in queries.iter().enumerate() {
            let offset = (kv * heads.group() + index) * heads.dim;
            for block in blocks {
                self.write_turned(sequence.start + block.first, block.count, offset, &block.dquery, heads.scale());
            }
        }
    }

    fn pack(&self, sequence: &Range<usize>, head: usize, first: usize, count: usize) -> Queries {
        let (Heads { query: per_row, dim, .. }, numerics) = (*self.heads, self.numerics);
        let rows = |values, stride| Rows { values, offset: head * dim, stride };
        let from = sequence.start + first;
        let (out, dout) = (rows(self.out, per_row * dim), rows(self.dout, per_row * dim));
        let query = rows(self.qkv, self.heads.joint());
        let query = Part { rows: query, first: from, count, dim, factor: self.heads.scale() };
        let mut packed = Queries {
            query: KeptRight::default(),
            query_turned: KeptRight::default(),
            dout: KeptRight::default(),
            dout_turned: KeptRight::default(),
            dquery: Matrix::new(dim, BLOCK),
            lse: vec![f32::INFINITY; BLOCK],
            along: vec![0.0; BLOCK],
            first,
            count,
        };
        numerics.right_of(query, &mut packed.query);
        numerics.right_turned(query, &mut packed.query_turned);
        let part = Part { rows: dout, factor: 1.0, ..query };
        numerics.right_of(part, &mut packed.dout);
        numerics.right_turned(part, &mut packed.dout_turned);
        for (row, token) in (from..from + count).enumerate() {
            packed.lse[row] = self.lse[token * per_row + head];
            packed.along[row] = dot(numerics.isa, out.row(token, dim), dout.row(token, dim));
        }
        packed
    }

    /// All queries at or behind a block of keys, as far as their window reaches.
    fn key_block(
        &self,
        sequence: &Range<usize>,
        kv: usize,
        first: usize,
        count: usize,
        queries: &mut [Vec<Queries>],
        scratch: &mut Scratch,
    ) {
        let (heads, dim, numerics) = (self.heads, self.heads.dim, self.numerics);
        let from = sequence.start + first;
        let keys = Rows { values: self.qkv, offset: (heads.query + kv) * dim, stride: heads.joint() };
        let values = Rows { offset: (heads.query + heads.kv + kv) * dim, ..keys };
        let keys_part = Part { rows: keys, first: from, count, dim, factor: 1.0 };
        let mut packed = Keys {
            key: numerics.left_of(keys_part),
            key_turned: numerics.left_turned(keys_part),
            value: numerics.left_of(Part { rows: values, ..keys_part }),
            dkey: Matrix::new(BLOCK, dim),
            dvalue: Matrix::new(BLOCK, dim),
        };
        let meets = |block: &&mut Queries| block.first >= first && heads.first_seen(block.first) < first + count;
        for block in queries.iter_mut().flatten().filter(meets) {
            packed.meet(numerics, first..first + count, heads, block, scratch);
        }
        // The queries were scaled, so the gradient of the keys already is.
        self.write(from, count, keys.offset, &packed.dkey);
        self.write(from, count, values.offset, &packed.dvalue);
    }

    fn write(&self, token: usize, count: usize, offset: usize, gradient: &Matrix) {
        for row in 0..count {
            // SAFETY: each (token, head) belongs to one task, and the borrow outlives the tasks.
            let to = unsafe { self.dqkv.slice((token + row) * self.heads.joint() + offset, self.heads.dim) };
            to.copy_from_slice(&gradient.row(row)[..to.len()]);
        }
    }

    fn write_turned(&self, token: usize, count: usize, offset: usize, gradient: &Matrix, factor: f32) {
        for row in 0..count {
            // SAFETY: as for `write`.
            let to = unsafe { self.dqkv.slice((token + row) * self.heads.joint() + offset, self.heads.dim) };
            to.iter_mut().enumerate().for_each(|(d, to)| *to = factor * gradient.values[d * gradient.width + row]);
        }
    }
}

/// A block of keys and values and what it gathers.
struct Keys {
    /// `[BLOCK, dim]`
    key: KeptLeft,
    /// `[dim, BLOCK]`
    key_turned: KeptLeft,
    /// `[BLOCK, dim]`
    value: KeptLeft,
    dkey: Matrix,
    dvalue: Matrix,
}

/// What one meeting of keys and queries needs, used again by the next.
struct Scratch {
    /// `[keys, queries]`: scores, then probabilities
    weights: Matrix,
    /// `[keys, queries]`: gradient of the probabilities, then of the scores
    dweights: Matrix,
    tiles: LeftTiles,
    lines: Vec<Line>,
}

impl Scratch {
    fn new() -> Scratch {
        let square = || Matrix::new(BLOCK, BLOCK);
        Scratch { weights: square(), dweights: square(), tiles: LeftTiles::default(), lines: Vec::new() }
    }
}

impl Keys {
    fn meet(
        &mut self,
        numerics: Numerics,
        keys: Range<usize>,
        heads: &Heads,
        block: &mut Queries,
        scratch: &mut Scratch,
    ) {
        let (dim, Scratch { weights, dweights, tiles, lines }) = (heads.dim, scratch);
        let (count, seen_by) = (keys.len(), block.count);
        numerics.product(self.key.get(), numerics.kept(&block.query_turned), weights, count, dim, Write::Set);
        numerics.product(self.value.get(), numerics.kept(&block.dout_turned), dweights, count, dim, Write::Set);
        for (row, position) in keys.enumerate() {
            let seeing = heads.seeing(position, block.first, seen_by);
            let (weights, dweights) = (weights.row_mut(row), dweights.row_mut(row));
            score_gradient(numerics.isa, weights, dweights, seeing, &block.lse, &block.along);
        }
        let left = numerics.left(weights, count, seen_by, tiles);
        numerics.product(left, numerics.kept(&block.dout), &mut self.dvalue, count, seen_by, Write::Add);
        let left = numerics.left(dweights, count, seen_by, tiles);
        numerics.product(left, numerics.kept(&block.query), &mut self.dkey, count, seen_by, Write::Add);
        let right = numerics.right(dweights, count, seen_by, lines);
        numerics.product(self.key_turned.get(), right, &mut block.dquery, dim, count, Write::Add);
    }
}

per_isa! {
    /// Of one key: scores → probabilities; gradient of probabilities → gradient of scores; zero for queries that do not see it.
    fn score_gradient(weights: &mut [f32], dweights: &mut [f32], seeing: Range<usize>, lse: &[f32], along: &[f32])
        = score_gradient_body
}

#[inline(always)]
fn score_gradient_body(weights: &mut [f32], dweights: &mut [f32], seeing: Range<usize>, lse: &[f32], along: &[f32]) {
    weights[..seeing.start].fill(f32::NEG_INFINITY);
    weights[seeing.end..].fill(f32::NEG_INFINITY);
    let (dweights, lse, along) = (&mut dweights[..weights.len()], &lse[..weights.len()], &along[..weights.len()]);
    for i in 0..weights.len() {
        weights[i] = math::exp(weights[i] - lse[i]);
        dweights[i] = weights[i] * (dweights[i] - along[i]);
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
