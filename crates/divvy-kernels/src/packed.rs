//! A weight matrix `W[n, k]` in bf16, laid out once for the kernels. Panels of 16 output columns; within a panel one
//! 64-byte line for each pair of `k`: `[column 0: k, k+1, column 1: k, k+1, …]`. That is the tile layout of AMX, and
//! AVX2 widens it with one shift or one mask per eight values. Columns are padded to 16 and `k` to 32 with zeros.

use crate::{Isa, bf16};
use rayon::prelude::*;

/// Output columns in a panel.
pub(crate) const PANEL: usize = 16;
/// `k` values in an AMX tile; `k` is padded to this.
pub(crate) const DEPTH: usize = 32;

/// One cache line of a panel: 16 columns × 2 consecutive `k`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u16; 2 * PANEL]);

/// Immutable bf16 weights `W[n, k]` of a linear layer, `n` outputs by `k` inputs.
#[derive(Clone)]
pub struct Packed {
    pub(crate) isa: Isa,
    pub(crate) lines: Vec<Line>,
    n: usize,
    k: usize,
}

impl Packed {
    /// Packs for this process's instruction set; see [`Packed::from_rows_for`].
    pub fn from_rows(n: usize, k: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Packed {
        Packed::from_rows_for(Isa::current(), n, k, fill)
    }

    /// Packs `n` rows of `k` values: `fill(row, values)` is called once for each row, from several threads.
    /// Values are rounded to the nearest bf16, ties to even. Products with the result run on `isa`.
    ///
    /// # Panics
    /// When `n` or `k` is zero or the machine lacks `isa`.
    pub fn from_rows_for(isa: Isa, n: usize, k: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Packed {
        assert!(isa <= Isa::detect() || crate::amx::emulated(), "this machine has no {isa:?}");
        let mut packed = Packed { isa, ..Packed::empty() };
        packed.refill(n, k, fill);
        packed
    }

    /// Holds nothing until [`Packed::refill`] or [`Packed::transpose_of`].
    #[must_use]
    pub fn empty() -> Packed {
        Packed { isa: Isa::current(), lines: Vec::new(), n: 0, k: 0 }
    }

    /// [`Packed::from_rows`] in the memory that this one has.
    ///
    /// # Panics
    /// When `n` or `k` is zero.
    pub fn refill(&mut self, n: usize, k: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
        self.clear(n, k);
        let depth = self.lines_per_panel();
        self.lines.par_chunks_mut(depth).enumerate().for_each_init(
            || vec![0f32; k],
            |values, (panel, lines)| {
                for column in 0..PANEL.min(n - panel * PANEL) {
                    fill(panel * PANEL + column, values);
                    for (position, value) in values.iter().enumerate() {
                        lines[position / 2].0[2 * column + position % 2] = bf16::round(*value);
                    }
                }
            },
        );
    }

    /// All zero.
    fn clear(&mut self, n: usize, k: usize) {
        assert!(n > 0 && k > 0, "a packed matrix needs at least one row and one column, got [{n}, {k}]");
        let lines = n.div_ceil(PANEL) * k.next_multiple_of(DEPTH) / 2;
        self.lines.clear();
        self.lines.resize(lines, Line([0; 2 * PANEL]));
        (self.n, self.k) = (n, k);
    }

    /// `Wᵀ[k, n]`, so that `matmul(dy, &w.transposed(), dx, …)` is `dx[m, k] = dy[m, n] · W[n, k]`.
    pub fn transposed(&self) -> Packed {
        let mut turned = Packed::empty();
        turned.transpose_of(self);
        turned
    }

    /// [`Packed::transposed`] of `w` in the memory that this one has.
    ///
    /// # Panics
    /// When `w` is empty.
    pub fn transpose_of(&mut self, w: &Packed) {
        self.isa = w.isa;
        self.clear(w.k, w.n);
        let (from, to) = (w.lines_per_panel(), self.lines_per_panel());
        self.lines.par_chunks_mut(to).enumerate().for_each(|(panel, lines)| {
            for source in 0..w.n.div_ceil(PANEL) {
                let block = &w.lines[source * from + panel * PANEL / 2..][..PANEL / 2];
                turn(block, &mut lines[source * PANEL / 2..][..PANEL / 2]);
            }
        });
    }

    /// Reads one row back as f32: an embedding look-up where head and embedding are tied.
    ///
    /// # Panics
    /// When `row >= n` or `out` is not `k` long.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n, "row {row} of a matrix with {} rows", self.n);
        assert_eq!(out.len(), self.k, "row: out holds k values");
        let lines = &self.lines[row / PANEL * self.lines_per_panel()..];
        let column = row % PANEL;
        for (position, value) in out.iter_mut().enumerate() {
            *value = bf16::widen(lines[position / 2].0[2 * column + position % 2]);
        }
    }

    /// Outputs: rows of `W`.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs: columns of `W`.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Memory held, with padding.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    pub(crate) fn lines_per_panel(&self) -> usize {
        self.k.next_multiple_of(DEPTH) / 2
    }

    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }
}

