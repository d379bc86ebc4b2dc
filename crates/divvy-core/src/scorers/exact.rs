//! Exact match against any alias after SQuAD normalisation (lower case, no ASCII punctuation, no articles, single
//! spaces; Rajpurkar et al. 2016), with token F1 as partial credit. Strict: "the year 1812" does not match "1812".

use std::collections::BTreeMap;

use super::{python, text_answer};
use crate::{
    chat::Finish,
    question::Gold,
    records::{Grade, Outcome},
};

pub(super) fn grade(reply: &str, finish: &Finish, golds: &[Gold]) -> Grade {
    let answer = match text_answer(reply, finish) {
        Ok(answer) => answer,
        Err(grade) => return grade,
    };
    let given = normalize(&answer);
    let golds: Vec<String> = golds.iter().map(|gold| normalize(&gold.to_string())).collect();
    // A gold of nothing but articles and punctuation must not make every blank answer right.
    let correct = golds.iter().any(|gold| !gold.is_empty() && *gold == given);
    let score = golds.iter().map(|gold| token_f1(&given, gold)).fold(0.0, f64::max);
    Grade { correct, score, answer: Some(answer), outcome: Outcome::Answered }
}

/// SQuAD's `normalize_answer`.
#[must_use]
pub fn normalize(text: &str) -> String {
    let lower = text.to_lowercase();
    let bare: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    python::collapse_spaces(&python::without_articles(&bare))
}

/// SQuAD's F1 over the multisets of normalised tokens.
fn token_f1(given: &str, gold: &str) -> f64 {
    let (given, gold): (Vec<&str>, Vec<&str>) = (given.split(' ').collect(), gold.split(' ').collect());
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for token in gold.iter().filter(|token| !token.is_empty()) {
        *left.entry(token).or_default() += 1;
    }
    let mut same = 0_u32;
    for token in &given {
        if let Some(count) = left.get_mut(token).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    if same == 0 {
        return 0.0;
    }
    let (precision, recall) = (f64::from(same) / given.len() as f64, f64::from(same) / gold.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation() {
        assert_eq!(normalize("The  U.S. president's  an-swer"), "us presidents answer");
        assert_eq!(normalize("A theatre, anew"), "theatre anew");
        assert_eq!(normalize("The"), "");
    }

    #[test]
    fn f1_counts_repeats() {
        assert_eq!(token_f1("a b b", "b b c"), 2.0 / 3.0);
        assert_eq!(token_f1("x", "y"), 0.0);
        assert_eq!(token_f1("", ""), 0.0);
    }
}
