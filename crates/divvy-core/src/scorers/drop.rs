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
    let predicted = Normalized::of(predicted);
    counted(golds).map(|gold| compare(&predicted, &Normalized::of(&gold.0))).fold(NOTHING, best_of)
}

/// A gold whose first span is blank does not count, as in the official script.
fn counted(golds: &[Gold]) -> impl Iterator<Item = &Gold> {
    let blank = |span: &String| span.trim_matches(python::is_space).is_empty();
    golds.iter().filter(move |gold| gold.0.first().is_some_and(|span| !blank(span)))
}

/// `get_metrics` of the official script.
#[must_use]
pub fn metrics<P: AsRef<str>, G: AsRef<str>>(predicted: &[P], gold: &[G]) -> Metrics {
    compare(&Normalized::of(predicted), &Normalized::of(gold))
}

/// Spans as the script compares them.
struct Normalized(Vec<String>);

impl Normalized {
    fn of<S: AsRef<str>>(spans: &[S]) -> Self {
        Self(spans.iter().map(|span| normalize(span.as_ref())).collect())
    }

    /// Equal as lists of one length and as sets: `[a, a, b]` equals `[a, b, b]`.
    fn equals(&self, other: &Self) -> bool {
        match (self.0.as_slice(), other.0.as_slice()) {
            ([one], [another]) => one == another,
            (these, those) => {
                these.len() == those.len() && these.iter().collect::<BTreeSet<_>>() == those.iter().collect()
            }
        }
    }

    fn bags(&self) -> Vec<Bag<'_>> {
        self.0.iter().map(|span| Bag::of(span)).collect()
    }
}

fn compare(predicted: &Normalized, gold: &Normalized) -> Metrics {
    if predicted.0.is_empty() && gold.0.is_empty() {
        return NOTHING;
    }
    let f1 = python::round_two(python::mean(&aligned_f1(&predicted.bags(), &gold.bags())));
    Metrics { exact_match: f64::from(u8::from(predicted.equals(gold))), f1 }
}

/// The distinct tokens of a span, sorted.
struct Bag<'a>(Vec<&'a str>);

impl<'a> Bag<'a> {
    fn of(span: &'a str) -> Self {
        let mut tokens: Vec<&str> = span.split(python::is_space).filter(|token| !token.is_empty()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        Self(tokens)
    }

    fn holds(&self, token: &str) -> bool {
        self.0.binary_search(&token).is_ok()
    }
}

/// F1 of each gold span with the predicted span aligned to it; spans without a partner score zero.
fn aligned_f1(predicted: &[Bag<'_>], gold: &[Bag<'_>]) -> Vec<f64> {
    if let ([predicted], [gold]) = (predicted, gold) {
        return vec![pair_f1(predicted, gold)];
    }
    let scores: Vec<Vec<f64>> =
        gold.iter().map(|gold| predicted.iter().map(|predicted| pair_f1(predicted, gold)).collect()).collect();
    let mut aligned = vec![0.0; predicted.len().max(gold.len())];
    for (row, column) in assign(&scores).into_iter().enumerate() {
        aligned[row] = column.map_or(0.0, |column| scores[row][column]);
    }
    aligned
}

/// F1 of two bags, zero where gold holds numbers and none of them is predicted.
fn pair_f1(predicted: &Bag<'_>, gold: &Bag<'_>) -> f64 {
    let mut numbers = gold.0.iter().filter(|token| python::is_float(token)).peekable();
    if numbers.peek().is_some() && !numbers.any(|number| predicted.holds(number)) {
        return 0.0;
    }
    let share = |of: usize, count: usize| if of == 0 { 1.0 } else { count as f64 / of as f64 };
    let common = gold.0.iter().filter(|token| predicted.holds(token)).count();
    let (precision, recall) = (share(predicted.0.len(), common), share(gold.0.len(), common));
    if precision == 0.0 && recall == 0.0 { 0.0 } else { (2.0 * precision * recall) / (precision + recall) }
}

/// `_normalize_answer` of the official script.
#[must_use]
pub fn normalize(text: &str) -> String {
    let mut normal = String::with_capacity(text.len() + 2);
    let mut word = String::new();
    for raw in text.split([' ', '-']) {
        if !push_plain_word(&mut normal, &mut word, raw) {
            push(&mut normal, &normalize_word(raw));
        }
    }
    normal
}

fn push(normal: &mut String, word: &str) {
    if !word.is_empty() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(word);
    }
}

/// What nearly every word is: ASCII letters, or digits, with punctuation that is dropped. Says false, having done nothing,
/// for whatever Python might read as a number otherwise. `bare` is room to work in.
fn push_plain_word(normal: &mut String, bare: &mut String, raw: &str) -> bool {
    if !raw.bytes().all(|c| c.is_ascii_alphanumeric() || c.is_ascii_punctuation()) {
        return false;
    }
    bare.clear();
    bare.extend(raw.bytes().filter(u8::is_ascii_alphanumeric).map(|c| char::from(c.to_ascii_lowercase())));
    let digits = bare.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 {
        // "nan" and "inf" are floats, and keep the sign that stands before them.
        let named = bare.contains("nan") || bare.contains("inf");
        if !named && !matches!(bare.as_str(), "a" | "an" | "the") {
            push(normal, bare);
        }
        return !named;
    }
    // Up to 15 digits are exact in a float, whose text has ".0" behind. A point or an underscore makes it another number.
    if digits < bare.len() || digits > 15 || raw.contains(['.', '_', '+']) {
        return false;
    }
    let whole = bare.trim_start_matches('0');
    push(normal, if whole.is_empty() { "0" } else { whole });
    normal.push_str(".0");
    true
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rules word by word, without the short cut.
    fn normalize_slowly(text: &str) -> String {
        let words = text.split([' ', '-']).map(normalize_word).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_short_cut_is_taken_for_nothing_else() {
        for text in [
            "the 007 an",
            "1_000",
            "1__0",
            "+5",
            "5.",
            ".5",
            "1e5",
            "nan",
            "-inf",
            "Infinity",
            "+nan!",
            "naan",
            "i.n.f",
            "a.",
            "x\ty",
            "12\n",
            "\u{661}",
            "The-a",
            "000",
            "1234567890123456",
            "$1,234.50",
            "'s",
            "_",
            "2nd",
            "",
            "  ",
        ] {
            assert_eq!(normalize(text), normalize_slowly(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_short_cut_changes_nothing(text in "[a-fint0-9AN .,_+$%'é\t-]{0,24}") {
            prop_assert_eq!(normalize(&text), normalize_slowly(&text));
        }

        #[test]
        fn a_float_is_one_whether_or_not_it_is_read(text in "[0-9a-fin.+_ -]{0,8}") {
            prop_assert_eq!(python::is_float(&text), python::float(&text).is_some());
        }
    }
}
