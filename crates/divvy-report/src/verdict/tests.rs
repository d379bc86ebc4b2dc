use divvy_core::results::{Comparison, Family};

use super::*;
use crate::testing::{COT, DISTILLED, TEACHER, UNTRAINED, comparison, results};

fn answer_of(results: &Results) -> (Answer, String) {
    let verdict = verdict(results);
    (verdict.answer, verdict.headline)
}

#[test]
fn the_decomposer_where_it_beats_one_call() {
    let verdict = verdict(&results());
    assert_eq!((verdict.answer, verdict.headline.as_str()), (Answer::Decomposer, "Distil the decomposer."));
    assert_eq!(
        verdict.findings[0],
        "two-stage/sd-r/big beats answering in one call (cot/big): 60.0 % against 40.0 %, +20.0 points (95 % interval \
         +14.0 to +26.0, Holm p < 0.001, n = 300)."
    );
    assert!(verdict.findings[1].starts_with("Training the decomposer helps: "), "{:?}", verdict.findings);
    assert!(verdict.findings[1].contains("+30.0 points (95 % interval +24.0 to +36.0"), "a reversed pair is turned");
    assert!(verdict.findings[2].contains("interval still allows a loss of 8.0 points"));
    assert!(verdict.findings.iter().any(|finding| finding.contains("nothing is shown about distilling the solver")));
}

#[test]
fn not_shown_where_the_test_does_not_say_so_whatever_the_sign() {
    let mut results = results();
    results.comparisons[0] = comparison(DISTILLED, COT, 0.04, 0.2);
    let verdict = verdict(&results);
    assert_eq!(verdict.answer, Answer::NotShown);
    assert!(verdict.headline.starts_with("Not shown"));
    assert!(verdict.findings.iter().any(|finding| finding.contains("would often be missed")));
    results.comparisons[0].p_holm = f64::NAN;
    assert_eq!(answer_of(&results).0, Answer::NotShown);
}

#[test]
fn neither_where_one_call_is_better() {
    let mut results = results();
    results.comparisons[0] = comparison(COT, DISTILLED, 0.2, 0.001);
    let (answer, headline) = answer_of(&results);
    assert_eq!(answer, Answer::Neither);
    assert_eq!(headline, "Do not distil the decomposer here: answering in one call is better.");
}

#[test]
fn the_strongest_rival_counts() {
    let mut results = results();
    results.comparisons.push(comparison(DISTILLED, "direct/big", 0.4, 0.001));
    results.comparisons[0] = comparison(DISTILLED, COT, 0.01, 0.9);
    assert_eq!(answer_of(&results).0, Answer::NotShown, "beating `direct` does not count where `cot` is stronger");
}

#[test]
fn conditional_where_one_call_was_not_compared() {
    let mut results = results();
    results.comparisons.remove(0);
    assert_eq!(answer_of(&results), (Answer::Decomposer, "If you decompose, distil the decomposer.".to_owned()));
    results.comparisons.clear();
    assert_eq!(answer_of(&results).0, Answer::NotShown);
}

#[test]
fn the_solver_or_both_or_either() {
    let mut results = results();
    let mut training = results.training[0].clone();
    (training.student, training.base) = ("se".to_owned(), "big".to_owned());
    results.training.push(training);
    let mut solver = results.arms[1].clone();
    (solver.arm, solver.solver) = ("cot/se".to_owned(), "student:se".to_owned());
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
fn with_both_parts(difference: f64, p_holm: f64) -> Results {
    let mut results = results();
    results.comparisons[0] = comparison(DISTILLED, COT, -0.01, 0.9);
    let mut training = results.training[0].clone();
    (training.student, training.base) = ("se".to_owned(), "big".to_owned());
    results.training.push(training);
    let mut solver = results.arms[1].clone();
    (solver.arm, solver.solver) = ("two-stage/teacher/se".to_owned(), "student:se".to_owned());
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
    assert_eq!(answer_of(&with_both_parts(0.2, 0.3)).0, Answer::NotShown);
}

#[test]
fn neither_where_one_call_beats_both_parts_whichever_is_better() {
    let mut results = with_both_parts(0.2, 0.001);
    results.comparisons[0] = comparison(DISTILLED, COT, -0.2, 0.001);
    results.comparisons.push(comparison("two-stage/teacher/se", COT, -0.4, 0.001));
    assert_eq!(answer_of(&results).0, Answer::Neither);
}

#[test]
fn nothing_distilled_names_the_best_arm_with_its_interval() {
    let mut results = results();
    results.training.clear();
    let verdict = verdict(&results);
    assert_eq!(verdict.answer, Answer::NothingDistilled);
    assert!(
        verdict.findings[0].contains(TEACHER)
            && verdict.findings[0].contains("62.0 % (95 % interval 57.0–67.0, n = 300)")
    );
}

#[test]
fn withheld_without_questions_or_with_failing_infrastructure() {
    let mut results = results();
    results.arms[2].errors = 4;
    let failing = verdict(&results);
    assert_eq!(failing.answer, Answer::Withheld);
    assert!(failing.findings[0].starts_with(UNTRAINED));
    results.arms[2].errors = 3;
    assert_eq!(answer_of(&results).0, Answer::Decomposer, "exactly 1 % is tolerated");
    results.arms.clear();
    assert_eq!(answer_of(&results).0, Answer::Withheld);
}

#[test]
fn a_test_set_opened_by_several_plans_is_said_to_be_worn() {
    let mut results = results();
    let says = |results: &Results| {
        verdict(results).findings.iter().any(|finding| finding.contains("plans of this store have looked"))
    };
    assert!(!says(&results));
    results.datasets[0].opened_by = 3;
    assert!(says(&results));
}
