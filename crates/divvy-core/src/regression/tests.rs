use super::*;
use crate::{graded::GradedRow, question::ScorerKind};

fn run(arms: &[&str], right: impl Fn(usize, usize) -> Option<bool>, text: impl Fn(usize) -> String) -> RunRows {
    let row = |arm: usize, correct: bool| GradedRow {
        correct,
        score: f64::from(u8::from(correct)),
        outcome: Outcome::Answered,
        ..GradedRow::failed(arm)
    };
    let asked = |question: usize| Asked {
        id: format!("q/test/{question}"),
        premise: None,
        question: text(question),
        gold: Vec::new(),
        steps: None,
        dataset: "q".to_owned(),
        scorer: ScorerKind::Exact,
        rows: (0..arms.len()).filter_map(|arm| Some(row(arm, right(question, arm)?))).collect(),
    };
    let arms = arms.iter().map(|arm| (*arm).to_owned()).collect::<Vec<_>>();
    let mut rows = RunRows::default();
    rows.add(&Sheet { arms: arms.into(), questions: (0..40).map(asked).collect(), calls: Vec::new() });
    rows
}

fn same(question: usize) -> String {
    format!("question {question}")
}

#[test]
fn an_arm_that_lost_is_worse_and_its_rows_are_named() {
    let before = run(&["cot", "direct", "old"], |question, _| Some(question.is_multiple_of(2)), same);
    // `cot` loses ten, `direct` swaps one for one.
    let right = |question: usize, arm: usize| {
        Some(if arm == 1 {
            question.is_multiple_of(2) && question >= 20
        } else {
            (question.is_multiple_of(2)) != (question < 2)
        })
    };
    let after = run(&["direct", "cot", "new"], right, same);
    let found = compare(&before, &after, 1);
    let [cot, direct] = &found.arms[..] else { panic!("{found:?}") };
    assert_eq!((cot.n, cot.lost, cot.gained, cot.change), (40, 10, 0, Change::Worse));
    assert!((cot.difference + 0.25).abs() < 1e-12 && (cot.p_holm - 2.0 * cot.p_value).abs() < 1e-12, "{cot:?}");
    assert_eq!((direct.lost, direct.gained, direct.change), (1, 1, Change::NotShown));
    assert_eq!(
        (found.only_before.as_slice(), found.only_after.as_slice()),
        (&["old".to_owned()][..], &["new".to_owned()][..])
    );
    assert_eq!((found.flips.len(), found.worse().count()), (12, 1));
    assert_eq!(found.flips[0], Flip { arm: "cot".into(), question: "q/test/0".into(), lost: true });
    let back = compare(&after, &before, 1);
    assert_eq!(back.arms.iter().find(|arm| arm.arm == "cot").map(|arm| arm.change), Some(Change::Better));
}

#[test]
fn only_questions_that_both_were_asked_are_compared() {
    let before = run(&["cot"], |_, _| Some(true), same);
    let after = run(
        &["cot"],
        |question, _| (question != 3).then_some(false),
        |question| {
            if question < 10 { "another text".to_owned() } else { same(question) }
        },
    );
    let found = compare(&before, &after, 1);
    assert_eq!((found.changed_questions, found.arms[0].n), (10, 30));
}

/// The same with every question's row changed.
fn with(mut rows: RunRows, mut bend: impl FnMut(usize, &mut QuestionRows)) -> RunRows {
    rows.questions.values_mut().enumerate().for_each(|(at, question)| bend(at, question));
    rows
}

#[test]
fn an_outage_is_no_regression() {
    let before = run(&["cot", "direct"], |_, _| Some(true), same);
    let down = |at: usize, question: &mut QuestionRows| {
        question.answers[0] = Answers { given: 1, failed: 1, ..Answers::default() };
        question.answers[1].correct = u64::from(at < 20);
    };
    let found = compare(&before, &with(before.clone(), down), 1);
    let [cot, direct] = &found.arms[..] else { panic!("{found:?}") };
    assert_eq!((cot.change, cot.errors_after, cot.lost), (Change::Withheld, 40, 40));
    assert!(cot.p_holm.is_nan() && direct.p_holm == direct.p_value, "it is judged by itself: {direct:?}");
    assert_eq!(direct.change, Change::Worse);
    assert_eq!(found.unjudged().map(|arm| arm.arm.as_str()).collect::<Vec<_>>(), ["cot"]);
}

#[test]
fn half_a_run_is_not_judged() {
    let before = run(&["cot", "direct"], |_, _| Some(true), same);
    let after = run(&["cot", "direct"], |question, arm| (arm == 1 || question < 10).then_some(true), same);
    let found = compare(&before, &after, 1);
    let [cot, direct] = &found.arms[..] else { panic!("{found:?}") };
    assert_eq!((cot.n, cot.pending, cot.change), (10, 30, Change::Withheld));
    assert_eq!((direct.pending, direct.change), (0, Change::NotShown));
    assert_eq!(found.unjudged().count(), 1);
}

