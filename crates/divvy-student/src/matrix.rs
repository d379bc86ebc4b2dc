//! A weight matrix of a layer, in one of the three forms that inference knows, or as its file has it, for the frozen base of a
//! training run.

use std::sync::Arc;

use divvy_kernels::{Blocks, Packed, Packed8, Write, eight_bits_pay, matmul, matmul_blocks, matmul8};
use half::bf16;

use crate::quant::Stored;

/// How close a model's products are to its stored numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Numerics {
    /// Weights in bf16, which hold the stored numbers to three digits; activations in f32, or in bf16 where the
    /// instruction set rounds them; sums in f32.
    #[default]
    Exact,
    /// Weights and activations in 8 bits with a scale for each 256 values. Attention, embedding and adapters stay exact.
    Int8,
    /// Weights in the bits of their file where it has block formats (GGUF), others as `Exact`; activations beside blocks in 8 bits.
    /// The least memory; one reply at a time of a large model waits for fewer bytes than in 8 bits.
    Blocks,
    /// The same numbers as `Exact`, held in the bits of their file and unpacked for each product: slow but small, for training
    /// beside a frozen base (QLoRA, Dettmers et al. 2023, arXiv:2305.14314). Embedding and head stay in bf16.
    Stored,
}

impl Numerics {
    /// Eight bits where this machine gains by them.
    #[must_use]
    pub fn fastest() -> Self {
        if eight_bits_pay() { Self::Int8 } else { Self::Exact }
    }
}

/// `W[n, k]`, `n` outputs by `k` inputs. A clone shares the numbers: of head and embedding, where they are one.
#[derive(Clone)]
pub enum Matrix {
    Exact(Arc<Packed>),
    Int8(Arc<Packed8>),
    Blocks(Arc<Blocks>),
    Stored(Arc<StoredRows>),
}

/// Tensors of one width, each with the number of its first row.
pub struct StoredRows {
    parts: Vec<(usize, Stored)>,
    n: usize,
    k: usize,
}

impl StoredRows {
    /// `parts` on top of each other.
    pub(crate) fn of(parts: Vec<(usize, Stored)>, k: usize) -> Self {
        let n = parts.iter().map(|(_, part)| part.rows()).sum();
        Self { parts, n, k }
    }

    pub(crate) fn is_quantised(&self) -> bool {
        self.parts.iter().any(|(_, part)| part.is_quantised())
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        let (first, part) =
            self.parts.iter().rev().find(|(first, _)| *first <= row).expect("the first part starts at 0");
        part.read_row(row - first, out);
    }

    fn unpack(&self, room: &mut Packed) {
        room.refill(self.n, self.k, |row, out| self.row(row, out));
    }
}

impl Matrix {
    /// Packs `n` rows of `k` values: `fill(row, values)` is called once for each row, from several threads.
    pub fn from_rows(numerics: Numerics, n: usize, k: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        match numerics {
            Numerics::Exact | Numerics::Blocks => Self::Exact(Arc::new(Packed::from_rows(n, k, fill))),
            Numerics::Int8 => Self::Int8(Arc::new(Packed8::from_rows(n, k, fill))),
            Numerics::Stored => unreachable!("stored tensors are taken as they are"),
        }
    }

    /// `y[m, n] (+)= x[m, k] · Wᵀ`; a row has the same bits whatever `m`.
    ///
    /// # Panics
    /// When `x` or `y` has another length.
    pub fn matmul(&self, x: &[f32], y: &mut [f32], m: usize, write: Write) {
        match self {
            Self::Exact(w) => matmul(x, w, y, m, write),
            Self::Int8(w) => matmul8(x, w, y, m, write),
            Self::Blocks(w) => matmul_blocks(x, w, y, m, write),
            Self::Stored(_) => matmul(x, self.packed(&mut Packed::empty()), y, m, write),
        }
    }

    /// # Panics
    /// On any other form than [`Numerics::Exact`].
    #[must_use]
    pub fn exact(&self) -> &Packed {
        match self {
            Self::Exact(w) => w,
            Self::Int8(_) | Self::Blocks(_) => panic!("training reads exact weights, and these are for generation"),
            Self::Stored(_) => panic!("these weights are to be unpacked first"),
        }
    }

    /// In bf16 panels: these, or unpacked into `room`.
    ///
    /// # Panics
    /// On a matrix in 8 bits or blocks.
    pub fn packed<'m>(&'m self, room: &'m mut Packed) -> &'m Packed {
        if let Self::Stored(rows) = self {
            rows.unpack(room);
            return room;
        }
        self.exact()
    }

    /// Its transpose in bf16 panels, where it is wanted once: see [`Matrix::packed`].
    ///
    /// # Panics
    /// On a matrix in 8 bits or blocks.
    pub fn turned<'m>(&self, room: &mut Packed, turned: &'m mut Packed) -> &'m Packed {
        turned.transpose_of(self.packed(room));
        turned
    }

    /// Reads row `row` back.
    ///
    /// # Panics
    /// On a matrix in 8 bits.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Blocks(blocks) => blocks.row(row, out),
            Self::Stored(rows) => {
                rows.row(row, out);
                out.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32());
            }
            Self::Exact(_) | Self::Int8(_) => self.exact().row(row, out),
        }
    }
}
