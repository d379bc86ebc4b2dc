//! The two operands in 8 bits. Weights lie in panels of 16 output columns; within a panel one 64-byte line holds four
//! consecutive `k` of each column, which is what one dot-product instruction reads.

use crate::dispatch::per_isa;
use crate::{Isa, packed};
use rayon::prelude::*;

pub(super) const PANEL: usize = packed::PANEL;
/// Values along `k` that share a scale.
pub(super) const BLOCK: usize = 256;
/// What zero is stored as on the left: the instruction wants it unsigned.
pub(crate) const ZERO: u8 = 128;
const MOST: f32 = 127.0;

/// One cache line of a panel: 16 columns × 4 consecutive `k`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [i8; 4 * PANEL]);

/// What a block of a panel needs beside its weights, column by column.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Beside {
    /// Sum of the block's weights times [`ZERO`]: what the left's shift adds to every product.
    pub(super) shift: [i32; PANEL],
    pub(super) scale: [f32; PANEL],
}

/// Immutable weights `W[n, k]` in 8 bits with a scale for each row and 256 values along `k`.
pub struct Packed8 {
    pub(super) lines: Vec<Line>,
    pub(super) beside: Vec<Beside>,
    n: usize,
    k: usize,
}

impl Packed8 {
    /// Rounds `n` rows of `k` values: `fill(row, values)` is called once for each row, from several threads.
    ///
    /// # Panics
    /// When `n` or `k` is zero.
    pub fn from_rows(n: usize, k: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Packed8 {
        assert!(n > 0 && k > 0, "a packed matrix needs at least one row and one column, got [{n}, {k}]");
        let (panels, groups, blocks) = (n.div_ceil(PANEL), k.div_ceil(4), k.div_ceil(BLOCK));
        let mut lines = vec![Line([0; 4 * PANEL]); panels * groups];
        let mut beside = vec![Beside { shift: [0; PANEL], scale: [0.0; PANEL] }; panels * blocks];
        let work = lines.par_chunks_mut(groups).zip(beside.par_chunks_mut(blocks)).enumerate();
        work.for_each_init(
            || vec![0f32; k],
            |values, (panel, (lines, beside))| {
                for column in 0..PANEL.min(n - panel * PANEL) {
                    fill(panel * PANEL + column, values);
                    put_column(values, column, lines, beside);
                }
            },
        );
        Packed8 { lines, beside, n, k }
    }

    /// Outputs: rows of `W`.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs: columns of `W`.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Lines of one panel.
    pub(super) fn groups(&self) -> usize {
        self.k.div_ceil(4)
    }

    /// Blocks of one panel.
    pub(super) fn blocks(&self) -> usize {
        self.k.div_ceil(BLOCK)
    }
}

fn put_column(values: &[f32], column: usize, lines: &mut [Line], beside: &mut [Beside]) {
    for (block, (values, beside)) in values.chunks(BLOCK).zip(beside).enumerate() {
        let (scale, inverse) = scale_of(values);
        beside.scale[column] = scale;
        if inverse == 0.0 {
            continue;
        }
        let mut sum = 0;
        for (i, value) in values.iter().enumerate() {
            let whole = round(*value, inverse);
            sum += whole;
            lines[block * BLOCK / 4 + i / 4].0[4 * column + i % 4] = whole as i8;
        }
        beside.shift[column] = sum * i32::from(ZERO);
    }
}

/// Rows `x[m, k]` in 8 bits, shifted by [`ZERO`], with a scale for each row and block.
pub(crate) struct Rows8 {
    pub(crate) values: Vec<u8>,
    pub(crate) scales: Vec<f32>,
    /// Bytes from row to row: an odd number of cache lines, so that rows fall into different cache sets.
    pub(crate) stride: usize,
}

impl Rows8 {
    /// `x[m, k]`, and behind it values of rows that do not exist, up to `room` rows in all.
    pub(crate) fn of(isa: Isa, x: &[f32], m: usize, k: usize, room: usize) -> Rows8 {
        let (stride, blocks) = ((k.div_ceil(64) | 1) * 64, k.div_ceil(BLOCK));
        let mut rows = Rows8 { values: vec![ZERO; room.max(m) * stride], scales: vec![0.0; m * blocks], stride };
        let work =
            rows.values.par_chunks_mut(stride).zip(rows.scales.par_chunks_mut(blocks)).zip(x.par_chunks_exact(k));
        work.with_min_len((1 << 14) / k + 1).for_each(|((values, scales), x)| round_row(isa, x, values, scales));
        rows
    }
}

per_isa! {
    fn round_row(x: &[f32], values: &mut [u8], scales: &mut [f32]) = round_row_body
}

#[inline(always)]
fn round_row_body(x: &[f32], values: &mut [u8], scales: &mut [f32]) {
    for ((x, values), stored) in x.chunks(BLOCK).zip(values.chunks_mut(BLOCK)).zip(scales) {
        let (scale, inverse) = scale_of(x);
        *stored = scale;
        if inverse == 0.0 {
            continue;
        }
        for (value, x) in values.iter_mut().zip(x) {
            *value = (round(*x, inverse) + i32::from(ZERO)) as u8;
        }
    }
}

/// What one step is worth, and how many steps one is worth. Without steps (the second is zero) the block stays zero, or
/// is not a number where one of the values is none or infinite.
#[inline(always)]
fn scale_of(values: &[f32]) -> (f32, f32) {
    // As bits, positive floats are ordered like whole numbers, with infinity and NaN (which f32's `max` drops) above all.
    let mut lanes = [0u32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for i in 0..16 {
            lanes[i] = lanes[i].max(chunk[i].abs().to_bits());
        }
    }
    let rest = rest.iter().map(|value| value.abs().to_bits());
    let largest = f32::from_bits(lanes.into_iter().chain(rest).fold(0, u32::max));
    match largest {
        _ if !largest.is_finite() => (f32::NAN, 0.0),
        _ if largest > f32::MIN_POSITIVE * MOST => (largest / MOST, MOST / largest),
        _ => (0.0, 0.0),
    }
}

/// The nearest whole number, ties to even; adding and subtracting 1.5 · 2²³ rounds without a call.
#[inline(always)]
fn round(value: f32, inverse: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (value * inverse + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}
