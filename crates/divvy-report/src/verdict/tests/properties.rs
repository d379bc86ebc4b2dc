//! Whatever the numbers, no verdict contradicts them.

use proptest::prelude::*;

use super::{super::*, answer_of, costs::saving_with};
use crate::tests::random;

/// A comparison that shows the arm better than another, or worse.
fn is_shown(results: &Results, better: bool) -> impl Fn(&str) -> bool + '_ {
    move |arm| {
        results.comparisons.iter().any(|pair| {
            let sign = if better { 1.0 } else { -1.0 };
            let for_arm =
                (pair.a == arm && sign * pair.difference > 0.0) || (pair.b == arm && sign * pair.difference < 0.0);
            for_arm && pair.p_holm < 0.05 && !pair.exploratory && pair.n > 0
        })
    }
}

/// Something costs less than the arm, and has at least as many right answers.
fn is_pointless(results: &Results, arm: &str) -> bool {
    let pairs = results.costs.iter().flat_map(|costs| &costs.distilling);
    pairs.filter(|pair| pair.arm == arm && pair.measure.is_some()).any(|rival| {
        let no_better = results.comparisons.iter().any(|pair| {
            (pair.a == arm && pair.b == rival.replaces && pair.n > 0 && pair.difference <= 0.0)
                || (pair.b == arm && pair.a == rival.replaces && pair.n > 0 && pair.difference >= 0.0)
        });
        no_better && rival.saving.is_some_and(|saving| saving.ci.1 < 0)
    })
}

/// Of the arms of one call that it was compared with, the most accurate is shown to be better.
fn is_beaten_by_one_call(results: &Results, arm: &str) -> bool {
    let against = |other: &str| {
        results.comparisons.iter().find_map(|pair| match () {
            () if pair.a == arm && pair.b == other => Some((pair, pair.difference)),
            () if pair.a == other && pair.b == arm => Some((pair, -pair.difference)),
            () => None,
        })
    };
    let one_call = results.arms.iter().filter(|other| other.n > 0 && other.decomposer.is_none());
    let compared = one_call.filter_map(|other| Some((other.accuracy, against(&other.arm)?)));
    let best = compared.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.is_some_and(|(_, (pair, difference))| {
        difference < 0.0 && pair.p_holm.is_finite() && pair.p_holm < 0.05 && !pair.exploratory && pair.n > 0
    })
}

/// The interval of the difference reaches zero, declared or not.
fn may_lose_nothing(results: &Results, arm: &str, replaces: &str) -> bool {
    results.comparisons.iter().any(|pair| {
        (pair.a == arm && pair.b == replaces && pair.ci.1 >= 0.0)
            || (pair.b == arm && pair.a == replaces && pair.ci.0 <= 0.0)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the test says of it, and declared or not.
    #[test]
    fn no_loss_that_is_nearly_certain_is_recommended(
        low in -1.0..0.9_f64,
        width in 0.0..0.3_f64,
        p_holm in 0.0..=1.0_f64,
        exploratory in any::<bool>(),
    ) {
        // What a test shows has no zero in its interval.
        let p_holm = if low < 0.0 && low + width > 0.0 { p_holm.max(0.05) } else { p_holm };
        let (answer, headline) = answer_of(&saving_with((low, low + width), p_holm, exploratory));
        let recommended = headline.starts_with("Distil the");
        prop_assert!(!(recommended && low + width < 0.0), "{answer:?} {headline}");
        prop_assert!(!(recommended && low < -0.1), "{answer:?} {headline}");
        prop_assert!(recommended || low < -0.1 || low + width / 2.0 < 0.0, "{answer:?} {headline}");
    }

    /// Whatever the numbers, the answer has a figure behind it and none against it.
    #[test]
    fn no_verdict_contradicts_its_numbers(results in random::results()) {
        let verdict = verdict(&results);
        let students: Vec<&str> = results.arms.iter().map(|arm| arm.arm.as_str()).collect();
        let (better, worse) = (is_shown(&results, true), is_shown(&results, false));
        let savings: Vec<_> = results.costs.iter().flat_map(|costs| &costs.distilling).filter_map(|pair| pair.saving).collect();
        match verdict.answer {
            Answer::Decomposer | Answer::Solver | Answer::Both | Answer::Either => {
                prop_assert!(students.iter().any(|arm| better(arm) && !is_pointless(&results, arm)), "{verdict:?}");
            }
            Answer::CheaperDecomposer | Answer::CheaperSolver | Answer::CheaperBoth => {
                let mut pairs = results.costs.iter().flat_map(|costs| &costs.distilling);
                let bearable = pairs.any(|pair| {
                    pair.saving.is_some_and(|saving| saving.ci.0 > 0)
                        && may_lose_nothing(&results, &pair.arm, &pair.replaces)
                        && !is_pointless(&results, &pair.arm)
                        && !is_beaten_by_one_call(&results, &pair.arm)
                });
                prop_assert!(bearable, "{verdict:?}");
            }
            Answer::SavesAtALoss => {
                prop_assert!(savings.iter().any(|saving| saving.ci.0 > 0), "{verdict:?}");
                prop_assert!(verdict.headline.ends_with("no recommendation."), "{verdict:?}");
            }
            Answer::Neither => {
                let dearer = savings.iter().any(|saving| saving.ci.1 < 0);
                prop_assert!(students.iter().any(|arm| worse(arm)) || dearer, "{verdict:?}");
            }
            Answer::RatherDecomposer | Answer::RatherSolver => {
                // The other part's loss is not told; its own is.
                prop_assert!(verdict.headline.contains("; but "), "{verdict:?}");
            }
            _ => {}
        }
        for (_, text) in &verdict.summary {
            prop_assert!(!text.is_empty() && !text.contains("NaN") && !text.contains("inf"), "{text}");
            if text.contains("comes back after") {
                prop_assert!(savings.iter().any(|saving| saving.mean > 0), "{text}");
            }
            if text.contains("never comes back") {
                prop_assert!(savings.iter().any(|saving| saving.ci.1 <= 0), "{text}");
            }
            if text.starts_with("Shown. ") {
                prop_assert!(students.iter().any(|arm| better(arm)), "{text}");
            }
        }
    }
}
