//! What a question asks for, read off its gold answer: reports tell the kinds apart. It decides nothing about what is right.

use crate::question::{Question, ScorerKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnswerKind {
    Number,
    Date,
    /// A name or a phrase.
    Span,
    /// Several at once.
    Spans,
    YesNo,
    /// The letter of an option.
    Choice,
}

impl AnswerKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Date => "date",
            Self::Span => "span",
            Self::Spans => "spans",
            Self::YesNo => "yes-no",
            Self::Choice => "choice",
        }
    }
}

/// Of the first gold answer; `None` where there is none.
#[must_use]
pub fn of(question: &Question) -> Option<AnswerKind> {
    let gold = question.golds.first()?;
    let [span] = gold.0.as_slice() else { return Some(AnswerKind::Spans) };
    let span = span.trim().trim_end_matches('.');
    Some(match span {
        _ if ["yes", "no", "true", "false"].contains(&&*span.to_lowercase()) => AnswerKind::YesNo,
        _ if is_option(span, &question.text) => AnswerKind::Choice,
        _ if question.scorer == ScorerKind::Numeric || is_number(span) => AnswerKind::Number,
        _ if is_date(span) => AnswerKind::Date,
        _ => AnswerKind::Span,
    })
}

/// `(B)` or `B`, where the question has such an option.
fn is_option(span: &str, question: &str) -> bool {
    let letter = span.trim_matches(['(', ')']);
    let is_letter = letter.len() == 1 && letter.chars().all(|c| c.is_ascii_uppercase());
    is_letter && ["(L)", "\nL)", "\nL.", "\nL:"].iter().any(|form| question.contains(&form.replace('L', letter)))
}

fn is_number(span: &str) -> bool {
    let plain = span.replace(',', "");
    let plain = plain.trim_start_matches(['$', '€', '£']).trim_end_matches('%').trim();
    plain.parse::<f64>().is_ok_and(f64::is_finite)
}

/// A month's name with a number, or numbers between strokes: `12 May 1944`, `1944-05-12`.
fn is_date(span: &str) -> bool {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const FULL: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let words: Vec<String> = span.to_lowercase().split([' ', ',', '.']).map(str::to_owned).collect();
    let is_month = |word: &String| MONTHS.contains(&&**word) || FULL.contains(&&**word);
    let has_digit = |word: &String| word.starts_with(|c: char| c.is_ascii_digit());
    let stroke = |sign: char| {
        let parts: Vec<&str> = span.split(sign).collect();
        parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
    };
    words.iter().any(is_month) && words.iter().any(has_digit) || stroke('-') || stroke('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        question::{Gold, Split},
        synth,
    };

    fn kind(text: &str, scorer: ScorerKind, gold: &[&str]) -> Option<AnswerKind> {
        let mut question = synth::generate(Split::Train, 1, 1).remove(0);
        (question.text, question.scorer) = (text.to_owned(), scorer);
        question.golds = vec![Gold(gold.iter().map(|span| (*span).to_owned()).collect())];
        of(&question)
    }

    #[test]
    fn the_gold_answer_tells_what_is_asked_for() {
        let options = "Which one?\nOptions:\n(A) red\n(B) blue";
        for (text, scorer, gold, expect) in [
            ("How many?", ScorerKind::Numeric, &["1,200"][..], AnswerKind::Number),
            ("How many percent?", ScorerKind::Drop, &["24.7%"], AnswerKind::Number),
            ("When?", ScorerKind::Drop, &["12 May 1944"], AnswerKind::Date),
            ("When?", ScorerKind::Exact, &["1944-05-12"], AnswerKind::Date),
            ("Who?", ScorerKind::Drop, &["May Brown"], AnswerKind::Span),
            ("Who?", ScorerKind::Exact, &["A"], AnswerKind::Span),
            ("Who?", ScorerKind::Drop, &["Ann", "Bob"], AnswerKind::Spans),
            ("Is it?", ScorerKind::Exact, &["Yes"], AnswerKind::YesNo),
            (options, ScorerKind::Exact, &["(B)"], AnswerKind::Choice),
            (options, ScorerKind::Exact, &["C"], AnswerKind::Span),
        ] {
            assert_eq!(kind(text, scorer, gold), Some(expect), "{gold:?}");
        }
        let mut none = synth::generate(Split::Train, 1, 1).remove(0);
        none.golds.clear();
        assert_eq!(of(&none), None);
    }
}
