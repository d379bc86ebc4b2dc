//! Products with both operands in bf16 and f32 sums, for AVX-512 and AMX: rows for the left, panels for the right, rounded
//! from f32.

use crate::dispatch::Block;
use crate::packed::{DEPTH, Line, PANEL};
use crate::rounding::{self, Source};
use crate::{Isa, Write, amx, avx512};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Rows of a tile.
pub(crate) const TILE: usize = 16;

/// A bf16 matrix `[m, k]`, rows padded to whole tiles, and `k` with zeros to whole lines.
#[derive(Default)]
pub(crate) struct LeftTiles {
    pub(crate) lines: Vec<Line>,
    /// Lines from row to row: odd, so that the 16 rows of a tile fall into different cache sets.
    pub(crate) stride: usize,
    pub(crate) m: usize,
}

/// Some of its rows, from a depth on.
#[derive(Clone, Copy)]
pub(crate) struct LeftRows<'a> {
    pub(crate) lines: &'a [Line],
    pub(crate) stride: usize,
    pub(crate) m: usize,
}

impl<'a> LeftRows<'a> {
    /// These rows alone, from the first row of a tile on.
    fn share(self, rows: Range<usize>) -> LeftRows<'a> {
        debug_assert!(rows.start.is_multiple_of(TILE) && rows.end <= self.m);
        LeftRows { lines: &self.lines[rows.start * self.stride..], m: rows.len(), ..self }
    }

    /// From the line on that begins at `k`.
    fn deep(self, k: usize) -> LeftRows<'a> {
        debug_assert!(k.is_multiple_of(DEPTH));
        LeftRows { lines: &self.lines[k / DEPTH..], ..self }
    }
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
    pub(crate) left: LeftRows<'a>,
    pub(crate) right: RightPanels<'a>,
}

/// `y[m, n] (+)= sum of left · right` on an instruction set that [`Isa::rounds`].
pub(crate) fn product(isa: Isa, terms: &[Term], y: &mut [f32], write: Write) {
    match isa {
        Isa::Amx => amx::product(terms, y, write),
        Isa::Avx512 => avx512::product(terms, y, write),
        Isa::Avx2 | Isa::Portable => unreachable!("{isa:?} keeps the left operand in f32"),
    }
}

/// `(+)= left · right` into a block of `y`, on the calling thread.
///
/// # Safety
/// No other task reads or writes this block.
pub(crate) unsafe fn product_here(isa: Isa, term: Term, into: Block, write: Write) {
    // SAFETY: passed on.
    unsafe {
        match isa {
            Isa::Amx => amx::product_here(term, into, write),
            Isa::Avx512 => avx512::product_here(term, into, write),
            Isa::Avx2 | Isa::Portable => unreachable!("{isa:?} keeps the left operand in f32"),
        }
    }
}

/// Columns that a task packs at a time, and rows of them: a quarter of a megabyte of bf16.
const SPAN: usize = 128;
const DEEP: usize = 1024;
/// Rows of the result from which a task has its own share of them.
const SHARE: usize = 256;

/// `y[m, n] (+)= left[m, k] · right[k, n]` where `right` lies in rows: each task packs the columns that it needs, a part of
/// their depth at a time, so that they are read once and stay in the cache. `pack(depth, columns, lines)` does it.
pub(crate) fn product_of_rows(
    isa: Isa,
    left: &LeftTiles,
    pack: impl Fn(Range<usize>, Range<usize>, &mut Vec<Line>) + Sync,
    [n, k]: [usize; 2],
    y: &mut [f32],
    write: Write,
) {
    let m = left.m;
    assert_eq!(y.len(), m * n, "product_of_rows: y is [m, n] = [{m}, {n}]");
    let (into, spans) = (Block::whole(y, n), n.div_ceil(SPAN));
    let run = |task: usize| {
        let (first, rows) = (task % spans * SPAN, task / spans * SHARE);
        let columns = first..(first + SPAN).min(n);
        let left = left.rows().share(rows..(rows + SHARE).min(m));
        let (mut lines, mut write) = (take(0), write);
        for from in (0..k).step_by(DEEP) {
            let depth = from..(from + DEEP).min(k);
            pack(depth.clone(), columns.clone(), &mut lines);
            let right = RightPanels { lines: &lines, n: columns.len(), k: depth.len() };
            // SAFETY: tasks have disjoint rows × columns, and the borrow of y outlives them.
            unsafe { product_here(isa, Term { left: left.deep(from), right }, into.from(rows, first), write) };
            write = Write::Add;
        }
        give(lines);
    };
    (0..spans * m.div_ceil(SHARE)).into_par_iter().with_max_len(1).for_each(run);
}

thread_local! {
    /// Lines of dropped operands: fresh pages for each product would cost a tenth of its time.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Values that are computed before they are rounded: 32 KB.
const FRESH: usize = 1 << 13;
/// Operands that one thread has alive at a time, at most.
const KEPT: usize = 4;

impl Drop for LeftTiles {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.lines));
    }
}

