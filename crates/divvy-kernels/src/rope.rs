//! Rotary position embedding (Su et al. 2021), half-split pairing as in Llama and Qwen checkpoints of Hugging Face:
//! value `i` of a head is rotated with value `i + dim/2`, by `position · theta^(-2i/dim)`.

use std::sync::OnceLock;

use crate::Isa;
use crate::dispatch::{Shared, per_isa, row_blocks};

/// Positions whose cosines and sines are computed at a time.
const PAGE: usize = 1024;

/// Cosines and sines for each position and frequency. A table for a million positions costs no more than one for a thousand
/// until they are reached.
#[derive(Clone)]
pub struct RopeTable {
    /// Angles per position step, half as many as a head has values.
    frequencies: Vec<f64>,
    /// What every cosine and sine is multiplied by.
    factor: f32,
    positions: usize,
    /// Of `PAGE` positions each, made when the first of them is asked for.
    pages: Vec<OnceLock<Page>>,
}

/// `[position, half]`
#[derive(Clone)]
struct Page {
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

/// Forward rotates, backward rotates back: the gradient of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

impl RopeTable {
    /// The plain table: `inverse_frequency[i] = theta^(-2i/head_dim)`.
    ///
    /// # Panics
    /// When `head_dim` is odd or zero.
    pub fn new(head_dim: usize, theta: f32, max_positions: usize) -> RopeTable {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "rope: the head dimension {head_dim} is not even");
        let exponent = |i: usize| -2.0 * i as f64 / head_dim as f64;
        let frequencies: Vec<f64> = (0..head_dim / 2).map(|i| f64::from(theta).powf(exponent(i))).collect();
        RopeTable::from_inverse_frequencies(&frequencies, max_positions)
    }

    /// A table for stretched variants (Llama 3, YaRN): `head_dim / 2` angles per position step.
    pub fn from_inverse_frequencies(frequencies: &[f64], max_positions: usize) -> RopeTable {
        let pages = (0..max_positions.div_ceil(PAGE)).map(|_| OnceLock::new()).collect();
        RopeTable { frequencies: frequencies.to_vec(), factor: 1.0, positions: max_positions, pages }
    }

    /// The same rotation, and every value times `factor`: YaRN's temperature.
    #[must_use]
    pub fn scaled(mut self, factor: f32) -> RopeTable {
        self.pages.fill_with(OnceLock::new);
        self.factor *= factor;
        self
    }

    /// Values in a head.
    pub fn head_dim(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Positions in the table.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Cosines and sines of a position.
    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        let page = self.pages[position / PAGE].get_or_init(|| self.page(position / PAGE));
        let at = position % PAGE * half..(position % PAGE + 1) * half;
        (&page.cosine[at.clone()], &page.sine[at])
    }

    fn page(&self, index: usize) -> Page {
        let positions = index * PAGE..self.positions.min((index + 1) * PAGE);
        let angles = || positions.clone().flat_map(|p| self.frequencies.iter().map(move |f| p as f64 * f));
        Page {
            cosine: angles().map(|angle| angle.cos() as f32 * self.factor).collect(),
            sine: angles().map(|angle| angle.sin() as f32 * self.factor).collect(),
        }
    }
}

/// Rotates the first `heads * head_dim` values of each row of `x`. Row `i` begins at `x[i * row_stride]` and stands at
/// `positions[i]`; to rotate keys inside a joint row, pass `&mut x[offset..]`.
///
/// # Panics
/// When a row does not fit its stride, the last row reaches behind `x`, or a position is not in the table.
pub fn rope(
    x: &mut [f32],
    row_stride: usize,
    heads: usize,
    positions: &[u32],
    table: &RopeTable,
    direction: Direction,
) {
    let (width, isa) = (heads * table.head_dim(), Isa::current());
    assert!(width <= row_stride, "rope: {heads} heads of {} in a row of {row_stride}", table.head_dim());
    let Some(last) = positions.len().checked_sub(1) else { return };
    assert!(last * row_stride + width <= x.len(), "rope: x holds fewer than {} rows", positions.len());
    let highest = positions.iter().copied().max().unwrap_or(0) as usize;
    assert!(highest < table.positions(), "rope: position {highest} in a table of {}", table.positions());
    let x = Shared::new(x);
    row_blocks(positions.len(), width, |first, rows| {
        for row in first..first + rows {
            // SAFETY: rows are disjoint because a row fits its stride, and the borrow outlives the tasks.
            let values = unsafe { x.slice(row * row_stride, width) };
            let (cosine, sine) = table.at(positions[row] as usize);
            rotate(isa, values, cosine, sine, direction);
        }
    });
}

per_isa! {
    fn rotate(row: &mut [f32], cosine: &[f32], sine: &[f32], direction: Direction) = rotate_body
}

