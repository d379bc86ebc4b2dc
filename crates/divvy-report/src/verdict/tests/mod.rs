//! What the verdict says of made-up results, and how sure it is.

mod costs;
mod parts;
mod properties;

use divvy_core::results::{Comparison, StudentUse};

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
    assert!(summary(&verdict, "What would change it").contains("nothing is known about distilling the solver"));
    assert!(
        summary(&verdict, "How sure").starts_with("Shown. two-stage/sd-r/big against cot/big: 60.0 % against 40.0 %")
    );
}

fn summary(verdict: &Verdict, label: &str) -> String {
    let found = verdict.summary.iter().find(|(name, _)| *name == label);
    found.unwrap_or_else(|| panic!("no {label} in {verdict:?}")).1.clone()
}

/// An interval far from zero is a hint, also where nobody declared the comparison.
#[test]
fn what_is_not_declared_is_no_finding_and_no_denial() {
    let mut results = results();
    for pair in &mut results.comparisons {
        pair.exploratory = true;
    }
    let found = verdict(&results).findings;
    let lead = "two-stage/sd-r/big beats answering in one call (cot/big) (not declared, so only a hint): 60.0 %";
    assert!(found[0].starts_with(lead), "{found:?}");
    assert!(found[1].starts_with("Training the decomposer helps (not declared, so only a hint): "), "{found:?}");
    assert!(found.iter().all(|line| !line.contains("changes anything is not shown")), "{found:?}");
}

