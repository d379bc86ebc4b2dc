//! What the products of attention read: blocks in f32, or rounded to bf16 in the layout of `operands`.

use super::BLOCK;
use super::block::{Matrix, Rows, View};
use crate::dispatch::Block;
use crate::operands::{self, LeftRows, LeftTiles, RightPanels, Term};
use crate::packed::Line;
use crate::rounding::Source;
use crate::{Isa, Write};

/// In which numbers products read their operands; sums are f32.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numerics {
    pub(super) isa: Isa,
    rounds: bool,
}

impl Numerics {
    /// Rounded where the instruction set rounds, as PyTorch's attention under bf16 autocast.
    pub(super) fn training(isa: Isa) -> Numerics {
        Numerics { isa, rounds: isa.rounds() }
    }

    /// f32: the one query of a decoding step is less work than rounding all keys before it.
    pub(super) fn generation(isa: Isa) -> Numerics {
        Numerics { isa, rounds: false }
    }

    /// The first `rows` rows of `matrix`, of which products read `depth` columns.
    pub(super) fn left<'a>(
        self,
        matrix: &'a Matrix,
        rows: usize,
        depth: usize,
        scratch: &'a mut LeftTiles,
    ) -> Left<'a> {
        if !self.rounds {
            return Left::Plain(matrix);
        }
        let step = matrix.width;
        scratch.refill(Source { values: &matrix.values, step, rows, columns: depth, factor: 1.0 });
        Left::Rounded(scratch.rows())
    }

    /// The first `depth` rows and `n` columns of `matrix`.
    pub(super) fn right<'a>(self, matrix: &'a Matrix, depth: usize, n: usize, scratch: &'a mut Vec<Line>) -> Right<'a> {
        if !self.rounds {
            return Right::Plain(matrix.into());
        }
        let Matrix { values, width } = matrix;
        operands::pack_here(Source { values, step: *width, rows: depth, columns: n, factor: 1.0 }, scratch);
        Right::Rounded(RightPanels { lines: scratch, n, k: depth })
    }

    /// `[count, dim]`, to keep.
    pub(super) fn left_of(self, part: Part) -> KeptLeft {
        if !self.rounds {
            return KeptLeft::Plain(part.copied());
        }
        let mut tiles = LeftTiles::default();
        tiles.refill(part.source());
        KeptLeft::Rounded(tiles)
    }

    /// `[dim, count]`, to keep.
    pub(super) fn left_turned(self, part: Part) -> KeptLeft {
        if !self.rounds {
            return KeptLeft::Plain(part.turned());
        }
        let mut tiles = LeftTiles::default();
        tiles.refill_turned(part.source());
        KeptLeft::Rounded(tiles)
    }

    /// `[count, dim]`, in the memory of `room`.
    pub(super) fn right_of(self, part: Part, room: &mut KeptRight) {
        (room.k, room.n) = (part.count, part.dim);
        if self.rounds {
            return operands::pack_here(part.source(), &mut room.lines);
        }
        room.matrix.shape(BLOCK, part.dim);
        room.matrix.copy(part.rows, part.first, part.count, part.dim, part.factor);
    }

    /// `[dim, count]`, in the memory of `room`.
    pub(super) fn right_turned(self, part: Part, room: &mut KeptRight) {
        (room.k, room.n) = (part.dim, part.count);
        if self.rounds {
            return operands::pack_turned_here(part.source(), &mut room.lines);
        }
        room.matrix.shape(part.dim, BLOCK);
        room.matrix.copy_turned(part.rows, part.first, part.count, part.dim, part.factor);
    }

    /// What [`Numerics::right_of`] or [`Numerics::right_turned`] left in `room`.
    pub(super) fn kept(self, room: &KeptRight) -> Right<'_> {
        if self.rounds {
            Right::Rounded(RightPanels { lines: &room.lines, n: room.n, k: room.k })
        } else {
            Right::Plain((&room.matrix).into())
        }
    }

    /// `out[rows, n] (+)= left[rows, depth] · right[depth, n]`.
    pub(super) fn product(self, left: Left, right: Right, out: &mut Matrix, rows: usize, depth: usize, write: Write) {
        match (left, right) {
            (Left::Plain(left), Right::Plain(right)) => {
                super::block::product(self.isa, left, right, out, rows, depth, write);
            }
            (Left::Rounded(left), Right::Rounded(right)) => {
                let fits = right.n <= out.width && rows * out.width <= out.values.len();
                assert!(fits && (left.m, right.k) == (rows, depth), "attention: shapes of a product");
                let into = Block::whole(&mut out.values, out.width);
                // SAFETY: out is borrowed exclusively and holds rows × n.
                unsafe { operands::product_here(self.isa, Term { left, right }, into, write) };
            }
            _ => unreachable!("both operands of a product are rounded, or none"),
        }
    }
}

/// Some rows of a head, times a factor.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) first: usize,
    /// At most a block.
    pub(super) count: usize,
    pub(super) dim: usize,
    pub(super) factor: f32,
}

impl<'a> Part<'a> {
    fn source(self) -> Source<'a> {
        let Part { rows: Rows { values, offset, stride }, first, count, dim, factor } = self;
        Source { values: &values[offset + first * stride..], step: stride, rows: count, columns: dim, factor }
    }

    fn copied(self) -> Matrix {
        let mut matrix = Matrix::new(BLOCK, self.dim);
        matrix.copy(self.rows, self.first, self.count, self.dim, self.factor);
        matrix
    }

    fn turned(self) -> Matrix {
        let mut matrix = Matrix::new(self.dim, BLOCK);
        matrix.copy_turned(self.rows, self.first, self.count, self.dim, self.factor);
        matrix
    }
}

#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    Plain(&'a Matrix),
    Rounded(LeftRows<'a>),
}

#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    Plain(View<'a>),
    Rounded(RightPanels<'a>),
}

/// A left operand that several products read.
pub(super) enum KeptLeft {
    Plain(Matrix),
    Rounded(LeftTiles),
}

impl KeptLeft {
    pub(super) fn get(&self) -> Left<'_> {
        match self {
            KeptLeft::Plain(matrix) => Left::Plain(matrix),
            KeptLeft::Rounded(tiles) => Left::Rounded(tiles.rows()),
        }
    }
}

/// A right operand that several products read: one of the two forms is in use.
#[derive(Default)]
pub(super) struct KeptRight {
    pub(super) matrix: Matrix,
    lines: Vec<Line>,
    n: usize,
    k: usize,
}
