//! Means and ratios of what questions cost, with closed intervals: a report over very many rows has no time to resample.
//! Whole clusters are the unit where questions are not independent, with Student's quantile of their number.

use super::{
    Interval,
    student_t::{p_value, quantile95},
};

/// Sums over a cluster of what stands above the line and below it.
type Cluster = (f64, f64);

/// Mean of the values and its interval; `clusters[i]` numbers the cluster of `values[i]`. `None` below two clusters, which say
/// nothing of how they differ.
///
/// # Panics
/// If the two lists differ in length.
#[must_use]
pub fn mean(values: &[f64], clusters: &[usize]) -> Option<(f64, Interval)> {
    let ones = vec![1.0; values.len()];
    let sums = sums(values, &ones, clusters);
    let (top, bottom) = totals(&sums);
    let (mean, count) = (top / bottom, sums.len() as f64);
    if sums.len() < 2 {
        return None;
    }
    // Of clusters of several sizes, the variance of the ratio of sum to size.
    let spread: f64 = sums.iter().map(|(sum, size)| (sum - mean * size).powi(2)).sum();
    let half = quantile95(sums.len() - 1) * (spread * count / (count - 1.0)).sqrt() / bottom;
    Some((mean, (mean - half, mean + half)))
}

/// Two-sided p-value of a mean of zero: Student's t over clusters, and no less than what turning the signs of those that differ
/// could give (2 of 2ᵏ for k of them), since a few that agree by chance have no spread. 1 below two clusters, and never 0.
///
/// # Panics
/// If the two lists differ in length.
#[must_use]
pub fn p_of_zero(values: &[f64], clusters: &[usize]) -> f64 {
    /// Below, the series of t is rounding.
    const LEAST: f64 = 1e-12;
    let Some((mean, (low, high))) = mean(values, clusters) else { return 1.0 };
    let sums = sums(values, values, clusters);
    let freedom = sums.len() - 1;
    let error = (high - low) / 2.0 / quantile95(freedom);
    let t = if mean.abs() < 1e-12 { 0.0 } else { mean / error };
    let differ = sums.iter().filter(|(sum, _)| sum.abs() > 1e-12).count();
    let turned = 2.0 * 0.5_f64.powi(i32::try_from(differ).unwrap_or(i32::MAX));
    p_value(t, freedom).max(turned).clamp(LEAST, 1.0)
}

/// How many times larger the variance of the mean is than if all values were independent (Kish's design effect); at least 1, and 1
/// of values that are all alike.
///
/// # Panics
/// If the two lists differ in length.
#[must_use]
pub fn design_effect(values: &[f64], clusters: &[usize]) -> f64 {
    let alone: Vec<usize> = (0..values.len()).collect();
    let variance = |clusters: &[usize]| {
        let freedom = sums(values, values, clusters).len().saturating_sub(1);
        mean(values, clusters).map(|(_, (low, high))| ((high - low) / quantile95(freedom)).powi(2))
    };
    let effect = variance(clusters).zip(variance(&alone)).map_or(1.0, |(clustered, alone)| clustered / alone);
    if effect.is_finite() { effect.max(1.0) } else { 1.0 }
}

/// Sum of `top` over sum of `bottom`, with Fieller's interval (J. R. Stat. Soc. B 16, 1954), for amounts that are not
/// negative. Its upper end is infinite where the sum below may as well be zero. `None` where it is.
///
/// # Panics
/// If the lists differ in length.
#[must_use]
pub fn fieller(top: &[f64], bottom: &[f64], clusters: &[usize]) -> Option<(f64, Interval)> {
    let sums = sums(top, bottom, clusters);
    let (above, below) = totals(&sums);
    if below <= 0.0 {
        return None;
    }
    let ratio = above / below;
    if sums.len() < 2 {
        return Some((ratio, (0.0, f64::INFINITY)));
    }
    let n = sums.len() as f64;
    let (x, y) = (above / n, below / n);
    let moment = |of: fn(Cluster, Cluster) -> f64| {
        sums.iter().map(|sum| of(*sum, (x, y))).sum::<f64>() / (n - 1.0) / n * quantile95(sums.len() - 1).powi(2)
    };
    let xx = moment(|sum, mean| (sum.0 - mean.0).powi(2));
    let yy = moment(|sum, mean| (sum.1 - mean.1).powi(2));
    let xy = moment(|sum, mean| (sum.0 - mean.0) * (sum.1 - mean.1));
    Some((ratio, roots(ratio, y * y - yy, x * y - xy, x * x - xx)))
}

/// Ratios r with a r² − 2 b r + c ≤ 0: those that the data do not reject.
fn roots(ratio: f64, a: f64, b: f64, c: f64) -> Interval {
    let root = (b * b - a * c).max(0.0).sqrt();
    let (low, high) = (((b - root) / a).min((b + root) / a), ((b - root) / a).max((b + root) / a));
    if a > 0.0 {
        (low.clamp(0.0, ratio), high.max(ratio))
    } else if a < 0.0 && b * b > a * c && ratio >= high {
        (high.max(0.0), f64::INFINITY)
    } else {
        (0.0, f64::INFINITY)
    }
}

