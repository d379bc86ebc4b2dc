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
};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::{
    counted::ByArm,
    outline::{Outline, Outlines},
    scored::Evaluated,
    sharing::{Part, Sharing},
};

/// A group's questions, by their places.
type Places<K> = BTreeMap<K, Vec<usize>>;

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
    sharing: &Sharing,
    (plan, evaluate, rows): (&Plan, &EvaluatePlan, &ByArm),
) -> Vec<ArmSlices> {
    let wrote = |slug: &str, question: &QuestionId| rows.get(slug)?.get(question, 0)?.graded.as_ref()?.subquestions;
    let mut teachers = evaluate.arms.iter().filter(|arm| is_teachers(plan, arm)).map(Arm::slug);
    let teacher = teachers.find(|slug| questions.each.iter().any(|question| wrote(slug, &question.id).is_some()));
    let groups = Groups::of(&labels(questions, |question| wrote(teacher.as_ref()?, question)));
    let slices = |one: &Evaluated| groups.slices(&one.arm.arm, |places| sharing.part(places, &one.right, one.seeds()));
    evaluated.par_iter().map(slices).collect()
}

/// It answers by whole decompositions, which no student wrote. The first such arm is the teacher's.
fn is_teachers(plan: &Plan, arm: &Arm) -> bool {
    let decomposer = arm.decomposer.as_ref().filter(|_| arm.strategy != Strategy::SelfAsk);
    decomposer.is_some_and(|name| !plan.students.contains_key(name))
}

/// The questions by what is said of them.
#[derive(Default)]
struct Groups<'q> {
    answers: Places<AnswerKind>,
    passages: Places<&'q str>,
    subquestions: Places<u64>,
}

impl<'q> Groups<'q> {
    fn of(labels: &[Label<'q>]) -> Self {
        let mut groups = Self::default();
        for (place, label) in labels.iter().enumerate() {
            file(&mut groups.answers, label.answer, place);
            file(&mut groups.passages, label.passage, place);
            file(&mut groups.subquestions, label.subquestions, place);
        }
        groups
    }

    fn slices(&self, arm: &str, part: impl Fn(&[usize]) -> Part) -> ArmSlices {
        let slice = |of: &str, places: &Vec<usize>| {
            let Part { n, correct, ci } = part(places);
            Slice { of: of.to_owned(), n, correct, ci }
        };
        let mut by_passage: Vec<Slice> = self.passages.iter().map(|(passage, places)| slice(passage, places)).collect();
        by_passage.sort_by_key(|slice| Reverse(slice.n));
        ArmSlices {
            arm: arm.to_owned(),
            by_answer: self.answers.iter().map(|(kind, places)| slice(kind.name(), places)).collect(),
            by_subquestions: self.subquestions.iter().map(|(of, places)| slice(&of.to_string(), places)).collect(),
            by_passage,
        }
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

fn file<K: Ord>(places: &mut Places<K>, group: Option<K>, place: usize) {
    group.into_iter().for_each(|group| places.entry(group).or_default().push(place));
}

#[cfg(test)]
mod tests {
    use divvy_core::{
        question::{Gold, Split},
        stats, synth,
    };

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
        let sharing = Sharing::of(&outlines, 1);
        let sliced = |right: &[bool]| Groups::of(&labels).slices("cot/big", |places| sharing.part(places, right, 1));
        let slices = sliced(&right);
        let counts = |slices: &[Slice]| {
            slices.iter().map(|slice| (slice.of.clone(), slice.n, slice.correct)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&slices.by_answer), [("number".to_owned(), 4, 3), ("yes-no".to_owned(), 2, 0)]);
        assert_eq!(counts(&slices.by_passage), [("p1".to_owned(), 3, 2)]);
        assert_eq!(slices.by_passage[0].ci, stats::wilson::interval(2, 3));
        let by_number = [("2".to_owned(), 2, 2), ("3".to_owned(), 2, 0), ("10".to_owned(), 1, 1)];
        assert_eq!(counts(&slices.by_subquestions), by_number, "in the order of the numbers");
        let twice = sliced(&[right, right].concat());
        assert_eq!(counts(&twice.by_passage), [("p1".to_owned(), 6, 4)]);
        // 1, 1 and 0 of three questions, by Student's t.
        assert_eq!(twice.by_passage[0].ci, (0.0, 1.0), "no more questions than before");
        // Where one question says its steps, those are told of, elsewhere.
        outlines.each[0].steps = Some(2);
        let known = super::labels(&outlines, |_| Some(2));
        assert!(known.iter().all(|label| label.subquestions.is_none()));
    }

    #[test]
    fn a_shared_passage_is_told_of_where_the_data_set_has_no_name_for_it() {
        let mut questions = synth::generate(Split::Test, 3, 1);
        for (question, premise) in questions.iter_mut().zip(["A.", "A.", "B."]) {
            (question.cluster, question.premise) = (None, Some(premise.to_owned()));
        }
        let questions = questions.into_iter().collect();
        let outlines = Outlines::of(&questions);
        let passages: Vec<Option<&str>> = labels(&outlines, |_| None).iter().map(|label| label.passage).collect();
        assert!(passages[0].is_some() && passages[0] == passages[1] && passages[2].is_none(), "{passages:?}");
    }
}
