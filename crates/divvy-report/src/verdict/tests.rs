use divvy_core::{
    arm::Strategy,
    results::{
        Comparison, Family, StudentUse,
        costs::{Mean, Measure},
    },
};
use proptest::prelude::*;

use super::*;
use crate::{
    testing::{COT, DISTILLED, TEACHER, UNTRAINED, comparison, costed, distilling, results, saving},
    tests::random,
};

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
fn with_both_parts(difference: f64, p_holm: f64) -> Results {
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

/// What the numbers say → what the verdict says. Difference of the distilled decomposer against one call with its Holm p, and
/// what it saves in nano-dollars with its interval.
#[test]
fn the_answer_weighs_accuracy_and_cost() {
    let (less, more, open) =
        (saving(900_000, (500_000, 1_300_000)), saving(-900_000, (-1_300_000, -500_000)), saving(9, (-50, 70)));
    let cases = [
        (0.2, 0.001, less, Answer::Decomposer, "Distil the decomposer."),
        (
            0.2,
            0.001,
            more,
            Answer::Decomposer,
            "Distil the decomposer for its answers, not to save: a question costs more.",
        ),
        (
            -0.01,
            0.9,
            less,
            Answer::CheaperDecomposer,
            "Distil the decomposer if you can bear a loss of up to 7.0 points: a question costs 45.0 % less.",
        ),
        (
            0.07,
            0.2,
            less,
            Answer::CheaperDecomposer,
            "Distil the decomposer: no loss is shown, and a question costs 45.0 % less.",
        ),
        (-0.2, 0.001, less, Answer::Neither, "Do not distil the decomposer here: answering in one call is better."),
        (
            -0.02,
            0.5,
            more,
            Answer::Neither,
            "Do not distil the decomposer on this evidence: no gain is shown, and every question costs more.",
        ),
        (0.02, 0.5, more, Answer::NotShown, "Not shown: these numbers do not say that distilling the decomposer pays."),
        (
            -0.02,
            0.5,
            open,
            Answer::NotShown,
            "Not shown: these numbers do not say that distilling the decomposer pays.",
        ),
    ];
    for (difference, p_holm, saved, answer, headline) in cases {
        let mut results = costed(results(), saved);
        results.comparisons[0] = comparison(DISTILLED, COT, difference, p_holm);
        assert_eq!(answer_of(&results), (answer, headline.to_owned()), "{difference} {p_holm} {saved:?}");
    }
}

#[test]
fn nobody_is_advised_to_risk_a_tenth_of_the_answers() {
    let mut results = costed(results(), saving(900_000, (500_000, 1_300_000)));
    results.comparisons[0] = Comparison { ci: (-0.215, 0.02), ..comparison(DISTILLED, COT, -0.1, 0.2) };
    let (answer, headline) = answer_of(&results);
    assert_eq!(answer, Answer::NotShown);
    let expect = "A distilled decomposer saves 45.0 % against cot/big, but a loss of up to 21.5 points is possible.";
    assert!(headline.starts_with("Not shown: ") && headline.ends_with(expect), "{headline}");
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

#[test]
fn a_saving_over_the_teacher_is_not_praised_past_one_call_that_costs_less() {
    let mut results = costed(results(), saving(-900_000, (-1_300_000, -500_000)));
    results.comparisons[0] = comparison(DISTILLED, COT, 0.05, 0.4);
    let over_teacher = distilling(DISTILLED, TEACHER, Measure::Money, saving(500_000, (400_000, 600_000)));
    results.costs.as_mut().unwrap().distilling.push(over_teacher);
    let (answer, headline) = answer_of(&results);
    assert_eq!(answer, Answer::NotShown);
    assert!(
        headline.starts_with("Not shown: ")
            && headline.ends_with(
                " against two-stage/teacher/big, but cot/big costs less still, and is not shown to be worse."
            ),
        "{headline}"
    );
    results.comparisons[0] = comparison(DISTILLED, COT, 0.2, 0.001);
    assert!(!answer_of(&results).1.contains("costs less still"), "it is shown to be worse");
    results.comparisons[0] = comparison(DISTILLED, COT, 0.05, 0.4);
    results.costs.as_mut().unwrap().distilling[0].saving = Some(saving(-9, (-50, 70)));
    assert!(!answer_of(&results).1.contains("costs less still"), "that it costs less is not shown");
}

#[test]
fn what_it_costs_is_said_with_its_break_even() {
    let costs = |saved: Mean| summary(&verdict(&costed(results(), saved)), "What it costs and saves");
    assert_eq!(
        costs(saving(1_500_000, (1_000_000, 2_000_000))),
        "A thousand questions cost $0.50 with two-stage/sd-r/big and $2.00 with cot/big: $1.50 less (95 % interval $1.00 to \
         $2.00). A thousand right answers cost $0.833 against $5.00. The $1.20 spent once to collect, screen and train comes back after 800 questions (95 % interval 600 to 1,200)."
    );
    let perhaps = costs(saving(1_500_000, (-1, 2_000_000)));
    assert!(perhaps.ends_with("comes back after 800 questions (at best 600, and perhaps never)."), "{perhaps}");
    let hardly = costs(saving(-1_000, (-2_000, 12_000)));
    assert!(hardly.contains("$0.001 more (95 % interval −$0.012 to $0.002). A thousand right answers"), "{hardly}");
    assert!(hardly.ends_with("No saving is seen: the $1.20 spent once to collect, screen and train would come back after 100,000 questions at the very best."), "{hardly}");
    let never = costs(saving(-1_000, (-2_000, 0)));
    assert!(
        never.ends_with("Nothing is saved: the $1.20 spent once to collect, screen and train never comes back."),
        "{never}"
    );
}

#[test]
fn what_is_saved_by_worse_answers_is_called_that() {
    let mut results = costed(results(), saving(1_500_000, (1_000_000, 2_000_000)));
    results.comparisons[0] = comparison(DISTILLED, COT, -0.2, 0.001);
    let costs = |results: &Results| summary(&verdict(results), "What it costs and saves");
    assert!(
        costs(&results).contains("That is no bargain: its answers are worse. A thousand right"),
        "{}",
        costs(&results)
    );
    assert!(
        !verdict(&results).summary.iter().any(|(_, text)| text.contains("comes back") || text.contains("Fewer than"))
    );
    results.arms[3].well_formed = Some(0.4);
    assert!(costs(&results).contains("60.0 % of its decompositions could not be used"), "{}", costs(&results));
}

#[test]
fn without_a_price_the_machine_s_time_is_told_and_without_that_the_tokens() {
    let mut results = costed(results(), saving(1, (1, 1)));
    let costs = results.costs.as_mut().unwrap();
    costs.distilling = vec![distilling(DISTILLED, COT, Measure::Machine, saving(100_000, (50_000, 150_000)))];
    let said = summary(&verdict(&results), "What it costs and saves");
    assert!(
        said.starts_with("A thousand questions take 6 min 40 s of the machine with two-stage/sd-r/big and 6 min 40 s"),
        "{said}"
    );
    assert!(
        said.contains("The 1 min 30 s of the machine spent once to collect, screen and train comes back after 900"),
        "{said}"
    );
    results.costs = None;
    let said = summary(&verdict(&results), "What it costs and saves");
    assert_eq!(
        said,
        "It takes 400 tokens a question, 1.0 times the 400 of cot/big. What that costs is not known: some model has no price, and \
         the machine none under [costs]."
    );
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
fn a_solver_that_saves_is_offered_with_what_may_be_lost() {
    let mut results = costed(with_both_parts(0.0, 0.9), saving(-5, (-9, -1)));
    results.comparisons.push(comparison("two-stage/teacher/se", COT, -0.03, 0.4));
    let pair = distilling("two-stage/teacher/se", COT, Measure::Money, saving(1_000_000, (900_000, 1_100_000)));
    results.costs.as_mut().unwrap().distilling.push(pair);
    assert_eq!(
        answer_of(&results),
        (
            Answer::CheaperSolver,
            "Distil the solver if you can bear a loss of up to 9.0 points: a question costs 50.0 % less.".to_owned()
        )
    );
    let last = results.arms.len() - 1;
    results.arms[last].decomposer = Some("student:sd-r".to_owned());
    let (answer, headline) = answer_of(&results);
    assert_eq!(answer, Answer::CheaperBoth);
    assert!(headline.starts_with("Distil both parts if you can bear"), "{headline}");
}

/// Results in which the distilled decomposer saves, with the interval of what it loses against one call.
fn saving_with(ci: (f64, f64), p_holm: f64, exploratory: bool) -> Results {
    let mut results = costed(results(), saving(900_000, (500_000, 1_300_000)));
    let difference = f64::midpoint(ci.0, ci.1);
    results.comparisons[0] =
        Comparison { difference, ci, exploratory, ..comparison(DISTILLED, COT, difference, p_holm) };
    results
}

#[test]
fn a_nearly_certain_loss_is_weighed_and_not_recommended() {
    let close = saving_with((-0.122, -0.006), 0.186, false);
    let verdict = verdict(&close);
    assert_eq!(
        (verdict.answer, verdict.headline.as_str()),
        (
            Answer::SavesAtALoss,
            "Distilling the decomposer saves 45.0 % against cot/big, and costs 0.6 to 12.2 points of accuracy: no recommendation."
        )
    );
    assert!(
        summary(&verdict, "What it costs and saves").contains(
            "Its answers lose 0.6 to 12.2 points (95 % interval): what is saved is to be weighed against that."
        )
    );
    assert!(summary(&verdict, "How sure").starts_with("Not shown. two-stage/sd-r/big against cot/big: "));
    let undeclared = saving_with((-0.46, -0.34), 0.0005, true);
    assert_eq!(answer_of(&undeclared).0, Answer::SavesAtALoss, "what is not declared warns all the same");
    assert_eq!(answer_of(&saving_with((-0.46, -0.34), 0.0005, false)).0, Answer::Neither);
    let open = saving_with((-0.09, 0.0), 0.186, true);
    assert_eq!(answer_of(&open).0, Answer::CheaperDecomposer);
}

#[test]
fn a_rival_that_an_undeclared_comparison_puts_far_behind_does_not_undercut() {
    let mut results = costed(results(), saving(-900_000, (-1_300_000, -500_000)));
    let over_teacher = distilling(DISTILLED, TEACHER, Measure::Money, saving(500_000, (400_000, 600_000)));
    results.costs.as_mut().unwrap().distilling.push(over_teacher);
    results.comparisons[0] = Comparison { exploratory: true, ..comparison(DISTILLED, COT, 0.4, 0.001) };
    let (answer, headline) = answer_of(&results);
    assert_eq!(answer, Answer::CheaperDecomposer);
    assert!(!headline.contains("costs less still"), "{headline}");
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
                prop_assert!(students.iter().any(|arm| better(arm)), "{verdict:?}");
            }
            Answer::CheaperDecomposer | Answer::CheaperSolver | Answer::CheaperBoth => {
                let mut pairs = results.costs.iter().flat_map(|costs| &costs.distilling);
                let bearable = pairs.any(|pair| {
                    pair.saving.is_some_and(|saving| saving.ci.0 > 0) && may_lose_nothing(&results, &pair.arm, &pair.replaces)
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