#[inline(always)]
fn rotate_body(row: &mut [f32], cosine: &[f32], sine: &[f32], direction: Direction) {
    let sign = if direction == Direction::Forward { 1.0 } else { -1.0 };
    let half = cosine.len();
    let sine = &sine[..half];
    for head in row.chunks_exact_mut(2 * half) {
        let (first, second) = head.split_at_mut(half);
        for i in 0..half {
            let (a, b, s) = (first[i], second[i], sign * sine[i]);
            first[i] = a * cosine[i] - b * s;
            second[i] = b * cosine[i] + a * s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, isas, random};

    fn naive(x: &[f32], dim: usize, theta: f64, position: f64) -> Vec<f64> {
        let mut y = vec![0.0; x.len()];
        for head in 0..x.len() / dim {
            for i in 0..dim / 2 {
                let angle = position * theta.powf(-2.0 * i as f64 / dim as f64);
                let (a, b) = (f64::from(x[head * dim + i]), f64::from(x[head * dim + i + dim / 2]));
                y[head * dim + i] = a * angle.cos() - b * angle.sin();
                y[head * dim + i + dim / 2] = b * angle.cos() + a * angle.sin();
            }
        }
        y
    }

    #[test]
    fn rotates_the_first_heads_and_leaves_the_rest() {
        let (dim, heads, stride) = (8, 3, 29);
        let table = RopeTable::new(dim, 10_000.0, 50);
        let x = random(2 * stride, 1);
        let mut y = x.clone();
        rope(&mut y, stride, heads, &[49, 7], &table, Direction::Forward);
        assert_close(&y[..24], &naive(&x[..24], dim, 1e4, 49.0), 2e-6, "row 0");
        assert_close(&y[stride..stride + 24], &naive(&x[stride..stride + 24], dim, 1e4, 7.0), 2e-6, "row 1");
        assert_eq!(y[24..29], x[24..29]);
        assert_eq!(y[stride + 24..], x[stride + 24..]);
    }

    #[test]
    fn all_instruction_sets_agree_with_the_formula() {
        for isa in isas() {
            let (dim, table) = (64, RopeTable::new(64, 1e6, 2000));
            let x = random(3 * dim, 1);
            let mut y = x.clone();
            let (cosine, sine) = table.at(1999);
            rotate(isa, &mut y, cosine, sine, Direction::Forward);
            assert_close(&y, &naive(&x, dim, 1e6, 1999.0), 2e-6, "rope");
        }
    }

    #[test]
    fn backward_is_the_gradient_and_the_inverse() {
        let (dim, table) = (16, RopeTable::new(16, 1e4, 100));
        let (x, dy) = (random(2 * dim, 1), random(2 * dim, 2));
        let mut dx = dy.clone();
        rope(&mut dx, 2 * dim, 2, &[63], &table, Direction::Backward);
        let loss = |x: &[f32]| naive(x, dim, 1e4, 63.0).iter().zip(&dy).map(|(a, b)| a * f64::from(*b)).sum();
        assert_gradient(&x, &dx, 1e-2, 1e-4, "rope", loss);
        rope(&mut dx, 2 * dim, 2, &[63], &table, Direction::Forward);
        assert_close(&dx, &dy.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), 1e-6, "there and back");
    }

    #[test]
    fn the_gradient_of_a_scaled_rotation_is_scaled() {
        let (dim, table) = (16, RopeTable::new(16, 1e4, 100).scaled(1.5));
        let (x, dy) = (random(dim, 1), random(dim, 2));
        let (mut y, mut dx) = (x.clone(), dy.clone());
        rope(&mut y, dim, 1, &[63], &table, Direction::Forward);
        assert_close(&y, &naive(&x, dim, 1e4, 63.0).iter().map(|v| 1.5 * v).collect::<Vec<_>>(), 2e-6, "scaled");
        rope(&mut dx, dim, 1, &[63], &table, Direction::Backward);
        let loss = |x: &[f32]| naive(x, dim, 1e4, 63.0).iter().zip(&dy).map(|(a, b)| 1.5 * a * f64::from(*b)).sum();
        assert_gradient(&x, &dx, 1e-2, 1e-4, "scaled rope", loss);
    }

    #[test]
    fn only_positions_that_are_reached_take_memory() {
        let (dim, last) = (1024, (1 << 20) - 1);
        let table = RopeTable::new(dim, 1e6, 1 << 20);
        assert!(table.pages.iter().all(|page| page.get().is_none()));
        let x = random(2 * dim, 1);
        let mut y = x.clone();
        rope(&mut y, dim, 1, &[3, last as u32], &table, Direction::Forward);
        assert_close(&y[..dim], &naive(&x[..dim], dim, 1e6, 3.0), 2e-6, "an early position");
        assert_close(&y[dim..], &naive(&x[dim..], dim, 1e6, f64::from(last as u32)), 2e-6, "the last position");
        assert_eq!(table.pages.iter().filter(|page| page.get().is_some()).count(), 2);
        let odd = RopeTable::new(4, 1e4, PAGE + 1);
        assert_eq!(odd.at(PAGE).0.len(), 2);
    }

    #[test]
    #[should_panic(expected = "position 10 in a table of 10")]
    fn a_position_behind_the_table_panics() {
        rope(&mut [0.0; 4], 4, 1, &[10], &RopeTable::new(4, 1e4, 10), Direction::Forward);
    }
}
