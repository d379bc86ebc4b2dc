//! A sum over rows that are still to come, told from rows that are there, with its interval. Rows are taken as a random
//! sample, which the seed's order makes them.
//!
//! Tokens and money have a long tail to the right, where Student's interval of twenty rows is too low too often. The
//! interval is Hall's, which mends it by the sample's skewness (Hall 1992, J. R. Stat. Soc. B 54, "On the removal of
//! skewness by transformation"), with Student's quantiles for the normal's, and no more skewness than twenty rows can tell.

use std::collections::BTreeMap;

use super::{Interval, student_t::quantile95};

/// More skewness of the mean is not believed: the transformation's slope has a pole not far above, where a single long
/// reply would throw the interval about. Of simulated rows with long tails, as many sums are held as without the limit.
const MOST_SKEWNESS: f64 = 0.4;

/// What is to come. Forecasts add up: rows that stand in several count as the same rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    pub sum: f64,
    /// By row, how far the sum would move with it. Of rows that are alike nothing moves.
    pulls: BTreeMap<String, f64>,
    /// Rows of the smallest sample that it rests on; `None` where it rests on none.
    rows: Option<usize>,
    /// A part of it is a guess.
    guessed: bool,
}

impl Forecast {
    /// Of `left` rows, from values of other rows. `None` without any, unless nothing is left.
    #[must_use]
    pub fn of(values: &BTreeMap<String, f64>, left: u64) -> Option<Self> {
        if left == 0 {
            return Some(Self::default());
        }
        let (n, left) = (values.len() as f64, left as f64);
        if values.is_empty() {
            return None;
        }
        let mean = values.values().sum::<f64>() / n;
        // The mean of the rows that are there is not sure, and the rows to come scatter as well: both are in the variance
        // left² · s² · (1/n + 1/left).
        let pull = left / n * ((n + left) / left).sqrt();
        let pulls = values.iter().map(|(row, value)| (row.clone(), pull * (value - mean))).collect();
        Some(Self { sum: left * mean, pulls, rows: Some(values.len()), guessed: false })
    }

    /// A figure that no row vouches for: with it, nothing has an interval.
    #[must_use]
    pub fn guess(sum: f64) -> Self {
        Self { sum, guessed: true, ..Self::default() }
    }

    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.sum += other.sum;
        for (row, pull) in &other.pulls {
            *self.pulls.entry(row.clone()).or_default() += pull;
        }
        self.rows = self.rows.into_iter().chain(other.rows).min();
        self.guessed |= other.guessed;
        self
    }

    /// Everything times as much.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Self {
        self.sum *= factor;
        self.pulls.values_mut().for_each(|pull| *pull *= factor);
        self
    }

    /// 95 % interval. `None` for a guess and for a single row, which says nothing of how rows differ.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        let Some(rows) = self.rows.filter(|_| !self.guessed) else {
            return (!self.guessed).then_some((self.sum, self.sum));
        };
        let n = rows as f64;
        let squares: f64 = self.pulls.values().map(|pull| pull * pull).sum();
        if rows < 2 {
            return None;
        }
        if squares == 0.0 {
            return Some((self.sum, self.sum));
        }
        let error = (squares * n / (n - 1.0)).sqrt();
        let skewness = self.pulls.values().map(|pull| pull.powi(3)).sum::<f64>() / squares.powf(1.5);
        let skewness = skewness.clamp(-MOST_SKEWNESS, MOST_SKEWNESS);
        let quantile = quantile95(rows - 1);
        let below = error * untransformed(quantile, skewness);
        let above = error * untransformed(-quantile, skewness);
        // Nothing that is summed here is below zero.
        Some(((self.sum - below).max(0.0), self.sum - above))
    }
}

