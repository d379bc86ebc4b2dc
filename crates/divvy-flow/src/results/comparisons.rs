//! Arms compared in pairs, always on the same questions.

use std::{borrow::Cow, collections::BTreeMap};

use divvy_core::{
    results::{Comparison, DatasetResults, Family, ScoreDifference, StepDifference},
    stats::{
        self, holm,
        power::{self, Terms},
    },
};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::{
    families::Asked,
    outline::Outlines,
    scored::Evaluated,
    seeds,
    sharing::{Sharing, as_scores, has_partial_credit},
};

/// In the order in which they are asked for; nothing is adjusted yet.
pub(super) fn of(
    asked: &[Asked],
    evaluated: &[Evaluated],
    questions: &Outlines<'_>,
    sharing: &Sharing,
) -> Vec<Comparison> {
    let find = |slug: &str| evaluated.iter().find(|evaluated| evaluated.arm.arm == slug);
    let pairs: Vec<_> = asked.iter().filter_map(|asked| Some((asked, find(&asked.a)?, find(&asked.b)?))).collect();
    let places = questions.by_steps();
    let one = |(asked, left, right): (&Asked, &Evaluated, &Evaluated)| {
        // Where does it pay to decompose?
        let weighs_decomposing = left.arm.decomposer.is_some() != right.arm.decomposer.is_some();
        let (left, right) = (Answers::of(left), Answers::of(right));
        let at = |(steps, places): (&u32, &Vec<usize>)| {
            let [left, right] = [&left, &right].map(|arm| arm.at(places, sharing.questions));
            let Comparison { n, difference, ci, .. } = compare(asked, &left, &right, &sharing.among(places));
            StepDifference { steps: *steps, n, difference, ci }
        };
        let by_steps = if weighs_decomposing { places.iter().map(at).collect() } else { Vec::new() };
        Comparison { by_steps, ..compare(asked, &left, &right, sharing) }
    };
    pairs.into_par_iter().map(one).collect()
}

/// An arm's answers to all questions, as often as there are repeats and seeds.
struct Answers<'a> {
    right: Cow<'a, [bool]>,
    /// Partial credit.
    scores: Cow<'a, [f64]>,
}

impl<'a> Answers<'a> {
    fn of(arm: &'a Evaluated) -> Self {
        Self { right: Cow::Borrowed(&arm.right), scores: Cow::Borrowed(&arm.scores) }
    }

    /// Those to some of the questions, by their places; of partial credit nothing is asked there.
    fn at(&self, places: &[usize], questions: usize) -> Answers<'static> {
        let all = self.right.chunks(questions.max(1));
        let right: Vec<bool> = all.flat_map(|all| places.iter().map(|&place| all[place])).collect();
        let scores = Cow::Owned(as_scores(&right));
        Answers { right: Cow::Owned(right), scores }
    }
}

/// Holm's adjustment, once all data sets are there.
pub(super) fn adjust(sets: &mut [DatasetResults]) {
    let mut groups: BTreeMap<Option<Family>, Vec<&mut Comparison>> = BTreeMap::new();
    for comparison in sets.iter_mut().flat_map(|set| &mut set.comparisons) {
        groups.entry((!comparison.declared).then_some(comparison.family)).or_default().push(comparison);
    }
    groups.into_values().for_each(adjust_together);
}

fn adjust_together(mut family: Vec<&mut Comparison>) {
    let of_accuracy =
        family.iter_mut().map(|comparison| (comparison.tests, comparison.p_value, &mut comparison.p_holm));
    adjust_each(of_accuracy.collect());
    let scores = family.into_iter().filter_map(|comparison| comparison.score.as_mut());
    adjust_each(scores.map(|score| (score.tests, score.p_value, &mut score.p_holm)).collect());
}

/// How many there are, and of each what was found and what becomes of it.
fn adjust_each(tested: Vec<(u64, f64, &mut f64)>) {
    let tests = tested.first().map_or(0, |(tests, ..)| *tests) as usize;
    let found: Vec<f64> = tested.iter().map(|(_, p_value, _)| *p_value).collect();
    for ((_, _, p_holm), adjusted) in tested.into_iter().zip(holm::adjust_among(&found, tests)) {
        *p_holm = adjusted;
    }
}