#[test]
fn not_shown_where_the_test_does_not_say_so_whatever_the_sign() {
    let mut results = results();
    results.comparisons[0] = comparison(DISTILLED, COT, 0.04, 0.2);
    let verdict = verdict(&results);
    assert_eq!(verdict.answer, Answer::NotShown);
    assert!(verdict.headline.starts_with("Not shown"));
    let sure = summary(&verdict, "How sure");
    assert!(
        sure.starts_with("Not shown. ") && sure.contains("a true difference of 8.0 points is found four times in five")
    );
    let change = summary(&verdict, "What would change it");
    assert!(
        change.starts_with("If the true difference is the +4.0 points seen here, about 2,5"),
        "of three tests: {change}"
    );
    assert!(!change.contains("[[evaluate.comparisons]]"), "it is not shown by itself: {change}");
    results.comparisons[0] = Comparison { p_value: 0.04, tests: 40, ..comparison(DISTILLED, COT, 0.04, 0.2) };
    let many = summary(&super::verdict(&results), "What would change it");
    assert!(many.contains("adjustment is over 40 comparisons") && many.contains("[[evaluate.comparisons]]"), "{many}");
    results.comparisons[0] = comparison(DISTILLED, COT, 0.04, 0.2);
    results.comparisons[0].tests = 1;
    let alone = summary(&super::verdict(&results), "What would change it");
    assert!(alone.contains("about 1,"), "{alone}");
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
fn no_arm_is_called_best_where_none_was_right() {
    let mut results = results();
    results.training.clear();
    results.arms.iter_mut().for_each(|arm| (arm.correct, arm.accuracy) = (0, 0.0));
    let found = verdict(&results).findings;
    assert!(found[0].starts_with("No arm gave a right answer"), "{found:?}");
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
fn what_is_still_to_come_is_no_failure() {
    let mut results = results();
    results.arms[0].pending = 200;
    let unfinished = verdict(&results);
    assert_eq!(unfinished.answer, Answer::Withheld);
    assert!(unfinished.headline.starts_with("No verdict yet: 200 of 1,"), "{unfinished:?}");
    assert_eq!(unfinished.findings.len(), 1, "{unfinished:?}");
    assert!(unfinished.findings[0].contains("200 of 300 answers are still to come; `divvy run` goes on"));
    results.arms[0].errors = 4;
    let both = verdict(&results).findings;
    assert!(both.len() == 2 && both[1].contains("ended in an error"), "{both:?}");
    (results.arms[0].pending, results.arms[0].errors) = (3, 0);
    assert_eq!(answer_of(&results).0, Answer::Decomposer, "1 % may be missing");
}

/// A student that solves though it was only taught to decompose says nothing about distilling the solver, and is no rival.
#[test]
fn a_part_that_was_not_taught_is_no_distilled_one() {
    let mut results = results();
    let mut untaught = results.arms[0].clone();
    (untaught.arm, untaught.solver, untaught.accuracy) = ("cot/sd-r".to_owned(), "student:sd-r".to_owned(), 0.99);
    results.arms.push(untaught);
    results.comparisons.push(comparison("cot/sd-r", COT, 0.5, 0.001));
    results.comparisons.push(comparison(DISTILLED, "cot/sd-r", -0.6, 0.001));
    let found = verdict(&results);
    assert_eq!((found.answer, &*found.headline), (Answer::Decomposer, "Distil the decomposer."));
    assert!(found.findings.iter().all(|line| !line.contains("cot/sd-r")), "{found:?}");
    assert_eq!(roles::kind(&results, results.arms.last().unwrap()).class(), "k-untaught");
}

/// The plan knows its students, whatever became of the record of their training.
#[test]
fn a_student_whose_training_is_not_on_record_is_still_one() {
    let mut results = results();
    let training = results.training.remove(0);
    let student =
        StudentUse { student: training.student.clone(), base: training.base.clone(), target: training.target.clone() };
    assert_eq!(answer_of(&results).0, Answer::NothingDistilled);
    results.students.push(student);
    assert_eq!(answer_of(&results), (Answer::Decomposer, "Distil the decomposer.".to_owned()));
    assert!(crate::markdown(&results).contains("The training of sd-r is not on record here"));
    results.training.push(training);
    assert!(!crate::markdown(&results).contains("is not on record here"));
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

#[test]
fn of_several_solvers_the_one_is_named_and_a_better_single_call() {
    let mut results = results();
    let cot = results.arms.iter().find(|arm| arm.arm == COT).unwrap().clone();
    let mut other = ArmResult { arm: "cot/other".to_owned(), solver: "other".to_owned(), accuracy: 0.2, ..cot };
    results.arms.push(other.clone());
    assert_eq!(answer_of(&results).1, "Distil the decomposer. That is with big as the solver.");
    other.accuracy = 0.75;
    *results.arms.last_mut().unwrap() = other;
    let expect = "Distil the decomposer. That is with big as the solver; cot/other has more right answers in one call (75.0 % against 60.0 %).";
    assert_eq!(answer_of(&results).1, expect);
}

#[test]
fn the_teachers_ceiling_and_the_students_gap_are_what_would_change_it() {
    let mut results = results();
    results.comparisons = vec![
        comparison(DISTILLED, COT, -0.08, 0.1),
        comparison(DISTILLED, TEACHER, -0.115, 0.01),
        comparison(TEACHER, COT, 0.035, 0.4),
    ];
    let change = summary(&verdict(&results), "What would change it");
    for said in [
        "The student loses 11.5 points to the teacher’s decompositions (95 % interval 5.5–17.5): more or better training rows",
        "The teacher’s own decompositions stand at +3.5 points (95 % interval −2.5 to +9.5) against one call",
    ] {
        assert!(change.contains(said), "{said} in {change}");
    }
    results.comparisons[2] = comparison(COT, TEACHER, 0.2, 0.001);
    assert!(
        summary(&verdict(&results), "What would change it")
            .contains("Even the teacher’s decompositions lose to one call")
    );
}

#[test]
fn what_was_not_declared_shows_nothing() {
    let mut results = results();
    results.comparisons[0].exploratory = true;
    let verdict = verdict(&results);
    assert_eq!(verdict.answer, Answer::NotShown);
    assert!(summary(&verdict, "How sure").starts_with("Only a hint: the recipe does not declare this comparison."));
    assert!(summary(&verdict, "What would change it").contains("[[evaluate.comparisons]]"));
}

#[test]
fn what_is_shown_by_a_few_questions_is_not_called_too_few_to_show_anything() {
    let mut results = results();
    let pair = Comparison { n: 60, only_a: 6, only_b: 0, detectable: None, ..comparison(DISTILLED, COT, 0.1, 0.031) };
    results.comparisons[0] = pair;
    let shown = summary(&verdict(&results), "How sure");
    assert!(shown.starts_with("Shown. ") && !shown.contains("too few"), "{shown}");
    results.comparisons[0].p_holm = 0.06;
    let open = summary(&verdict(&results), "How sure");
    assert!(open.ends_with("The two differ on 6 of 60 questions, too few to show anything."), "{open}");
}

#[test]
fn tokens_that_nobody_counted_are_in_no_sentence() {
    let mut results = results();
    let cot = results.arms.iter_mut().find(|arm| arm.arm == COT).unwrap();
    cot.forget_tokens();
    let verdict = verdict(&results);
    assert!(!verdict.findings.iter().any(|finding| finding.contains("tokens a question")), "{verdict:?}");
    assert!(summary(&verdict, "What it costs and saves").starts_with(
        "How many tokens cot/big takes is not known: some of its calls came without usage. What that costs"
    ));
}
