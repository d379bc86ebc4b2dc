//! What a test set can show at all: differences too small to be found on n questions are said so beside the table.

use super::{Z95, mcnemar};

/// Standard normal quantile of 0.8, the power asked for.
const Z80: f64 = 0.841_621_233_572_914_3;

/// Smallest observed difference of accuracy that exact McNemar calls significant (p < 0.05) when `discordant` of `n`
/// questions are answered right by one arm only. `None` when even a clean sweep is not enough (below six).
#[must_use]
pub fn smallest_significant_difference(n: u64, discordant: u64) -> Option<f64> {
    let gap = (0..=discordant)
        .filter(|gap| (discordant - gap).is_multiple_of(2))
        .find(|gap| mcnemar::p_value((discordant + gap) / 2, (discordant - gap) / 2) < 0.05)?;
    (n > 0).then(|| gap as f64 / n as f64)
}

/// Smallest true difference found with 80 % power at the two-sided 5 % level on `n` questions of which the share
/// `discordant` (0 to 1) is answered right by one arm only: Connor's formula (Biometrics 43, 1987). `None` when it
/// would exceed that share.
#[must_use]
pub fn minimum_detectable_difference(n: u64, discordant: f64) -> Option<f64> {
    let needed = |difference: f64| {
        let spread = (discordant - difference * difference).max(0.0);
        Z95 * discordant.sqrt() + Z80 * spread.sqrt() - difference * (n as f64).sqrt()
    };
    if n == 0 || discordant <= 0.0 || needed(discordant) > 0.0 {
        return None;
    }
    let (mut low, mut high) = (0.0, discordant);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if needed(middle) > 0.0 { low = middle } else { high = middle }
    }
    Some(high)
}

/// Questions on which a true difference would be found with 80 % power, by the same formula. `None` for no difference,
/// and for one above the share of questions that the two arms decide differently.
#[must_use]
pub fn questions_needed(difference: f64, discordant: f64) -> Option<u64> {
    let difference = difference.abs();
    if !(difference > 0.0 && difference <= discordant && discordant <= 1.0) {
        return None;
    }
    let spread = (discordant - difference * difference).max(0.0);
    let needed = ((Z95 * discordant.sqrt() + Z80 * spread.sqrt()) / difference).powi(2).ceil();
    // A count of questions beyond this is no advice.
    (needed < 1e9).then_some(needed as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::close;

    #[test]
    fn the_questions_needed_are_those_that_detect_it() {
        for (difference, discordant) in [(0.05, 0.2), (-0.02, 0.1), (0.3, 0.3), (0.002, 0.4)] {
            let n = questions_needed(difference, discordant).unwrap();
            let smallest = |n| minimum_detectable_difference(n, discordant).unwrap_or(1.0);
            assert!(smallest(n) <= difference.abs() && smallest(n - 1) > difference.abs(), "{difference} {n}");
        }
        for nothing in [(0.0, 0.2), (0.3, 0.2), (f64::NAN, 0.2), (0.1, f64::NAN), (1e-9, 0.5)] {
            assert_eq!(questions_needed(nothing.0, nothing.1), None, "{nothing:?}");
        }
    }

    /// Six clean wins are the least: 2 · 0.5⁶ = 0.03. The others from `scipy.stats.binomtest`.
    #[test]
    fn smallest_gaps() {
        for (n, discordant, gap) in [(125, 6, 6), (125, 12, 8), (125, 25, 11), (1319, 66, 18), (1319, 132, 24)] {
            assert_eq!(
                smallest_significant_difference(n, discordant),
                Some(f64::from(gap) / n as f64),
                "{n} {discordant}"
            );
        }
        assert_eq!(smallest_significant_difference(100, 5), None);
        assert_eq!(smallest_significant_difference(0, 6), None);
    }

    /// Root of Connor's formula by `scipy.optimize.brentq`.
    #[test]
    fn detectable_as_scipy() {
        for (n, discordant, expect) in
            [(125, 0.1, 0.07849576566928347), (1319, 0.2, 0.03446737449869975), (9500, 0.1, 0.009088414757369396)]
        {
            close(minimum_detectable_difference(n, discordant).unwrap(), expect, 1e-9);
        }
        assert_eq!(minimum_detectable_difference(20, 0.05), None);
        assert_eq!(minimum_detectable_difference(0, 0.5), None);
    }
}