fn compare(asked: &Asked, left: &Answers<'_>, right: &Answers<'_>, sharing: &Sharing) -> Comparison {
    if [left, right].iter().any(|arm| arm.right.len() != sharing.questions) {
        return compare_means(asked, left, right, sharing);
    }
    let paired = stats::paired::compare(&left.right, &right.right);
    let discordant = (paired.only_a + paired.only_b) as f64 / paired.n.max(1) as f64;
    // Where all are alike, every resample says the same: that is no certainty.
    let clustered = sharing.accuracies(&left.right, &right.right).filter(|_| discordant > 0.0);
    let clustered = clustered.map(|found| found.raised(paired.ci, paired.p_value));
    let (ci, p_value) = clustered.map_or((paired.ci, paired.p_value), |found| (found.ci, found.p_value));
    let design_effect = sharing.design_effect(&as_scores(&left.right), &as_scores(&right.right));
    Comparison {
        a: asked.a.clone(),
        b: asked.b.clone(),
        family: asked.family,
        n: paired.n,
        only_a: paired.only_a,
        only_b: paired.only_b,
        difference: paired.difference,
        ci,
        p_value,
        p_holm: p_value,
        tests: asked.tests.accuracy,
        score: score(asked, left, right, sharing),
        exploratory: asked.exploratory,
        declared: asked.declared,
        detectable: power::minimum_detectable_difference(paired.n, discordant, terms(asked, sharing, design_effect)),
        spread: discordant,
        design_effect,
        by_steps: Vec::new(),
    }
}

fn terms(asked: &Asked, sharing: &Sharing, design_effect: f64) -> Terms {
    Terms::among(asked.tests.accuracy, design_effect, sharing.passages())
}

/// Where questions have several answers: the mean of each question's is what is paired, and whole questions are drawn.
fn compare_means(asked: &Asked, left: &Answers<'_>, right: &Answers<'_>, sharing: &Sharing) -> Comparison {
    let means = |arm: &Answers<'_>| seeds::per_question(&as_scores(&arm.right), sharing.questions);
    let (a, b) = (means(left), means(right));
    let n = sharing.questions as u64;
    let found = sharing.difference(&a, &b);
    let differs = found.filter(|_| a != b);
    // Where all are alike, every resample says the same: that is no certainty.
    let alike = (0.0, stats::paired::interval(0, 0, n), 1.0);
    let (difference, ci, p_value) = differs.map_or(alike, |found| (found.difference, found.ci, found.p_value));
    let more = |a: &[f64], b: &[f64]| a.iter().zip(b).filter(|(a, b)| a > b).count() as u64;
    // Of single answers the mean square is the share that only one arm gets right.
    let spread = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / n.max(1) as f64;
    let design_effect = sharing.design_effect(&a, &b);
    Comparison {
        a: asked.a.clone(),
        b: asked.b.clone(),
        family: asked.family,
        n,
        only_a: more(&a, &b),
        only_b: more(&b, &a),
        difference,
        ci,
        p_value,
        p_holm: p_value,
        tests: asked.tests.accuracy,
        score: score(asked, left, right, sharing),
        exploratory: asked.exploratory,
        declared: asked.declared,
        detectable: power::minimum_detectable_difference(n, spread, terms(asked, sharing, design_effect)),
        spread,
        design_effect,
        by_steps: Vec::new(),
    }
}

/// Of partial credit, where either arm has any.
fn score(asked: &Asked, left: &Answers<'_>, right: &Answers<'_>, sharing: &Sharing) -> Option<ScoreDifference> {
    let partial = |arm: &Answers<'_>| has_partial_credit(&arm.right, &arm.scores);
    if !partial(left) && !partial(right) {
        return None;
    }
    let means = |arm: &Answers<'_>| seeds::per_question(&arm.scores, sharing.questions);
    let found = sharing.difference(&means(left), &means(right))?;
    let (difference, ci, p_value) = (found.difference, found.ci, found.p_value);
    Some(ScoreDifference { difference, ci, p_value, p_holm: p_value, tests: asked.tests.partial })
}

#[cfg(test)]
mod tests {
    use divvy_core::{arm::Strategy, question::Split, synth};
    use serde_json::json;

    use super::*;
    use crate::results::families::Tests;

    fn evaluated(slug: &str, right: Vec<bool>) -> Evaluated {
        let arm = json!({
            "arm": slug, "strategy": Strategy::Cot, "decomposer": null, "solver": "s", "n": right.len(), "correct": 0,
            "accuracy": 0.0, "ci": [0.0, 0.0], "score": 0.0, "no_answer": 0, "truncated": 0, "errors": 0, "by_steps": [],
            "examples": [], "tokens_in": 0, "tokens_out": 0, "decompose_tokens_in": 0, "decompose_tokens_out": 0,
            "solve_tokens_in": 0, "solve_tokens_out": 0, "cost_nanos": null, "well_formed": null, "mean_subquestions": null,
        });
        let scores = as_scores(&right);
        Evaluated { arm: serde_json::from_value(arm).unwrap(), right, scores, members: Vec::new() }
    }

    /// One arm gets 300 of 1,000 more right, in blocks of ten.
    fn compared(tests: u64, per_passage: usize) -> Comparison {
        let mut questions = synth::generate(Split::Test, 1000, 1);
        for (row, question) in questions.iter_mut().enumerate() {
            question.premise = Some(format!("{}", row / per_passage));
        }
        let questions = questions.into_iter().collect();
        let (outlines, wins) = (Outlines::of(&questions), (0..1000).map(|row| row / 10 % 10 < 3).collect());
        let arms = [evaluated("a", wins), evaluated("b", vec![false; 1000])];
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let asked = Asked {
            a,
            b,
            family: Family::Solver,
            exploratory: false,
            declared: false,
            tests: Tests { accuracy: tests, partial: 0 },
        };
        of(&[asked], &arms, &outlines, &Sharing::of(&outlines, 1)).remove(0)
    }

