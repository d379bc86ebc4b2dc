//! Which of the two parts is named.

use divvy_core::{
    arm::Strategy,
    results::{Comparison, Family, costs::Measure},
};

use super::{super::*, answer_of};
use crate::testing::{COT, DISTILLED, comparison, costed, distilling, results, saving};

#[test]
fn the_solver_or_both_or_either() {
    let mut results = results();
    let mut training = results.training[0].clone();
    (training.student, training.base, training.target) = ("se".to_owned(), "big".to_owned(), "SE-A".to_owned());
    results.training.push(training);
    let mut solver = results.arms[1].clone();
    (solver.arm, solver.solver, solver.strategy) = ("cot/se".to_owned(), "student:se".to_owned(), Strategy::TwoStage);
    results.arms.push(solver);
    results.comparisons.push(comparison("cot/se", COT, 0.1, 0.001));
    assert_eq!(answer_of(&results).0, Answer::Either);
    results.comparisons.push(comparison("cot/se", DISTILLED, 0.1, 0.001));
    assert_eq!(answer_of(&results), (Answer::Solver, "Distil the solver.".to_owned()));
    let last = results.arms.len() - 1;
    results.arms[last].decomposer = Some("student:sd-r".to_owned());
    assert_eq!(answer_of(&results).0, Answer::Both);
}

/// Results with a student in the solver's place, compared with the distilled decomposer.
pub(super) fn with_both_parts(difference: f64, p_holm: f64) -> Results {
    let mut results = results();
    results.comparisons[0] = comparison(DISTILLED, COT, -0.01, 0.9);
    let mut training = results.training[0].clone();
    (training.student, training.base, training.target) = ("se".to_owned(), "big".to_owned(), "SE-A".to_owned());
    results.training.push(training);
    let mut solver = results.arms[1].clone();
    (solver.arm, solver.solver) = ("two-stage/teacher/se".to_owned(), "student:se".to_owned());
    solver.strategy = Strategy::TwoStage;
    results.arms.push(solver);
    let parts =
        Comparison { family: Family::Parts, ..comparison(DISTILLED, "two-stage/teacher/se", difference, p_holm) };
    results.comparisons.push(parts);
    results
}

#[test]
fn the_better_part_is_named_where_neither_is_shown_to_pay() {
    let verdict = verdict(&with_both_parts(0.2, 0.001));
    assert_eq!(verdict.answer, Answer::RatherDecomposer);
    assert_eq!(
        verdict.headline,
        "If you distil one part, distil the decomposer; but that it beats answering in one call is not shown."
    );
    assert!(verdict.findings[0].starts_with("Of the two parts the decomposer distils better: two-stage/sd-r/big"));
    assert_eq!(answer_of(&with_both_parts(-0.2, 0.001)).0, Answer::RatherSolver);
    let mut loses = with_both_parts(0.2, 0.001);
    loses.comparisons[0] = comparison(DISTILLED, COT, -0.14, 0.3);
    let (answer, headline) = answer_of(&loses);
    assert_eq!(answer, Answer::RatherDecomposer);
    assert!(
        headline.ends_with("but answering in one call has more right answers (40.0 % against 60.0 %)."),
        "{headline}"
    );
    assert_eq!(answer_of(&with_both_parts(0.2, 0.3)).0, Answer::NotShown);
}

#[test]
fn neither_where_one_call_beats_both_parts_whichever_is_better() {
    let mut results = with_both_parts(0.2, 0.001);
    results.comparisons[0] = comparison(DISTILLED, COT, -0.2, 0.001);
    results.comparisons.push(comparison("two-stage/teacher/se", COT, -0.4, 0.001));
    assert_eq!(answer_of(&results).0, Answer::Neither);
}

/// One part is worse and saves, the other shows no gain and costs more.
#[test]
fn what_speaks_against_one_part_is_not_said_of_the_other() {
    let mut results = costed(with_both_parts(0.0, 0.9), saving(900_000, (500_000, 1_300_000)));
    results.comparisons[0] = comparison(DISTILLED, COT, -0.2, 0.001);
    results.comparisons.push(comparison("two-stage/teacher/se", COT, -0.02, 0.5));
    let dearer = saving(-900_000, (-1_300_000, -500_000));
    let pairs = &mut results.costs.as_mut().unwrap().distilling;
    pairs.push(distilling("two-stage/teacher/se", COT, Measure::Money, dearer));
    let expect = "Do not distil the decomposer here: answering in one call is better. Do not distil the solver on this evidence: no \
                  gain over cot/big is shown, and every question costs more.";
    assert_eq!(answer_of(&results), (Answer::Neither, expect.to_owned()));
    results.comparisons[0] = comparison(DISTILLED, COT, -0.02, 0.5);
    results.costs.as_mut().unwrap().distilling[0].saving = Some(dearer);
    let both = "Distil neither part on this evidence: no gain over cot/big is shown, and every question costs more.";
    assert_eq!(answer_of(&results), (Answer::Neither, both.to_owned()));
}

