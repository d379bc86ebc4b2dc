//! AdamW (Loshchilov & Hutter 2019) on f32 master weights and moments, and the two passes of gradient clipping.

use crate::Isa;
use crate::dispatch::per_isa;
use rayon::prelude::*;

/// Values in one task.
const CHUNK: usize = 1 << 15;

/// Settings that stay the same over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Decoupled: `param -= lr * weight_decay * param`.
    pub weight_decay: f32,
}

/// Factors of one step, corrected for the moments' start at zero.
#[derive(Clone, Copy)]
struct Factors {
    settings: AdamW,
    rate: f32,
    keep: f32,
    inverse_root: f32,
}

/// One update of `param` with its first (`m`) and second (`v`) moments; `step` counts from 1. Same formula as PyTorch:
/// `param = param·(1 - lr·decay) - lr/(1-β1ᵗ) · m / (√v/√(1-β2ᵗ) + eps)`.
///
/// # Panics
/// When the slices differ in length or `step` is zero.
pub fn adamw_step(settings: &AdamW, lr: f32, step: u64, param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert!(step > 0, "adamw_step: steps count from 1");
    assert_eq!(grad.len(), param.len(), "adamw_step: grad has the length of param");
    assert_eq!(m.len(), param.len(), "adamw_step: m has the length of param");
    assert_eq!(v.len(), param.len(), "adamw_step: v has the length of param");
    let corrected = |beta: f32| 1.0 - f64::from(beta).powi(i32::try_from(step).unwrap_or(i32::MAX));
    let factors = Factors {
        settings: *settings,
        rate: (f64::from(lr) / corrected(settings.beta1)) as f32,
        keep: 1.0 - lr * settings.weight_decay,
        inverse_root: (1.0 / corrected(settings.beta2).sqrt()) as f32,
    };
    let isa = Isa::current();
    let parts = param.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    parts.zip(moments).for_each(|((param, grad), (m, v))| update(isa, factors, param, grad, m, v));
}

per_isa! {
    fn update(factors: Factors, param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32]) = update_body
}

#[inline(always)]
fn update_body(factors: Factors, param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32]) {
    let Factors { settings: AdamW { beta1, beta2, eps, .. }, rate, keep, inverse_root } = factors;
    for (((param, grad), m), v) in param.iter_mut().zip(grad).zip(m).zip(v) {
        *m = beta1 * *m + (1.0 - beta1) * grad;
        *v = beta2 * *v + (1.0 - beta2) * grad * grad;
        *param = *param * keep - rate * *m / (v.sqrt() * inverse_root + eps);
    }
}

/// Σ value², in f64, in an order that does not depend on threads.
pub fn squared_norm(values: &[f32]) -> f64 {
    let isa = Isa::current();
    let parts: Vec<f64> = values.par_chunks(CHUNK).map(|chunk| squares(isa, chunk)).collect();
    parts.iter().sum()
}

per_isa! {
    fn squares(values: &[f32]) -> f64 = squares_body
}

#[inline(always)]
fn squares_body(values: &[f32]) -> f64 {
    let mut lanes = [0f64; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for lane in 0..16 {
            lanes[lane] += f64::from(chunk[lane]) * f64::from(chunk[lane]);
        }
    }
    let rest: f64 = chunks.remainder().iter().map(|value| f64::from(*value).powi(2)).sum();
    lanes.iter().sum::<f64>() + rest
}

/// Multiplies every value by `factor`.
pub fn scale(values: &mut [f32], factor: f32) {
    values.par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|value| *value *= factor));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};

    #[test]
    fn three_steps_agree_with_the_formula_in_f64() {
        let settings = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
        let len = CHUNK + 37;
        let mut param = random(len, 1);
        let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
        let mut expected: Vec<[f64; 3]> = param.iter().map(|p| [f64::from(*p), 0.0, 0.0]).collect();
        for step in 1..=3 {
            let grad = random(len, 10 + step);
            adamw_step(&settings, 0.01, step, &mut param, &grad, &mut m, &mut v);
            for ([p, m, v], g) in expected.iter_mut().zip(&grad) {
                let g = f64::from(*g);
                *m = 0.9 * *m + 0.1 * g;
                *v = 0.999 * *v + 0.001 * g * g;
                let (mean, variance) = (*m / (1.0 - 0.9f64.powi(step as i32)), *v / (1.0 - 0.999f64.powi(step as i32)));
                *p = *p * (1.0 - 0.01 * 0.1) - 0.01 * mean / (variance.sqrt() + 1e-8);
            }
        }
        assert_close(&param, &expected.iter().map(|e| e[0]).collect::<Vec<_>>(), 2e-6, "param");
        assert_close(&m, &expected.iter().map(|e| e[1]).collect::<Vec<_>>(), 1e-6, "m");
    }

    #[test]
    fn the_norm_and_scaling_take_every_value() {
        let mut values = vec![2.0; 3 * CHUNK + 5];
        assert_eq!(squared_norm(&values), 4.0 * values.len() as f64);
        scale(&mut values, 0.5);
        assert_eq!(squared_norm(&values), values.len() as f64);
        assert_eq!(squared_norm(&[]), 0.0);
    }
}
