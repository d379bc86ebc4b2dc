//! Seeded percentile bootstrap, for figures without a closed interval: partial credit, tokens, cost. Whole clusters are
//! drawn where questions are not independent (same passage, same family; Miller 2024, arXiv 2411.00640).

use std::collections::{BTreeMap, BTreeSet};

use super::{FEW_CLUSTERS, Interval, ratio, rng::SplitMix64};

/// Enough for two stable digits of a 95 % interval.
pub const RESAMPLES: usize = 10_000;

/// 95 % interval of any figure of `n` items, given the indices of a resample. `None` for no items or no resamples.
pub fn interval(n: usize, resamples: usize, seed: u64, figure: impl FnMut(&[usize]) -> f64) -> Option<Interval> {
    ends(&resampled(n, resamples, seed, figure))
}

/// The figures of all resamples, sorted; none of no items.
fn resampled(n: usize, resamples: usize, seed: u64, mut figure: impl FnMut(&[usize]) -> f64) -> Vec<f64> {
    if n == 0 {
        return Vec::new();
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
    figures
}

fn ends(figures: &[f64]) -> Option<Interval> {
    Some((quantile(figures, 0.025)?, quantile(figures, 0.975)?))
}

/// A difference of two means on the same items, its interval, and how often resamples fall on the other side of zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// mean(a) − mean(b).
    pub difference: f64,
    pub ci: Interval,
    /// Two-sided, never 0: with R resamples at least 2 / (R + 1).
    pub p_value: f64,
}

impl Difference {
    /// Passages make no stronger witness than as many questions that stand alone: where these would show less, interval and test are as
    /// wide as theirs.
    #[must_use]
    pub fn raised(self, (low, high): Interval, p_value: f64) -> Self {
        if self.p_value >= p_value {
            return self;
        }
        Self { ci: (self.ci.0.min(low), self.ci.1.max(high)), p_value, ..self }
    }
}

/// Paired cluster bootstrap: the test and the interval where items share a cluster, or where there is partial credit. What
/// the two arms share is gone before anything is drawn; whole clusters are drawn. `None` for no items.
///
/// # Panics
/// If the lists differ in length.
#[must_use]
pub fn paired_clusters<K: Ord>(
    a: &[f64],
    b: &[f64],
    clusters: Option<&[K]>,
    resamples: usize,
    seed: u64,
) -> Option<Difference> {
    assert_eq!(a.len(), b.len(), "paired arms answer the same questions");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let difference = differences.iter().sum::<f64>() / differences.len() as f64;
    let figures = means(&differences, clusters, resamples, seed);
    let ci = ends(&figures)?;
    // Sums of many differences miss zero by a rounding error.
    let (below, above) =
        (figures.partition_point(|figure| *figure <= 1e-12), figures.partition_point(|figure| *figure < -1e-12));
    let tail = 1 + below.min(figures.len() - above);
    let p_value = (2.0 * tail as f64 / (figures.len() + 1) as f64).min(1.0);
    Some(Difference { difference, ci, p_value })
}

/// Resamples beyond zero below which their number says nothing of how rare that is.
const SEEN: f64 = 20.0;

/// The same, with p-values that hold in the far tail, where Holm's adjustment looks, and of few clusters. No p-value is smaller than
/// that of Student's t over the clusters ([`ratio::p_of_zero`]), which stands alone where resamples hardly fall beyond zero. Below
/// [`FEW_CLUSTERS`] the interval is Student's, too, and neither is narrower or smaller than of independent items. `None` for no items.
///
/// # Panics
/// If the lists differ in length.
#[must_use]
pub fn paired(a: &[f64], b: &[f64], clusters: Option<&[usize]>, resamples: usize, seed: u64) -> Option<Difference> {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let few = clusters.filter(|clusters| clusters.iter().collect::<BTreeSet<_>>().len() < FEW_CLUSTERS);
    let each: Vec<usize> = (0..differences.len()).collect();
    let sure = |drawn: Difference, clusters: &[usize], resamples: usize| {
        let closed = ratio::p_of_zero(&differences, clusters);
        let resolved = drawn.p_value * (resamples + 1) as f64 >= 2.0 * SEEN;
        Difference { p_value: if resolved { drawn.p_value.max(closed) } else { closed }, ..drawn }
    };
    let Some(clusters) = few else {
        let drawn = paired_clusters(a, b, clusters, resamples, seed)?;
        return Some(sure(drawn, clusters.unwrap_or(&each), resamples));
    };
    let resamples = resamples.min(resamples_for(a.len()));
    let alone = sure(paired_clusters::<usize>(a, b, None, resamples, seed)?, &each, resamples);
    let p_value = ratio::p_of_zero(&differences, clusters).max(alone.p_value);
    let around = |(low, high): Interval| (alone.ci.0.min(low).max(-1.0), alone.ci.1.max(high).min(1.0));
    // One cluster says nothing of another.
    let ci = ratio::mean(&differences, clusters).map_or((-1.0, 1.0), |(_, interval)| around(interval));
    Some(Difference { ci, p_value, ..alone })
}

