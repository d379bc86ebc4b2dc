//! DROP's official exact match and F1 (Dua et al. 2019; allenai `drop_eval.py`), bit for bit, its known quirks included:
//! a sign is lost because `-` splits words, `25%` equals `25`, number words are no numbers.

use std::collections::BTreeSet;

use super::{assignment::assign, python, text_answer};
use crate::{
    chat::Finish,
    question::Gold,
    records::{Grade, Outcome},
};

/// Exact match (0 or 1) and F1 (two decimals).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    pub exact_match: f64,
    pub f1: f64,
}

const NOTHING: Metrics = Metrics { exact_match: 0.0, f1: 0.0 };

pub(super) fn grade(reply: &str, finish: &Finish, golds: &[Gold]) -> Grade {
    let answer = match text_answer(reply, finish) {
        Ok(answer) => answer,
        Err(grade) => return grade,
    };
    let best = counted(golds).map(|gold| best_reading(&answer, gold)).fold(NOTHING, best_of);
    let (correct, score) = (best.exact_match == 1.0, best.f1);
    Grade { correct, score, answer: Some(answer), outcome: Outcome::Answered }
}

/// The official metric wants a list of spans, a reply is one text. Against a gold of one span the text is one span;
/// against a gold of several it may also be a list ("X, Y and Z"), whichever reading is better.
fn best_reading(answer: &str, gold: &Gold) -> Metrics {
    let whole = metrics(&[answer], &gold.0);
    if gold.0.len() < 2 {
        return whole;
    }
    best_of(whole, metrics(&split_list(answer), &gold.0))
}

/// Each figure's maximum by itself, as the official script takes it.
fn best_of(a: Metrics, b: Metrics) -> Metrics {
    Metrics { exact_match: a.exact_match.max(b.exact_match), f1: a.f1.max(b.f1) }
}

fn split_list(answer: &str) -> Vec<&str> {
    let mut parts = vec![answer];
    for separator in ["; ", ", and ", ", ", " and ", " & "] {
        parts = parts.into_iter().flat_map(|part| part.split(separator)).collect();
    }
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The best of the metrics over all golds.
#[must_use]
pub fn best_metrics<P: AsRef<str>>(predicted: &[P], golds: &[Gold]) -> Metrics {
    counted(golds).map(|gold| metrics(predicted, &gold.0)).fold(NOTHING, best_of)
}

/// A gold whose first span is blank does not count, as in the official script.
fn counted(golds: &[Gold]) -> impl Iterator<Item = &Gold> {
    let blank = |span: &String| span.trim_matches(python::is_space).is_empty();
    golds.iter().filter(move |gold| gold.0.first().is_some_and(|span| !blank(span)))
}

/// `get_metrics` of the official script.
#[must_use]
pub fn metrics<P: AsRef<str>, G: AsRef<str>>(predicted: &[P], gold: &[G]) -> Metrics {
    let predicted: Vec<String> = predicted.iter().map(|span| normalize(span.as_ref())).collect();
    let gold: Vec<String> = gold.iter().map(|span| normalize(span.as_ref())).collect();
    if predicted.is_empty() && gold.is_empty() {
        return NOTHING;
    }
    let set = |spans: &[String]| spans.iter().cloned().collect::<BTreeSet<_>>();
    let exact = predicted.len() == gold.len() && set(&predicted) == set(&gold);
    let f1 = python::round_two(python::mean(&aligned_f1(&predicted, &gold)));
    Metrics { exact_match: f64::from(u8::from(exact)), f1 }
}

type Bag<'a> = BTreeSet<&'a str>;

/// F1 of each gold span with the predicted span aligned to it; spans without a partner score zero.
fn aligned_f1(predicted: &[String], gold: &[String]) -> Vec<f64> {
    let predicted: Vec<Bag<'_>> = predicted.iter().map(|span| bag_of(span)).collect();
    let gold: Vec<Bag<'_>> = gold.iter().map(|span| bag_of(span)).collect();
    let scores: Vec<Vec<f64>> =
        gold.iter().map(|gold| predicted.iter().map(|predicted| pair_f1(predicted, gold)).collect()).collect();
    let mut aligned = vec![0.0; predicted.len().max(gold.len())];
    for (row, column) in assign(&scores).into_iter().enumerate() {
        aligned[row] = column.map_or(0.0, |column| scores[row][column]);
    }
    aligned
}

fn bag_of(span: &str) -> Bag<'_> {
    span.split(python::is_space).filter(|token| !token.is_empty()).collect()
}

/// F1 of two bags, zero where gold holds numbers and none of them is predicted.
fn pair_f1(predicted: &Bag<'_>, gold: &Bag<'_>) -> f64 {
    let mut numbers = gold.iter().filter(|token| python::float(token).is_some()).peekable();
    if numbers.peek().is_some() && !numbers.any(|number| predicted.contains(number)) {
        return 0.0;
    }
    let share = |of: usize, count: usize| if of == 0 { 1.0 } else { count as f64 / of as f64 };
    let common = gold.intersection(predicted).count();
    let (precision, recall) = (share(predicted.len(), common), share(gold.len(), common));
    if precision == 0.0 && recall == 0.0 { 0.0 } else { (2.0 * precision * recall) / (precision + recall) }
}

/// `_normalize_answer` of the official script.
#[must_use]
pub fn normalize(text: &str) -> String {
    let words = text.split([' ', '-']).map(normalize_word).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

fn normalize_word(word: &str) -> String {
    let lower = word.to_lowercase();
    let bare: String = match python::float(&lower) {
        Some(_) => lower,
        None => lower.chars().filter(|c| !c.is_ascii_punctuation()).collect(),
    };
    let number = python::float(&bare).map_or(bare, python::float_to_str);
    python::collapse_spaces(&python::without_articles(&number))
}
