//! A choice of rows that depends on the seed and on each row's own id, never on their order or number: adding a file
//! adds candidates, and a smaller sample is part of the larger one.

use divvy_core::{digest::derive_seed, question::Question};

/// At most `wanted` questions, chosen by `seed`, in their old order.
#[must_use]
pub fn sample(questions: Vec<Question>, wanted: usize, seed: u64) -> Vec<Question> {
    if questions.len() <= wanted {
        return questions;
    }
    let draw = |question: &Question| derive_seed(seed, &question.id.0);
    let mut draws: Vec<(u64, usize)> = questions.iter().map(draw).zip(0..).collect();
    draws.sort_unstable();
    draws.truncate(wanted);
    let chosen: std::collections::BTreeSet<usize> = draws.into_iter().map(|(_, index)| index).collect();
    questions
        .into_iter()
        .enumerate()
        .filter(|(index, _)| chosen.contains(index))
        .map(|(_, question)| question)
        .collect()
}

#[cfg(test)]
mod tests {
    use divvy_core::question::{QuestionId, ScorerKind, Split};

    use super::*;

    fn questions(count: usize) -> Vec<Question> {
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
            sample(questions(100), wanted, seed).into_iter().map(|question| question.id.0).collect()
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
