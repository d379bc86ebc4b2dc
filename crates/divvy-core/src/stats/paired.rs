//! Two arms on the same questions: difference of accuracy, its interval, and the McNemar p-value.
//!
//! The interval is Tango's score interval (Statistics in Medicine 17, 1998): the differences that a score test with
//! restricted maximum likelihood would not reject. At difference 0 that test is McNemar's, so interval and test agree,
//! but for the exact test's discreteness.

use super::{Interval, Z95, mcnemar};

/// How arm `a` compares with arm `b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    pub n: u64,
    /// Questions that only `a` got right.
    pub only_a: u64,
    pub only_b: u64,
    /// accuracy(a) − accuracy(b).
    pub difference: f64,
    /// 95 % interval of the difference.
    pub ci: Interval,
    /// Exact McNemar, two-sided.
    pub p_value: f64,
}

/// Compares right/wrong of the same questions in the same order.
///
/// # Panics
/// If the two lists differ in length: they are then not the same questions.
#[must_use]
pub fn compare(a: &[bool], b: &[bool]) -> Paired {
    assert_eq!(a.len(), b.len(), "paired arms answer the same questions");
    let only = |x: &[bool], y: &[bool]| x.iter().zip(y).filter(|(x, y)| **x && !**y).count() as u64;
    let (n, only_a, only_b) = (a.len() as u64, only(a, b), only(b, a));
    let difference = if n == 0 { 0.0 } else { (only_a as f64 - only_b as f64) / n as f64 };
    Paired { n, only_a, only_b, difference, ci: interval(only_a, only_b, n), p_value: mcnemar::p_value(only_a, only_b) }
}

/// 95 % score interval of (only_a − only_b) / n; (−1, 1) when nothing was asked.
#[must_use]
pub fn interval(only_a: u64, only_b: u64, n: u64) -> Interval {
    if n == 0 {
        return (-1.0, 1.0);
    }
    let difference = (only_a as f64 - only_b as f64) / n as f64;
    let statistic = |at: f64| score(only_a as f64, only_b as f64, n as f64, at);
    let low = if only_b == n { -1.0 } else { crossing(-1.0, difference, |at| statistic(at) < Z95) };
    let high = if only_a == n { 1.0 } else { crossing(difference, 1.0, |at| statistic(at) < -Z95) };
    (low, high)
}

/// Tango's statistic under the hypothesis that the difference is `delta`; it falls as `delta` grows.
fn score(only_a: f64, only_b: f64, n: f64, delta: f64) -> f64 {
    let b = (2.0 * n - only_a + only_b) * delta - only_a - only_b;
    let c = -only_b * delta * (1.0 - delta);
    let only_b_share = ((b * b - 8.0 * n * c).max(0.0).sqrt() - b) / (4.0 * n);
    let variance = n * (2.0 * only_b_share + delta * (1.0 - delta));
    let gap = only_a - only_b - n * delta;
    // Without variance any gap is beyond all bounds.
    if variance <= 0.0 { gap * f64::INFINITY } else { gap / variance.sqrt() }
}

/// Where `reached` turns true between `low` and `high`, by bisection to the last bit.
fn crossing(mut low: f64, mut high: f64, reached: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let middle = low + (high - low) / 2.0;
        if reached(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    low + (high - low) / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From a score test whose nuisance parameter is maximised numerically (`scipy.optimize.minimize_scalar` on the
    /// trinomial likelihood, then `brentq`): independent of the closed form above, good to about 1e-7.
    #[test]
    fn as_the_numerically_restricted_likelihood() {
        for (only_a, only_b, n, low, high) in [
            (12, 2, 50, 0.06111240687, 0.34470874765),
            (14, 1, 40, 0.15923265984, 0.48795250750),
            (0, 0, 30, -0.1135133932, 0.1135133932),
            (5, 5, 100, -0.0702211987, 0.0702211987),
            (18, 3, 60, 0.11075063476, 0.38821230429),
            (120, 80, 1319, 0.00939477098, 0.05156769945),
        ] {
            let found = interval(only_a, only_b, n);
            assert!((found.0 - low).abs() < 1e-6 && (found.1 - high).abs() < 1e-6, "{found:?} {low} {high}");
        }
    }

    #[test]
    fn ends_of_the_scale() {
        let (low, high) = interval(10, 0, 10);
        assert!(low > 0.3 && high == 1.0);
        let mirrored = interval(0, 10, 10);
        assert!((mirrored.0 + 1.0).abs() < 1e-12 && (mirrored.1 + low).abs() < 1e-9);
        assert_eq!(interval(0, 0, 0), (-1.0, 1.0));
    }

    #[test]
    fn counts_from_answers() {
        let paired = compare(&[true, true, false, true, false], &[true, false, true, false, false]);
        assert_eq!((paired.n, paired.only_a, paired.only_b), (5, 2, 1));
        assert!((paired.difference - 0.2).abs() < 1e-12);
        assert_eq!(compare(&[], &[]).p_value, 1.0);
    }

    proptest! {
        #[test]
        fn it_holds_the_difference(a in 0_u64..300, b in 0_u64..300, same in 0_u64..300) {
            prop_assume!(a + b + same > 0);
            let n = a + b + same;
            let (low, high) = interval(a, b, n);
            let difference = (a as f64 - b as f64) / n as f64;
            prop_assert!(-1.0 <= low && low <= difference && difference <= high && high <= 1.0, "{low} {difference} {high}");
            let mirrored = interval(b, a, n);
            prop_assert!((mirrored.0 + high).abs() < 1e-9 && (mirrored.1 + low).abs() < 1e-9);
        }
    }
}
