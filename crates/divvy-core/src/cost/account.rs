//! From what questions took to what they cost: means, prices of right answers, the break-even of distilling. Sums are whole
//! numbers; only means and their ends are rounded, once.

use thiserror::Error;

use super::parse_dollars;
use crate::{
    chat::Usage,
    recipe,
    results::costs::{BreakEven, Mean, Outlay, PerCorrect, Spending, StatedTerms, Tokens},
    stats::ratio,
};

const MICROSECONDS_AN_HOUR: i128 = 3_600_000_000;
/// Utilisation is counted in millionths.
const WHOLE: i128 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct TermsError {
    /// Of `[costs]`.
    pub key: &'static str,
    pub message: String,
}

impl StatedTerms {
    /// # Errors
    /// [`TermsError`] for a price that is none, a utilisation outside 0 to 1, or no questions.
    pub fn of(costs: &recipe::Costs) -> Result<Self, TermsError> {
        let fail = |key, message: &str| Err(TermsError { key, message: message.to_owned() });
        let price = costs.machine_hour.as_deref().map(parse_dollars).transpose();
        let machine_hour_nanos =
            price.map_err(|error| TermsError { key: "machine_hour", message: error.to_string() })?;
        let stated = Self::default();
        let utilisation = costs.utilisation.unwrap_or(stated.utilisation);
        if !(1e-6..=1.0).contains(&utilisation) {
            return fail("utilisation", "it is the share of the hours paid for in which the machine works, as in 0.5");
        }
        let questions = costs.questions.unwrap_or(stated.questions);
        if questions == 0 {
            return fail("questions", "what is paid once is spread over so many questions; at least one");
        }
        Ok(Self { machine_hour_nanos, utilisation, questions })
    }

    /// What the machine's time costs, hours in which it waits included.
    #[must_use]
    pub fn price_of_time(&self, worked_us: i64, hour_nanos: i64) -> Option<i64> {
        self.grossed_up(i128::from(worked_us).checked_mul(i128::from(hour_nanos))?, MICROSECONDS_AN_HOUR)
    }

    /// A price that was paid by the hour of work, with the hours that were paid for beside.
    #[must_use]
    pub fn with_idle_hours(&self, nanos: i64) -> Option<i64> {
        self.grossed_up(i128::from(nanos), 1)
    }

    fn grossed_up(&self, amount: i128, unit: i128) -> Option<i64> {
        let share = (self.utilisation * WHOLE as f64).round() as i128;
        rounded(amount.checked_mul(WHOLE)?, unit * share.max(1))
    }
}

/// Price of an hour's work without idle hours: training has the machine to itself for as long as it takes.
#[must_use]
pub fn price_of_training(worked_us: i64, hour_nanos: i64) -> Option<i64> {
    rounded(i128::from(worked_us) * i128::from(hour_nanos), MICROSECONDS_AN_HOUR)
}

/// Half up.
fn rounded(amount: i128, unit: i128) -> Option<i64> {
    i64::try_from((amount + unit / 2).div_euclid(unit)).ok()
}

impl Tokens {
    pub fn add(&mut self, usage: &Usage) {
        self.input += usage.tokens_in.unwrap_or(0);
        self.cached += usage.tokens_cached.unwrap_or(0);
        self.output += usage.tokens_out.unwrap_or(0);
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { input: self.input + other.input, cached: self.cached + other.cached, output: self.output + other.output }
    }
}

impl Outlay {
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let sum = |a: Option<i64>, b: Option<i64>| a?.checked_add(b?);
        Self {
            tokens: self.tokens.and(other.tokens),
            money_nanos: sum(self.money_nanos, other.money_nanos),
            machine_us: sum(self.machine_us, other.machine_us),
        }
    }

    /// A share of it.
    #[must_use]
    pub fn times(self, share: f64) -> Self {
        let of = |amount: i64| (amount as f64 * share).round() as i64;
        let count = |tokens: u64| (tokens as f64 * share).round() as u64;
        let Tokens { input, cached, output } = self.tokens;
        Self {
            tokens: Tokens { input: count(input), cached: count(cached), output: count(output) },
            money_nanos: self.money_nanos.map(of),
            machine_us: self.machine_us.map(of),
        }
    }
}

