//! DROP's official exact match and F1 (Dua et al. 2019; allenai `drop_eval.py`), bit for bit, its known quirks included:
//! a sign is lost because `-` splits words, `25%` equals `25`, number words are no numbers.

use std::{cell::OnceCell, collections::BTreeSet};

use super::{assignment::assign, python, text_answer};
use crate::{
    chat::Finish,
    extract,
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
const ALL: Metrics = Metrics { exact_match: 1.0, f1: 1.0 };

pub(super) fn grade(reply: &str, finish: &Finish, golds: &[Gold]) -> Grade {
    let answer = match text_answer(reply, finish) {
        Ok(answer) => answer,
        Err(grade) => return grade,
    };
    let listed = extract::listed_answer(reply);
    let answer = listed.as_ref().map_or(answer, |items| items.join(", "));
    let spans = listed.as_ref().map_or_else(|| split_list(&answer), |items| items.iter().map(String::as_str).collect());
    let counted = golds.iter().filter(|gold| counts(&gold.0));
    let best = counted.map(|gold| best_reading(&answer, &spans, gold)).fold(NOTHING, best_of);
    let (correct, score) = (best.exact_match == 1.0, best.f1);
    Grade { correct, score, answer: Some(answer), outcome: Outcome::Answered }
}

/// The official metric wants a list of spans, a reply is one text. Against a gold of one span the text is one span;
/// against a gold of several it may also be a list ("X, Y and Z", or one item a line), whichever reading is better.
fn best_reading(answer: &str, spans: &[&str], gold: &Gold) -> Metrics {
    let whole = metrics(&[answer], &gold.0);
    if gold.0.len() < 2 {
        return whole;
    }
    best_of(whole, metrics(spans, &gold.0))
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

/// The best of the metrics over all golds. Annotators mostly agree: a gold that was there before is not looked at again.
#[must_use]
pub fn best_metrics<P: AsRef<str>, G: AsRef<[S]>, S: AsRef<str>>(predicted: &[P], golds: &[G]) -> Metrics {
    let (predicted, bags, mut best) = (Normalized::of(predicted), OnceCell::new(), NOTHING);
    for (at, gold) in golds.iter().map(G::as_ref).enumerate().filter(|(_, gold)| counts(gold)) {
        if golds[..at].iter().any(|earlier| same(earlier.as_ref(), gold)) {
            continue;
        }
        best = best_of(best, compare(&predicted, &bags, &Normalized::of(gold)));
        if best == ALL {
            break;
        }
    }
    best
}

/// A gold whose first span is blank does not count, as in the official script.
fn counts<S: AsRef<str>>(gold: &[S]) -> bool {
    gold.first().is_some_and(|span| !span.as_ref().chars().all(python::is_space))
}

fn same<S: AsRef<str>>(these: &[S], those: &[S]) -> bool {
    these.len() == those.len() && these.iter().zip(those).all(|(this, that)| this.as_ref() == that.as_ref())
}

/// `get_metrics` of the official script.
#[must_use]
pub fn metrics<P: AsRef<str>, G: AsRef<str>>(predicted: &[P], gold: &[G]) -> Metrics {
    compare(&Normalized::of(predicted), &OnceCell::new(), &Normalized::of(gold))
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

/// `bags`: the predicted spans', made once however many golds there are, and not at all where they are gold's own.
fn compare<'a>(predicted: &'a Normalized, bags: &OnceCell<Vec<Bag<'a>>>, gold: &Normalized) -> Metrics {
    if predicted.0.is_empty() && gold.0.is_empty() {
        return NOTHING;
    }
    if predicted.0 == gold.0 {
        return ALL;
    }
    let f1 = match (bags.get_or_init(|| predicted.bags()).as_slice(), gold.0.as_slice()) {
        ([predicted], [gold]) => pair_f1(predicted, &Bag::of(gold)),
        (predicted, _) => python::mean(&aligned_f1(predicted, &gold.bags())),
    };
    Metrics { exact_match: f64::from(u8::from(predicted.equals(gold))), f1: python::round_two(f1) }
}

/// The distinct tokens of a span, sorted.
struct Bag<'a>(Vec<&'a str>);

impl<'a> Bag<'a> {
    /// A normalised span has no white space but the blanks between its words.
    fn of(span: &'a str) -> Self {
        let mut tokens: Vec<&str> = span.split(' ').filter(|token| !token.is_empty()).collect();
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
    for raw in text.split([' ', '-']) {
        let before = normal.len();
        if before > 0 {
            normal.push(' ');
        }
        let start = normal.len();
        if !push_plain_word(&mut normal, raw) {
            normal.truncate(start);
            normal.push_str(&normalize_word(raw));
        }
        if normal.len() == start {
            normal.truncate(before);
        }
    }
    normal
}

/// What nearly every word is: ASCII letters and digits, with punctuation that is dropped. Says false, whatever it has pushed,
/// where Python might read a number in another way.
fn push_plain_word(normal: &mut String, raw: &str) -> bool {
    let (start, mut digits, mut letters, mut exponents, mut points, mut marks) = (normal.len(), 0, 0, 0, 0, 0);
    for byte in raw.bytes() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'z' | b'A'..=b'Z' => letters += 1,
            b'.' => points += 1,
            // They may stand in a number.
            b'_' | b'+' => return false,
            _ if byte.is_ascii_punctuation() => marks += 1,
            _ => return false,
        }
        if byte.is_ascii_alphanumeric() {
            exponents += usize::from(matches!(byte, b'e' | b'E'));
            normal.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    match (letters, digits) {
        (0, 0) => true,
        (0, 1..=15) if points == 1 && marks == 0 => push_decimal(normal, start, raw),
        (0, 1..=15) => push_whole(normal, start),
        (0, _) => false,
        (_, 0) => drop_article(normal, start),
        // A number has no letter but its exponent's.
        _ => letters > exponents,
    }
}

/// "nan" and "inf" are floats, and keep the sign that stands before them.
fn drop_article(normal: &mut String, start: usize) -> bool {
    let word = &normal[start..];
    if word.contains("nan") || word.contains("inf") {
        return false;
    }
    if matches!(word, "a" | "an" | "the") {
        normal.truncate(start);
    }
    true
}

/// Digits become a float's text. Up to 15 are exact in a float.
fn push_whole(normal: &mut String, start: usize) -> bool {
    let zeros = normal[start..].bytes().take_while(|digit| *digit == b'0').count();
    let zeros = zeros.min(normal.len() - start - 1);
    normal.drain(start..start + zeros);
    normal.push_str(".0");
    true
}

/// Digits with one point among them, in place of what was pushed. Up to 15 digits come back from a float as they were; below
/// 0.0001 there is an exponent.
fn push_decimal(normal: &mut String, start: usize, raw: &str) -> bool {
    let (whole, fraction) = raw.split_once('.').unwrap_or((raw, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.is_empty() && fraction.starts_with("0000") {
        return false;
    }
    normal.truncate(start);
    normal.push_str(if whole.is_empty() { "0" } else { whole });
    normal.push('.');
    normal.push_str(if fraction.is_empty() { "0" } else { fraction });
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
            "1e5x",
            "12e",
            "0.0001",
            "0.00001",
            "00.50",
            "0.0",
            "1.2.3",
            "86.7%",
            "37.0.",
            "1234567890.12345",
            "1234567890.123456",
            ".",
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
        fn short_cuts_of_numbers_change_nothing(text in "[0-9e.%,+_a-c -]{0,20}") {
            prop_assert_eq!(normalize(&text), normalize_slowly(&text));
        }

        #[test]
        fn no_white_space_is_left_but_blanks(text in "[a\\t\\n\\x1c\u{a0}\u{2003}1.é -]{0,16}") {
            let normal = normalize(&text);
            prop_assert!(normal.chars().all(|c| c == ' ' || !python::is_space(c)));
        }

        /// What `best_metrics` leaves out would have changed nothing.
        #[test]
        fn the_best_is_the_best_of_each(
            predicted in prop::collection::vec("[ab1 ]{0,4}", 0..4),
            golds in prop::collection::vec(prop::collection::vec("[ab1 ]{0,4}", 0..4), 0..4),
        ) {
            let each = golds.iter().filter(|gold| counts(gold)).map(|gold| metrics(&predicted, gold));
            prop_assert_eq!(best_metrics(&predicted, &golds), each.fold(NOTHING, best_of));
        }

        #[test]
        fn spans_that_are_gold_are_all_right(spans in prop::collection::vec("[ab12. ]{0,5}", 1..5)) {
            let bags = Normalized::of(&spans);
            let aligned = aligned_f1(&bags.bags(), &bags.bags());
            prop_assert_eq!(python::round_two(python::mean(&aligned)), ALL.f1);
            prop_assert!(bags.equals(&bags));
        }

        #[test]
        fn a_float_is_one_whether_or_not_it_is_read(text in "[0-9a-fin.+_ -]{0,8}") {
            prop_assert_eq!(python::is_float(&text), python::float(&text).is_some());
        }
    }
}
