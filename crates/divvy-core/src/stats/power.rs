//! What a test set can show at all: differences too small to be found on n questions are said so beside the table.

use super::{LEVEL, mcnemar, normal};

/// Standard normal quantile of 0.8, the power asked for.
const Z80: f64 = 0.841_621_233_572_914_3;

/// What a test has to pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Two-sided.
    pub level: f64,
    /// How many times as many questions it takes as if they were independent ([`super::ratio::design_effect`]); at least 1.
    pub design_effect: f64,
}

impl Terms {
    /// Of one of so many tests at the least favourable place in Holm's order: there, all of them count.
    #[must_use]
    pub fn among(tests: u64, design_effect: f64) -> Self {
        Self { level: LEVEL / tests.max(1) as f64, design_effect: design_effect.max(1.0) }
    }

    /// Quantiles of the level and of the power, times the spreads that the two stand for.
    fn reach(self, discordant: f64, difference: f64) -> f64 {
        let spread = (discordant - difference * difference).max(0.0);
        normal::upper_quantile(self.level / 2.0) * discordant.sqrt() + Z80 * spread.sqrt()
    }
}

/// Smallest observed difference of accuracy that exact McNemar calls significant (p below [`LEVEL`]) when `discordant` of `n`
/// questions are answered right by one arm only. `None` when even a clean sweep is not enough (below six).
#[must_use]
pub fn smallest_significant_difference(n: u64, discordant: u64) -> Option<f64> {
    let gap = (0..=discordant)
        .filter(|gap| (discordant - gap).is_multiple_of(2))
        .find(|gap| mcnemar::p_value((discordant + gap) / 2, (discordant - gap) / 2) < LEVEL)?;
    (n > 0).then(|| gap as f64 / n as f64)
}

/// Smallest true difference found with 80 % power on `n` questions of which the share `discordant` (0 to 1) is answered right
/// by one arm only: Connor's formula (Biometrics 43, 1987). `None` when it would exceed that share.
#[must_use]
pub fn minimum_detectable_difference(n: u64, discordant: f64, terms: Terms) -> Option<f64> {
    let independent = (n as f64 / terms.design_effect).sqrt();
    let needed = |difference: f64| terms.reach(discordant, difference) - difference * independent;
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
pub fn questions_needed(difference: f64, discordant: f64, terms: Terms) -> Option<u64> {
    let difference = difference.abs();
    if !(difference > 0.0 && difference <= discordant && discordant <= 1.0) {
        return None;
    }
    let needed = ((terms.reach(discordant, difference) / difference).powi(2) * terms.design_effect).ceil();
    // A count of questions beyond this is no advice.
    (needed < 1e9).then_some(needed as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::close;

    const ALONE: Terms = Terms { level: LEVEL, design_effect: 1.0 };

    #[test]
    fn the_questions_needed_are_those_that_detect_it() {
        for (difference, discordant) in [(0.05, 0.2), (-0.02, 0.1), (0.3, 0.3), (0.002, 0.4)] {
            for terms in [ALONE, Terms::among(30, 1.0), Terms::among(1, 2.5), Terms::among(400, 4.0)] {
                let n = questions_needed(difference, discordant, terms).unwrap();
                let smallest = |n| minimum_detectable_difference(n, discordant, terms).unwrap_or(1.0);
                assert!(smallest(n) <= difference.abs() && smallest(n - 1) > difference.abs(), "{difference} {n}");
            }
        }
        for nothing in [(0.0, 0.2), (0.3, 0.2), (f64::NAN, 0.2), (0.1, f64::NAN), (1e-9, 0.5)] {
            assert_eq!(questions_needed(nothing.0, nothing.1, ALONE), None, "{nothing:?}");
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
            close(minimum_detectable_difference(n, discordant, ALONE).unwrap(), expect, 1e-9);
        }
        assert_eq!(minimum_detectable_difference(20, 0.05, ALONE), None);
        assert_eq!(minimum_detectable_difference(0, 0.5, ALONE), None);
    }

    #[test]
    fn questions_that_count_for_less_are_as_fewer_questions() {
        let thinned = minimum_detectable_difference(900, 0.2, Terms::among(1, 3.0)).unwrap();
        assert_eq!(minimum_detectable_difference(300, 0.2, ALONE), Some(thinned));
        let strict = minimum_detectable_difference(300, 0.2, Terms::among(20, 0.3)).unwrap();
        // (3.0233 + 0.8416) / (1.96 + 0.8416), roughly.
        assert!((strict / thinned - 1.38).abs() < 0.02, "{strict} {thinned}");
    }
}
