//! The gated activation of Llama-style feed-forward blocks (Shazeer 2020): `y = silu(gate) · up`.

use crate::Isa;
use crate::dispatch::{Shared, per_isa, row_blocks};
use crate::math;

/// `gate_up` is `[m, 2f]`, the gate half first; `y` is `[m, f]`.
///
/// # Panics
/// When `f` is zero or the lengths do not fit.
pub fn swiglu(gate_up: &[f32], y: &mut [f32], f: usize) {
    assert!(f > 0 && y.len().is_multiple_of(f), "swiglu: y is rows of f = {f}");
    assert_eq!(gate_up.len(), 2 * y.len(), "swiglu: gate_up is [m, 2f]");
    let (isa, rows, y) = (Isa::current(), y.len() / f, Shared::new(y));
    row_blocks(rows, f, |first, rows| {
        // SAFETY: row blocks are disjoint, and the borrow outlives the tasks.
        let y = unsafe { y.slice(first * f, rows * f) };
        forward(isa, &gate_up[2 * first * f..][..2 * rows * f], y, f);
    });
}

per_isa! {
    fn forward(gate_up: &[f32], y: &mut [f32], f: usize) = forward_body
}

#[inline(always)]
fn forward_body(gate_up: &[f32], y: &mut [f32], f: usize) {
    for (both, y) in gate_up.chunks_exact(2 * f).zip(y.chunks_exact_mut(f)) {
        let (gate, up) = both.split_at(f);
        let up = &up[..f];
        for i in 0..f {
            y[i] = gate[i] * math::sigmoid(gate[i]) * up[i];
        }
    }
}

/// Writes the gradient of [`swiglu`] to `dgate_up` `[m, 2f]`, given `dy` `[m, f]`.
///
/// # Panics
/// When `f` is zero or the lengths do not fit.
pub fn swiglu_backward(gate_up: &[f32], dy: &[f32], dgate_up: &mut [f32], f: usize) {
    assert!(f > 0 && dy.len().is_multiple_of(f), "swiglu_backward: dy is rows of f = {f}");
    assert_eq!(gate_up.len(), 2 * dy.len(), "swiglu_backward: gate_up is [m, 2f]");
    assert_eq!(dgate_up.len(), gate_up.len(), "swiglu_backward: dgate_up has the shape of gate_up");
    let (isa, gradient) = (Isa::current(), Shared::new(dgate_up));
    row_blocks(dy.len() / f, 2 * f, |first, rows| {
        // SAFETY: row blocks are disjoint, and the borrow outlives the tasks.
        let gradient = unsafe { gradient.slice(2 * first * f, 2 * rows * f) };
        backward(isa, &gate_up[2 * first * f..][..2 * rows * f], &dy[first * f..][..rows * f], gradient, f);
    });
}

per_isa! {
    fn backward(gate_up: &[f32], dy: &[f32], dgate_up: &mut [f32], f: usize) = backward_body
}

#[inline(always)]
fn backward_body(gate_up: &[f32], dy: &[f32], dgate_up: &mut [f32], f: usize) {
    for ((both, dy), gradient) in
        gate_up.chunks_exact(2 * f).zip(dy.chunks_exact(f)).zip(dgate_up.chunks_exact_mut(2 * f))
    {
        let ((gate, up), (dgate, dup)) = (both.split_at(f), gradient.split_at_mut(f));
        let (up, dup) = (&up[..f], &mut dup[..f]);
        for i in 0..f {
            let s = math::sigmoid(gate[i]);
            dup[i] = dy[i] * gate[i] * s;
            dgate[i] = dy[i] * up[i] * s * (1.0 + gate[i] * (1.0 - s));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, isas, random};

    fn naive(gate_up: &[f32], f: usize) -> Vec<f64> {
        let one = |gate: f64, up: f64| gate / (1.0 + (-gate).exp()) * up;
        gate_up
            .chunks(2 * f)
            .flat_map(|row| (0..f).map(|i| one(f64::from(row[i]), f64::from(row[f + i]))).collect::<Vec<_>>())
            .collect()
    }

    fn sample(len: usize) -> Vec<f32> {
        random(len, 1).iter().map(|value| value * 8.0).collect()
    }

    #[test]
    fn forward_agrees_with_the_formula() {
        for isa in isas() {
            for (m, f) in [(1, 1), (3, 37), (2, 1536)] {
                let (x, mut y) = (sample(2 * m * f), vec![0.0; m * f]);
                forward(isa, &x, &mut y, f);
                assert_close(&y, &naive(&x, f), 1e-6, "swiglu");
            }
        }
        let (x, mut y) = (sample(2 * 64 * 1536), vec![0.0; 64 * 1536]);
        swiglu(&x, &mut y, 1536);
        assert_close(&y, &naive(&x, 1536), 1e-6, "swiglu in parallel");
    }

    #[test]
    fn extreme_gates_stay_finite() {
        let mut y = [0.0; 2];
        swiglu(&[-1e4, 1e4, 1.0, 1.0], &mut y, 2);
        assert_eq!(y, [0.0, 1e4]);
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        let (m, f) = (3, 19);
        let (x, dy) = (sample(2 * m * f), random(m * f, 2));
        let mut dx = vec![f32::NAN; x.len()];
        swiglu_backward(&x, &dy, &mut dx, f);
        let loss = |x: &[f32]| naive(x, f).iter().zip(&dy).map(|(a, b)| a * f64::from(*b)).sum();
        assert_gradient(&x, &dx, 1e-3, 1e-4, "swiglu", loss);
    }
}
