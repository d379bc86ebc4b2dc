//! How long a person waits for an answer: the critical path of its calls, and quantiles over questions.

use crate::results::costs::Latency;

/// Milliseconds of one question. Each step is the calls that were asked together: the slowest of them counts, and steps wait
/// for each other.
#[must_use]
pub fn critical_path(steps: &[Vec<i64>]) -> i64 {
    steps.iter().map(|together| together.iter().copied().max().unwrap_or(0)).sum()
}

/// Median and 95th percentile, each the time of a question that was really asked (nearest rank). `None` without any.
#[must_use]
pub fn quantiles(mut paths_ms: Vec<i64>) -> Option<Latency> {
    paths_ms.sort_unstable();
    let at = |percent: usize| paths_ms.get((paths_ms.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some(Latency { n: paths_ms.len() as u64, p50_ms: at(50)?, p95_ms: at(95)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_add_and_what_runs_together_does_not() {
        assert_eq!(critical_path(&[vec![100], vec![30, 70, 20], vec![5]]), 175);
        assert_eq!(critical_path(&[]), 0);
    }

    #[test]
    fn quantiles_are_times_that_were_seen() {
        assert_eq!(quantiles(Vec::new()), None);
        assert_eq!(quantiles(vec![7]), Some(Latency { n: 1, p50_ms: 7, p95_ms: 7 }));
        let found = quantiles((1..=100).rev().collect()).unwrap();
        assert_eq!((found.n, found.p50_ms, found.p95_ms), (100, 50, 95));
        assert_eq!(quantiles(vec![1, 2, 3, 1000]).unwrap().p95_ms, 1000);
    }
}
