//! What an arm got right by the kind of answer and by passage.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use divvy_core::{
    answer_kind,
    question::Question,
    results::{ArmSlices, Slice},
    stats,
};

/// A group's questions, and how many of them are right.
type Counts<K> = BTreeMap<K, (u64, u64)>;

pub(super) fn of(arm: &str, questions: &[&Question], right: &[bool]) -> ArmSlices {
    let (mut answers, mut passages) = (Counts::new(), Counts::new());
    let shared = shared(questions);
    for (question, right) in questions.iter().zip(right) {
        if let Some(kind) = answer_kind::of(question) {
            count(&mut answers, kind, *right);
        }
        if let Some(passage) = question.cluster.as_deref().filter(|passage| shared.contains(passage)) {
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

/// Clusters in which two questions have the very same passage: where every question brings its own, there is none to tell of.
fn shared<'q>(questions: &[&'q Question]) -> HashSet<&'q str> {
    let (mut seen, mut shared) = (HashSet::new(), HashSet::new());
    for question in questions {
        let (Some(cluster), Some(premise)) = (question.cluster.as_deref(), question.premise.as_deref()) else {
            continue;
        };
        if !seen.insert((cluster, premise)) {
            shared.insert(cluster);
        }
    }
    shared
}

fn count<K: Ord>(counts: &mut Counts<K>, group: K, right: bool) {
    let (n, correct) = counts.entry(group).or_default();
    *n += 1;
    *correct += u64::from(right);
}

fn slice(of: &str, (n, correct): (u64, u64)) -> Slice {
    Slice { of: of.to_owned(), n, correct, ci: stats::wilson::interval(correct, n) }
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
        let questions: Vec<&Question> = questions.iter().collect();
        let slices = of("cot/big", &questions, &[true, false, true, true, false, false]);
        let counts = |slices: &[Slice]| {
            slices.iter().map(|slice| (slice.of.clone(), slice.n, slice.correct)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&slices.by_answer), [("number".to_owned(), 4, 3), ("yes-no".to_owned(), 2, 0)]);
        assert_eq!(counts(&slices.by_passage), [("p1".to_owned(), 3, 2)]);
        assert_eq!(slices.by_passage[0].ci, stats::wilson::interval(2, 3));
    }
}
