//! What it saves, and what that is worth.

use divvy_core::results::{
    Comparison, Family, StudentUse,
    costs::{Mean, Measure, Outlay},
};

use super::{super::*, answer_of, parts::with_both_parts, summary};
use crate::testing::{COT, DISTILLED, TEACHER, UNTRAINED, comparison, costed, distilling, results, saving};

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
            "Do not distil the decomposer on this evidence: no gain over cot/big is shown, and every question costs more.",
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

/// What saves against a dear rival is no bargain beside a cheap one that answers as well.
#[test]
fn what_a_single_call_undercuts_with_as_many_right_answers_is_not_worth_distilling() {
    let over_teacher = distilling(DISTILLED, TEACHER, Measure::Money, saving(500_000, (400_000, 600_000)));
    for (difference, answer) in [(-0.03, Answer::Neither), (0.03, Answer::SavesAtALoss)] {
        let mut results = costed(results(), saving(-900_000, (-1_300_000, -500_000)));
        results.costs.as_mut().unwrap().distilling.push(over_teacher.clone());
        results.comparisons.retain(|pair| pair.a != TEACHER && pair.b != TEACHER);
        results.comparisons.push(comparison(DISTILLED, TEACHER, -0.12, 0.2));
        results.comparisons[0] = comparison(DISTILLED, COT, difference, 0.5);
        let verdict = verdict(&results);
        assert_eq!(verdict.answer, answer, "{verdict:?}");
        assert!(verdict.headline.contains("cot/big"), "{verdict:?}");
        let pays_back = verdict.summary.iter().any(|(_, text)| text.contains("comes back after"));
        assert_eq!(pays_back, answer == Answer::SavesAtALoss, "{verdict:?}");
        assert!(verdict.headline.contains("where cot/big costs less still") == pays_back, "{verdict:?}");
    }
}

/// The teacher, twice as dear and right a little more often than one call, is what it would replace: against that it saves.
#[test]
fn what_one_call_answers_better_is_not_distilled_to_save() {
    let mut results = costed(results(), saving(9, (-50, 70)));
    for (arm, accuracy) in [(COT, 0.6), (DISTILLED, 0.56), (TEACHER, 0.601)] {
        results.arms.iter_mut().find(|one| one.arm == arm).unwrap().accuracy = accuracy;
    }
    let over_teacher = distilling(DISTILLED, TEACHER, Measure::Money, saving(1_000_000, (900_000, 1_100_000)));
    results.costs.as_mut().unwrap().distilling.push(over_teacher);
    results.comparisons[0] = Comparison { ci: (-0.07, -0.01), ..comparison(DISTILLED, COT, -0.04, 0.01) };
    results.comparisons[2] = Comparison { ci: (-0.09, 0.01), ..comparison(DISTILLED, TEACHER, -0.041, 0.2) };
    let expect = "Do not distil the decomposer here: answering in one call is better.";
    assert_eq!(answer_of(&results), (Answer::Neither, expect.to_owned()));
    results.comparisons[0].exploratory = true;
    let (answer, headline) = answer_of(&results);
    assert_eq!(answer, Answer::NotShown, "what is not declared warns all the same");
    let expect = " A distilled decomposer saves 50.0 % against two-stage/teacher/big, but answering in one call has more right \
                  answers (60.0 % against 56.0 %).";
    assert!(headline.ends_with(expect), "{headline}");
    results.comparisons[0] = comparison(DISTILLED, COT, -0.04, 0.3);
    assert_eq!(answer_of(&results).0, Answer::CheaperDecomposer, "where one call is not shown to be better");
}

/// The most accurate arm speaks for its part, also where one call makes it pointless and a weaker solver's arm is merely unclear.
#[test]
fn a_weaker_solver_does_not_speak_for_the_part() {
    let mut results = costed(results(), saving(-900_000, (-1_300_000, -500_000)));
    results.comparisons[0] = comparison(DISTILLED, COT, -0.12, 0.001);
    let named = |arm: &str| results.arms.iter().find(|one| one.arm == arm).unwrap().clone();
    let weak =
        |of: &str, arm: &str, accuracy| ArmResult { arm: arm.into(), solver: "weak".into(), accuracy, ..named(of) };
    let weaker = [weak(COT, "cot/weak", 0.1), weak(DISTILLED, "two-stage/sd-r/weak", 0.11)];
    results.arms.extend(weaker);
    results.comparisons.push(comparison("two-stage/sd-r/weak", "cot/weak", 0.01, 0.9));
    let (answer, headline) = answer_of(&results);
    assert_eq!(
        (answer, &*headline),
        (Answer::Neither, "Do not distil the decomposer here: answering in one call is better.")
    );
}

