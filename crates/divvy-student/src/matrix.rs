//! A weight matrix of a layer, in one of the two forms that inference knows. Training reads exact ones.

use std::sync::Arc;

use divvy_kernels::{Packed, Packed8, Write, eight_bits_pay, matmul, matmul8};

/// How close a model's products are to its stored numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Numerics {
    /// Weights in bf16, which hold the stored numbers to three digits; activations in f32, or in bf16 where the
    /// instruction set rounds them; sums in f32.
    #[default]
    Exact,
    /// Weights and activations in 8 bits with a scale for each 256 values. Attention, embedding and adapters stay exact.
    Int8,
}

impl Numerics {
    /// Eight bits where this machine gains by them.
    #[must_use]
    pub fn fastest() -> Self {
        if eight_bits_pay() { Self::Int8 } else { Self::Exact }
    }
}

/// `W[n, k]`, `n` outputs by `k` inputs.
pub enum Matrix {
    /// Shared where head and embedding are one.
    Exact(Arc<Packed>),
    Int8(Packed8),
}

impl Matrix {
    /// Packs `n` rows of `k` values: `fill(row, values)` is called once for each row, from several threads.
    pub fn from_rows(numerics: Numerics, n: usize, k: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        match numerics {
            Numerics::Exact => Self::Exact(Arc::new(Packed::from_rows(n, k, fill))),
            Numerics::Int8 => Self::Int8(Packed8::from_rows(n, k, fill)),
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
        }
    }

    /// # Panics
    /// On a matrix in 8 bits: a base for training is loaded with [`Numerics::Exact`].
    #[must_use]
    pub fn exact(&self) -> &Packed {
        match self {
            Self::Exact(w) => w,
            Self::Int8(_) => panic!("training reads exact weights, and these are in 8 bits"),
        }
    }
}