/// Keeps lines for [`take`].
pub(crate) fn give(lines: Vec<Line>) {
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
    /// All of it.
    pub(crate) fn rows(&self) -> LeftRows<'_> {
        LeftRows { lines: &self.lines, stride: self.stride, m: self.m }
    }

    /// Rows behind `m`, and the line that makes the stride odd, stay unspecified: no result depends on them.
    fn unspecified(m: usize, k: usize) -> LeftTiles {
        let stride = k.div_ceil(DEPTH) | 1;
        LeftTiles { lines: take(m.next_multiple_of(TILE) * stride), stride, m }
    }

    /// Rounds `x[m, k]`.
    pub(crate) fn from_rows(x: &[f32], m: usize, k: usize) -> LeftTiles {
        let mut tiles = LeftTiles::unspecified(m, k);
        let (stride, block) = (tiles.stride, (1 << 14) / k.max(1) + 1);
        let blocks = tiles.lines.par_chunks_mut(block * stride).zip(x.par_chunks(block * k));
        blocks.for_each(|(lines, values)| rounding::left_rows(source(values, k, 1.0), lines, stride));
        tiles
    }

    /// Rounds the rows of `x`, on the calling thread, in the memory that this one has.
    pub(crate) fn refill(&mut self, x: Source) {
        self.shape(x.rows, x.columns);
        rounding::left_rows(x, &mut self.lines, self.stride);
    }

    /// Rounds the columns of `x`, on the calling thread, in the memory that this one has.
    pub(crate) fn refill_turned(&mut self, x: Source) {
        self.shape(x.columns, x.rows);
        rounding::left_columns(x, &mut self.lines, self.stride);
    }

    fn shape(&mut self, m: usize, k: usize) {
        (self.m, self.stride) = (m, k.div_ceil(DEPTH) | 1);
        self.lines.resize(m.next_multiple_of(TILE) * self.stride, Line([0; DEPTH]));
    }

    /// Rounds rows of `k` values that `fill(rows, out)` computes, some at a time while they are in the cache.
    pub(crate) fn filled(m: usize, k: usize, fill: impl Fn(Range<usize>, &mut [f32]) + Sync) -> LeftTiles {
        let mut tiles = LeftTiles::unspecified(m, k);
        let (stride, block) = (tiles.stride, FRESH / k.max(1) + 1);
        let rows = |index: usize| index * block..((index + 1) * block).min(m);
        let blocks = tiles.lines[..m * stride].par_chunks_mut(block * stride).enumerate();
        blocks.for_each_init(Vec::new, |scratch, (index, lines)| {
            let rows = rows(index);
            scratch.resize(rows.len() * k, 0.0);
            fill(rows, scratch);
            rounding::left_rows(source(scratch, k, 1.0), lines, stride);
        });
        tiles
    }

    /// Rounds `factor · x[k, m]` turned over.
    pub(crate) fn from_columns(x: &[f32], m: usize, k: usize, factor: f32) -> LeftTiles {
        let mut tiles = LeftTiles::unspecified(m, k);
        let stride = tiles.stride;
        tiles.lines.par_chunks_mut(TILE * stride).enumerate().for_each(|(tile, lines)| {
            let first = tile * TILE;
            let columns = TILE.min(m - first);
            let part = Source { values: &x[first.min(x.len())..], step: m, rows: k, columns, factor };
            rounding::left_columns(part, lines, stride);
        });
        tiles
    }
}

impl LeftRows<'_> {
    /// Some rows and columns as right operand `[rows, columns]`.
    pub(crate) fn pack_here(self, rows: Range<usize>, columns: Range<usize>, lines: &mut Vec<Line>) {
        lines.resize(columns.len().div_ceil(PANEL) * rows.len().next_multiple_of(DEPTH) / 2, Line([0; DEPTH]));
        let from = &self.lines[rows.start * self.stride + columns.start / DEPTH..];
        rounding::right_lines(from, self.stride, rows.len(), columns.len(), lines);
    }
}

/// All of `values[_, columns]`.
fn source(values: &[f32], columns: usize, factor: f32) -> Source<'_> {
    Source { values, step: columns, rows: values.len() / columns.max(1), columns, factor }
}

/// Rounds `alpha · w[n, k]ᵀ` to panels of `[k, n]`.
pub(crate) fn pack_turned(w: &[f32], k: usize, alpha: f32) -> Vec<Line> {
    let (depth, n) = (k.next_multiple_of(DEPTH) / 2, w.len() / k);
    let mut lines = take(n.div_ceil(PANEL) * depth);
    let panels = lines.par_chunks_mut(depth).zip(w.par_chunks(PANEL * k));
    panels.for_each(|(lines, w)| rounding::right_columns(source(w, k, alpha), lines));
    lines
}

/// Rounds `alpha · right[k, n]` to panels.
pub(crate) fn pack(right: &[f32], n: usize, alpha: f32) -> Vec<Line> {
    let mut lines = take(0);
    pack_here(source(right, n, alpha), &mut lines);
    lines
}

/// Rounds `right[k, n]` to panels, on the calling thread, in the memory that `lines` has.
pub(crate) fn pack_here(right: Source, lines: &mut Vec<Line>) {
    lines.resize(right.columns.div_ceil(PANEL) * right.rows.next_multiple_of(DEPTH) / 2, Line([0; DEPTH]));
    rounding::right_rows(right, lines);
}

/// Rounds `x[n, k]` to panels of `[k, n]`, on the calling thread, in the memory that `lines` has.
pub(crate) fn pack_turned_here(x: Source, lines: &mut Vec<Line>) {
    lines.resize(x.rows.div_ceil(PANEL) * x.columns.next_multiple_of(DEPTH) / 2, Line([0; DEPTH]));
    rounding::right_columns(x, lines);
}
