//! Helpers of this crate's tests: seeded values, naive products in f64, comparison, numeric derivatives.

use crate::{Isa, bf16};

/// Instruction sets to test: those of this machine, and AMX under emulation where it is missing.
pub(crate) fn isas() -> Vec<Isa> {
    let mut isas: Vec<Isa> = Isa::available().collect();
    if !isas.contains(&Isa::Amx) && crate::amx::emulate() {
        isas.push(Isa::Amx);
    }
    isas
}

/// Values in -1..1 from a small seeded generator (xorshift64*).
pub(crate) fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// What is left after rounding to bf16.
pub(crate) fn widen(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| bf16::widen(bf16::round(*value))).collect()
}

/// `x[m, k] · w[n, k]ᵀ` in f64.
pub(crate) fn product(x: &[f32], w: &[f32], m: usize, n: usize, k: usize) -> Vec<f64> {
    let mut y = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            y[i * n + j] = (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(w[j * k + l])).sum();
        }
    }
    y
}

/// Fails unless every value is within `tolerance` (absolute, and relative above 1).
pub(crate) fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: length");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let gap = (f64::from(*a) - e).abs();
        assert!(gap <= tolerance * e.abs().max(1.0), "{what}: [{i}] is {a}, expected {e}");
    }
}

/// Compares `gradient` with central differences of `loss` at a sample of positions.
pub(crate) fn assert_gradient(
    x: &[f32],
    gradient: &[f32],
    step: f32,
    tolerance: f64,
    what: &str,
    loss: impl Fn(&[f32]) -> f64,
) {
    let stride = (x.len() / 60).max(1);
    for i in (0..x.len()).step_by(stride) {
        let mut moved = x.to_vec();
        moved[i] = x[i] + step;
        let (high, up) = (loss(&moved), moved[i]);
        moved[i] = x[i] - step;
        let expected = (high - loss(&moved)) / f64::from(up - moved[i]);
        let gap = (f64::from(gradient[i]) - expected).abs();
        assert!(gap <= tolerance * expected.abs().max(1.0), "{what}: d[{i}] is {}, expected {expected}", gradient[i]);
    }
}
