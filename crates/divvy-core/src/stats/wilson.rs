//! Wilson's score interval of a proportion (Wilson 1927): honest at small n and near 0 and 1, where the usual
//! "± 1.96 standard errors" is not.

use super::{Interval, Z95};

/// 95 % interval of `correct` out of `n`; (0, 1) when nothing was asked.
#[must_use]
pub fn interval(correct: u64, n: u64) -> Interval {
    of_share(correct.min(n) as f64 / n as f64, n as f64)
}

/// The same of a share `p` in 0..=1 of what is worth `n` independent answers; neither `n` nor their product need be whole.
#[must_use]
pub fn of_share(p: f64, n: f64) -> Interval {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let z2 = Z95 * Z95;
    let centre = p + z2 / (2.0 * n);
    let half = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    let low = if p <= 0.0 { 0.0 } else { ((centre - half) / scale).max(0.0) };
    let high = if p >= 1.0 { 1.0 } else { ((centre + half) / scale).min(1.0) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::close;

    /// `scipy.stats.binomtest(k, n).proportion_ci(0.95, method="wilson")`.
    #[test]
    fn as_scipy() {
        for (correct, n, low, high) in [
            (75, 125, 0.5123745945370625, 0.6816623267212721),
            (1055, 1319, 0.7773986203493057, 0.8205566332645116),
            (6650, 9500, 0.6907056551105591, 0.7091326646325747),
            (0, 10, 0.0, 0.27753279986288926),
            (10, 10, 0.7224672001371109, 1.0),
            (1, 1, 0.20654931437723745, 1.0),
        ] {
            let found = interval(correct, n);
            close(found.0, low, 1e-12);
            close(found.1, high, 1e-12);
        }
        assert_eq!(interval(0, 0), (0.0, 1.0));
        assert_eq!(of_share(0.6, 125.0), interval(75, 125));
    }

    proptest! {
        #[test]
        fn it_holds_the_proportion_and_shrinks(n in 1_u64..5000, share in 0.0..=1.0_f64) {
            let correct = (share * n as f64) as u64;
            let (low, high) = interval(correct, n);
            let p = correct as f64 / n as f64;
            prop_assert!(0.0 <= low && low <= p && p <= high && high <= 1.0);
            let (wide, narrow) = (high - low, interval(4 * correct, 4 * n));
            prop_assert!(narrow.1 - narrow.0 < wide);
        }
    }
}
