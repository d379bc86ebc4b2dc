//! What a test set can show at all: differences too small to be found on n questions are said so beside the table.

use super::{LEVEL, normal, student_t};

/// Standard normal quantile of 0.8, the power asked for.
const Z80: f64 = 0.841_621_233_572_914_3;

/// What a test has to pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Two-sided.
    pub level: f64,
    /// How many times as many questions it takes as if they were independent ([`super::ratio::design_effect`]); at least 1.
    pub design_effect: f64,
    /// Where questions share them, how many there are: Student's t is over them.
    pub passages: Option<u64>,
}

impl Terms {
    /// Of one of so many tests at the least favourable place in Holm's order: there, all of them count.
    #[must_use]
    pub fn among(tests: u64, design_effect: f64, passages: Option<u64>) -> Self {
        Self { level: LEVEL / tests.max(1) as f64, design_effect: design_effect.max(1.0), passages }
    }

    fn quantile(self) -> f64 {
        match self.passages {
            Some(passages) => {
                student_t::quantile(self.level, usize::try_from(passages).unwrap_or(usize::MAX).max(1) - 1)
            }
            None => normal::upper_quantile(self.level / 2.0),
        }
    }

    /// So few passages that not even if all went one way a difference would be shown: turning their signs is as likely.
    fn show_nothing(self) -> bool {
        let least = |passages: u64| 2.0 * 0.5_f64.powi(i32::try_from(passages).unwrap_or(i32::MAX));
        self.passages.is_some_and(|passages| least(passages) >= self.level)
    }
}

/// Quantiles of the level and of the power, times the spreads that the two stand for.
fn reach(quantile: f64, discordant: f64, difference: f64) -> f64 {
    let spread = (discordant - difference * difference).max(0.0);
    quantile * discordant.sqrt() + Z80 * spread.sqrt()
}

/// Smallest true difference found with 80 % power on `n` questions of which the share `discordant` (0 to 1) is answered right
/// by one arm only: Connor's formula (Biometrics 43, 1987). `None` when it would exceed that share, and of so few passages that they show nothing.
#[must_use]
pub fn minimum_detectable_difference(n: u64, discordant: f64, terms: Terms) -> Option<f64> {
    let independent = (n as f64 / terms.design_effect).sqrt();
    let quantile = terms.quantile();
    let needed = |difference: f64| reach(quantile, discordant, difference) - difference * independent;
    if n == 0 || discordant <= 0.0 || terms.show_nothing() || needed(discordant) > 0.0 {
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
    let reach = reach(terms.quantile(), discordant, difference);
    let needed = ((reach / difference).powi(2) * terms.design_effect).ceil();
    // A count of questions beyond this is no advice.
    (needed < 1e9).then_some(needed as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::close;

    const ALONE: Terms = Terms { level: LEVEL, design_effect: 1.0, passages: None };

    #[test]
    fn the_questions_needed_are_those_that_detect_it() {
        for (difference, discordant) in [(0.05, 0.2), (-0.02, 0.1), (0.3, 0.3), (0.002, 0.4)] {
            for terms in
                [ALONE, Terms::among(30, 1.0, None), Terms::among(1, 2.5, Some(60)), Terms::among(400, 4.0, None)]
            {
                let n = questions_needed(difference, discordant, terms).unwrap();
                let smallest = |n| minimum_detectable_difference(n, discordant, terms).unwrap_or(1.0);
                assert!(smallest(n) <= difference.abs() && smallest(n - 1) > difference.abs(), "{difference} {n}");
            }
        }
        for nothing in [(0.0, 0.2), (0.3, 0.2), (f64::NAN, 0.2), (0.1, f64::NAN), (1e-9, 0.5)] {
            assert_eq!(questions_needed(nothing.0, nothing.1, ALONE), None, "{nothing:?}");
        }
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
        let thinned = minimum_detectable_difference(900, 0.2, Terms::among(1, 3.0, None)).unwrap();
        assert_eq!(minimum_detectable_difference(300, 0.2, ALONE), Some(thinned));
        let strict = minimum_detectable_difference(300, 0.2, Terms::among(20, 0.3, None)).unwrap();
        // (3.0233 + 0.8416) / (1.96 + 0.8416), roughly.
        assert!((strict / thinned - 1.38).abs() < 0.02, "{strict} {thinned}");
    }

    #[test]
    fn few_passages_need_a_larger_difference_and_very_few_show_none() {
        let smallest = |tests, passages| minimum_detectable_difference(500, 0.2, Terms::among(tests, 1.5, passages));
        let (many, few) = (smallest(1, None).unwrap(), smallest(1, Some(8)).unwrap());
        // t(7) = 2.365 in the place of 1.96.
        assert!(many * 1.1 < few && few < many * 1.2, "{many} {few}");
        assert_eq!((smallest(1, Some(5)), smallest(30, Some(10))), (None, None));
        assert!(smallest(30, Some(11)).is_some());
    }
}