fn totals(sums: &[Cluster]) -> Cluster {
    sums.iter().fold((0.0, 0.0), |total, sum| (total.0 + sum.0, total.1 + sum.1))
}

fn sums(top: &[f64], bottom: &[f64], clusters: &[usize]) -> Vec<Cluster> {
    assert!(top.len() == bottom.len() && top.len() == clusters.len(), "every value has a cluster");
    let mut sums = vec![(0.0, 0.0); clusters.iter().max().map_or(0, |last| last + 1)];
    let mut there = vec![false; sums.len()];
    for (at, &cluster) in clusters.iter().enumerate() {
        sums[cluster].0 += top[at];
        sums[cluster].1 += bottom[at];
        there[cluster] = true;
    }
    sums.into_iter().zip(there).filter(|(_, there)| *there).map(|(sum, _)| sum).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::{bootstrap, close, rng::SplitMix64};

    fn apart(n: usize) -> Vec<usize> {
        (0..n).collect()
    }

    /// 3 ± t(4) · sqrt(2.5 / 5), by hand.
    #[test]
    fn alone_it_is_students() {
        let (mean, (low, high)) = mean(&[1.0, 2.0, 3.0, 4.0, 5.0], &apart(5)).unwrap();
        assert_eq!(mean, 3.0);
        close(high - mean, 2.776_445 * 0.5_f64.sqrt(), 1e-3);
        close(mean - low, high - mean, 1e-12);
    }

    #[test]
    fn clusters_of_equal_rows_count_once() {
        let twice = mean(&[1.0, 1.0, 2.0, 2.0, 6.0, 6.0], &[0, 0, 1, 1, 2, 2]).unwrap();
        let once = mean(&[1.0, 2.0, 6.0], &apart(3)).unwrap();
        assert!((twice.0 - once.0).abs() < 1e-12 && (twice.1.0 - once.1.0).abs() < 1e-9, "{twice:?} {once:?}");
        assert_eq!((mean(&[], &[]), mean(&[1.0, 2.0], &[0, 0])), (None, None));
        assert_eq!(mean(&[7.0, 7.0], &apart(2)).unwrap().1, (7.0, 7.0));
    }

    #[test]
    fn rows_that_repeat_each_other_count_for_less() {
        let values: Vec<f64> = (0..400).map(|row| f64::from(row / 4 % 2)).collect();
        let (fours, pairs): (Vec<usize>, Vec<usize>) = (0..400).map(|row| (row / 4, row / 2)).unzip();
        close(design_effect(&values, &fours), 4.0, 0.02);
        close(design_effect(&values, &pairs), 2.0, 0.02);
        assert_eq!(design_effect(&values, &apart(400)), 1.0);
        // Clusters that are all alike say more than independent rows would, which nobody can count on.
        let across: Vec<usize> = (0..400).map(|row| row % 4 + row / 8 * 4).collect();
        assert_eq!(design_effect(&values, &across), 1.0);
        assert_eq!((design_effect(&[1.0; 9], &[0; 9]), design_effect(&[], &[])), (1.0, 1.0));
    }

    /// Against resampling, where both are good: many rows, a denominator far from zero.
    #[test]
    fn fieller_as_the_bootstrap() {
        let mut rng = SplitMix64::new(3);
        let cost: Vec<f64> = (0..400).map(|_| 50.0 + rng.below(100) as f64).collect();
        let right: Vec<f64> = cost.iter().map(|cost| f64::from(u8::from(rng.below(200) as f64 > *cost))).collect();
        let (ratio, (low, high)) = fieller(&cost, &right, &apart(400)).unwrap();
        let of = |drawn: &[usize], values: &[f64]| drawn.iter().map(|&at| values[at]).sum::<f64>();
        let (drawn_low, drawn_high) =
            bootstrap::interval(400, 4000, 1, |drawn| of(drawn, &cost) / of(drawn, &right)).unwrap();
        assert!(low < ratio && ratio < high);
        close(low, drawn_low, 0.02);
        close(high, drawn_high, 0.02);
    }

    #[test]
    fn few_right_answers_leave_the_price_of_one_open() {
        let mut right = vec![0.0; 50];
        assert_eq!(fieller(&[1.0; 50], &right, &apart(50)), None);
        right[7] = 1.0;
        let (ratio, (low, high)) = fieller(&[1.0; 50], &right, &apart(50)).unwrap();
        assert_eq!((ratio, high), (50.0, f64::INFINITY));
        assert!(0.0 < low && low < 50.0, "{low}");
    }

    proptest! {
        #[test]
        fn intervals_hold_their_figure(rows in proptest::collection::vec((0.0..1e9_f64, 0_u8..2, 0_usize..9), 1..60)) {
            let cost: Vec<f64> = rows.iter().map(|row| row.0).collect();
            let right: Vec<f64> = rows.iter().map(|row| f64::from(row.1)).collect();
            let clusters: Vec<usize> = rows.iter().map(|row| row.2).collect();
            for (figure, (low, high)) in mean(&cost, &clusters).into_iter().chain(fieller(&cost, &right, &clusters)) {
                prop_assert!(low <= figure && figure <= high, "{low} {figure} {high}");
            }
        }
    }
}
