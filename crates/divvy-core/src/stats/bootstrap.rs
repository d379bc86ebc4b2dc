//! Seeded percentile bootstrap, for figures without a closed interval: partial credit, tokens, cost. Whole clusters are
//! drawn where questions are not independent (same passage, same family; Miller 2024, arXiv 2411.00640).

use std::collections::BTreeMap;

use super::{Interval, rng::SplitMix64};

/// Enough for two stable digits of a 95 % interval.
pub const RESAMPLES: usize = 10_000;

/// 95 % interval of any figure of `n` items, given the indices of a resample. `None` for no items or no resamples.
pub fn interval(n: usize, resamples: usize, seed: u64, figure: impl Fn(&[usize]) -> f64) -> Option<Interval> {
    if n == 0 {
        return None;
    }
    let mut rng = SplitMix64::new(seed);
    let mut drawn = vec![0; n];
    let mut figures: Vec<f64> = (0..resamples)
        .map(|_| {
            drawn.iter_mut().for_each(|index| *index = rng.below(n));
            figure(&drawn)
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    Some((quantile(&figures, 0.025)?, quantile(&figures, 0.975)?))
}

/// Interval of mean(a) − mean(b) on the same questions.
///
/// # Panics
/// If the two lists differ in length: they are then not the same questions.
#[must_use]
pub fn paired_difference(a: &[f64], b: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    assert_eq!(a.len(), b.len(), "paired arms answer the same questions");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    mean(&differences, resamples, seed)
}

/// Interval of the mean of independent values.
#[must_use]
pub fn mean(values: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    interval(values.len(), resamples, seed, |drawn| {
        drawn.iter().map(|&index| values[index]).sum::<f64>() / drawn.len() as f64
    })
}

/// Interval of the mean of values (or of paired differences) whose clusters are drawn whole. `clusters[i]` names the
/// cluster of `values[i]`.
///
/// # Panics
/// If the two lists differ in length.
#[must_use]
pub fn cluster_mean(values: &[f64], clusters: &[&str], resamples: usize, seed: u64) -> Option<Interval> {
    assert_eq!(values.len(), clusters.len(), "every value has a cluster");
    let mut totals: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (value, cluster) in values.iter().zip(clusters) {
        let (sum, count) = totals.entry(cluster).or_default();
        *sum += value;
        *count += 1.0;
    }
    let totals: Vec<(f64, f64)> = totals.into_values().collect();
    interval(totals.len(), resamples, seed, |drawn| {
        let (sum, count) =
            drawn.iter().fold((0.0, 0.0), |(sum, count), &index| (sum + totals[index].0, count + totals[index].1));
        sum / count
    })
}

/// Quantile of sorted values, linear between neighbours (NumPy's default).
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let position = share * (sorted.len().checked_sub(1)?) as f64;
    let (below, part) = (position.floor(), position.fract());
    let low = sorted[below as usize];
    let high = sorted.get(below as usize + 1).copied().unwrap_or(low);
    Some(if part == 0.0 { low } else { low + part * (high - low) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(interval: Interval) -> f64 {
        interval.1 - interval.0
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let values: Vec<f64> = (0..50).map(|k| f64::from(k % 7)).collect();
        assert_eq!(mean(&values, 500, 3), mean(&values, 500, 3));
        assert_ne!(mean(&values, 500, 3), mean(&values, 500, 4));
    }

    #[test]
    fn it_agrees_with_the_normal_interval_of_a_large_sample() {
        let values: Vec<f64> = (0..1000).map(|k| f64::from(u8::from(k % 10 < 3))).collect();
        let (low, high) = mean(&values, 4000, 1).unwrap();
        // 0.3 ± 1.96 · sqrt(0.3 · 0.7 / 1000)
        assert!((low - 0.2716).abs() < 0.003 && (high - 0.3284).abs() < 0.003, "{low} {high}");
    }

    #[test]
    fn pairing_removes_what_arms_share() {
        let a: Vec<f64> = (0..100).map(|k| f64::from(k % 10)).collect();
        let b: Vec<f64> = a.iter().map(|value| value - 0.5).collect();
        assert_eq!(paired_difference(&a, &b, 200, 1), Some((0.5, 0.5)));
    }

    #[test]
    fn clusters_widen_the_interval_of_repeated_answers() {
        let values: Vec<f64> = (0..200).map(|k| f64::from(k / 20 % 2)).collect();
        let names: Vec<String> = (0..200).map(|k| (k / 20).to_string()).collect();
        let clusters: Vec<&str> = names.iter().map(String::as_str).collect();
        let clustered = cluster_mean(&values, &clusters, 2000, 1).unwrap();
        assert!(width(clustered) > 3.0 * width(mean(&values, 2000, 1).unwrap()));
    }

    #[test]
    fn nothing_has_no_interval() {
        assert_eq!(mean(&[], 100, 1), None);
        assert_eq!(mean(&[1.0], 0, 1), None);
        assert_eq!(mean(&[1.0], 1, 1), Some((1.0, 1.0)));
    }

    #[test]
    fn quantiles_as_numpy() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[1.0, 2.0], 1.0), Some(2.0));
    }
}
