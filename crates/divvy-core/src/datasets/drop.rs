//! DROP (Dua et al. 2019): questions about a passage, answers are numbers, dates or one or more spans. Official nested
//! JSON, one object of passages:
//!
//! ```json
//! {"p_1": {"passage": "The Reds scored 3, then 10 points.", "qa_pairs": [{"question": "How many points in all?", "query_id": "q1",
//!   "answer": {"number": "13", "date": {"day": "", "month": "", "year": ""}, "spans": []}, "validated_answers": [{"number": "13"}]}]}}
//! ```
//!
//! and flattened JSONL, questions and passages apart:
//!
//! ```json
//! {"row": 0, "passage_id": 4, "question": "How many points in all?", "answer": "13", "golds": ["13"], "gold_spans": [["13"]]}
//! {"passage_id": 4, "passage": "The Reds scored 3, then 10 points."}
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{RowContext, RowError, distinct, fail, kind_of, object, text};
use crate::question::{Gold, Question, ScorerKind};

/// Passage id → passage, for flattened rows.
pub type Passages = BTreeMap<String, String>;

/// Reads the official file. Passages are taken in the order of their ids, whatever the order in the file, and questions
/// are numbered through; `context.row` is the number of the first one. Bad questions come back as errors in place.
///
/// # Errors
/// [`RowError`] when the whole is no object of passages.
pub fn parse_nested(file: &Value, context: &RowContext<'_>) -> Result<Vec<Result<Question, RowError>>, RowError> {
    // Sorted here: a JSON map's own order depends on a build feature, and ids must not.
    let passages: BTreeMap<&String, &Value> = object(file)?.iter().collect();
    let mut questions = Vec::new();
    for (id, entry) in passages {
        let in_passage = |error: RowError| fail(format!("passage `{id}`: {error}"));
        let (passage, pairs) = passage_and_pairs(entry).map_err(in_passage)?;
        for pair in pairs {
            let context = RowContext { row: context.row + questions.len(), ..*context };
            questions.push(nested(pair, id, passage, &context).map_err(in_passage));
        }
    }
    Ok(questions)
}

fn passage_and_pairs(entry: &Value) -> Result<(&str, &Vec<Value>), RowError> {
    let entry = object(entry)?;
    let pairs = entry.get("qa_pairs").and_then(Value::as_array).ok_or_else(|| fail("`qa_pairs` is no list"))?;
    Ok((text(entry, "passage")?, pairs))
}

fn nested(pair: &Value, id: &str, passage: &str, context: &RowContext<'_>) -> Result<Question, RowError> {
    let pair = object(pair)?;
    let mut question = context.question(text(pair, "question")?.to_owned(), ScorerKind::Drop);
    question.premise = Some(passage.to_owned());
    question.cluster = Some(id.to_owned());
    let main = pair.get("answer").into_iter();
    let validated = pair.get("validated_answers").and_then(Value::as_array).into_iter().flatten();
    // The hidden test split has no answers; only what is there and unreadable is an error.
    let answers = main.chain(validated).filter(|answer| !answer.is_null());
    question.golds = distinct(answers.map(answer).collect::<Result<Vec<_>, _>>()?);
    Ok(question)
}

/// One annotator's answer as the official script reads it: number, else spans, else date.
fn answer(answer: &Value) -> Result<Gold, RowError> {
    let answer = object(answer)?;
    let number = answer.get("number").map(scalar).unwrap_or_default();
    if !number.is_empty() {
        return Ok(Gold::single(number));
    }
    let spans: Vec<String> = answer.get("spans").and_then(Value::as_array).into_iter().flatten().map(scalar).collect();
    if !spans.is_empty() {
        return Ok(Gold(spans));
    }
    match answer.get("date").and_then(Value::as_object) {
        Some(date) => Ok(Gold::single(date_text(date))),
        None => Err(fail("an answer has neither number nor spans nor date")),
    }
}

fn date_text(date: &Map<String, Value>) -> String {
    let part = |key| date.get(key).map(scalar).unwrap_or_default();
    let parts = [part("day"), part("month"), part("year")];
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}

/// A string, or a number as written; blank for anything else.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// Reads one row of the passages file.
///
/// # Errors
/// [`RowError`] when `passage_id` or `passage` is missing.
pub fn parse_passage(row: &Value) -> Result<(String, String), RowError> {
    let row = object(row)?;
    Ok((passage_id(row)?, text(row, "passage")?.to_owned()))
}

fn passage_id(row: &Map<String, Value>) -> Result<String, RowError> {
    let id = row.get("passage_id").map(scalar).unwrap_or_default();
    if id.is_empty() { Err(fail("`passage_id` is missing")) } else { Ok(id) }
}

/// Reads one flattened question. Where `gold_spans` is null the golds are taken as single spans, so a list answer is
/// then compared as one text: exact match holds, F1 may differ from the official one.
///
/// # Errors
/// [`RowError`] for a missing key, an unknown passage or golds of the wrong type.
pub fn parse_flat(row: &Value, passages: &Passages, context: &RowContext<'_>) -> Result<Question, RowError> {
    let row = object(row)?;
    let id = passage_id(row)?;
    let mut question = context.question(text(row, "question")?.to_owned(), ScorerKind::Drop);
    let premise = match passages.get(&id) {
        Some(passage) => passage.as_str(),
        None if row.contains_key("passage") => text(row, "passage")?,
        None => return Err(fail(format!("no passage has the id `{id}`: name the passages file before the questions"))),
    };
    question.premise = Some(premise.to_owned());
    question.cluster = Some(id);
    let golds =
        [row.get("gold_spans"), row.get("golds"), row.get("answer")].into_iter().flatten().find(|gold| !gold.is_null());
    question.golds = match golds {
        Some(Value::Array(golds)) => distinct(golds.iter().map(spans).collect::<Result<Vec<_>, _>>()?),
        Some(gold) => distinct([spans(gold)?]),
        None => Vec::new(),
    };
    Ok(question)
}

fn spans(value: &Value) -> Result<Gold, RowError> {
    match value {
        Value::Array(list) => Ok(Gold(list.iter().map(scalar).collect())),
        Value::String(_) | Value::Number(_) => Ok(Gold::single(scalar(value))),
        other => Err(fail(format!("a gold answer is {}, not a string or a list", kind_of(other)))),
    }
}
