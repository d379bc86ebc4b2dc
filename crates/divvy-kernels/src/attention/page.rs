//! The cache of keys and values, in pages of one block of positions that lie as attention multiplies them: in f32 nothing
//! is copied or turned, the smaller formats are widened a block at a time.

use super::block::{Blocks, View};
use super::operand::{KeptRight, Numerics, Right};
use super::{BLOCK, Heads};
use crate::bf16;
use crate::dispatch::per_isa;
use crate::packed::PANEL;
use std::sync::Arc;

/// In which numbers a page holds keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheFormat {
    /// As they were computed.
    #[default]
    F32,
    /// Rounded to nearest, in half of the memory.
    Bf16,
    /// Eight bits with a scale for each head of each position, in a bit over a quarter of the memory.
    Int8,
}

/// Keys and values of up to [`Page::POSITIONS`] positions of one sequence in one layer.
#[derive(Clone, Debug)]
pub struct Page {
    heads: usize,
    dim: usize,
    /// `[heads, dim, positions]`
    keys: Numbers,
    /// `[heads, positions, dim]`, each row padded to whole panels
    values: Numbers,
}

/// One format's numbers, in the page's layout.
#[derive(Clone, Debug)]
enum Numbers {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    /// The scale of position `p` of head `h` is `scales[h * BLOCK + p]`.
    Int8 {
        values: Vec<i8>,
        scales: Vec<f32>,
    },
}

impl Page {
    /// Positions of a page.
    pub const POSITIONS: usize = BLOCK;

    /// A page of zeros for `heads` key heads of `dim` values.
    #[must_use]
    pub fn new(format: CacheFormat, heads: usize, dim: usize) -> Page {
        let keys = Numbers::zeros(format, heads, heads * dim * BLOCK);
        let values = Numbers::zeros(format, heads, heads * BLOCK * width(dim));
        Page { heads, dim, keys, values }
    }

    /// Writes one position's keys and values, both `[heads · dim]`.
    ///
    /// # Panics
    /// When the position is not on the page or a length does not fit.
    pub fn put(&mut self, position: usize, keys: &[f32], values: &[f32]) {
        let (heads, dim) = (self.heads, self.dim);
        assert!(position < BLOCK, "Page::put: position {position} of a page of {BLOCK}");
        assert!(keys.len() == heads * dim && values.len() == heads * dim, "Page::put: rows are [{heads} · {dim}]");
        let rows = keys.chunks_exact(dim).zip(values.chunks_exact(dim)).enumerate();
        for (head, (keys, values)) in rows {
            self.keys.put(head * BLOCK + position, head * dim * BLOCK + position, BLOCK, keys);
            self.values.put(head * BLOCK + position, (head * BLOCK + position) * width(dim), 1, values);
        }
    }

    /// A page with the first `positions` of this one, zeros behind: what is there of another sequence must not be multiplied,
    /// not even by zero, since it may be infinite.
    #[must_use]
    pub fn first(&self, positions: usize) -> Page {
        let mut page = self.clone();
        for head in 0..self.heads {
            let row = |position: usize| (head * BLOCK + position) * width(self.dim);
            page.values.clear(row(positions)..row(BLOCK), head * BLOCK + positions..(head + 1) * BLOCK);
        }
        page
    }

    pub(super) fn fits(&self, heads: &Heads) -> bool {
        (self.heads, self.dim) == (heads.kv, heads.dim)
    }

    /// Memory that the numbers take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }
}

/// Length of a row of values.
fn width(dim: usize) -> usize {
    dim.next_multiple_of(PANEL)
}

impl Numbers {
    fn zeros(format: CacheFormat, heads: usize, len: usize) -> Numbers {
        match format {
            CacheFormat::F32 => Numbers::F32(vec![0.0; len]),
            CacheFormat::Bf16 => Numbers::Bf16(vec![0; len]),
            CacheFormat::Int8 => Numbers::Int8 { values: vec![0; len], scales: vec![0.0; heads * BLOCK] },
        }
    }

    /// Writes `row` to every `step`-th place from `at` on, with the scale at `scale`.
    fn put(&mut self, scale: usize, at: usize, step: usize, row: &[f32]) {
        match self {
            Numbers::F32(all) => {
                all[at..].iter_mut().step_by(step).zip(row).for_each(|(to, value)| *to = *value);
            }
            Numbers::Bf16(all) => {
                all[at..].iter_mut().step_by(step).zip(row).for_each(|(to, value)| *to = bf16::round(*value));
            }
            Numbers::Int8 { values, scales } => {
                let (most, inverse) = range(row);
                scales[scale] = most / 127.0;
                let rounded = row.iter().map(|value| (value * inverse).round_ties_even() as i8);
                values[at..].iter_mut().step_by(step).zip(rounded).for_each(|(to, value)| *to = value);
            }
        }
    }

