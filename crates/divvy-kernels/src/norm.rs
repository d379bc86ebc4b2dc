//! Root-mean-square norm (Zhang & Sennrich 2019): `y = x · weight / sqrt(mean(x²) + eps)`, row by row.

use crate::Isa;
use crate::dispatch::{Shared, per_isa, row_blocks, rows_per_task};
use crate::math;
use rayon::prelude::*;

/// Normalises rows of `weight.len()` values; keeps `1/rms` of each row for the backward pass.
///
/// # Panics
/// When `x` is not whole rows, or `y` (same shape) or `inv_rms` (one value per row) has another length.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], inv_rms: &mut [f32]) {
    let (width, isa) = (weight.len(), Isa::current());
    assert_eq!(x.len(), inv_rms.len() * width, "rms_norm: x is [rows, width] = [{}, {width}]", inv_rms.len());
    assert_eq!(y.len(), x.len(), "rms_norm: y has the shape of x");
    let (y, inverse) = (Shared::new(y), Shared::new(inv_rms));
    row_blocks(x.len() / width.max(1), width, |first, rows| {
        // SAFETY: row blocks are disjoint, and the borrows outlive the tasks.
        let (y, inverse) = unsafe { (y.slice(first * width, rows * width), inverse.slice(first, rows)) };
        forward(isa, &x[first * width..][..rows * width], weight, eps, y, inverse);
    });
}

per_isa! {
    fn forward(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], inv_rms: &mut [f32]) = forward_body
}

#[inline(always)]
fn forward_body(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], inv_rms: &mut [f32]) {
    let width = weight.len();
    for ((x, y), inverse) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(inv_rms) {
        *inverse = 1.0 / (math::sum(width, |i| x[i] * x[i]) / width as f32 + eps).sqrt();
        for i in 0..width {
            y[i] = x[i] * *inverse * weight[i];
        }
    }
}

/// Adds the gradients of [`rms_norm`] to `dx` and, if wanted, to `dweight`.
///
/// # Panics
/// When a slice does not have the length of its counterpart in the forward pass.
pub fn rms_norm_backward(
    x: &[f32],
    weight: &[f32],
    inv_rms: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let (width, rows, isa) = (weight.len(), inv_rms.len(), Isa::current());
    assert_eq!(x.len(), rows * width, "rms_norm_backward: x is [rows, width] = [{rows}, {width}]");
    assert_eq!(dy.len(), x.len(), "rms_norm_backward: dy has the shape of x");
    assert_eq!(dx.len(), x.len(), "rms_norm_backward: dx has the shape of x");
    let dx = Shared::new(dx);
    row_blocks(rows, width, |first, count| {
        let range = first * width..(first + count) * width;
        // SAFETY: row blocks are disjoint, and the borrow outlives the tasks.
        let dx = unsafe { dx.slice(range.start, range.len()) };
        backward(isa, &x[range.clone()], weight, &inv_rms[first..first + count], &dy[range], dx);
    });
    if let Some(dweight) = dweight {
        assert_eq!(dweight.len(), width, "rms_norm_backward: dweight has the shape of weight");
        add_weight_gradient(isa, x, inv_rms, dy, dweight);
    }
}

/// Partial sums over fixed blocks of rows, joined in order: the same bits on any number of threads.
fn add_weight_gradient(isa: Isa, x: &[f32], inv_rms: &[f32], dy: &[f32], dweight: &mut [f32]) {
    let width = dweight.len();
    let block = rows_per_task(width).max(16);
    let partial = |(i, inverse): (usize, &[f32])| {
        let range = i * block * width..i * block * width + inverse.len() * width;
        let mut sum = vec![0f32; width];
        weight_gradient(isa, &x[range.clone()], inverse, &dy[range], &mut sum);
        sum
    };
    let partials: Vec<Vec<f32>> = inv_rms.par_chunks(block).enumerate().map(partial).collect();
    for sum in partials {
        dweight.iter_mut().zip(sum).for_each(|(total, part)| *total += part);
    }
}

per_isa! {
    fn backward(x: &[f32], weight: &[f32], inv_rms: &[f32], dy: &[f32], dx: &mut [f32]) = backward_body
}

