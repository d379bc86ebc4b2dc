//! The gated activations of feed-forward blocks (Shazeer 2020): `y = silu(gate) · up` in Llama and its kin, `gelu(gate) · up`
//! in Gemma, whose GELU is the approximation by a hyperbolic tangent (Hendrycks & Gimpel 2016).

use crate::Isa;
use crate::dispatch::{Shared, per_isa, row_blocks};
use crate::math;

/// What the gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Silu,
    GeluTanh,
}

/// `gate_up` is `[m, 2f]`, the gate half first; `y` is `[m, f]`.
///
/// # Panics
/// When `f` is zero or the lengths do not fit.
pub fn gated(gate: Gate, gate_up: &[f32], y: &mut [f32], f: usize) {
    assert!(f > 0 && y.len().is_multiple_of(f), "gated: y is rows of f = {f}");
    assert_eq!(gate_up.len(), 2 * y.len(), "gated: gate_up is [m, 2f]");
    let (isa, rows, y) = (Isa::current(), y.len() / f, Shared::new(y));
    row_blocks(rows, f, |first, rows| {
        // SAFETY: row blocks are disjoint, and the borrow outlives the tasks.
        let y = unsafe { y.slice(first * f, rows * f) };
        let gate_up = &gate_up[2 * first * f..][..2 * rows * f];
        match gate {
            Gate::Silu => silu(isa, gate_up, y, f),
            Gate::GeluTanh => gelu(isa, gate_up, y, f),
        }
    });
}

per_isa! {
    fn silu(gate_up: &[f32], y: &mut [f32], f: usize) = silu_body
}

#[inline(always)]
fn silu_body(gate_up: &[f32], y: &mut [f32], f: usize) {
    each(gate_up, y, f, |gate| gate * math::sigmoid(gate));
}

per_isa! {
    fn gelu(gate_up: &[f32], y: &mut [f32], f: usize) = gelu_body
}

#[inline(always)]
fn gelu_body(gate_up: &[f32], y: &mut [f32], f: usize) {
    each(gate_up, y, f, |gate| gate * math::sigmoid(bent(gate)));
}

/// `gelu(x) = x · (1 + tanh(u)) / 2 = x · sigmoid(2u)` with `u = √(2/π) · (x + 0.044715 x³)`: this is `2u`.
#[inline(always)]
fn bent(x: f32) -> f32 {
    2.0 * ROOT_2_OVER_PI * x * (1.0 + CUBE * x * x)
}

const ROOT_2_OVER_PI: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

#[inline(always)]
fn each(gate_up: &[f32], y: &mut [f32], f: usize, activate: impl Fn(f32) -> f32) {
    for (both, y) in gate_up.chunks_exact(2 * f).zip(y.chunks_exact_mut(f)) {
        let (gate, up) = both.split_at(f);
        let up = &up[..f];
        for i in 0..f {
            y[i] = activate(gate[i]) * up[i];
        }
    }
}

/// Writes the gradient of [`gated`] to `dgate_up` `[m, 2f]`, given `dy` `[m, f]`.
///
/// # Panics
/// When `f` is zero or the lengths do not fit.
pub fn gated_backward(gate: Gate, gate_up: &[f32], dy: &[f32], dgate_up: &mut [f32], f: usize) {
    assert!(f > 0 && dy.len().is_multiple_of(f), "gated_backward: dy is rows of f = {f}");
    assert_eq!(gate_up.len(), 2 * dy.len(), "gated_backward: gate_up is [m, 2f]");
    assert_eq!(dgate_up.len(), gate_up.len(), "gated_backward: dgate_up has the shape of gate_up");
    let (isa, gradient) = (Isa::current(), Shared::new(dgate_up));
    row_blocks(dy.len() / f, 2 * f, |first, rows| {
        // SAFETY: row blocks are disjoint, and the borrow outlives the tasks.
        let gradient = unsafe { gradient.slice(2 * first * f, 2 * rows * f) };
        let (gate_up, dy) = (&gate_up[2 * first * f..][..2 * rows * f], &dy[first * f..][..rows * f]);
        match gate {
            Gate::Silu => silu_backward(isa, gate_up, dy, gradient, f),
            Gate::GeluTanh => gelu_backward(isa, gate_up, dy, gradient, f),
        }
    });
}

per_isa! {
    fn silu_backward(gate_up: &[f32], dy: &[f32], dgate_up: &mut [f32], f: usize) = silu_backward_body
}

