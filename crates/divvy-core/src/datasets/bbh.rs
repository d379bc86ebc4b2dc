//! BIG-Bench Hard (Suzgun et al. 2023): a file a task, each an object with its rows under `examples`. How a row is graded is
//! told by its target: a letter in brackets is a choice, with the option's text as an alias; yes, no, true, false; a number;
//! else exact match. The files carry a canary: they are for evaluation, not for training.
//!
//! ```json
//! {"input": "Today is Christmas Eve. What is the date tomorrow?\nOptions:\n(A) 12/11\n(B) 12/25", "target": "(B)"}
//! {"input": "Ann lies. Bo says Ann lies. Does Bo tell the truth?", "target": "Yes"}
//! ```

use serde_json::Value;

use super::{RowContext, RowError, distinct, fail, object, text};
use crate::{
    question::{Gold, Question, ScorerKind},
    scorers::{exact, number},
};

/// Reads one row.
///
/// # Errors
/// [`RowError`] without an input or a target, for a letter that no option has, or a target that exact match would reduce to
/// nothing (brackets alone).
pub fn parse(row: &Value, context: &RowContext<'_>) -> Result<Question, RowError> {
    let row = object(row)?;
    let (input, target) = (text(row, "input")?, text(row, "target")?);
    let asked = input.strip_prefix("Question: ").unwrap_or(input);
    let mut question = context.question(asked.to_owned(), kind(target));
    question.golds = vec![Gold::single(target)];
    match question.scorer {
        ScorerKind::Choice => {
            let option = option(input, target).ok_or_else(|| fail(format!("no option is called `{target}`")))?;
            question.golds = distinct([Gold::single(target), Gold::single(option)]);
        }
        ScorerKind::Exact if exact::normalize(target).is_empty() => {
            return Err(fail(format!("exact match cannot tell `{target}` from any other marks: leave this task out")));
        }
        _ => {}
    }
    Ok(question)
}

fn kind(target: &str) -> ScorerKind {
    let digits = target.strip_prefix('-').unwrap_or(target);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit()) && number::stated(target).is_some();
    match target.to_ascii_lowercase().as_str() {
        "yes" | "no" | "true" | "false" => ScorerKind::YesNo,
        _ if is_letter(target) => ScorerKind::Choice,
        _ if is_number && digits.chars().all(|c| c.is_ascii_digit() || c == '.') => ScorerKind::Numeric,
        _ => ScorerKind::Exact,
    }
}

fn is_letter(target: &str) -> bool {
    matches!(target.as_bytes(), [b'(', letter, b')'] if letter.is_ascii_uppercase())
}

/// The text of the option `(B)`: the rest of its line.
fn option<'a>(input: &'a str, letter: &str) -> Option<&'a str> {
    let (_, options) = input.rsplit_once("Options:")?;
    options.lines().find_map(|line| line.trim().strip_prefix(letter)).map(str::trim)
}
