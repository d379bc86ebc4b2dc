//! What an arm got right by the kind of answer and by passage.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use divvy_core::{
    answer_kind::AnswerKind,
    results::{ArmSlices, Slice},
    stats,
};

use super::{
    outline::{Outline, Outlines},
    scored::Evaluated,
};

/// A group's questions, and how many of them are right.
type Counts<K> = BTreeMap<K, (u64, u64)>;

/// What is said of one question: the kind of its answer, and its passage where others stand on it too.
struct Label<'q> {
    answer: Option<AnswerKind>,
    passage: Option<&'q str>,
}

pub(super) fn of(questions: &Outlines<'_>, evaluated: &[Evaluated]) -> Vec<ArmSlices> {
    let labels = labels(questions);
    evaluated.iter().map(|one| arm((&one.arm.arm, one.arm.each), &labels, &one.right)).collect()
}

/// `each`: answers to a question.
fn arm((arm, each): (&str, u64), labels: &[Label<'_>], right: &[bool]) -> ArmSlices {
    let (mut answers, mut passages) = (Counts::new(), Counts::new());
    let slice = |of: &str, counts| slice(of, counts, each);
    for (label, right) in labels.iter().cycle().zip(right) {
        if let Some(kind) = label.answer {
            count(&mut answers, kind, *right);
        }
        if let Some(passage) = label.passage {
            count(&mut passages, passage, *right);
        }
    }
    let mut by_passage: Vec<Slice> = passages.into_iter().map(|(passage, counts)| slice(passage, counts)).collect();
    by_passage.sort_by_key(|slice| Reverse(slice.n));
    ArmSlices {
        arm: arm.to_owned(),
        by_answer: answers.into_iter().map(|(kind, counts)| slice(kind.name(), counts)).collect(),
        by_passage,
    }
}

/// A cluster is a passage where two of its questions have the very same one: where every question brings its own, there is
/// none to tell of.
fn labels<'q>(questions: &'q Outlines<'_>) -> Vec<Label<'q>> {
    let (mut seen, mut shared) = (HashSet::new(), HashSet::new());
    for question in &questions.each {
        if let (Some(cluster), Some(premise)) = (&question.cluster, &question.premise)
            && !seen.insert((cluster, premise))
        {
            shared.insert(cluster);
        }
    }
    let passage = |cluster: &&String| shared.contains(cluster);
    let label = |question: &'q Outline| Label {
        answer: question.answer,
        passage: question.cluster.as_ref().filter(passage).map(String::as_str),
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
            question.golds = vec![Gold::single(if at < 4 { "12" } else { "yes" })];
            question.cluster = Some(["p1", "p1", "p1", "p2", "p3", "p3"][at].to_owned());
            question.premise = Some(format!("passage {}", ["1", "1", "1", "2", "3", "another"][at]));
        }
        let questions = questions.into_iter().collect();
        let outlines = Outlines::of(&questions);
        let labels = labels(&outlines);
        let right = [true, false, true, true, false, false];
        let slices = arm(("cot/big", 1), &labels, &right);
        let counts = |slices: &[Slice]| {
            slices.iter().map(|slice| (slice.of.clone(), slice.n, slice.correct)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&slices.by_answer), [("number".to_owned(), 4, 3), ("yes-no".to_owned(), 2, 0)]);
        assert_eq!(counts(&slices.by_passage), [("p1".to_owned(), 3, 2)]);
        assert_eq!(slices.by_passage[0].ci, stats::wilson::interval(2, 3));
        let twice = arm(("cot/big", 2), &labels, &[right, right].concat());
        assert_eq!(counts(&twice.by_passage), [("p1".to_owned(), 6, 4)]);
        assert_eq!(twice.by_passage[0].ci, slices.by_passage[0].ci, "no more questions than before");
    }
}