#[inline(always)]
fn silu_backward_body(gate_up: &[f32], dy: &[f32], dgate_up: &mut [f32], f: usize) {
    each_backward(gate_up, dy, dgate_up, f, |gate| {
        let s = math::sigmoid(gate);
        (gate * s, s * (1.0 + gate * (1.0 - s)))
    });
}

per_isa! {
    fn gelu_backward(gate_up: &[f32], dy: &[f32], dgate_up: &mut [f32], f: usize) = gelu_backward_body
}

#[inline(always)]
fn gelu_backward_body(gate_up: &[f32], dy: &[f32], dgate_up: &mut [f32], f: usize) {
    each_backward(gate_up, dy, dgate_up, f, |gate| {
        let s = math::sigmoid(bent(gate));
        let slope = 2.0 * ROOT_2_OVER_PI * (1.0 + 3.0 * CUBE * gate * gate);
        (gate * s, s * (1.0 + gate * (1.0 - s) * slope))
    });
}

/// `activate` gives the value and the slope.
#[inline(always)]
fn each_backward(gate_up: &[f32], dy: &[f32], dgate_up: &mut [f32], f: usize, activate: impl Fn(f32) -> (f32, f32)) {
    for ((both, dy), gradient) in
        gate_up.chunks_exact(2 * f).zip(dy.chunks_exact(f)).zip(dgate_up.chunks_exact_mut(2 * f))
    {
        let ((gate, up), (dgate, dup)) = (both.split_at(f), gradient.split_at_mut(f));
        let (up, dup) = (&up[..f], &mut dup[..f]);
        for i in 0..f {
            let (value, slope) = activate(gate[i]);
            dup[i] = dy[i] * value;
            dgate[i] = dy[i] * up[i] * slope;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, isas, random};

    const GATES: [Gate; 2] = [Gate::Silu, Gate::GeluTanh];

    fn naive(gate: Gate, gate_up: &[f32], f: usize) -> Vec<f64> {
        let activate = |x: f64| match gate {
            Gate::Silu => x / (1.0 + (-x).exp()),
            Gate::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
        };
        gate_up
            .chunks(2 * f)
            .flat_map(|row| (0..f).map(|i| activate(row[i].into()) * f64::from(row[f + i])).collect::<Vec<_>>())
            .collect()
    }

    fn sample(len: usize) -> Vec<f32> {
        random(len, 1).iter().map(|value| value * 8.0).collect()
    }

    #[test]
    fn forward_agrees_with_the_formula() {
        for (isa, (m, f)) in isas().into_iter().flat_map(|isa| [(1, 1), (3, 37), (2, 1536)].map(|shape| (isa, shape))) {
            let (x, mut y) = (sample(2 * m * f), vec![0.0; m * f]);
            silu(isa, &x, &mut y, f);
            assert_close(&y, &naive(Gate::Silu, &x, f), 1e-6, "silu");
            gelu(isa, &x, &mut y, f);
            assert_close(&y, &naive(Gate::GeluTanh, &x, f), 2e-6, "gelu");
        }
        let (x, mut y) = (sample(2 * 64 * 1536), vec![0.0; 64 * 1536]);
        gated(Gate::Silu, &x, &mut y, 1536);
        assert_close(&y, &naive(Gate::Silu, &x, 1536), 1e-6, "in parallel");
    }

    #[test]
    fn extreme_gates_stay_finite() {
        for gate in GATES {
            let mut y = [0.0; 2];
            gated(gate, &[-1e4, 1e4, 1.0, 1.0], &mut y, 2);
            assert_eq!(y, [0.0, 1e4]);
        }
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        let (m, f) = (3, 19);
        let (x, dy) = (sample(2 * m * f), random(m * f, 2));
        for isa in isas() {
            for (gate, backward) in GATES.into_iter().zip([silu_backward, gelu_backward]) {
                let mut dx = vec![f32::NAN; x.len()];
                backward(isa, &x, &dy, &mut dx, f);
                let loss = |x: &[f32]| naive(gate, x, f).iter().zip(&dy).map(|(a, b)| a * f64::from(*b)).sum();
                assert_gradient(&x, &dx, 1e-3, 1e-4, &format!("{gate:?}"), loss);
                let mut parallel = vec![f32::NAN; x.len()];
                gated_backward(gate, &x, &dy, &mut parallel, f);
                assert!(parallel.iter().zip(&dx).all(|(a, b)| (a - b).abs() < 1e-4));
            }
        }
    }
}
