//! `paper-compat`: what the paper's own scorers count as right, with their bugs, so that the gap to an exact scorer can be
//! shown. Never a headline. Written from a description of their behaviour; one function a data set of the paper.
//!
//! The reference looks at the whole reply, knows no truncation and takes partial credit on DROP only. Where it would end
//! with an exception, the row is an `error`.

use super::{drop, missing};
use crate::{
    question::Gold,
    records::{Grade, Outcome},
};

const MARKER: &str = "The answer is";

/// GSM8K: any word of the whole reply that equals gold counts, wherever it stands; decimals are cut at the point, and
/// `5,`, `**5**` or `70%` are no numbers.
pub(super) fn gsm8k(reply: &str, golds: &[Gold]) -> Grade {
    let golds: Vec<String> = golds.iter().map(|gold| gold.to_string().replace(',', "")).collect();
    if !golds.iter().all(|gold| gold.trim().parse::<i128>().is_ok()) {
        return missing(Outcome::Error);
    }
    let wanted: Vec<String> = golds.iter().flat_map(|gold| [gold.clone(), with_commas(gold)]).collect();
    let hit = reply.split_whitespace().map(bare_word).find(|word| wanted.iter().any(|gold| gold == word));
    right_or_wrong(hit.is_some(), hit.unwrap_or_else(|| reply.trim().to_owned()))
}

/// Without dollar signs and a full stop; what is left of a decimal before its point.
fn bare_word(word: &str) -> String {
    let word = word.trim_matches('$');
    let word = word.strip_suffix('.').unwrap_or(word);
    match word.split_once('.') {
        Some((whole, fraction)) if is_integer(whole) && fraction.bytes().all(|c| c.is_ascii_digit()) => {
            whole.to_owned()
        }
        _ => word.to_owned(),
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit() || c == b',')
}

/// `-1234567` → `-1,234,567`.
fn with_commas(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

/// DROP: the text behind the last marker and the last colons, against the *first span* of one gold. The reference takes the
/// gold of most annotators; the data set's own answer stands first and is taken here, since equal golds are kept once. So this
/// is an approximation, and reports say so: how often a gold was given would be a part of the question, and of every plan's digest.
pub(super) fn drop(reply: &str, golds: &[Gold]) -> Grade {
    let Some(gold) = golds.first().and_then(|gold| gold.0.first()) else { return missing(Outcome::Error) };
    let answer = drop_answer(reply);
    if answer.is_empty() {
        return missing(Outcome::Error);
    }
    let found = drop::metrics(&[&answer], &[gold]);
    let correct = found.exact_match == 1.0;
    Grade { correct, score: found.f1, answer: Some(answer), outcome: Outcome::Answered }
}

/// `10:30` becomes `30`: everything up to the last colon goes.
fn drop_answer(reply: &str) -> String {
    let behind = reply.rsplit(MARKER).next().unwrap_or(reply);
    let behind = behind.rsplit(": ").next().unwrap_or(behind);
    let behind = behind.trim().trim_matches('.');
    let line = behind.lines().last().unwrap_or("").replace('-', " ").replace(',', "").to_lowercase();
    line.rsplit(':').next().unwrap_or(&line).trim().trim_matches('%').to_owned()
}

/// Bamboogle: gold is a substring of what stands behind the marker, or of the whole reply where the marker is absent:
/// gold `4` matches `1984`. Replies are saved without commas there.
pub(super) fn bamboogle(reply: &str, golds: &[Gold]) -> Grade {
    let plain = |text: &str| text.replace([',', '"', '\''], "").to_lowercase();
    let behind = reply.rsplit("The answer is: ").next().unwrap_or(reply);
    let text = plain(behind);
    let hit = golds.iter().map(|gold| plain(&gold.to_string())).any(|gold| text.contains(&gold));
    right_or_wrong(hit, behind.trim().to_owned())
}

fn right_or_wrong(correct: bool, answer: String) -> Grade {
    Grade { correct, score: f64::from(u8::from(correct)), answer: Some(answer), outcome: Outcome::Answered }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golds(text: &str) -> [Gold; 1] {
        [Gold::single(text)]
    }

    /// Each line is a bug of the reference that its authors' figures contain.
    #[test]
    fn gsm8k_bugs() {
        let right = |reply: &str, gold: &str| gsm8k(reply, &golds(gold)).correct;
        assert!(right("He has 18 apples, so the rest is 2. The answer is: 20", "18"));
        assert!(right("The answer is: 3.75", "3"));
        assert!(right("She pays $1,234.", "1234") && right("It is -1234 degrees", "-1,234"));
        for reply in ["5, then", "5) is it", "**5**", "5%", "five"] {
            assert!(!right(reply, "5"), "{reply}");
        }
        assert_eq!(gsm8k("2.5", &golds("2.5")).outcome, Outcome::Error);
        assert_eq!(with_commas("-1234567"), "-1,234,567");
    }

    #[test]
    fn drop_bugs() {
        let found = |reply: &str, gold: &[&str]| {
            let gold = Gold(gold.iter().map(|span| (*span).to_owned()).collect());
            let grade = drop(reply, &[gold]);
            (grade.correct, grade.score, grade.outcome)
        };
        assert_eq!(found("The answer is: Red and Blue.", &["Red", "Blue"]), (false, 0.5, Outcome::Answered));
        assert_eq!(found("The answer is: 10:30", &["30"]), (true, 1.0, Outcome::Answered));
        assert_eq!(found("So 7. The answer is: 25%.", &["25"]), (true, 1.0, Outcome::Answered));
        assert_eq!(found("The answer is", &["25"]).2, Outcome::Error);
        assert_eq!(found("", &["25"]).2, Outcome::Error);
    }

    #[test]
    fn bamboogle_bugs() {
        let right = |reply: &str, gold: &str| bamboogle(reply, &golds(gold)).correct;
        assert!(right("The answer is: 1984", "4") && right("In 4 words: nobody knows", "4"));
        assert!(right("The answer is: james madison the fourth", "James Madison"));
        assert!(!right("4 is wrong. The answer is: 5", "4"));
    }
}
