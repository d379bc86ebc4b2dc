//! The numeric scorer (GSM8K): the answer's number equals gold's, exactly.
//!
//! Behind an answer cue, in bold or on a first line that says one the number is read from the answer's own text. A reply that has
//! none of these is prose, whatever its lines, and its last number counts, as in the common "flexible" extraction. Whoever
//! says "1.2 million" may have been asked how many millions: both readings count.

use super::{missing, number};
use crate::{
    chat::Finish,
    extract::{self, Cue, Extracted},
    question::Gold,
    records::{Grade, Outcome},
    thoughts::without_thoughts,
};

pub(super) fn grade(reply: &str, finish: &Finish, golds: &[Gold]) -> Grade {
    let found = extract::final_answer(reply);
    let explicit = found.as_ref().is_some_and(is_explicit);
    if *finish == Finish::Length && !explicit {
        return missing(Outcome::Truncated);
    }
    let Some(found) = found else { return missing(Outcome::NoAnswer) };
    let number = match found.cue {
        Cue::FirstLine if explicit => number::stated(&found.text),
        Cue::FirstLine | Cue::OnlyLine | Cue::LastLine => number::last(without_thoughts(reply)),
        _ => number::stated(&found.text),
    };
    let Some(number) = number else { return without_number(explicit, found.text) };
    let gold = |gold: &Gold| number::stated(&gold.to_string());
    let correct = golds.iter().filter_map(gold).any(|gold| gold == number || gold == number.without_scale());
    Grade { correct, score: f64::from(u8::from(correct)), answer: Some(number.to_string()), outcome: Outcome::Answered }
}

/// A first line above an explanation says a number only where it begins with one, or ends with one behind a currency or `=`: "$18 a
/// day", "Janet makes $18", not "Total for 3 days".
fn is_explicit(found: &Extracted) -> bool {
    let says_one = || {
        let words: Vec<&str> = found.text.split_whitespace().collect();
        let ends = match words[..] {
            [.., "=", last] => is_number(last),
            [.., last] => last.starts_with(CURRENCIES) && is_number(last),
            [] => false,
        };
        ends || words.first().is_some_and(|first| is_number(first))
    };
    found.cue.is_explicit() && (found.cue != Cue::FirstLine || says_one())
}

const CURRENCIES: [char; 3] = ['$', '€', '£'];

fn is_number(word: &str) -> bool {
    let word = word.trim_start_matches(CURRENCIES).trim_start_matches(['-', '−', '–', '.']);
    word.starts_with(|c: char| c.is_ascii_digit())
}

/// "The answer is: twelve" is a wrong answer; prose without any number is none.
fn without_number(explicit: bool, text: String) -> Grade {
    if !explicit {
        return missing(Outcome::NoAnswer);
    }
    Grade { correct: false, score: 0.0, answer: Some(text), outcome: Outcome::Answered }
}
