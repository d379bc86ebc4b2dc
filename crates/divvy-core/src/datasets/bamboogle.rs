//! Bamboogle (Press et al. 2022): two-hop questions about facts. CSV without header, the question in the first column and
//! answers in the last filled ones; or JSONL with a decomposition:
//!
//! ```csv
//! Who wrote the anthem of the country where Mount Placeholder lies?,,,,Ann Example,,
//! ```
//! ```json
//! {"id": "b_1", "question": "Who wrote the anthem of the country where Mount Placeholder lies?", "answer": "Ann Example", "answer_aliases": ["A. Example"],
//!  "decomposition": [{"question": "In which country does Mount Placeholder lie?", "answers": ["samplia"]}, {"question": "Who wrote the anthem of Samplia?", "answers": ["ann example"]}]}
//! ```
//!
//! Published decompositions give away the bridge ("the anthem of Samplia"), which no decomposer can know before it is
//! answered: an earlier answer that is not in the question itself becomes `#k`. Where a subquestion names no answer as it is
//! recorded ("the Korean War", recorded as a sentence), its only name that the question lacks is the bridge.

use serde_json::Value;

use super::{RowContext, RowError, distinct, fail, object, text, texts};
use crate::{
    decomposition::Decomposition,
    question::{Gold, Question, ScorerKind, Worked},
};

/// Reads one CSV record. The answers are the filled fields behind the question.
///
/// # Errors
/// [`RowError`] without a question or an answer.
pub fn parse_csv<S: AsRef<str>>(fields: &[S], context: &RowContext<'_>) -> Result<Question, RowError> {
    let mut fields = fields.iter().map(|field| field.as_ref().trim());
    let text = fields.next().filter(|text| !text.is_empty()).ok_or_else(|| fail("the first column has no question"))?;
    let mut question = context.question(text.to_owned(), ScorerKind::Exact);
    question.golds = distinct(fields.map(Gold::single));
    if question.golds.is_empty() {
        return Err(fail("no column behind the question holds an answer"));
    }
    Ok(question)
}

/// Whether a first record names columns instead of holding a question.
#[must_use]
pub fn is_header<S: AsRef<str>>(fields: &[S]) -> bool {
    fields.first().is_some_and(|field| field.as_ref().trim().eq_ignore_ascii_case("question"))
}

/// Reads one JSON row.
///
/// # Errors
/// [`RowError`] for a missing question or answer, or a malformed decomposition.
pub fn parse(row: &Value, context: &RowContext<'_>) -> Result<Question, RowError> {
    let row = object(row)?;
    let mut question = context.question(text(row, "question")?.to_owned(), ScorerKind::Exact);
    let aliases = row.get("answer_aliases").map(texts).unwrap_or_default();
    question.golds =
        distinct([Gold::single(text(row, "answer")?)].into_iter().chain(aliases.into_iter().map(Gold::single)));
    if let Some(steps) = row.get("decomposition").filter(|steps| !steps.is_null()) {
        let decomposition = decomposition(steps, &question.text)?;
        question.steps = u32::try_from(decomposition.steps().len()).ok();
        question.recorded = Some(decomposition);
        question.worked = worked(steps);
    }
    Ok(question)
}

/// Each published subquestion with its answer: in a solution the bridge may be named.
fn worked(steps: &Value) -> Vec<Worked> {
    let one = |step: &Value| {
        let subquestion = step.get("question").and_then(Value::as_str)?.trim();
        let answer = step.get("answers").map(texts).and_then(|answers| answers.into_iter().next());
        let text = [Some(subquestion), answer.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        Some(Worked { text, answer })
    };
    steps.as_array().into_iter().flatten().filter_map(one).collect()
}

fn decomposition(steps: &Value, question: &str) -> Result<Decomposition, RowError> {
    let steps = steps.as_array().ok_or_else(|| fail("`decomposition` is no list"))?;
    let mut earlier: Vec<Vec<String>> = Vec::new();
    let mut subquestions = Vec::new();
    for step in steps {
        let step = object(step)?;
        let subquestion = with_references(text(step, "question")?, &earlier, question);
        let names_none = !earlier.is_empty() && !subquestion.contains('#');
        subquestions.push(if names_none {
            without_new_name(subquestion, earlier.len(), question)
        } else {
            subquestion
        });
        earlier.push(step.get("answers").map(texts).unwrap_or_default());
    }
    Ok(Decomposition::from_texts(subquestions))
}

/// Puts `#k` where an answer of subquestion k stands, unless the question itself names it. Longest answers first, so
/// that "New York City" is not cut by "New York".
fn with_references(subquestion: &str, earlier: &[Vec<String>], question: &str) -> String {
    let mut answers: Vec<(usize, &str)> = earlier
        .iter()
        .enumerate()
        .flat_map(|(index, answers)| answers.iter().map(move |answer| (index + 1, answer.trim().trim_end_matches('.'))))
        .filter(|(_, answer)| !answer.is_empty() && find_word(question, answer, 0).is_none())
        .collect();
    answers.sort_by_key(|(_, answer)| std::cmp::Reverse(answer.len()));
    let mut text = subquestion.to_owned();
    for (index, answer) in answers {
        let mut from = 0;
        while let Some((start, end)) = find_word(&text, answer, from) {
            let reference = format!("#{index}");
            text.replace_range(start..end, &reference);
            from = start + reference.len();
        }
    }
    text
}

/// `#last` in the place of the one name that the question does not have; as it is where there are several.
fn without_new_name(subquestion: String, last: usize, question: &str) -> String {
    let names = new_names(&subquestion, question);
    let [(start, end)] = names[..] else { return subquestion };
    format!("{}#{last}{}", &subquestion[..start], &subquestion[end..])
}

/// Byte ranges of capitalised words side by side, not all of which are in the question. The first word of a sentence has a
/// capital anyway.
fn new_names(text: &str, question: &str) -> Vec<(usize, usize)> {
    let mut names: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    for (index, word) in text.split(' ').enumerate() {
        let start = at;
        at += word.len() + 1;
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        if index == 0 || !bare.starts_with(char::is_uppercase) {
            continue;
        }
        match names.last_mut() {
            // Nothing but punctuation lies between.
            Some((_, end)) if !text[*end..start].contains(char::is_alphanumeric) => *end = start + bare.len(),
            _ => names.push((start, start + bare.len())),
        }
    }
    let is_new = |name: &str| name.split(' ').any(|word| find_word(question, word.trim_end_matches(':'), 0).is_none());
    names.retain(|(start, end)| is_new(&text[*start..*end]));
    names
}

/// Byte range of `word` in `text` from `from` on, whatever its case, between word boundaries. A digit behind `#` is a
/// reference and no word.
fn find_word(text: &str, word: &str, from: usize) -> Option<(usize, usize)> {
    let wanted: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
    for (offset, _) in text[from..].char_indices() {
        let start = from + offset;
        if text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '#') {
            continue;
        }
        if let Some(end) =
            matches_at(text, start, &wanted).filter(|end| !text[*end..].starts_with(char::is_alphanumeric))
        {
            return Some((start, end));
        }
    }
    None
}

/// Where lower-cased text from `start` on has spelt `wanted`.
fn matches_at(text: &str, start: usize, wanted: &[char]) -> Option<usize> {
    let mut left = wanted;
    for (offset, c) in text[start..].char_indices() {
        if left.is_empty() {
            return Some(start + offset);
        }
        for lower in c.to_lowercase() {
            let (first, rest) = left.split_first()?;
            if lower != *first {
                return None;
            }
            left = rest;
        }
    }
    left.is_empty().then_some(text.len())
}
