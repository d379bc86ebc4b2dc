//! Pieces that the forward and backward pass share: packing a block of rows, turning it, and small products with the
//! kernels of `tile`.

use super::operand::{KeptRight, Numerics, Part, Right as RightOperand};
use crate::packed::PANEL;
use crate::tile::{Dest, Left, ROWS, Right, panels_for, strips, tile};
use crate::{Isa, Write};

/// Rows of one head inside joint rows: row `i` begins at `values[offset + i * stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) offset: usize,
    pub(crate) stride: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn row(self, index: usize, dim: usize) -> &'a [f32] {
        &self.values[self.offset + index * self.stride..][..dim]
    }
}

/// Keys and values of one head, a block at a time.
pub(super) trait Blocks: Sync {
    /// Keys of the `count` positions from `from` on as columns, `[dim, BLOCK]`; what stands behind them is not looked at.
    fn keys<'a>(&'a self, numerics: Numerics, from: usize, count: usize, room: &'a mut KeptRight) -> RightOperand<'a>;

    /// Their values as rows, `[BLOCK, dim]`; what stands behind them is finite.
    fn values<'a>(&'a self, numerics: Numerics, from: usize, count: usize, room: &'a mut KeptRight)
    -> RightOperand<'a>;
}

/// Keys and values that lie in rows, copied block by block.
pub(super) struct InRows<'a> {
    pub(super) keys: Rows<'a>,
    pub(super) values: Rows<'a>,
    pub(super) dim: usize,
}

impl Blocks for InRows<'_> {
    fn keys<'a>(&'a self, numerics: Numerics, from: usize, count: usize, room: &'a mut KeptRight) -> RightOperand<'a> {
        numerics.right_turned(Part { rows: self.keys, first: from, count, dim: self.dim, factor: 1.0 }, room);
        numerics.kept(room)
    }

    fn values<'a>(
        &'a self,
        numerics: Numerics,
        from: usize,
        count: usize,
        room: &'a mut KeptRight,
    ) -> RightOperand<'a> {
        numerics.right_of(Part { rows: self.values, first: from, count, dim: self.dim, factor: 1.0 }, room);
        numerics.kept(room)
    }
}

/// A row-major matrix whose rows are whole panels, as the right side of a product.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
}

impl<'a> From<&'a Matrix> for View<'a> {
    fn from(matrix: &'a Matrix) -> View<'a> {
        View { values: &matrix.values, width: matrix.width }
    }
}

/// A dense row-major scratch matrix whose rows are whole panels.
#[derive(Default)]
pub(crate) struct Matrix {
    pub(crate) values: Vec<f32>,
    pub(crate) width: usize,
}

impl Matrix {
    pub(crate) fn new(rows: usize, width: usize) -> Matrix {
        let width = width.next_multiple_of(PANEL);
        Matrix { values: vec![0.0; rows * width], width }
    }

    /// Makes room for `[rows, width]`; what is there is kept or zero.
    pub(crate) fn shape(&mut self, rows: usize, width: usize) {
        self.width = width.next_multiple_of(PANEL);
        self.values.resize(rows * self.width, 0.0);
    }

    pub(crate) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    pub(crate) fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.width..][..self.width]
    }

    /// Copies rows `first..first + count` times `factor`; zeros in the rows behind them.
    pub(crate) fn copy(&mut self, rows: Rows, first: usize, count: usize, dim: usize, factor: f32) {
        for (index, to) in self.values.chunks_exact_mut(self.width).enumerate() {
            if index < count {
                let from = rows.row(first + index, dim);
                to.iter_mut().zip(from).for_each(|(to, value)| *to = factor * value);
            } else {
                to.fill(0.0);
            }
        }
    }

    /// Copies rows `first..first + count` times `factor` to the rows from `to` on.
    pub(crate) fn copy_to(&mut self, to: usize, rows: Rows, first: usize, count: usize, dim: usize, factor: f32) {
        for (index, to) in self.values[to * self.width..].chunks_exact_mut(self.width).take(count).enumerate() {
            let from = rows.row(first + index, dim);
            to.iter_mut().zip(from).for_each(|(to, value)| *to = factor * value);
        }
    }

    /// Copies the same rows as columns: `self[d, i] = factor · rows[first + i][d]`; zeros in the columns behind them.
    pub(crate) fn copy_turned(&mut self, rows: Rows, first: usize, count: usize, dim: usize, factor: f32) {
        let width = self.width;
        let sources: Vec<&[f32]> = (first..first + count).map(|index| rows.row(index, dim)).collect();
        for (d, to) in self.values.chunks_exact_mut(width).enumerate().take(dim) {
            let (seen, behind) = to.split_at_mut(count);
            seen.iter_mut().zip(&sources).for_each(|(to, from)| *to = factor * from[d]);
            behind.fill(0.0);
        }
    }
}

/// `out[rows, right.width] (+)= left[rows, depth] · right[depth, right.width]`, all scratch matrices.
pub(crate) fn product<'a>(
    isa: Isa,
    left: &Matrix,
    right: impl Into<View<'a>>,
    out: &mut Matrix,
    rows: usize,
    depth: usize,
    write: Write,
) {
    let view = Left { at: left.values.as_ptr(), row: left.width, step: 1 };
    assert!(rows * left.width <= left.values.len() && depth <= left.width);
    multiply(isa, view, right.into(), out, rows, depth, write);
}

fn multiply(isa: Isa, left: Left, right: View, out: &mut Matrix, rows: usize, depth: usize, write: Write) {
    assert!(depth * right.width <= right.values.len() && rows * out.width <= out.values.len());
    assert_eq!(right.width, out.width);
    let panels = right.width / PANEL;
    let from = Right::Rows { at: right.values.as_ptr(), panel: PANEL, row: right.width };
    let to = Dest { at: out.values.as_mut_ptr(), row: out.width };
    for strip in strips(0..rows, ROWS) {
        let left = Left { at: left.at.wrapping_add(strip.start * left.row), ..left };
        let to = Dest { at: to.at.wrapping_add(strip.start * to.row), ..to };
        let mut panel = 0;
        while panel < panels {
            let group = panels_for(isa, strip.len());
            let count = if panels - panel >= group { group } else { 1 };
            // SAFETY: the assertions above and in the callers bound every access; out is borrowed exclusively.
            unsafe { tile(isa, strip.len(), count, depth, left, from.skip(panel), to.skip(panel), write) };
            panel += count;
        }
    }
}