#[inline(always)]
fn backward_body(x: &[f32], weight: &[f32], inv_rms: &[f32], dy: &[f32], dx: &mut [f32]) {
    let width = weight.len();
    for (row, inverse) in inv_rms.iter().copied().enumerate() {
        let range = row * width..(row + 1) * width;
        let (x, dy, dx) = (&x[range.clone()], &dy[range.clone()], &mut dx[range]);
        // d(1/rms)/dx_j = -x_j / (width · rms³)
        let along = math::sum(width, |i| dy[i] * weight[i] * x[i]) * inverse * inverse / width as f32;
        for i in 0..width {
            dx[i] += inverse * (dy[i] * weight[i] - x[i] * along);
        }
    }
}

per_isa! {
    fn weight_gradient(x: &[f32], inv_rms: &[f32], dy: &[f32], sum: &mut [f32]) = weight_gradient_body
}

#[inline(always)]
fn weight_gradient_body(x: &[f32], inv_rms: &[f32], dy: &[f32], sum: &mut [f32]) {
    let width = sum.len();
    for (row, inverse) in inv_rms.iter().copied().enumerate() {
        let (x, dy) = (&x[row * width..][..width], &dy[row * width..][..width]);
        for i in 0..width {
            sum[i] += dy[i] * x[i] * inverse;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, isas, random};

    fn naive(x: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
        let width = weight.len();
        x.chunks(width)
            .flat_map(|row| {
                let square: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / width as f64;
                let inverse = 1.0 / (square + f64::from(eps)).sqrt();
                row.iter().zip(weight).map(move |(v, w)| f64::from(*v) * f64::from(*w) * inverse).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn forward_agrees_with_the_formula() {
        for isa in isas() {
            for (rows, width) in [(1, 1), (3, 7), (2, 576), (5, 33)] {
                let (x, weight) = (random(rows * width, 1), random(width, 2));
                let (mut y, mut inverse) = (vec![0.0; x.len()], vec![0.0; rows]);
                forward(isa, &x, &weight, 1e-5, &mut y, &mut inverse);
                assert_close(&y, &naive(&x, &weight, 1e-5), 2e-6, "rms_norm");
            }
        }
    }

    #[test]
    fn many_rows_agree_with_one_by_one() {
        let (rows, width) = (300, 576);
        let (x, weight) = (random(rows * width, 1), random(width, 2));
        let (mut y, mut inverse) = (vec![0.0; x.len()], vec![0.0; rows]);
        rms_norm(&x, &weight, 1e-5, &mut y, &mut inverse);
        let mut one = vec![0.0; width];
        for row in [0, 28, 29, 299] {
            rms_norm(&x[row * width..][..width], &weight, 1e-5, &mut one, &mut [0.0]);
            assert_eq!(one, y[row * width..][..width]);
        }
    }

    #[test]
    fn backward_agrees_with_finite_differences() {
        for (rows, width) in [(3, 21), (40, 64)] {
            let (x, weight, dy) = (random(rows * width, 1), random(width, 2), random(rows * width, 3));
            let (mut y, mut inverse) = (vec![0.0; x.len()], vec![0.0; rows]);
            rms_norm(&x, &weight, 1e-5, &mut y, &mut inverse);
            let (mut dx, mut dweight) = (vec![1.0; x.len()], vec![1.0; width]);
            rms_norm_backward(&x, &weight, &inverse, &dy, &mut dx, Some(&mut dweight));
            dx.iter_mut().chain(&mut dweight).for_each(|value| *value -= 1.0);
            let loss = |y: &[f64]| y.iter().zip(&dy).map(|(a, b)| a * f64::from(*b)).sum::<f64>();
            assert_gradient(&x, &dx, 1e-3, 1e-4, "dx", |x| loss(&naive(x, &weight, 1e-5)));
            assert_gradient(&weight, &dweight, 1e-3, 1e-4, "dweight", |w| loss(&naive(&x, w, 1e-5)));
        }
    }

    #[test]
    fn the_weight_gradient_does_not_depend_on_threads() {
        let (rows, width) = (500, 96);
        let (x, dy, inverse) = (random(rows * width, 1), random(rows * width, 3), random(rows, 4));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut dweight = vec![0.0; width];
            pool.install(|| add_weight_gradient(Isa::detect(), &x, &inverse, &dy, &mut dweight));
            dweight
        };
        assert_eq!(run(1), run(3));
    }
}
