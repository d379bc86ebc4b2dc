//! A choice of rows that depends on the seed and on each row's own id, never on their order or number: adding a file
//! adds candidates, and a smaller sample is part of the larger one.

use divvy_core::{digest::derive_seed, questions::Questions};

/// At most `wanted` questions, chosen by `seed`, in their old order.
#[must_use]
pub fn sample(questions: Questions, wanted: usize, seed: u64) -> Questions {
    if questions.len() <= wanted {
        return questions;
    }
    let order = questions.order_by(|id| derive_seed(seed, &id.0));
    let mut chosen: Vec<usize> = order.take(wanted).collect();
    chosen.sort_unstable();
    questions.choose(chosen)
}

#[cfg(test)]
mod tests {
    use divvy_core::question::{Question, QuestionId, ScorerKind, Split};

    use super::*;

    fn questions(count: usize) -> Questions {
        let question = |row| Question {
            id: QuestionId::new("rows", Split::Train, row),
            dataset: "rows".into(),
            split: Split::Train,
            premise: None,
            text: format!("question {row}?"),
            golds: Vec::new(),
            scorer: ScorerKind::Exact,
            steps: None,
            recorded: None,
            cluster: None,
            worked: Vec::new(),
        };
        (0..count).map(question).collect()
    }

    #[test]
    fn a_sample_is_repeatable_nested_and_in_order() {
        let ids = |wanted, seed| -> Vec<String> {
            sample(questions(100), wanted, seed).iter().map(|question| question.id.0.clone()).collect()
        };
        assert_eq!(ids(10, 1), ids(10, 1));
        assert_ne!(ids(10, 1), ids(10, 2));
        let large = ids(30, 1);
        assert!(ids(10, 1).iter().all(|id| large.contains(id)));
        let row = |id: &String| id.rsplit('/').next().unwrap().parse::<usize>().unwrap();
        assert!(large.windows(2).all(|pair| row(&pair[0]) < row(&pair[1])));
        assert_eq!(ids(500, 1).len(), 100);
    }
}
