//! Products with both operands in bf16 and f32 sums, for AVX-512 and AMX: rows for the left, panels for the right, rounded
//! from f32.

use crate::dispatch::per_isa;
use crate::packed::{DEPTH, Line, PANEL};
use crate::{Isa, Write, amx, avx512, bf16};
use rayon::prelude::*;
use std::cell::RefCell;

/// Rows of a tile.
pub(crate) const TILE: usize = 16;

/// A bf16 matrix `[m, k]`, rows padded to whole tiles, and `k` with zeros to whole lines.
pub(crate) struct LeftTiles {
    pub(crate) lines: Vec<Line>,
    /// Lines from row to row: odd, so that the 16 rows of a tile fall into different cache sets.
    pub(crate) stride: usize,
    pub(crate) m: usize,
}

/// A bf16 matrix `[k, n]` in panels of 16 columns, as in [`crate::Packed`].
#[derive(Clone, Copy)]
pub(crate) struct RightPanels<'a> {
    pub(crate) lines: &'a [Line],
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// One product of a sum of products into the same `y[m, n]`.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    pub(crate) left: &'a LeftTiles,
    pub(crate) right: RightPanels<'a>,
}

/// `y[m, n] (+)= sum of left · right` on an instruction set that [`Isa::rounds`].
pub(crate) fn product(isa: Isa, terms: &[Term], y: &mut [f32], write: Write) {
    match isa {
        Isa::Amx => {
            for (index, Term { left, right }) in terms.iter().enumerate() {
                amx::product(left, *right, y, if index == 0 { write } else { Write::Add });
            }
        }
        Isa::Avx512 => avx512::product(terms, y, write),
        Isa::Avx2 | Isa::Portable => unreachable!("{isa:?} keeps the left operand in f32"),
    }
}

thread_local! {
    /// Lines of dropped operands: fresh pages for each product would cost a tenth of its time.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Operands that one thread has alive at a time, at most.
const KEPT: usize = 4;

impl Drop for LeftTiles {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // During the thread's end there is no list any more; then the lines just go.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            free.push(lines);
            free.sort_by_key(Vec::capacity);
            if free.len() > KEPT {
                free.remove(0);
            }
        });
    }
}

/// `len` lines of unspecified content.
fn take(len: usize) -> Vec<Line> {
    let kept = FREE.with_borrow_mut(|free| {
        let at = free.iter().position(|lines| lines.capacity() >= len)?;
        Some(free.remove(at))
    });
    let mut lines = kept.unwrap_or_default();
    lines.resize(len, Line([0; DEPTH]));
    lines
}

impl LeftTiles {
    /// Rows behind `m`, and the line that makes the stride odd, stay unspecified: no result depends on them.
    fn unspecified(m: usize, k: usize) -> LeftTiles {
        let stride = k.div_ceil(DEPTH) | 1;
        LeftTiles { lines: take(m.next_multiple_of(TILE) * stride), stride, m }
    }

    /// Rounds `x[m, k]`.
    pub(crate) fn from_rows(x: &[f32], m: usize, k: usize) -> LeftTiles {
        let mut tiles = LeftTiles::unspecified(m, k);
        let (isa, stride) = (Isa::detect(), tiles.stride);
        let rows = tiles.lines.par_chunks_mut(stride).zip(x.par_chunks_exact(k));
        rows.with_min_len((1 << 14) / k.max(1) + 1).for_each(|(lines, values)| round_row(isa, values, lines));
        tiles
    }

    /// Rounds `x[k, m]` turned over.
    pub(crate) fn from_columns(x: &[f32], m: usize, k: usize) -> LeftTiles {
        let mut tiles = LeftTiles::unspecified(m, k);
        let stride = tiles.stride;
        tiles.lines.par_chunks_mut(TILE * stride).enumerate().for_each(|(tile, lines)| {
            lines.fill(Line([0; DEPTH]));
            let (first, count) = (tile * TILE, TILE.min(m - tile * TILE));
            for (position, values) in x.chunks_exact(m).enumerate() {
                for (row, value) in values[first..first + count].iter().enumerate() {
                    lines[row * stride + position / DEPTH].0[position % DEPTH] = bf16::round(*value);
                }
            }
        });
        tiles
    }
}

per_isa! {
    fn round_row(values: &[f32], lines: &mut [Line]) = round_row_body
}

#[inline(always)]
fn round_row_body(values: &[f32], lines: &mut [Line]) {
    let mut chunks = values.chunks_exact(DEPTH);
    let mut lines = lines.iter_mut();
    for (chunk, line) in (&mut chunks).zip(&mut lines) {
        for i in 0..DEPTH {
            line.0[i] = bf16::round(chunk[i]);
        }
    }
    if let Some(line) = lines.next() {
        let rest = chunks.remainder();
        line.0 = std::array::from_fn(|i| rest.get(i).map_or(0, |value| bf16::round(*value)));
    }
}

/// Rounds `alpha · right` to panels of `[k, n]`, where `at(k, column)` names an element of `values`.
pub(crate) fn pack_right(values: &[f32], row: usize, column: usize, n: usize, k: usize, alpha: f32) -> Vec<Line> {
    let depth = k.next_multiple_of(DEPTH) / 2;
    let mut lines = vec![Line([0; 2 * PANEL]); n.div_ceil(PANEL) * depth];
    lines.par_chunks_mut(depth).enumerate().for_each(|(panel, lines)| {
        let (first, width) = (panel * PANEL, PANEL.min(n - panel * PANEL));
        if column == 1 {
            for position in 0..k {
                let from = &values[position * row + first..][..width];
                let to = &mut lines[position / 2].0;
                from.iter().enumerate().for_each(|(c, value)| to[2 * c + position % 2] = bf16::round(alpha * value));
            }
            return;
        }
        for c in 0..width {
            for position in 0..k {
                let value = values[(first + c) * column + position * row];
                lines[position / 2].0[2 * c + position % 2] = bf16::round(alpha * value);
            }
        }
    });
    lines
}