/// Means of resamples, sorted; without clusters each value is one.
fn means<K: Ord>(values: &[f64], clusters: Option<&[K]>, resamples: usize, seed: u64) -> Vec<f64> {
    let Some(clusters) = clusters else {
        return resampled(values.len(), resamples, seed, |drawn| {
            drawn.iter().map(|&index| values[index]).sum::<f64>() / drawn.len() as f64
        });
    };
    assert_eq!(values.len(), clusters.len(), "every value has a cluster");
    let mut totals: BTreeMap<&K, (f64, f64)> = BTreeMap::new();
    for (value, cluster) in values.iter().zip(clusters) {
        let (sum, count) = totals.entry(cluster).or_default();
        *sum += value;
        *count += 1.0;
    }
    let totals: Vec<(f64, f64)> = totals.into_values().collect();
    resampled(totals.len(), resamples, seed, |drawn| {
        let (sum, count) =
            drawn.iter().fold((0.0, 0.0), |(sum, count), &index| (sum + totals[index].0, count + totals[index].1));
        sum / count
    })
}

/// Interval of the mean over groups of values that belong to the same items, as the seeds of a student answer the same
/// questions. Groups and items (whole clusters) are drawn by themselves, each with replacement (the pigeonhole bootstrap:
/// Owen 2007, Annals of Applied Statistics 1), so that a group's own luck counts beside the items'. A few groups say little of
/// all that might have been: of G groups the drawn ones scatter (G − 1) / G as much. `None` for no groups or no items.
///
/// # Panics
/// If groups differ in length.
#[must_use]
pub fn crossed<K: Ord>(groups: &[Vec<f64>], clusters: Option<&[K]>, resamples: usize, seed: u64) -> Option<Interval> {
    let items = groups.first()?.len();
    assert!(groups.iter().all(|group| group.len() == items), "groups are of the same items");
    let totals = by_cluster(groups, clusters);
    let mut rng = SplitMix64::new(!seed);
    let mut times = vec![0.0; groups.len()];
    ends(&resampled(totals.len(), resamples, seed, |drawn| {
        times.fill(0.0);
        (0..times.len()).for_each(|_| times[rng.below(groups.len())] += 1.0);
        let (mut sum, mut count) = (0.0, 0.0);
        for &index in drawn {
            let (sums, values) = &totals[index];
            sum += sums.iter().zip(&times).map(|(sum, times)| sum * times).sum::<f64>();
            count += values;
        }
        sum / (count * times.len() as f64)
    }))
}

/// Of each cluster the sum of every group, and how many items it has.
fn by_cluster<K: Ord>(groups: &[Vec<f64>], clusters: Option<&[K]>) -> Vec<(Vec<f64>, f64)> {
    let of_item = |item: usize| groups.iter().map(move |group| group[item]);
    let items = groups.first().map_or(0, Vec::len);
    let Some(clusters) = clusters else { return (0..items).map(|item| (of_item(item).collect(), 1.0)).collect() };
    assert_eq!(items, clusters.len(), "every value has a cluster");
    let mut totals: BTreeMap<&K, (Vec<f64>, f64)> = BTreeMap::new();
    for (item, cluster) in clusters.iter().enumerate() {
        let (sums, count) = totals.entry(cluster).or_insert_with(|| (vec![0.0; groups.len()], 0.0));
        sums.iter_mut().zip(of_item(item)).for_each(|(sum, value)| *sum += value);
        *count += 1.0;
    }
    totals.into_values().collect()
}

/// Resamples for so many items: [`RESAMPLES`], fewer where drawing them would take seconds and the interval is narrow.
#[must_use]
pub fn resamples_for(items: usize) -> usize {
    const DRAWS: usize = 20_000_000;
    RESAMPLES.min((DRAWS / items.max(1)).max(1000))
}

/// Interval of the mean of independent values.
#[must_use]
pub fn mean(values: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    ends(&means::<usize>(values, None, resamples, seed))
}

/// Interval of the mean of values (or of paired differences) whose clusters are drawn whole. `clusters[i]` names the
/// cluster of `values[i]`.
///
/// # Panics
/// If the two lists differ in length.
#[must_use]
pub fn cluster_mean<K: Ord>(values: &[f64], clusters: &[K], resamples: usize, seed: u64) -> Option<Interval> {
    ends(&means(values, Some(clusters), resamples, seed))
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
mod tests;
