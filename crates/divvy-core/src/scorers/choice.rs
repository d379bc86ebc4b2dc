//! Multiple choice (BBH): the letter of an option, in brackets or not, or the option's own text where gold lists it as an
//! alias: golds `(B)` and `12/25/1937`. An answer that names two letters is wrong, not half right.

use super::{exact, text_answer};
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
    let correct = match letter(&answer) {
        Some(given) => golds.iter().any(|gold| letter(&gold.to_string()) == Some(given)),
        None => golds.iter().any(|gold| same_text(&answer, &gold.to_string())),
    };
    Grade { correct, score: f64::from(u8::from(correct)), answer: Some(answer), outcome: Outcome::Answered }
}

/// The letter that an answer begins with: `B`, `(B)`, `B) the owl`, `option B`. Prose that begins with "A" has none, nor
/// has an answer with a second letter behind ("B or C").
fn letter(answer: &str) -> Option<char> {
    let text = answer.trim();
    let text = ["option ", "choice "].iter().find_map(|word| without_prefix(text, word)).unwrap_or(text);
    let (bracketed, rest) = match text.strip_prefix(['(', '[']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let letter = rest.chars().next().filter(char::is_ascii_alphabetic)?.to_ascii_uppercase();
    let behind = &rest[1..];
    let closed = behind.strip_prefix([')', ']', '.', ':']);
    match (closed, bracketed) {
        (Some(behind), _) => (!names_letter(behind)).then_some(letter),
        (None, false) => behind.trim().is_empty().then_some(letter),
        (None, true) => None,
    }
}

fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| text[prefix.len()..].trim_start())
}

/// A bracketed letter further on: a second choice.
fn names_letter(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(3).any(|three| three[0] == b'(' && three[1].is_ascii_alphabetic() && three[2] == b')')
}

/// An option's text may have nothing that normalisation keeps; then it never matches.
fn same_text(answer: &str, gold: &str) -> bool {
    let gold = exact::normalize(gold);
    gold.chars().count() > 1 && exact::normalize(answer) == gold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters() {
        for text in ["B", "(B)", "b", "B)", "B.", "(B) the owl is last", "Option B", "choice (b)", "[B]", "B: 12/25"] {
            assert_eq!(letter(text), Some('B'), "{text}");
        }
        for text in ["", "Bird", "B or C", "(B) or (C)", "A quail", "12/25/1937", "(Bird)", "é"] {
            assert_eq!(letter(text), None, "{text}");
        }
    }

    #[test]
    fn replies() {
        let golds = [Gold::single("(B)"), Gold::single("12/25/1937")];
        let right = |reply: &str| grade(reply, &Finish::Stop, &golds).correct;
        assert!(right("So it is Christmas.\nThe answer is: (B)") && right("The answer is: 12/25/1937"));
        assert!(
            !right("The answer is: (C)") && !right("The answer is: (B) or (C)") && !right("The answer is: 12/25/1938")
        );
    }
}
