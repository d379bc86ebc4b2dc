//! Rows that several products read, as with a frozen matrix and the low-rank factors beside it (LoRA, arXiv
//! 2106.09685): where the instruction set rounds, they are rounded once.

use crate::dispatch::{Shared, row_blocks};
use crate::operands::{self, LeftTiles, RightPanels, Term};
use crate::packed::Line;
use crate::products::{mm_nn, mm_nt, mm_tn_for};
use crate::{Gate, Isa, Packed, Write, gated, matmul, rms_norm};
use std::borrow::Cow;
use std::ops::Range;

/// Rows `x[m, k]`.
pub struct Input<'a> {
    /// Nothing where they were rounded as soon as they were computed.
    values: Cow<'a, [f32]>,
    m: usize,
    k: usize,
    isa: Isa,
    rounded: Option<LeftTiles>,
}

/// A second, narrow product `alpha · u[m, inner] · b[inner, n]` into the result of a wide one.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    pub u: &'a [f32],
    pub b: &'a [f32],
    pub inner: usize,
    pub alpha: f32,
}

impl<'a> Input<'a> {
    /// # Panics
    /// When `values` is not `m * k` long.
    pub fn new(values: &'a [f32], m: usize, k: usize) -> Self {
        Self::new_for(Isa::current(), values, m, k)
    }

    fn new_for(isa: Isa, values: &'a [f32], m: usize, k: usize) -> Self {
        assert_eq!(values.len(), m * k, "input: x is [m, k] = [{m}, {k}]");
        let rounded = (isa.rounds() && m > 0).then(|| LeftTiles::from_rows(values, m, k));
        Self { values: Cow::Borrowed(values), m, k, isa, rounded }
    }

