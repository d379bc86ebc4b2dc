//! The numeric scorer (GSM8K): the answer's number equals gold's, exactly.
//!
//! Behind an answer cue, in bold or in a reply of one line the number is read from the answer's own text. Only where a
//! reply of several lines has none of these does the last number of the whole reply count, as in the common
//! "flexible" extraction.

use super::{missing, number};
use crate::{
    chat::Finish,
    extract::{self, Cue},
    question::Gold,
    records::{Grade, Outcome},
    thoughts::without_thoughts,
};

pub(super) fn grade(reply: &str, finish: &Finish, golds: &[Gold]) -> Grade {
    let found = extract::final_answer(reply);
    let explicit = found.as_ref().is_some_and(|found| found.cue.is_explicit());
    if *finish == Finish::Length && !explicit {
        return missing(Outcome::Truncated);
    }
    let Some(found) = found else { return missing(Outcome::NoAnswer) };
    let number = match found.cue {
        Cue::LastLine => number::last(without_thoughts(reply)),
        _ => number::stated(&found.text),
    };
    let Some(number) = number else { return without_number(explicit, found.text) };
    let correct = golds.iter().any(|gold| number::stated(&gold.to_string()).is_some_and(|gold| gold == number));
    Grade { correct, score: f64::from(u8::from(correct)), answer: Some(number.to_string()), outcome: Outcome::Answered }
}

/// "The answer is: twelve" is a wrong answer; prose without any number is none.
fn without_number(explicit: bool, text: String) -> Grade {
    if !explicit {
        return missing(Outcome::NoAnswer);
    }
    Grade { correct: false, score: 0.0, answer: Some(text), outcome: Outcome::Answered }
}