/// What `right.len()` questions cost, `None` if one of them is unknown or there is none.
#[must_use]
pub fn spending(amounts: &[Option<i64>], right: &[bool], clusters: &[usize]) -> Option<Spending> {
    let amounts: Vec<i64> = amounts.iter().copied().collect::<Option<_>>()?;
    let total = amounts.iter().try_fold(0_i64, |sum, amount| sum.checked_add(*amount))?;
    let amounts: Vec<f64> = amounts.iter().map(|amount| *amount as f64).collect();
    let right: Vec<f64> = right.iter().map(|right| f64::from(u8::from(*right))).collect();
    let correct = ratio::fieller(&amounts, &right, clusters).map(|(mean, (low, high))| PerCorrect {
        mean: mean.round() as i64,
        low: (low.round() as i64).max(0),
        high: high.is_finite().then(|| high.round() as i64),
    });
    // Nothing takes less than nothing, whatever an interval of few and unlike amounts says.
    let question = mean(&amounts, clusters).map(|Mean { mean, ci: (low, high) }| Mean { mean, ci: (low.max(0), high) });
    (!amounts.is_empty()).then_some(Spending { total, question, correct })
}

/// Mean of `replaced` less `instead` over the questions that both know; `None` below two of them.
#[must_use]
pub fn saving(replaced: &[Option<i64>], instead: &[Option<i64>], clusters: &[usize]) -> Option<Mean> {
    let both = replaced.iter().zip(instead).zip(clusters);
    let (differences, clusters): (Vec<f64>, Vec<usize>) =
        both.filter_map(|((a, b), cluster)| Some((a.as_ref()?.checked_sub(*b.as_ref()?)? as f64, *cluster))).unzip();
    mean(&differences, &clusters)
}

fn mean(amounts: &[f64], clusters: &[usize]) -> Option<Mean> {
    let (mean, (low, high)) = ratio::mean(amounts, clusters)?;
    Some(Mean { mean: mean.round() as i64, ci: (low.round() as i64, high.round() as i64) })
}

