//! What an arm got right by the kind of answer, by passage, and where no steps are known, by how many subquestions the teacher had.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use divvy_core::{
    answer_kind::AnswerKind,
    arm::{Arm, Strategy},
    plan::{EvaluatePlan, Plan},
    question::QuestionId,
    results::{ArmSlices, Slice},
    stats,
};

use super::{
    counted::ByArm,
    outline::{Outline, Outlines},
    scored::Evaluated,
};

/// A group's questions, and how many of them are right.
type Counts<K> = BTreeMap<K, (u64, u64)>;

/// What is said of one question: the kind of its answer, its passage where others stand on it too, and the teacher's number of
/// subquestions where its steps are not known.
struct Label<'q> {
    answer: Option<AnswerKind>,
    passage: Option<&'q str>,
    subquestions: Option<u64>,
}

pub(super) fn of(
    questions: &Outlines<'_>,
    evaluated: &[Evaluated],
    (plan, evaluate, rows): (&Plan, &EvaluatePlan, &ByArm),
) -> Vec<ArmSlices> {
    let wrote = |slug: &str, question: &QuestionId| rows.get(slug)?.get(question, 0)?.graded.as_ref()?.subquestions;
    let mut teachers = evaluate.arms.iter().filter(|arm| is_teachers(plan, arm)).map(Arm::slug);
    let teacher = teachers.find(|slug| questions.each.iter().any(|question| wrote(slug, &question.id).is_some()));
    let labels = labels(questions, |question| wrote(teacher.as_ref()?, question));
    evaluated.iter().map(|one| arm((&one.arm.arm, one.arm.each), &labels, &one.right)).collect()
}

/// It answers by whole decompositions, which no student wrote. The first such arm is the teacher's.
fn is_teachers(plan: &Plan, arm: &Arm) -> bool {
    let decomposer = arm.decomposer.as_ref().filter(|_| arm.strategy != Strategy::SelfAsk);
    decomposer.is_some_and(|name| !plan.students.contains_key(name))
}

/// `each`: answers to a question.
fn arm((arm, each): (&str, u64), labels: &[Label<'_>], right: &[bool]) -> ArmSlices {
    let (mut answers, mut passages, mut subquestions) = (Counts::new(), Counts::new(), Counts::new());
    let slice = |of: &str, counts| slice(of, counts, each);
    for (label, right) in labels.iter().cycle().zip(right) {
        if let Some(kind) = label.answer {
            count(&mut answers, kind, *right);
        }
        if let Some(passage) = label.passage {
            count(&mut passages, passage, *right);
        }
        if let Some(number) = label.subquestions {
            count(&mut subquestions, number, *right);
        }
    }
    let mut by_passage: Vec<Slice> = passages.into_iter().map(|(passage, counts)| slice(passage, counts)).collect();
    by_passage.sort_by_key(|slice| Reverse(slice.n));
    ArmSlices {
        arm: arm.to_owned(),
        by_answer: answers.into_iter().map(|(kind, counts)| slice(kind.name(), counts)).collect(),
        by_subquestions: subquestions.into_iter().map(|(number, counts)| slice(&number.to_string(), counts)).collect(),
        by_passage,
    }
}

/// A cluster is a passage where two of its questions have the very same one: where every question brings its own, there is
/// none to tell of.
fn labels<'q>(questions: &'q Outlines<'_>, wrote: impl Fn(&QuestionId) -> Option<u64>) -> Vec<Label<'q>> {
    let (mut seen, mut shared) = (HashSet::new(), HashSet::new());
    for question in &questions.each {
        if let (Some(cluster), Some(premise)) = (&question.cluster, &question.premise)
            && !seen.insert((cluster, premise))
        {
            shared.insert(cluster);
        }
    }
    let passage = |cluster: &&String| shared.contains(cluster);
    let no_steps = questions.each.iter().all(|question| question.steps.is_none());
    let label = |question: &'q Outline| Label {
        answer: question.answer,
        passage: question.cluster.as_ref().filter(passage).map(String::as_str),
        subquestions: if no_steps { wrote(&question.id) } else { None },
    };
    questions.each.iter().map(label).collect()
}

fn count<K: Ord>(counts: &mut Counts<K>, group: K, right: bool) {
    let (n, correct) = counts.entry(group).or_default();
    *n += 1;
    *correct += u64::from(right);
}

/// Several answers to a question are one piece of evidence: the interval is that of so many questions.
fn slice(of: &str, (n, correct): (u64, u64), each: u64) -> Slice {
    let ci = stats::wilson::interval((correct + each / 2) / each, n / each);
    Slice { of: of.to_owned(), n, correct, ci }
}

#[cfg(test)]
mod tests {
    use divvy_core::question::Gold;
    use divvy_core::{question::Split, synth};

    use super::*;

    #[test]
    fn every_kind_of_answer_and_every_shared_passage_has_its_count() {
        let mut questions = synth::generate(Split::Train, 6, 1);
        for (at, question) in questions.iter_mut().enumerate() {
            question.steps = None;
            question.golds = vec![Gold::single(if at < 4 { "12" } else { "yes" })];
            question.cluster = Some(["p1", "p1", "p1", "p2", "p3", "p3"][at].to_owned());
            question.premise = Some(format!("passage {}", ["1", "1", "1", "2", "3", "another"][at]));
        }
        let questions = questions.into_iter().collect();
        let mut outlines = Outlines::of(&questions);
        // The teacher had none of the last question.
        let wrote = |at: usize| [2, 3, 2, 10, 3].get(at).copied();
        let at = |id: &QuestionId| outlines.each.iter().position(|question| question.id == *id);
        let labels = labels(&outlines, |id| at(id).and_then(wrote));
        let right = [true, false, true, true, false, false];
        let slices = arm(("cot/big", 1), &labels, &right);
        let counts = |slices: &[Slice]| {
            slices.iter().map(|slice| (slice.of.clone(), slice.n, slice.correct)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&slices.by_answer), [("number".to_owned(), 4, 3), ("yes-no".to_owned(), 2, 0)]);
        assert_eq!(counts(&slices.by_passage), [("p1".to_owned(), 3, 2)]);
        assert_eq!(slices.by_passage[0].ci, stats::wilson::interval(2, 3));
        let by_number = [("2".to_owned(), 2, 2), ("3".to_owned(), 2, 0), ("10".to_owned(), 1, 1)];
        assert_eq!(counts(&slices.by_subquestions), by_number, "in the order of the numbers");
        let twice = arm(("cot/big", 2), &labels, &[right, right].concat());
        assert_eq!(counts(&twice.by_passage), [("p1".to_owned(), 6, 4)]);
        assert_eq!(twice.by_passage[0].ci, slices.by_passage[0].ci, "no more questions than before");
        // Where one question says its steps, those are told of, elsewhere.
        outlines.each[0].steps = Some(2);
        let known = super::labels(&outlines, |_| Some(2));
        assert!(known.iter().all(|label| label.subquestions.is_none()));
    }
}
