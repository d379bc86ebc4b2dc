//! The forward pass: for one head and a block of queries, blocks of keys go by while a running maximum and sum keep the
//! softmax exact.

use super::block::{Blocks, InRows, Matrix, Rows};
use super::operand::{KeptRight, Numerics};
use super::{BLOCK, Heads, check_starts};
use crate::dispatch::{Shared, per_isa};
use crate::operands::LeftTiles;
use crate::{Isa, Write, math};
use rayon::prelude::*;
use std::ops::Range;

/// Causal attention within each sequence. `qkv` is `[t, (query + 2·kv)·dim]` with positions already rotated in, `out`
/// `[t, query·dim]`, `lse` `[t, query]` the log of each softmax's denominator, for the backward pass.
/// Sequence `s` is the tokens `sequence_starts[s]..sequence_starts[s + 1]`.
///
/// # Panics
/// When shapes or sequence starts do not fit.
pub fn attention(qkv: &[f32], heads: &Heads, sequence_starts: &[usize], out: &mut [f32], lse: &mut [f32]) {
    attention_in(Numerics::training(Isa::current()), qkv, heads, sequence_starts, out, lse);
}

pub(super) fn attention_in(
    numerics: Numerics,
    qkv: &[f32],
    heads: &Heads,
    sequence_starts: &[usize],
    out: &mut [f32],
    lse: &mut [f32],
) {
    heads.check();
    let tokens = lse.len() / heads.query;
    assert_eq!(lse.len(), tokens * heads.query, "attention: lse is [t, query heads]");
    assert_eq!(qkv.len(), tokens * heads.joint(), "attention: qkv is [t, {}]", heads.joint());
    assert_eq!(out.len(), tokens * heads.query * heads.dim, "attention: out is [t, query · dim]");
    check_starts(sequence_starts, tokens);
    let (out, lse) = (Shared::new(out), Shared::new(lse));
    tasks(sequence_starts, heads).into_par_iter().with_max_len(1).for_each(|(sequence, kv, block)| {
        let rows = |head: usize| Rows {
            values: &qkv[sequence.start * heads.joint()..sequence.end * heads.joint()],
            offset: head * heads.dim,
            stride: heads.joint(),
        };
        let keys = InRows { keys: rows(heads.query + kv), values: rows(heads.query + heads.kv + kv), dim: heads.dim };
        let group = kv * heads.group()..(kv + 1) * heads.group();
        let queries: Vec<Rows> = group.clone().map(rows).collect();
        let result = attend(numerics, &queries, &keys, heads, block.clone(), block.start);
        for (head, first) in group.zip((0..).step_by(block.len())) {
            for (index, position) in (first..).zip(block.clone()) {
                let token = sequence.start + position;
                // SAFETY: each (token, query head) belongs to one task, and the borrows outlive the tasks.
                unsafe {
                    let to = out.slice((token * heads.query + head) * heads.dim, heads.dim);
                    to.copy_from_slice(&result.out.row(index)[..heads.dim]);
                    lse.slice(token * heads.query + head, 1)[0] = result.max[index] + result.sum[index].ln();
                }
            }
        }
    });
}

/// Blocks of queries of each key head of each sequence, longest first, so that the last ones to run are short.
fn tasks(sequence_starts: &[usize], heads: &Heads) -> Vec<(Range<usize>, usize, Range<usize>)> {
    let mut tasks = Vec::new();
    for pair in sequence_starts.windows(2) {
        let len = pair[1] - pair[0];
        for start in (0..len).step_by(BLOCK) {
            tasks.extend((0..heads.kv).map(|kv| (pair[0]..pair[1], kv, start..(start + BLOCK).min(len))));
        }
    }
    tasks.sort_by_key(|(_, _, block)| std::cmp::Reverse(block.end));
    tasks
}

/// Attention of one block of queries of several heads.
pub(super) struct Attended {
    /// `[heads · queries, dim]`
    pub(super) out: Matrix,
    pub(super) max: Vec<f32>,
    pub(super) sum: Vec<f32>,
}

/// Attention of the queries `first_row..` of each of `queries`, the heads that share these keys, which stand at
/// `positions`, over the keys at positions up to their own, as far back as their window reaches. Each block of keys and values
/// is fetched once for all of them.
pub(super) fn attend(
    numerics: Numerics,
    queries: &[Rows],
    keys_and_values: &impl Blocks,
    heads: &Heads,
    positions: Range<usize>,
    first_row: usize,
) -> Attended {
    let (rows, dim) = (queries.len() * positions.len(), heads.dim);
    let mut result = Attended { out: Matrix::new(rows, dim), max: vec![f32::NEG_INFINITY; rows], sum: vec![0.0; rows] };
    let mut query = Matrix::new(rows, dim);
    for (&head, to) in queries.iter().zip((0..).step_by(positions.len())) {
        query.copy_to(to, head, first_row, positions.len(), dim, heads.scale());
    }
    let mut query_tiles = LeftTiles::default();
    let query = numerics.left(&query, rows, dim, &mut query_tiles);
    let (mut room, mut tiles) = (KeptRight::default(), LeftTiles::default());
    let (mut scores, isa) = (Matrix::new(rows, BLOCK), numerics.isa);
    let first = heads.first_seen(positions.start) / BLOCK * BLOCK;
    for from in (first..positions.end).step_by(BLOCK) {
        let count = BLOCK.min(positions.end - from);
        let turned = keys_and_values.keys(numerics, from, count, &mut room);
        numerics.product(query, turned, &mut scores, rows, dim, Write::Set);
        for (row, position) in queries.iter().flat_map(|_| positions.clone()).enumerate() {
            let seen = heads.seen(position, from, count);
            let (out, scores) = (result.out.row_mut(row), scores.row_mut(row));
            fold_in(isa, scores, seen, &mut result.max[row], &mut result.sum[row], out);
        }
        let value = keys_and_values.values(numerics, from, count, &mut room);
        let weights = numerics.left(&scores, rows, count, &mut tiles);
        numerics.product(weights, value, &mut result.out, rows, count, Write::Add);
    }
    for row in 0..rows {
        let inverse = 1.0 / result.sum[row];
        result.out.row_mut(row).iter_mut().for_each(|value| *value *= inverse);
    }
    result
}

per_isa! {
    /// Turns a block of scores into weights relative to the running maximum, and rescales what was summed before.
    fn fold_in(scores: &mut [f32], seen: Range<usize>, max: &mut f32, sum: &mut f32, out: &mut [f32]) = fold_in_body
}

#[inline(always)]
fn fold_in_body(scores: &mut [f32], seen: Range<usize>, max: &mut f32, sum: &mut f32, out: &mut [f32]) {
    if seen.is_empty() {
        return scores.fill(0.0);
    }
    scores[..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..].fill(f32::NEG_INFINITY);
    let highest = math::max(scores);
    if highest > *max {
        let factor = math::exp(*max - highest);
        out.iter_mut().for_each(|value| *value *= factor);
        *sum *= factor;
        *max = highest;
    }
    for score in scores.iter_mut() {
        *score = math::exp(*score - *max);
    }
    *sum += math::sum(scores.len(), |i| scores[i]);
}
