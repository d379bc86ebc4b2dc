//! Multiple choice (BBH): the letter of an option, in brackets or not, or the option's own text where gold lists it as an
//! alias: golds `(B)` and `12/25/1937`. In prose it is the one letter in round brackets. An answer that names two letters is
//! wrong, not half right.

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
    let given = given(&answer);
    let is_right = |gold: &str| same_text(&answer, gold) || given.is_some() && letter(gold) == given;
    let correct = golds.iter().any(|gold| is_right(&gold.to_string()));
    // Prose is shown, and compared with other answers, as the letter that it names.
    let answer = given.filter(|_| letter(&answer).is_none()).map_or(answer, |given| format!("({given})"));
    Grade { correct, score: f64::from(u8::from(correct)), answer: Some(answer), outcome: Outcome::Answered }
}

/// The one letter that an answer names: it begins with it, or has it in brackets somewhere.
fn given(answer: &str) -> Option<char> {
    let text = without_latex(answer);
    match bracketed(&text).as_slice() {
        [] => letter(&text).or_else(|| letter_before_text(&text)),
        [one] => marked(&text).is_none_or(|(first, _)| first == *one).then_some(*one),
        _ => None,
    }
}

/// `\text{(B)}` → `(B)`.
fn without_latex(answer: &str) -> String {
    let mut text = answer.to_owned();
    for mark in ["\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{"] {
        while let Some((before, rest)) = text.split_once(mark) {
            text = format!("{before}{}", rest.replacen('}', "", 1));
        }
    }
    text
}

/// The letter that a text begins with: `B`, `(B)`, `B) the owl`, `option B`. Prose that begins with "A" has none, nor
/// has a text with a second letter behind ("B or C").
fn letter(text: &str) -> Option<char> {
    let (letter, behind) = marked(text)?;
    bracketed(behind).is_empty().then_some(letter)
}

/// A letter with a mark behind it or nothing, and what follows.
fn marked(text: &str) -> Option<(char, &str)> {
    let text = without_lead(text);
    let (bracketed, rest) = match text.strip_prefix(['(', '[']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let letter = rest.chars().next().filter(char::is_ascii_alphabetic)?.to_ascii_uppercase();
    let behind = &rest[1..];
    match behind.strip_prefix([')', ']', '.', ':']) {
        Some(behind) => Some((letter, behind)),
        None => (!bracketed && behind.trim().is_empty()).then_some((letter, "")),
    }
}

/// `B, the owl`, `B - the owl`: a capital letter set off from the option's text, which names no further letter.
fn letter_before_text(text: &str) -> Option<char> {
    let text = without_lead(text);
    let letter = text.chars().next().filter(char::is_ascii_uppercase)?;
    let behind = [", ", " - ", " – ", " — "].iter().find_map(|mark| text[1..].strip_prefix(mark))?;
    (!names_second(behind)).then_some(letter)
}

/// `C`, `or C`, `D and C`: a capital letter where another choice would stand, and not the first word of a phrase.
fn names_second(text: &str) -> bool {
    text.match_indices(|c: char| c.is_ascii_uppercase()).any(|(at, _)| {
        let (before, after) = (text[..at].trim_end(), &text[at + 1..]);
        let listed = before.is_empty() || before.ends_with([',', '/', '&']) || ends_with_joint(before);
        let ended = !after.starts_with(char::is_alphanumeric) && !after.trim_start().starts_with(char::is_alphanumeric)
            || [" or ", " and "].iter().any(|joint| after.starts_with(joint));
        listed && ended
    })
}

fn ends_with_joint(text: &str) -> bool {
    ["or", "and"].contains(&text.rsplit(' ').next().unwrap_or_default())
}

fn without_lead(text: &str) -> &str {
    let text = text.trim();
    ["option ", "choice "].iter().find_map(|word| without_prefix(text, word)).unwrap_or(text)
}

fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| text[prefix.len()..].trim_start())
}

/// Letters in round brackets, each once; not that of "bird(s)" nor one that is ruled out ("not (B)").
fn bracketed(text: &str) -> Vec<char> {
    let mut letters = Vec::new();
    for (at, _) in text.match_indices('(') {
        let mut inner = text[at + 1..].chars();
        let letter = inner.next().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase());
        let before = &text[..at];
        let is_choice = !before.ends_with(char::is_alphanumeric) && !before.trim_end().ends_with("not");
        let letter = letter.filter(|letter| inner.next() == Some(')') && is_choice && !letters.contains(letter));
        letters.extend(letter);
    }
    letters
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
    fn letters_of_answers() {
        for text in [
            "B, the owl",
            "B - the owl",
            "B — the owl",
            "B, A quail",
            "B, Vitamin C",
            "the option (B)",
            "So the correct option is (B).",
            "So it is (b), the bird(s)",
            "\\text{(B)}",
            "\\textbf{B}",
            "(B) is right, (B)!",
            "It is not (A) but (B)",
        ] {
            assert_eq!(given(text), Some('B'), "{text}");
        }
        for text in [
            "B, C",
            "B, or C",
            "B - C",
            "B, the owl, and C",
            "B, C and D",
            "So (B) or (C)",
            "B-52",
            "I think",
            "B) and not C, (D)",
            "bird(s)",
            "It is not (B)",
            "b, the owl",
        ] {
            assert_eq!(given(text), None, "{text}");
        }
    }

    #[test]
    fn replies() {
        let golds = [Gold::single("(B)"), Gold::single("12/25/1937")];
        let right = |reply: &str| grade(reply, &Finish::Stop, &golds).correct;
        assert!(right("So it is Christmas.\nThe answer is: (B)") && right("The answer is: 12/25/1937"));
        assert!(
            right("\\boxed{\\text{(B)}}")
                && right("First.\n\nSo the correct option is (B).")
                && right("The answer is: B, the owl")
        );
        let said = |reply: &str| grade(reply, &Finish::Stop, &golds).answer.unwrap();
        assert_eq!((&*said("So it is option (b), I say."), &*said("Answer: (B) the owl")), ("(B)", "(B) the owl"));
        let robot = [Gold::single("(B)"), Gold::single("I, Robot")];
        assert!(grade("The answer is: I, Robot", &Finish::Stop, &robot).correct);
        assert!(!grade("The answer is: (I)", &Finish::Stop, &robot).correct);
        assert!(
            !right("The answer is: (C)") && !right("The answer is: (B) or (C)") && !right("The answer is: 12/25/1938")
        );
    }
}