/// It beats one call, and its teacher costs less and does as well.
#[test]
fn what_its_teacher_does_for_less_is_the_reason_that_is_given() {
    let cheap_teacher = distilling(DISTILLED, TEACHER, Measure::Money, saving(-500_000, (-600_000, -400_000)));
    let reason = "two-stage/teacher/big has 62.0 % right answers against 60.0 %, and costs less";
    for (parts, answer) in [((0.2, 0.001), Answer::RatherDecomposer), ((0.0, 0.9), Answer::NotShown)] {
        let mut results = costed(with_both_parts(parts.0, parts.1), saving(9, (-50, 70)));
        results.comparisons[0] = comparison(DISTILLED, COT, 0.2, 0.001);
        results.costs.as_mut().unwrap().distilling.push(cheap_teacher.clone());
        let verdict = verdict(&results);
        assert_eq!(verdict.answer, answer, "{verdict:?}");
        assert!(verdict.headline.contains(reason), "{verdict:?}");
        assert!(!summary(&verdict, "How sure").contains("Shown. two-stage/sd-r/big against cot/big"), "{verdict:?}");
    }
}

/// A small model that does as well untrained needs no training.
#[test]
fn what_its_base_does_untrained_is_no_reason_to_distil() {
    let (less, open) = (saving(900_000, (500_000, 1_300_000)), saving(9, (-50, 70)));
    let (unclear, worse) = (comparison(DISTILLED, UNTRAINED, 0.01, 0.8), comparison(UNTRAINED, DISTILLED, 0.1, 0.001));
    let (beats, saves) = ("beats answering in one call", "saves 45.0 % against cot/big");
    for (against_one_call, p_holm, saved, training, does) in [
        (0.2, 0.001, open, &unclear, beats),
        (0.2, 0.001, open, &worse, beats),
        (-0.01, 0.9, less, &unclear, saves),
        (-0.01, 0.9, less, &worse, saves),
    ] {
        let said = format!(" A distilled decomposer {does}, but that its training adds anything is not shown");
        let mut results = costed(results(), saved);
        results.comparisons[0] = comparison(DISTILLED, COT, against_one_call, p_holm);
        results.comparisons[1] = training.clone();
        let (answer, headline) = answer_of(&results);
        assert_eq!(answer, Answer::NotShown, "{headline}");
        let sure = summary(&verdict(&results), "How sure");
        assert!(!sure.starts_with("Shown. ") && sure.contains("against two-stage/small/big"), "{sure}");
        assert!(headline.contains(&said) && headline.contains("% of two-stage/small/big)"), "{headline}");
        results.comparisons.remove(1);
        assert_ne!(answer_of(&results).0, Answer::NotShown, "where the base was not asked, nothing speaks against it");
    }
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

/// 10,000 where the recipe says nothing.
#[test]
fn the_recipe_is_not_said_to_expect_what_is_reckoned_with() {
    let results = costed(results(), saving(100_000, (90_000, 110_000)));
    let change = summary(&verdict(&results), "What would change it");
    let expect =
        "Fewer than 12,000 questions in all: then what it cost once is not saved (10,000 are reckoned with here).";
    assert!(change.contains(expect), "{change}");
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
    assert!(said.contains("The 1 min 30 s of the machine spent once to train comes back after 900"), "{said}");
    results.costs = None;
    let said = summary(&verdict(&results), "What it costs and saves");
    assert_eq!(
        said,
        "It takes 400 tokens a question, 1.0 times the 400 of cot/big. What that costs is not known: some model has no price, and \
         the machine none under [costs]."
    );
}

#[test]
fn what_is_not_known_of_costs_is_said_with_its_cause() {
    let mut results = costed(results(), saving(1, (1, 1)));
    let said = |results: &Results| summary(&verdict(results), "What it costs and saves");
    // Nobody compared the two, and yet their questions were timed.
    let costs = results.costs.as_mut().unwrap();
    costs.distilling.clear();
    costs.arms.iter_mut().for_each(|arm| arm.money = None);
    let takes =
        "A thousand questions take 6 min 40 s of the machine with two-stage/sd-r/big and 6 min 40 s with cot/big.";
    assert!(said(&results).ends_with(takes), "{}", said(&results));
    results.costs.as_mut().unwrap().arms.iter_mut().for_each(|arm| arm.machine = None);
    assert!(said(&results).ends_with("some model has no price, and the machine none under [costs]."));
    results.arms.iter_mut().find(|arm| arm.arm == COT).unwrap().forget_tokens();
    assert!(said(&results).ends_with("came without usage. What that costs is not known either."), "{}", said(&results));
}

/// What is saved needs nothing of what was paid once.
#[test]
fn what_it_saves_is_told_where_its_training_is_not_on_record() {
    let mut results = costed(results(), saving(900_000, (500_000, 1_300_000)));
    results.comparisons[0] = comparison(DISTILLED, COT, -0.01, 0.9);
    let pair = &mut results.costs.as_mut().unwrap().distilling[0];
    (pair.one_off, pair.break_even) = (None, None);
    let said = |results: &Results| summary(&verdict(results), "What it costs and saves");
    assert!(
        said(&results).contains("not known: some model has no price, or the machine that trained"),
        "{}",
        said(&results)
    );
    let training = results.training.remove(0);
    let (student, base, target) = (training.student, training.base, training.target);
    results.students.push(StudentUse { student, base, target });
    assert_eq!(answer_of(&results).0, Answer::CheaperDecomposer);
    let unknown = "What was paid once is not known: the training of sd-r is not on record here.";
    let said = said(&results);
    assert!(said.starts_with("A thousand questions cost $1.10 with two-stage/sd-r/big and $2.00"), "{said}");
    assert!(said.ends_with(unknown), "{said}");
    let text = crate::markdown(&results);
    let row = text.lines().find(|line| line.starts_with("| two-stage/sd-r/big | cot/big ")).unwrap();
    assert!(row.contains("$0.90") && row.matches('–').count() == 3, "once, break-even and its interval: {row}");
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
    // Its base was not asked behind that decomposer.
    results.comparisons.retain(|pair| pair.family != Family::Parts);
    let (answer, headline) = answer_of(&results);
    assert_eq!(answer, Answer::CheaperBoth);
    assert!(headline.starts_with("Distil both parts if you can bear"), "{headline}");
}

/// Results in which the distilled decomposer saves, with the interval of what it loses against one call.
pub(super) fn saving_with(ci: (f64, f64), p_holm: f64, exploratory: bool) -> Results {
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
    let mut untaught = close;
    untaught.comparisons[1] = comparison(DISTILLED, UNTRAINED, 0.01, 0.8);
    let (answer, headline) = answer_of(&untaught);
    assert_eq!(answer, Answer::SavesAtALoss);
    assert!(
        headline.contains("points of accuracy, and that its training adds anything is not shown (60.0 %"),
        "{headline}"
    );
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
fn of_two_arms_that_show_no_gain_the_one_that_saves_speaks_for_its_part() {
    let mut results = costed(results(), saving(-900_000, (-1_300_000, -500_000)));
    results.comparisons[0] = comparison(DISTILLED, COT, 0.01, 0.9);
    let mut frugal = results.arms.iter().find(|arm| arm.arm == DISTILLED).unwrap().clone();
    (frugal.arm, frugal.accuracy) = ("sequential/sd-r/big".to_owned(), frugal.accuracy - 0.01);
    results.arms.push(frugal);
    results.comparisons.push(comparison("sequential/sd-r/big", COT, 0.0, 0.9));
    let pair = distilling("sequential/sd-r/big", COT, Measure::Money, saving(1_000_000, (900_000, 1_100_000)));
    results.costs.as_mut().unwrap().distilling.push(pair);
    let (answer, headline) = answer_of(&results);
    assert_eq!(answer, Answer::CheaperDecomposer, "{headline}");
}

#[test]
fn only_what_was_paid_once_is_named() {
    let mut results = costed(results(), saving(1_500_000, (1_000_000, 2_000_000)));
    let student = &mut results.costs.as_mut().unwrap().students[0];
    (student.collection, student.screening) = (Outlay::NONE, Outlay::NONE);
    let said = summary(&verdict(&results), "What it costs and saves");
    assert!(said.contains("The $1.20 spent once to train comes back after"), "{said}");
}

#[test]
fn both_where_the_decomposer_is_what_saves_or_what_new_questions_need() {
    let mut results = costed(with_both_parts(0.0, 0.9), saving(-5, (-9, -1)));
    let mut both = results.arms.last().unwrap().clone();
    (both.arm, both.decomposer) = ("two-stage/sd-r/se".to_owned(), Some("student:sd-r".to_owned()));
    both.accuracy += 0.01;
    results.arms.push(both);
    for arm in ["two-stage/teacher/se", "two-stage/sd-r/se"] {
        results.comparisons.push(comparison(arm, COT, 0.1, 0.001));
    }
    assert_eq!(answer_of(&results).0, Answer::Solver, "the decomposer is not shown to add anything");
    let pair = distilling("two-stage/sd-r/se", COT, Measure::Money, saving(1_000_000, (900_000, 1_100_000)));
    results.costs.as_mut().unwrap().distilling.push(pair);
    assert_eq!(answer_of(&results).0, Answer::Both, "it saves");
    let costs = results.costs.as_mut().unwrap();
    costs.distilling.pop();
    costs.arms.iter_mut().filter(|cost| cost.arm == "two-stage/teacher/se").for_each(|cost| cost.recorded = true);
    assert_eq!(answer_of(&results).0, Answer::Both, "nobody recorded decompositions of a new question");
}
