//! Yes or no (StrategyQA): the answer's first word, or what all of the words "yes", "no", "true" and "false" in it say. A
//! negation before one of them turns it round ("not true" is a no). A "yes" or "no" that stands by itself ("…, so no.") outweighs
//! the others, which may be part of what is told ("it is true that no king lived there"). "Yes and no" is wrong.

use super::{missing, text_answer};
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
    let given = said(&answer);
    if given.is_none() && answer.split_whitespace().count() > 12 {
        // Prose that never comes to the point.
        return missing(Outcome::NoAnswer);
    }
    let correct = given.is_some() && golds.iter().any(|gold| said(&gold.to_string()) == given);
    let answer = given.map_or(answer, |yes| if yes { "yes" } else { "no" }.to_owned());
    Grade { correct, score: f64::from(u8::from(correct)), answer: Some(answer), outcome: Outcome::Answered }
}

/// What a text says, `None` where it says neither or both.
pub(super) fn said(text: &str) -> Option<bool> {
    let lower = text.to_lowercase();
    let words = words(&lower);
    if let Some(first) = leading(&words) {
        return Some(first);
    }
    let all: Vec<(bool, bool)> = (0..words.len()).filter_map(|at| verdict(&words, at)).collect();
    let alone: Vec<bool> = all.iter().filter(|(_, alone)| *alone).map(|(yes, _)| *yes).collect();
    if alone.is_empty() { of_one_mind(all.into_iter().map(|(yes, _)| yes)) } else { of_one_mind(alone) }
}

fn of_one_mind(verdicts: impl IntoIterator<Item = bool>) -> Option<bool> {
    let mut verdicts = verdicts.into_iter();
    let first = verdicts.next()?;
    verdicts.all(|other| other == first).then_some(first)
}

struct Word<'a> {
    text: &'a str,
    /// Whether its clause ends with it.
    last: bool,
}

fn words(lower: &str) -> Vec<Word<'_>> {
    let mut words: Vec<Word<'_>> = Vec::new();
    for piece in lower.split_inclusive(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’') {
        let text = piece.trim_matches(|c: char| !c.is_alphanumeric());
        if !text.is_empty() {
            words.push(Word { text, last: false });
        }
        if let Some(word) =
            words.last_mut().filter(|_| piece.ends_with([',', '.', ';', ':', '!', '?', '—', '–', '(', ')']))
        {
            word.last = true;
        }
    }
    if let Some(word) = words.last_mut() {
        word.last = true;
    }
    words
}

/// "Yes, since no one …" is a yes; "yes and no" is nothing.
fn leading(words: &[Word<'_>]) -> Option<bool> {
    let (first, _) = verdict(words, 0)?;
    let next = 1 + usize::from(words.get(1).is_some_and(|word| ["and", "or"].contains(&word.text)));
    let turned = !words[0].last && verdict(words, next).is_some_and(|(next, _)| next != first);
    (!turned).then_some(first)
}

/// What the word at `at` says, and whether it stands by itself; `None` for a word that says nothing.
fn verdict(words: &[Word<'_>], at: usize) -> Option<(bool, bool)> {
    let word = words.get(at)?;
    let (yes, alone) = match word.text {
        "yes" => (true, true),
        "no" if is_idiom(words, at) => return None,
        "no" => (false, word.last),
        "true" => (true, false),
        "false" | "untrue" => (false, false),
        _ => return None,
    };
    Some((yes != is_negated(words, at), alone))
}

/// "No one", "no doubt" are no answers, unless an answer begins with "no one …".
fn is_idiom(words: &[Word<'_>], at: usize) -> bool {
    let next = words.get(at + 1).filter(|_| !words[at].last).map_or("", |word| word.text);
    ["doubt", "question", "matter"].contains(&next) || at > 0 && ["one", "longer"].contains(&next)
}

/// A negation among the three words before, in the same clause: "not necessarily true", "isn't a no".
fn is_negated(words: &[Word<'_>], at: usize) -> bool {
    let mut before = words[..at].iter().rev().take(3).take_while(|word| !word.last);
    let negates = |text: &str| {
        ["not", "never", "neither", "nor", "cannot"].contains(&text) || text.ends_with("n't") || text.ends_with("n’t")
    };
    before.any(|word| negates(word.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        for (text, expect) in [
            ("Yes", Some(true)),
            ("no.", Some(false)),
            ("TRUE", Some(true)),
            ("Yes, since no king lived then", Some(true)),
            ("it is true", Some(true)),
            ("probably not", None),
            ("yes and no", None),
            ("No, the claim is false", Some(false)),
            ("", None),
            ("nobody", None),
            ("Not true", Some(false)),
            ("That is not false", Some(true)),
            ("That is not necessarily true", Some(false)),
            ("It isn't true", Some(false)),
            ("It isn’t true.", Some(false)),
            ("not a no", Some(true)),
            ("neither true nor false", None),
            ("true or false", None),
            ("untrue", Some(false)),
            ("Yes, no doubt", Some(true)),
            ("No, yes-men", Some(false)),
            ("No doubt it is true", Some(true)),
            ("No one lived there in 1200", Some(false)),
            ("It is true that no one lives there, so no", Some(false)),
            ("It is true that no king lives there", None),
            ("He did not know it, yes", Some(true)),
            ("Since he did not live there it is false", Some(false)),
            ("I would say no since he was dead", Some(false)),
        ] {
            assert_eq!(said(text), expect, "{text}");
        }
    }

    #[test]
    fn replies() {
        let grade = |reply: &str, gold: &str| grade(reply, &Finish::Stop, &[Gold::single(gold)]);
        assert!(grade("Bo is older.\nThe answer is: **Yes**", "yes").correct);
        assert!(grade("The answer is: False", "No").correct);
        assert!(grade("The answer is: Not true.", "no").correct);
        assert!(grade("Yes, no doubt", "yes").correct);
        assert!(grade("It is true that no one lives there, so no", "no").correct);
        assert!(!grade("The answer is: perhaps", "yes").correct);
        assert_eq!(grade("The answer is: perhaps", "yes").outcome, Outcome::Answered);
        let rambling = "one could say a great many things about this matter and still be none the wiser";
        assert_eq!(grade(rambling, "yes").outcome, Outcome::NoAnswer);
    }
}
