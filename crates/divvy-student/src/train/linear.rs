//! One linear map `y = x·Wᵀ`, forward and backward: a frozen or trained base matrix W in bf16, and beside it, for
//! LoRA, `y += s·(x·Aᵀ)·Bᵀ`. Fused matrices (qkv, gate and up) hold their projections' factors side by side: the A are
//! stacked, so that x is read once, and the B form a block-diagonal matrix, kept transposed so that every product runs
//! along rows.

use divvy_kernels::{Input, LowRank, Packed, Write};

use super::buffers::Buffers;
use crate::matrix::Matrix;

/// The factors beside one fused matrix `[n, k]` of `parts` projections; `inner = parts · rank`.
#[derive(Clone, Copy)]
pub(crate) struct LoraMap<'a> {
    /// `[inner, k]`
    pub(crate) a: &'a [f32],
    /// `[inner, n]`: Bᵀ, zero outside each part's own columns.
    pub(crate) b: &'a [f32],
    pub(crate) inner: usize,
    pub(crate) scale: f32,
}

/// `y (+)= x·Wᵀ`, plus LoRA's share. Returns `x·Aᵀ` `[m, inner]` for the backward pass (empty without LoRA).
pub(crate) fn linear(
    x: &Input<'_>,
    w: &Matrix,
    lora: Option<LoraMap<'_>>,
    y: &mut [f32],
    m: usize,
    write: Write,
    buffers: &mut Buffers,
) -> Vec<f32> {
    let mut u = buffers.take(m * lora.map_or(0, |map| map.inner));
    let w = w.packed(&mut buffers.rooms.packed);
    let Some(LoraMap { a, b, inner, scale }) = lora else {
        x.matmul(w, None, y, write);
        return u;
    };
    x.mm_nt(a, &mut u, inner, 1.0);
    x.matmul(w, Some(LowRank { u: &u, b, inner, alpha: scale }), y, write);
    u
}

/// Where the gradient of a linear map goes.
pub(crate) enum Sink<'a> {
    Lora {
        map: LoraMap<'a>,
        /// `x·Aᵀ` from the forward pass.
        u: &'a [f32],
        da: &'a mut [f32],
        db: &'a mut [f32],
    },
    /// `[n, k]`
    Full { dw: &'a mut [f32] },
}

/// Adds the gradient to `sink` and, if wanted, writes `dx = dy·W`. `turned` is Wᵀ.
pub(crate) fn linear_backward(
    x: &Input<'_>,
    dy: &[f32],
    turned: &Packed,
    sink: Sink<'_>,
    dx: Option<&mut [f32]>,
    m: usize,
    buffers: &mut Buffers,
) {
    let n = turned.k();
    match sink {
        Sink::Full { dw } => {
            x.mm_tn(dy, dw, n, 1.0, Write::Add);
            if let Some(dx) = dx {
                Input::new(dy, m, n).matmul(turned, None, dx, Write::Set);
            }
        }
        Sink::Lora { map: LoraMap { a, b, inner, scale }, u, da, db } => {
            let from = Input::new(dy, m, n);
            let mut du = buffers.take(m * inner);
            from.mm_nt(b, &mut du, inner, scale);
            from.mm_tn(u, db, inner, scale, Write::Add);
            x.mm_tn(&du, da, inner, 1.0, Write::Add);
            if let Some(dx) = dx {
                from.matmul(turned, Some(LowRank { u: &du, b: a, inner, alpha: 1.0 }), dx, Write::Set);
            }
            buffers.give(du);
        }
    }
}