    fn clear(&mut self, numbers: std::ops::Range<usize>, positions: std::ops::Range<usize>) {
        match self {
            Numbers::F32(all) => all[numbers].fill(0.0),
            Numbers::Bf16(all) => all[numbers].fill(0),
            Numbers::Int8 { values, scales } => {
                values[numbers].fill(0);
                scales[positions].fill(0.0);
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Numbers::F32(all) => size_of_val(&all[..]),
            Numbers::Bf16(all) => size_of_val(&all[..]),
            Numbers::Int8 { values, scales } => values.len() + size_of_val(&scales[..]),
        }
    }
}

/// Largest magnitude of a row, and what to multiply by so that it becomes 127.
fn range(row: &[f32]) -> (f32, f32) {
    let most = row.iter().fold(0f32, |most, value| most.max(value.abs()));
    (most, if most > 0.0 { 127.0 / most } else { 0.0 })
}

/// One head's keys and values on a sequence's pages.
pub(super) struct Paged<'a> {
    pub(super) pages: &'a [Arc<Page>],
    pub(super) head: usize,
}

/// Pages are read as they are, in f32.
impl Blocks for Paged<'_> {
    fn keys<'a>(&'a self, numerics: Numerics, from: usize, _count: usize, room: &'a mut KeptRight) -> Right<'a> {
        let (page, isa, scratch) = (&*self.pages[from / BLOCK], numerics.isa, &mut room.matrix);
        let range = self.head * page.dim * BLOCK..(self.head + 1) * page.dim * BLOCK;
        Right::Plain(match &page.keys {
            Numbers::F32(all) => View { values: &all[range], width: BLOCK },
            Numbers::Bf16(all) => {
                scratch.shape(page.dim, BLOCK);
                widen(isa, &all[range], &mut scratch.values);
                (&*scratch).into()
            }
            Numbers::Int8 { values, scales } => {
                scratch.shape(page.dim, BLOCK);
                scale_columns(isa, &values[range], &scales[self.head * BLOCK..][..BLOCK], &mut scratch.values);
                (&*scratch).into()
            }
        })
    }

    fn values<'a>(&'a self, numerics: Numerics, from: usize, _count: usize, room: &'a mut KeptRight) -> Right<'a> {
        let (page, isa, scratch) = (&*self.pages[from / BLOCK], numerics.isa, &mut room.matrix);
        let width = width(page.dim);
        let range = self.head * BLOCK * width..(self.head + 1) * BLOCK * width;
        Right::Plain(match &page.values {
            Numbers::F32(all) => View { values: &all[range], width },
            Numbers::Bf16(all) => {
                scratch.shape(BLOCK, page.dim);
                widen(isa, &all[range], &mut scratch.values);
                (&*scratch).into()
            }
            Numbers::Int8 { values, scales } => {
                scratch.shape(BLOCK, page.dim);
                scale_rows(isa, &values[range], &scales[self.head * BLOCK..][..BLOCK], &mut scratch.values);
                (&*scratch).into()
            }
        })
    }
}

per_isa! {
    fn widen(bits: &[u16], out: &mut [f32]) = widen_body
}

#[inline(always)]
fn widen_body(bits: &[u16], out: &mut [f32]) {
    out.iter_mut().zip(bits).for_each(|(to, bits)| *to = bf16::widen(*bits));
}

per_isa! {
    fn scale_columns(values: &[i8], scales: &[f32], out: &mut [f32]) = scale_columns_body
}

#[inline(always)]
fn scale_columns_body(values: &[i8], scales: &[f32], out: &mut [f32]) {
    for (to, row) in out.chunks_exact_mut(BLOCK).zip(values.chunks_exact(BLOCK)) {
        to.iter_mut().zip(row).zip(scales).for_each(|((to, value), scale)| *to = f32::from(*value) * scale);
    }
}

per_isa! {
    fn scale_rows(values: &[i8], scales: &[f32], out: &mut [f32]) = scale_rows_body
}

#[inline(always)]
fn scale_rows_body(values: &[i8], scales: &[f32], out: &mut [f32]) {
    let width = out.len() / BLOCK;
    for ((to, row), scale) in out.chunks_exact_mut(width).zip(values.chunks_exact(width)).zip(scales) {
        to.iter_mut().zip(row).for_each(|(to, value)| *to = f32::from(*value) * scale);
    }
}