#[test]
fn an_arm_need_not_be_asked_every_data_set() {
    let only_first = |question: usize, _: usize| (question < 30).then_some(true);
    let sets = |rows| {
        // By id, so as texts sort: what is answered is one set.
        with(rows, |_, question| {
            let answered = question.answers[0].given > 0;
            question.dataset = if answered { "asked" } else { "never asked" }.to_owned();
        })
    };
    let run = || sets(run(&["two-stage/teacher/big"], only_first, same));
    let found = compare(&run(), &run(), 1);
    assert_eq!((found.arms[0].n, found.arms[0].pending, found.arms[0].change), (30, 0, Change::NotShown));
}

#[test]
fn an_arm_without_a_question_in_both_makes_no_other_harder_to_show() {
    let before = run(&["cot", "direct"], |_, arm| (arm == 0).then_some(true), same);
    let after = run(&["cot", "direct"], |question, arm| (arm == 0).then_some(question >= 10), same);
    let found = compare(&before, &after, 1);
    let [cot, direct] = &found.arms[..] else { panic!("{found:?}") };
    assert_eq!((direct.n, direct.change, cot.change), (0, Change::NotShown, Change::Worse));
    assert!(cot.p_holm == cot.p_value && direct.p_holm.is_nan(), "{found:?}");
    assert_eq!(found.unjudged().map(|arm| arm.arm.as_str()).collect::<Vec<_>>(), ["direct"]);
}

#[test]
fn where_nothing_flipped_passages_leave_an_interval() {
    let in_passages = |rows| with(rows, |at, question| question.passage = Some(Digest::of_bytes(&[(at / 2) as u8])));
    let before = in_passages(run(&["cot"], |_, _| Some(true), same));
    let same = &compare(&before, &before, 1).arms[0];
    assert_eq!((same.test, same.difference, same.p_value), (Test::Bootstrap, 0.0, 1.0));
    assert!(same.ci.0 < -0.01 && same.ci.1 > 0.01, "{same:?}");
}

#[test]
fn questions_of_one_passage_are_no_independent_witnesses() {
    // Ten questions of one passage are lost, and nothing else changed.
    let before = run(&["cot"], |_, _| Some(true), same);
    let after = || with(before.clone(), |at, question| question.answers[0].correct = u64::from(at >= 10));
    assert_eq!(compare(&before, &after(), 1).arms[0].change, Change::Worse);
    let shared =
        |rows: RunRows| with(rows, |at, question| question.passage = (at < 10).then(|| Digest::of_bytes(b"a passage")));
    let found = compare(&shared(before.clone()), &shared(after()), 1);
    assert_eq!((found.arms[0].test, found.arms[0].change), (Test::Bootstrap, Change::NotShown), "{found:?}");
}

#[test]
fn two_passages_of_which_one_got_worse_show_nothing() {
    let before = run(&["cot"], |_, _| Some(true), same);
    let of = |lost: usize, passages: usize| {
        let bend = |fails: bool| {
            with(before.clone(), |at, question| {
                question.passage = Some(Digest::of_bytes(&[(at % passages) as u8]));
                let lost = fails && at % passages == 0 && at / passages < lost;
                question.answers[0].correct = u64::from(!lost);
            })
        };
        compare(&bend(false), &bend(true), 1)
    };
    assert!(of(1, 1).arms[0].p_value == 1.0, "one question of one passage: McNemar");
    let two = of(15, 2);
    assert!(two.arms[0].p_value >= 0.5 && two.arms[0].change == Change::NotShown, "{two:?}");
}

#[test]
fn partial_credit_is_compared_beside_right_and_wrong() {
    let before = run(&["cot", "direct"], |_, arm| Some(arm == 1), same);
    assert!(compare(&before, &before, 1).arms.iter().all(|arm| arm.score.is_none()));
    // Still all wrong, but half of the words are there.
    let after = with(before.clone(), |_, question| question.answers[0].credit = 0.5);
    let found = compare(&before, &after, 1);
    let [cot, direct] = &found.arms[..] else { panic!("{found:?}") };
    let score = cot.score.unwrap();
    assert_eq!((cot.change, direct.score), (Change::NotShown, None), "right and wrong decide");
    assert_eq!((score.before, score.after, score.difference), (0.0, 0.5, 0.5));
    assert!(score.p_value < 0.01 && score.p_holm == score.p_value && score.ci.0 > 0.4, "{score:?}");
}

#[test]
fn several_answers_to_a_question_are_one_arm() {
    let before = run(&["cot", "cot (2)"], |_, _| Some(true), same);
    let after = run(&["cot", "cot (2)"], |question, repeat| Some(repeat == 0 || question >= 8), same);
    let found = compare(&before, &after, 1);
    let [cot] = &found.arms[..] else { panic!("{found:?}") };
    assert_eq!((cot.n, cot.answers_after, cot.correct_after, cot.lost, cot.gained), (40, 80, 72, 8, 0));
    assert!((cot.accuracy_after - 0.9).abs() < 1e-12 && (cot.difference + 0.1).abs() < 1e-12, "{cot:?}");
    assert_eq!((cot.test, cot.change), (Test::Bootstrap, Change::Worse));
}