/// Transposes a block of 16 columns × 16 `k`, lines to lines.
fn turn(from: &[Line], to: &mut [Line]) {
    for (pair, line) in to.iter_mut().enumerate() {
        for column in 0..PANEL {
            for half in 0..2 {
                line.0[2 * column + half] = from[column / 2].0[2 * (2 * pair + half) + column % 2];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize, k: usize) -> Packed {
        Packed::from_rows_for(Isa::Portable, n, k, |row, values| {
            for (position, value) in values.iter_mut().enumerate() {
                *value = row as f32 - position as f32 / 4.0;
            }
        })
    }

    #[test]
    fn rows_come_back() {
        let packed = sample(19, 37);
        let mut row = vec![0.0; 37];
        packed.row(18, &mut row);
        assert_eq!(row[0], 18.0);
        assert_eq!(row[36], 9.0);
        assert_eq!((packed.n(), packed.k(), packed.bytes()), (19, 37, 2 * 32 * 64));
    }

    #[test]
    fn the_transpose_swaps_rows_and_columns() {
        for (n, k) in [(1, 1), (19, 37), (32, 64), (5, 100)] {
            let (packed, turned) = (sample(n, k), sample(n, k).transposed());
            assert_eq!((turned.n(), turned.k()), (k, n));
            let (mut row, mut column) = (vec![0.0; k], vec![0.0; n]);
            for i in 0..n {
                packed.row(i, &mut row);
                for j in 0..k {
                    turned.row(j, &mut column);
                    assert_eq!(row[j], column[i]);
                }
            }
        }
    }

    #[test]
    fn memory_that_held_another_matrix_holds_the_same_lines_as_fresh_memory() {
        let mut used = sample(50, 70);
        used.refill(19, 37, |row, values| sample(19, 37).row(row, values));
        let fresh = sample(19, 37);
        assert!(used.lines.len() == fresh.lines.len() && used.lines.iter().zip(&fresh.lines).all(|(a, b)| a.0 == b.0));
        used.transpose_of(&sample(5, 100));
        let fresh = sample(5, 100).transposed();
        assert_eq!((used.n(), used.k()), (100, 5));
        assert!(used.lines.len() == fresh.lines.len() && used.lines.iter().zip(&fresh.lines).all(|(a, b)| a.0 == b.0));
    }

    #[test]
    fn transposing_twice_gives_the_same_bytes() {
        let packed = sample(50, 70);
        let again = packed.transposed().transposed();
        assert!(packed.lines.iter().zip(&again.lines).all(|(a, b)| a.0 == b.0));
    }

    #[test]
    #[should_panic(expected = "row 3 of a matrix with 3 rows")]
    fn a_row_behind_the_end_panics() {
        sample(3, 4).row(3, &mut [0.0; 4]);
    }
}
