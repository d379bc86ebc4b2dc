//! CPU kernels for training and running small decoder language models: matrix products with bf16 weights, RMS norm,
//! rotary embedding, SwiGLU and GeGLU, causal attention, fused linear + cross-entropy and AdamW, each with its hand-written
//! backward, dispatched by the detected instruction set (portable, AVX2+FMA, AVX-512 bf16, AMX). It does not know what a model is.
//!
//! Activations are row-major `f32`; shapes are asserted, so a wrong length is a panic that names the operand.
//! Every kernel runs on the current rayon pool. A result depends neither on the number of threads nor, for row-wise
//! operations, on how many other rows share the call: the reduction order of an element is fixed. It does depend on the
//! instruction set.
//!
//! This is the only crate of the workspace with `unsafe`: its public functions are safe.

mod amx;
mod attention;
mod avx512;
mod bf16;
mod blocks;
mod dispatch;
mod gate;
mod input;
mod int8;
mod isa;
mod loss;
mod mapped;
mod math;
mod matmul;
mod norm;
mod operands;
mod optimiser;
mod packed;
mod products;
mod rope;
mod rounding;
mod softmax;
#[cfg(test)]
mod testing;
mod tile;

pub use attention::{CacheFormat, CachedQuery, Heads, Page, attend_cached, attention, attention_backward};
pub use blocks::{BlockFormat, BlockPart, BlockRow, Blocks, Side, matmul_blocks};
pub use gate::{Gate, gated, gated_backward};
pub use input::{Input, LowRank};
pub use int8::{Packed8, eight_bits_pay, matmul8};
pub use isa::{Isa, IsaError};
pub use loss::{CrossEntropy, TakeGradient, chunked_cross_entropy, linear_cross_entropy};
pub use mapped::MappedFile;
pub use matmul::matmul;
pub use norm::{rms_norm, rms_norm_backward};
pub use optimiser::{AdamW, adamw_step, scale, squared_norm};
pub use packed::Packed;
pub use products::{Packed32, mm_tn};
pub use rope::{Direction, RopeTable, rope};
pub use softmax::{argmax, softmax_in_place};

/// Whether a kernel overwrites its result or adds to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Set,
    Add,
}