#[test]
fn a_solver_that_adds_nothing_shown_to_the_decomposer_is_not_recommended() {
    let mut results = results();
    let mut training = results.training[0].clone();
    (training.student, training.base, training.target) = ("se".to_owned(), "big".to_owned(), "SE-A".to_owned());
    results.training.push(training);
    let distilled = results.arms.iter().find(|arm| arm.arm == DISTILLED).unwrap().clone();
    results.arms.push(ArmResult { arm: "two-stage/sd-r/se".into(), solver: "student:se".into(), ..distilled });
    results.comparisons.push(comparison("two-stage/sd-r/se", COT, 0.2, 0.001));
    assert_eq!(answer_of(&results).0, Answer::Decomposer);
    results.comparisons.push(comparison("two-stage/sd-r/se", DISTILLED, 0.1, 0.001));
    assert_eq!(answer_of(&results).0, Answer::Both);
}

/// Whichever way round it is written, and before stronger arms that the recipe does not declare.
#[test]
fn the_declared_comparison_of_the_two_parts_decides() {
    let mut results = with_both_parts(0.0, 0.9);
    let pair = results.comparisons.last_mut().unwrap();
    *pair = Comparison { family: Family::Parts, ..comparison(&pair.b.clone(), DISTILLED, 0.2, 0.001) };
    let mut stronger = results.arms.last().unwrap().clone();
    (stronger.arm, stronger.accuracy) = ("direct/se".to_owned(), 0.9);
    results.arms.push(stronger);
    let undeclared = comparison(DISTILLED, "direct/se", 0.1, 0.9);
    results.comparisons.push(Comparison { family: Family::Parts, exploratory: true, ..undeclared });
    let verdict = verdict(&results);
    assert_eq!(verdict.answer, Answer::RatherSolver);
    assert!(verdict.findings[0].contains("two-stage/teacher/se beats the distilled decomposer"), "{verdict:?}");
}

#[test]
fn both_only_where_the_decomposer_adds_to_the_solver() {
    let mut results = with_both_parts(0.0, 0.9);
    results.comparisons.push(comparison("two-stage/teacher/se", COT, 0.1, 0.001));
    let mut both = results.arms.last().unwrap().clone();
    (both.arm, both.decomposer) = ("two-stage/sd-r/se".to_owned(), Some("student:sd-r".to_owned()));
    both.accuracy += 0.01;
    results.arms.push(both);
    results.comparisons.push(comparison("two-stage/sd-r/se", COT, 0.11, 0.001));
    assert_eq!(answer_of(&results), (Answer::Solver, "Distil the solver.".to_owned()), "nobody compared the two");
    results.comparisons.push(comparison("two-stage/sd-r/se", "two-stage/teacher/se", 0.01, 0.8));
    assert_eq!(answer_of(&results).0, Answer::Solver);
    *results.comparisons.last_mut().unwrap() = comparison("two-stage/sd-r/se", "two-stage/teacher/se", 0.1, 0.001);
    assert_eq!(answer_of(&results).0, Answer::Both);
    let alone = results.comparisons.iter_mut().find(|pair| pair.a == "two-stage/teacher/se" && pair.b == COT).unwrap();
    *alone = comparison("two-stage/teacher/se", COT, 0.1, 0.4);
    results.comparisons.pop();
    assert_eq!(answer_of(&results).0, Answer::Both, "the solver alone is not shown to pay");
}

/// What was to be decided is told of, and not the arm that these questions happen to favour.
#[test]
fn a_declared_arm_speaks_for_its_part_before_a_more_accurate_one() {
    let mut results = results();
    results.comparisons[0] = comparison(DISTILLED, COT, -0.2, 0.001);
    let mut lucky = results.arms.iter().find(|arm| arm.arm == DISTILLED).unwrap().clone();
    (lucky.arm, lucky.accuracy) = ("sequential/sd-r/big".to_owned(), lucky.accuracy + 0.02);
    results.arms.push(lucky);
    results.comparisons.push(Comparison { exploratory: true, ..comparison("sequential/sd-r/big", COT, -0.18, 0.001) });
    let verdict = verdict(&results);
    assert_eq!(verdict.answer, Answer::Neither);
    assert!(verdict.findings[0].contains("beats two-stage/sd-r/big"), "{verdict:?}");
}