/// Inverse of Hall's transformation at the skewness of the mean.
fn untransformed(x: f64, skewness: f64) -> f64 {
    if skewness.abs() < 1e-9 {
        return x;
    }
    3.0 / skewness * ((1.0 + skewness * (x - skewness / 6.0)).cbrt() - 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::rng::SplitMix64;

    fn rows(values: impl IntoIterator<Item = f64>) -> BTreeMap<String, f64> {
        values.into_iter().enumerate().map(|(row, value)| (format!("q/{row}"), value)).collect()
    }

    #[test]
    fn rows_that_are_alike_leave_no_doubt() {
        let forecast = Forecast::of(&rows([3.0; 20]), 80).unwrap();
        assert_eq!((forecast.sum, forecast.interval()), (240.0, Some((240.0, 240.0))));
    }

    #[test]
    fn nothing_left_costs_nothing_and_nothing_seen_says_nothing() {
        assert_eq!(Forecast::of(&rows([1.0, 2.0]), 0).unwrap().interval(), Some((0.0, 0.0)));
        assert_eq!(Forecast::of(&rows([]), 0), Some(Forecast::default()));
        assert_eq!(Forecast::of(&rows([]), 3), None);
        assert_eq!(Forecast::of(&rows([5.0]), 3).unwrap().interval(), None);
    }

    /// Symmetric rows: mean ± t · s · sqrt(1/n + 1/left), times the rows left, worked out by hand.
    #[test]
    fn without_skewness_it_is_students() {
        let forecast = Forecast::of(&rows([1.0, 2.0, 3.0, 4.0, 5.0]), 10).unwrap();
        let half = 10.0 * 2.776_445 * 2.5_f64.sqrt() * (0.2_f64 + 0.1).sqrt();
        let (low, high) = forecast.interval().unwrap();
        assert!((forecast.sum - 30.0).abs() < 1e-9);
        assert!((low - (30.0 - half)).abs() < 0.05 && (high - (30.0 + half)).abs() < 0.05, "{low} {high} {half}");
    }

    #[test]
    fn sums_know_that_their_rows_are_the_same() {
        let values = rows([1.0, 2.0, 3.0, 4.0, 9.0]);
        let once = Forecast::of(&values, 10).unwrap();
        let twice = once.clone().and(&once);
        assert_eq!(twice, once.clone().times(2.0), "the same rows twice are twice as unsure");
        let others = values.iter().map(|(row, value)| (format!("other {row}"), *value)).collect();
        let apart = once.clone().and(&Forecast::of(&others, 10).unwrap());
        let width = |forecast: &Forecast| forecast.interval().map(|(low, high)| high - low).unwrap();
        assert!(width(&apart) < 0.8 * width(&twice), "other rows make up for each other");
        assert_eq!(once.and(&Forecast::guess(7.0)).interval(), None);
    }

    /// Tokens of a reply: some long, most short.
    fn tokens(rng: &mut SplitMix64) -> f64 {
        let uniform = |rng: &mut SplitMix64| (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let normal = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt() * (std::f64::consts::TAU * uniform(rng)).cos();
        120.0 * (0.6 * normal).exp()
    }

    /// Of 2,000 runs, whose intervals are told from 20 rows each. By the binomial alone 95 % would scatter by one point.
    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        let mut rng = SplitMix64::new(5);
        for left in [30_u32, 1000] {
            let (mut held, mut too_low) = (0, 0);
            for _ in 0..2000 {
                let forecast = Forecast::of(&rows((0..20).map(|_| tokens(&mut rng))), u64::from(left)).unwrap();
                let truth: f64 = (0..left).map(|_| tokens(&mut rng)).sum();
                let (low, high) = forecast.interval().unwrap();
                held += u32::from((low..=high).contains(&truth));
                too_low += u32::from(truth > high);
            }
            assert!((1860..=1950).contains(&held), "{held} of 2000 at {left} rows left");
            assert!(too_low <= 110, "{too_low} of 2000 above the interval at {left} rows left");
        }
    }

    proptest! {
        #[test]
        fn the_interval_is_around_the_sum(
            values in proptest::collection::vec(0.0..1e6_f64, 2..40),
            left in 1_u64..100_000,
        ) {
            let forecast = Forecast::of(&rows(values), left).unwrap();
            let (low, high) = forecast.interval().unwrap();
            prop_assert!(0.0 <= low && low <= forecast.sum && forecast.sum <= high && high.is_finite(), "{low} {high}");
        }
    }
}