    /// Decomposing is right where it takes three steps or more, one call where it takes fewer.
    #[test]
    fn where_it_pays_to_decompose_is_told_by_steps() {
        let mut questions = synth::generate(Split::Test, 400, 1);
        for (row, question) in questions.iter_mut().enumerate() {
            (question.premise, question.steps) = (None, Some(1 + row as u32 % 4));
        }
        let questions = questions.into_iter().collect();
        let (outlines, many) = (Outlines::of(&questions), (0..800).map(|row| row % 4 >= 2));
        let mut arms = [evaluated("a", many.clone().collect()), evaluated("b", many.map(|many| !many).collect())];
        arms[0].arm.decomposer = Some("teacher".to_owned());
        let (a, b) = ("a".to_owned(), "b".to_owned());
        let tests = Tests { accuracy: 1, partial: 0 };
        let asked = [Asked { a, b, family: Family::Solver, exploratory: false, declared: false, tests }];
        let sharing = Sharing::of(&outlines, 1);
        let twice = of(&asked, &arms, &outlines, &sharing).remove(0);
        arms.iter_mut().for_each(|arm| arm.right.truncate(400));
        arms.iter_mut().for_each(|arm| arm.scores.truncate(400));
        let once = of(&asked, &arms, &outlines, &sharing).remove(0);
        for told in [&once.by_steps, &twice.by_steps] {
            let found: Vec<_> = told.iter().map(|step| (step.steps, step.n, step.difference)).collect();
            assert_eq!(found, [(1, 100, -1.0), (2, 100, -1.0), (3, 100, 1.0), (4, 100, 1.0)]);
        }
        assert!(once.by_steps[3].ci.0 > 0.9 && once.by_steps[0].ci.1 < -0.9, "{once:?}");
        arms[1].arm.decomposer = Some("student".to_owned());
        assert!(of(&asked, &arms, &outlines, &sharing)[0].by_steps.is_empty(), "both decompose");
    }

    #[test]
    fn declared_ones_are_a_family_of_their_own() {
        let mut sets = [set("one", [0.01, 0.02], None), set("two", [0.01, 0.02], None)];
        for set in &mut sets {
            (set.comparisons[0].declared, set.comparisons[0].tests) = (true, 2);
        }
        adjust(&mut sets);
        for set in &sets {
            let [declared, other] = &set.comparisons[..] else { panic!("two were compared: {set:?}") };
            assert_eq!((declared.p_holm, other.p_holm), (0.02, 0.12));
        }
    }

    #[test]
    fn what_can_be_found_heeds_the_family_and_the_passages() {
        let (alone, among, shared) = (compared(1, 1), compared(40, 1), compared(1, 10));
        let found = |pair: &Comparison| pair.detectable.unwrap();
        assert!(found(&alone) < found(&among) && found(&alone) < found(&shared), "{alone:?} {among:?} {shared:?}");
        assert_eq!((alone.design_effect, among.tests), (1.0, 40));
        assert!(shared.design_effect > 8.0 && alone.difference == 0.3, "{shared:?}");
    }

    fn set(name: &str, p_values: [f64; 2], partial: Option<f64>) -> DatasetResults {
        let score = |p_value| ScoreDifference { difference: 0.1, ci: (0.0, 0.2), p_value, p_holm: p_value, tests: 3 };
        let pair = |p_value| Comparison { p_value, score: partial.map(score), ..compared(6, 1) };
        let none = json!({"dataset": name, "arms": [], "comparisons": [], "slices": [], "costs": null});
        DatasetResults { comparisons: p_values.map(pair).into(), ..serde_json::from_value(none).unwrap() }
    }

    /// Two data sets, one of which has partial credit: of three comparisons each, one is missing in each set.
    #[test]
    fn a_family_spans_data_sets_and_partial_credit_is_its_own() {
        let mut sets = [set("one", [0.01, 0.5], None), set("two", [0.004, 0.2], Some(0.02))];
        adjust(&mut sets);
        let adjusted: Vec<f64> = sets.iter().flat_map(|set| &set.comparisons).map(|pair| pair.p_holm).collect();
        let close = |found: f64, expect: f64| assert!((found - expect).abs() < 1e-12, "{found} {expect}: {adjusted:?}");
        adjusted.iter().zip([0.05, 1.0, 0.024, 0.8]).for_each(|(found, expect)| close(*found, expect));
        sets[1].comparisons.iter().for_each(|pair| close(pair.score.unwrap().p_holm, 0.06));
    }
}
