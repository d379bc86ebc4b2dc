//! Exact McNemar test (McNemar 1947): do two arms differ on the same questions? Only the questions count that one arm
//! got right and the other wrong; under no difference each falls to either side like a fair coin.

/// Two-sided p-value: the binomial probability of a split at least as uneven as `only_a` to `only_b`.
#[must_use]
pub fn p_value(only_a: u64, only_b: u64) -> f64 {
    let (n, fewer) = (only_a + only_b, only_a.min(only_b));
    // A tie, or one off it, is as even as can be; without this the middle term would count twice.
    if n - 2 * fewer <= 1 {
        return 1.0;
    }
    let mut term = (ln_choose(n, fewer) - n as f64 * std::f64::consts::LN_2).exp();
    let mut tail = 0.0;
    for k in (0..=fewer).rev() {
        tail += term;
        if term < tail * 1e-17 {
            break;
        }
        term *= k as f64 / (n - k + 1) as f64;
    }
    (2.0 * tail).min(1.0)
}

/// Logarithm of the number of ways to choose `k` of `n`.
fn ln_choose(n: u64, k: u64) -> f64 {
    ln_gamma(n as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((n - k) as f64 + 1.0)
}

/// Logarithm of the gamma function for x > 0: Stirling's series from 15 up, the recurrence below.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 0.0);
    while x < 15.0 {
        below += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series =
        1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse * (1.0 / 1680.0 - inverse / 1188.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series / x - below
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::close;

    /// `scipy.stats.binomtest(only_a, only_a + only_b, 0.5).pvalue`.
    #[test]
    fn as_scipy() {
        for (only_a, only_b, p) in [
            (14, 1, 0.0009765625),
            (18, 3, 0.0014896392822265625),
            (8, 2, 0.109375),
            (2, 17, 0.000728607177734375),
            (0, 0, 1.0),
            (5, 5, 1.0),
            (1, 0, 1.0),
            (1500, 1380, 0.026576281110159666),
            (60_000, 59_000, 0.0037798696347767836),
            (0, 200, 1.2446030555722283e-60),
        ] {
            close(p_value(only_a, only_b), p, 1e-9);
        }
    }

    /// `scipy.special.gammaln`.
    #[test]
    fn ln_gamma_as_scipy() {
        for (x, expect) in [
            (0.5, 0.5723649429247),
            (3.0, std::f64::consts::LN_2),
            (10.5, 13.940625219403763),
            (100.0, 359.1342053695754),
            (1e6, 12_815_504.569_147_611),
        ] {
            close(ln_gamma(x), expect, 1e-13);
        }
        assert!(ln_gamma(1.0).abs() < 1e-13);
    }

    proptest! {
        #[test]
        fn symmetric_and_smaller_when_more_uneven(a in 0_u64..2000, b in 0_u64..2000) {
            let p = p_value(a, b);
            prop_assert_eq!(p, p_value(b, a));
            prop_assert!((0.0..=1.0).contains(&p));
            if a > b && b > 0 {
                prop_assert!(p_value(a + 1, b - 1) <= p);
            }
        }
    }
}
