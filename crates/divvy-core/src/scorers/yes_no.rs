//! Yes or no (StrategyQA): the answer's first word, or the only one of the words "yes" and "no" in it. True and false are
//! read as yes and no. "Yes and no" is wrong.

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
fn said(text: &str) -> Option<bool> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let truths: Vec<Option<bool>> = words.map(truth).collect();
    let (yes, no) = (truths.contains(&Some(true)), truths.contains(&Some(false)));
    match truths.first()? {
        // "Yes and no", but "yes, since no one …" is a yes.
        Some(first) if truths.len() > 3 || !(yes && no) => Some(*first),
        None if yes != no => Some(yes),
        _ => None,
    }
}

fn truth(word: &str) -> Option<bool> {
    match word {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
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
        ] {
            assert_eq!(said(text), expect, "{text}");
        }
    }

    #[test]
    fn replies() {
        let grade = |reply: &str, gold: &str| grade(reply, &Finish::Stop, &[Gold::single(gold)]);
        assert!(grade("Bo is older.\nThe answer is: **Yes**", "yes").correct);
        assert!(grade("The answer is: False", "No").correct);
        assert!(!grade("The answer is: perhaps", "yes").correct);
        assert_eq!(grade("The answer is: perhaps", "yes").outcome, Outcome::Answered);
        let rambling = "one could say a great many things about this matter and still be none the wiser";
        assert_eq!(grade(rambling, "yes").outcome, Outcome::NoAnswer);
    }
}