/// When what was paid once is saved.
#[must_use]
pub fn break_even(one_off: i64, saving: &Mean) -> BreakEven {
    let after = |saved: i64| (saved > 0).then(|| one_off.max(0).unsigned_abs().div_ceil(saved.unsigned_abs()));
    BreakEven { questions: after(saving.mean), earliest: after(saving.ci.1), latest: after(saving.ci.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(utilisation: f64) -> StatedTerms {
        StatedTerms { utilisation, ..StatedTerms::default() }
    }

    #[test]
    fn a_machine_that_waits_half_the_time_costs_twice() {
        let hour = 100_000_000; // ten cents
        assert_eq!(terms(1.0).price_of_time(36_000, hour), Some(1_000));
        assert_eq!(terms(0.5).price_of_time(36_000, hour), Some(2_000));
        assert_eq!(terms(0.3).with_idle_hours(3), Some(10));
        assert_eq!(price_of_training(36_000, hour), Some(1_000));
        assert_eq!(terms(1.0).price_of_time(i64::MAX, i64::MAX), None);
    }

    #[test]
    fn terms_are_checked_and_filled_in() {
        let costs = |machine_hour: Option<&str>, utilisation, questions| recipe::Costs {
            machine_hour: machine_hour.map(str::to_owned),
            utilisation,
            questions,
        };
        assert_eq!(StatedTerms::of(&costs(None, None, None)), Ok(StatedTerms::default()));
        let stated = StatedTerms::of(&costs(Some("0.40"), Some(0.5), Some(7))).unwrap();
        assert_eq!((stated.machine_hour_nanos, stated.utilisation, stated.questions), (Some(400_000_000), 0.5, 7));
        for (costs, key) in [
            (costs(Some("cheap"), None, None), "machine_hour"),
            (costs(None, Some(0.0), None), "utilisation"),
            (costs(None, Some(50.0), None), "utilisation"),
            (costs(None, Some(f64::NAN), None), "utilisation"),
            (costs(None, None, Some(0)), "questions"),
        ] {
            assert_eq!(StatedTerms::of(&costs).unwrap_err().key, key);
        }
    }

    #[test]
    fn a_right_answer_costs_what_the_wrong_ones_took_too() {
        let cost = [Some(10), Some(20), Some(30), Some(40)];
        let spent = spending(&cost, &[true, true, true, false], &[0, 1, 2, 3]).unwrap();
        assert_eq!((spent.total, spent.question.map(|mean| mean.mean)), (100, Some(25)));
        let right = spent.correct.unwrap();
        assert_eq!(right.mean, 33);
        assert!(right.low < 33 && right.high.is_none_or(|high| high > 33), "{right:?}");
        assert_eq!(spending(&cost, &[false; 4], &[0, 1, 2, 3]).unwrap().correct, None);
        assert_eq!(spending(&[Some(1), None], &[true; 2], &[0, 1]), None, "unknown is not zero");
        assert_eq!(spending(&[], &[], &[]), None);
    }

    #[test]
    fn nothing_costs_less_than_nothing() {
        let spent = spending(&[Some(1), Some(2), Some(300)], &[true; 3], &[0, 1, 2]).unwrap();
        let (question, right) = (spent.question.unwrap(), spent.correct.unwrap());
        assert!(question.ci.0 == 0 && question.ci.1 > 300 && right.low == 0, "{question:?} {right:?}");
        let saved = saving(&[Some(1), Some(2), Some(300)], &[Some(0); 3], &[0, 1, 2]).unwrap();
        assert!(saved.ci.0 < 0, "a saving may be a loss: {saved:?}");
    }

    #[test]
    fn what_saves_nothing_never_pays_back() {
        let saved = |mean, ci| break_even(1_000, &Mean { mean, ci });
        let counts = |even: BreakEven| (even.questions, even.earliest, even.latest);
        assert_eq!(counts(saved(100, (50, 300))), (Some(10), Some(4), Some(20)));
        assert_eq!(counts(saved(100, (-5, 300))), (Some(10), Some(4), None));
        assert_eq!(counts(saved(-1, (-5, 3))), (None, Some(334), None));
        assert_eq!(counts(saved(0, (0, 0))), (None, None, None));
        assert_eq!(counts(break_even(0, &Mean { mean: 2, ci: (1, 3) })), (Some(0), Some(0), Some(0)));
    }

    #[test]
    fn a_saving_is_told_on_the_questions_that_both_know() {
        let found = saving(&[Some(9), None, Some(5)], &[Some(4), Some(1), Some(2)], &[0, 1, 2]).unwrap();
        assert_eq!(found.mean, 4);
        assert_eq!(saving(&[None, Some(3)], &[Some(1), Some(1)], &[0, 1]), None);
    }

    #[test]
    fn an_unknown_part_makes_the_sum_unknown() {
        let known = Outlay { money_nanos: Some(3), ..Outlay::NONE };
        assert_eq!(known.and(known).money_nanos, Some(6));
        assert_eq!(known.and(Outlay::default()).money_nanos, None);
    }

    proptest! {
        #[test]
        fn a_break_even_is_in_order(one_off in 0_i64..1 << 50, low in -1000_i64..1000, up in 0_i64..1000, more in 0_i64..1000) {
            let even = break_even(one_off, &Mean { mean: low + up, ci: (low, low + up + more) });
            let or_never = |count: Option<u64>| count.unwrap_or(u64::MAX);
            prop_assert!(or_never(even.earliest) <= or_never(even.questions));
            prop_assert!(or_never(even.questions) <= or_never(even.latest));
        }

        #[test]
        fn less_use_never_costs_less(worked in 0_i64..1 << 40, hour in 0_i64..1 << 36, a in 0.01..1.0_f64, b in 0.01..1.0_f64) {
            let price = |utilisation: f64| terms(utilisation).price_of_time(worked, hour);
            prop_assert!(price(a.min(b)).unwrap_or(i64::MAX) >= price(a.max(b)).unwrap_or(i64::MAX));
        }
    }
}
