//! The left operand: rows in 8 bits, signed, and the sums of each 16 of them, which minima and zeros are multiplied by.

use super::LEFT;
use crate::Isa;
use crate::dispatch::per_isa;
use crate::int8::{Rows8, ZERO};
use rayon::prelude::*;

/// Values that a sum is of.
pub(super) const SUMMED: usize = 16;

pub(super) struct Rows {
    /// Eight bits each, as two's complement.
    pub(super) values: Vec<u8>,
    /// Bytes from row to row.
    pub(super) stride: usize,
    /// One for each row and [`LEFT`] values.
    pub(super) scales: Vec<f32>,
    /// One for each row and [`SUMMED`] values.
    pub(super) sums: Vec<i32>,
}

impl Rows {
    /// `x[m, k]`, `k` a multiple of 32.
    pub(super) fn of(isa: Isa, x: &[f32], m: usize, k: usize) -> Rows {
        let Rows8 { mut values, scales, stride } = Rows8::of(isa, x, m, k, m);
        let mut sums = vec![0; m * (k / SUMMED)];
        let work = values.par_chunks_mut(stride).zip(sums.par_chunks_mut(k / SUMMED));
        work.with_min_len((1 << 14) / k + 1).for_each(|(values, sums)| turn(isa, &mut values[..k], sums));
        Rows { values, stride, scales, sums }
    }

    /// Sums of a row.
    pub(super) fn sums_a_row(&self, k: usize) -> usize {
        k / SUMMED
    }

    /// Scales of a row.
    pub(super) fn scales_a_row(&self, k: usize) -> usize {
        k.div_ceil(LEFT)
    }
}

per_isa! {
    fn turn(values: &mut [u8], sums: &mut [i32]) = turn_body
}

#[inline(always)]
fn turn_body(values: &mut [u8], sums: &mut [i32]) {
    for (values, sum) in values.as_chunks_mut::<SUMMED>().0.iter_mut().zip(sums) {
        let mut whole = 0;
        for value in values.iter_mut() {
            *value ^= ZERO;
            whole += i32::from(*value as i8);
        }
        *sum = whole;
    }
}