    /// Rows that `fill(rows, out)` computes: where the instruction set rounds, they never lie in memory in f32.
    fn filled(isa: Isa, m: usize, k: usize, fill: impl Fn(Range<usize>, &mut [f32]) + Sync) -> Input<'static> {
        if isa.rounds() && m > 0 {
            let rounded = Some(LeftTiles::filled(m, k, fill));
            return Input { values: Cow::Borrowed(&[]), m, k, isa, rounded };
        }
        let mut values = vec![0f32; m * k];
        let out = Shared::new(&mut values);
        row_blocks(m, k, |first, rows| {
            // SAFETY: row blocks are disjoint, and the borrow outlives the tasks.
            fill(first..first + rows, unsafe { out.slice(first * k, rows * k) });
        });
        Input { values: Cow::Owned(values), m, k, isa, rounded: None }
    }

    /// What [`rms_norm`] makes of `x`, which has the width of `weight`.
    ///
    /// # Panics
    /// As `rms_norm`.
    pub fn normed(x: &[f32], weight: &[f32], eps: f32, inv_rms: &mut [f32]) -> Input<'static> {
        let (rows, width) = (inv_rms.len(), weight.len());
        assert_eq!(x.len(), rows * width, "input: x is [rows, width] = [{rows}, {width}]");
        let inverse = Shared::new(inv_rms);
        Self::filled(Isa::current(), rows, width, |rows, out| {
            // SAFETY: each row is computed once, and the borrow outlives the tasks.
            let inverse = unsafe { inverse.slice(rows.start, rows.len()) };
            rms_norm(&x[rows.start * width..rows.end * width], weight, eps, out, inverse);
        })
    }

    /// What [`gated`](fn@gated) makes of `gate_up[m, 2f]`.
    ///
    /// # Panics
    /// As `gated`.
    pub fn gated(gate: Gate, gate_up: &[f32], f: usize) -> Input<'static> {
        assert!(f > 0 && gate_up.len().is_multiple_of(2 * f), "input: gate_up is [m, 2f], f = {f}");
        Self::filled(Isa::current(), gate_up.len() / (2 * f), f, |rows, out| {
            gated(gate, &gate_up[rows.start * 2 * f..rows.end * 2 * f], out, f);
        })
    }

    /// `c[n, k] (+)= alpha · a[m, n]ᵀ · x`: a weight gradient, summed over the `m` rows in order, part by part. Rounded rows are read as they are,
    /// and `a` is rounded too.
    ///
    /// # Panics
    /// When a slice does not have its shape's length.
    pub fn mm_tn(&self, a: &[f32], c: &mut [f32], n: usize, alpha: f32, write: Write) {
        let [m, k] = [self.m, self.k];
        let Some(rounded) = &self.rounded else {
            return mm_tn_for(self.isa, a, &self.values, c, m, n, k, alpha, write);
        };
        assert_eq!(a.len(), m * n, "input: a is [m, n] = [{m}, {n}]");
        let left = LeftTiles::from_columns(a, n, m, alpha);
        let pack = |depth: Range<usize>, columns: Range<usize>, lines: &mut Vec<Line>| {
            rounded.rows().pack_here(depth, columns, lines);
        };
        operands::product_of_rows(self.isa, &left, pack, [k, m], c, write);
    }

    /// `y[m, n] (+)= x · W[n, k]ᵀ (+ alpha · u · b)`. Row `i` has the same bits whatever `m` and the number of threads.
    ///
    /// # Panics
    /// When a shape does not fit, or `w` was packed for another instruction set.
    pub fn matmul(&self, w: &Packed, beside: Option<LowRank>, y: &mut [f32], write: Write) {
        let [m, n, k] = [self.m, w.n(), self.k];
        assert_eq!((w.k(), w.isa), (k, self.isa), "input: w is [n, k] = [{n}, {k}] on {:?}", self.isa);
        assert_eq!(y.len(), m * n, "input: y is [m, n] = [{m}, {n}]");
        let beside = beside.filter(|low| low.inner > 0);
        if let Some(LowRank { u, b, inner, .. }) = beside {
            assert_eq!(u.len(), m * inner, "input: u is [m, inner] = [{m}, {inner}]");
            assert_eq!(b.len(), inner * n, "input: b is [inner, n] = [{inner}, {n}]");
        }
        let Some(left) = &self.rounded else {
            matmul(&self.values, w, y, m, write);
            if let Some(LowRank { u, b, inner, alpha }) = beside {
                mm_nn(self.isa, u, b, y, m, n, inner, alpha, Write::Add);
            }
            return;
        };
        let wide = Term { left: left.rows(), right: RightPanels { lines: &w.lines, n, k } };
        let Some(LowRank { u, b, inner, alpha }) = beside else {
            return operands::product(self.isa, &[wide], y, write);
        };
        let left = LeftTiles::from_rows(u, m, inner);
        let lines = operands::pack(b, n, alpha);
        let narrow = Term { left: left.rows(), right: RightPanels { lines: &lines, n, k: inner } };
        operands::product(self.isa, &[wide, narrow], y, write);
    }

    /// `y[m, n] = alpha · x · w[n, k]ᵀ`; factors that are not packed are rounded as `x` is. Row `i` has the same bits whatever `m` and the number of threads.
    ///
    /// # Panics
    /// When a slice does not have its shape's length.
    pub fn mm_nt(&self, w: &[f32], y: &mut [f32], n: usize, alpha: f32) {
        let [m, k] = [self.m, self.k];
        let Some(left) = &self.rounded else {
            return mm_nt(self.isa, &self.values, w, y, m, n, k, alpha, Write::Set);
        };
        assert_eq!(w.len(), n * k, "input: w is [n, k] = [{n}, {k}]");
        let lines = operands::pack_turned(w, k, alpha);
        let term = Term { left: left.rows(), right: RightPanels { lines: &lines, n, k } };
        operands::product(self.isa, &[term], y, Write::Set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, isas, product as naive, random, widen};

    fn seen_by(isa: Isa, values: &[f32]) -> Vec<f32> {
        if isa.rounds() { widen(values) } else { values.to_vec() }
    }

    fn packed(isa: Isa, w: &[f32], n: usize, k: usize) -> Packed {
        Packed::from_rows_for(isa, n, k, |row, out| out.copy_from_slice(&w[row * k..][..k]))
    }

    #[test]
    fn the_narrow_product_is_added_to_the_wide_one() {
        for isa in isas() {
            for [m, n, k, inner] in [[1, 1, 1, 1], [5, 70, 33, 16], [40, 130, 1100, 48]] {
                let (x, w) = (random(m * k, 1), random(n * k, 2));
                let (u, b) = (random(m * inner, 3), random(inner * n, 4));
                let mut y = random(m * n, 5);
                let turned: Vec<f32> = (0..n * inner).map(|i| 0.5 * b[i % inner * n + i / inner]).collect();
                let wide = naive(&seen_by(isa, &x), &widen(&w), m, n, k);
                let narrow = naive(&seen_by(isa, &u), &seen_by(isa, &turned), m, n, inner);
                let expected: Vec<f64> =
                    wide.iter().zip(&narrow).zip(&y).map(|((a, b), c)| a + b + f64::from(*c)).collect();
                let beside = LowRank { u: &u, b: &b, inner, alpha: 0.5 };
                Input::new_for(isa, &x, m, k).matmul(&packed(isa, &w, n, k), Some(beside), &mut y, Write::Add);
                assert_close(&y, &expected, 8e-6 * (k as f64).sqrt(), &format!("{isa:?} {m}x{n}x{k}+{inner}"));
            }
        }
    }

    #[test]
    fn factors_agree_with_a_naive_product() {
        for isa in isas() {
            for [m, n, k] in [[1, 1, 1], [7, 16, 576], [40, 48, 33]] {
                let (x, w) = (random(m * k, 6), random(n * k, 7));
                let half: Vec<f32> = w.iter().map(|value| 0.5 * value).collect();
                let mut y = vec![f32::NAN; m * n];
                Input::new_for(isa, &x, m, k).mm_nt(&w, &mut y, n, 0.5);
                let expected = naive(&seen_by(isa, &x), &seen_by(isa, &half), m, n, k);
                assert_close(&y, &expected, 8e-6 * (k as f64).sqrt(), &format!("{isa:?} {m}x{n}x{k}"));
            }
        }
    }

    #[test]
    fn weight_gradients_agree_with_a_naive_product() {
        let turned = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
            (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
        };
        for isa in isas() {
            for [m, n, k] in [[1, 1, 1], [40, 16, 33], [1100, 48, 150], [70, 300, 64]] {
                let (x, a) = (random(m * k, 14), random(m * n, 15));
                let mut c = random(n * k, 16);
                let half: Vec<f32> = a.iter().map(|value| 0.5 * value).collect();
                let sums = naive(&turned(&seen_by(isa, &half), m, n), &turned(&seen_by(isa, &x), m, k), n, k, m);
                let expected: Vec<f64> = sums.iter().zip(&c).map(|(sum, c)| sum + f64::from(*c)).collect();
                Input::new_for(isa, &x, m, k).mm_tn(&a, &mut c, n, 0.5, Write::Add);
                assert_close(&c, &expected, 8e-6 * (m as f64).sqrt(), &format!("{isa:?} {m} {n} {k}"));
            }
        }
    }

    #[test]
    fn rows_that_are_computed_are_those_that_were() {
        let (rows, width) = (70, 100);
        let (x, weight) = (random(rows * width, 17), random(width, 18));
        for isa in isas() {
            let w = packed(isa, &random(5 * width, 19), 5, width);
            let fill = |rows: Range<usize>, out: &mut [f32]| {
                rms_norm(&x[rows.start * width..rows.end * width], &weight, 1e-5, out, &mut vec![0.0; rows.len()]);
            };
            let (mut normed, mut inverse) = (vec![0.0; rows * width], vec![0.0; rows]);
            rms_norm(&x, &weight, 1e-5, &mut normed, &mut inverse);
            let (mut one, mut other) = (vec![0.0; rows * 5], vec![0.0; rows * 5]);
            Input::filled(isa, rows, width, fill).matmul(&w, None, &mut one, Write::Set);
            Input::new_for(isa, &normed, rows, width).matmul(&w, None, &mut other, Write::Set);
            assert_eq!(one, other, "{isa:?}");
        }
        let mut inverse = vec![0.0; rows];
        Input::normed(&x, &weight, 1e-5, &mut inverse);
        assert!(inverse.iter().all(|value| *value > 0.0));
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_a_batch() {
        for isa in isas() {
            let [m, n, k, inner] = [33, 100, 1031, 48];
            let (x, w) = (random(m * k, 8), random(n * k, 9));
            let (u, b) = (random(m * inner, 10), random(inner * n, 11));
            let w = packed(isa, &w, n, k);
            let run = |m: usize| {
                let mut y = vec![0.0; m * n];
                let beside = LowRank { u: &u[..m * inner], b: &b, inner, alpha: 2.0 };
                Input::new_for(isa, &x[..m * k], m, k).matmul(&w, Some(beside), &mut y, Write::Set);
                y
            };
            let all = run(m);
            for some in [1, 2, 5, 16] {
                assert_eq!(run(some), all[..some * n], "{isa:?} batch of {some}");
            }
        }
    }

    /// The lines of a dropped input, full of other numbers, serve the next one.
    #[test]
    fn used_memory_does_not_show() {
        for isa in isas() {
            let (x, w) = (random(5 * 40, 12), packed(isa, &random(3 * 40, 13), 3, 40));
            let run = || {
                let mut y = [0.0; 15];
                Input::new_for(isa, &x, 5, 40).matmul(&w, None, &mut y, Write::Set);
                y
            };
            let fresh = run();
            // As many lines as 5 × 40 take, so that these are the ones used next.
            drop(Input::new_for(isa, &[f32::NAN; 16 * 96], 16, 96));
            assert_eq!(run(), fresh, "{isa:?}");
        }
    }
}
