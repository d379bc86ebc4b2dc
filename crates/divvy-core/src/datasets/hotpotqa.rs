//! HotpotQA (Yang et al. 2018): two-hop questions over Wikipedia paragraphs, and what 2WikiMultihopQA shares with it: a
//! `context` of titles and sentences, and `supporting_facts` that say which are needed. The paragraphs that are needed are
//! the premise; distractors are left out. It has no decompositions.
//!
//! ```json
//! {"_id": "h1", "question": "Who is older, Ann or Bo?", "answer": "Bo", "type": "comparison", "level": "hard",
//!  "context": [["Ann", ["Ann is 7.", " She swims."]], ["Cy", ["…"]], ["Bo", ["Bo is 9."]]], "supporting_facts": [["Ann", 0], ["Bo", 0]]}
//! ```
//!
//! or, as the hub has it, `"context": {"title": [...], "sentences": [[...]]}, "supporting_facts": {"title": [...], …}`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{RowContext, RowError, distinct, fail, kind_of, object, passage, text, texts};
use crate::question::{Gold, Question, ScorerKind};

/// Reads one row.
///
/// # Errors
/// [`RowError`] for a missing question, answer or context, or supporting facts that name no paragraph of it.
pub fn parse(row: &Value, context: &RowContext<'_>) -> Result<Question, RowError> {
    let row = object(row)?;
    if !row.contains_key("context") {
        return Err(fail("`context` is missing"));
    }
    asked(row, context)
}

/// Question, golds and premise. A row without a context stands alone.
pub(super) fn asked(row: &Map<String, Value>, context: &RowContext<'_>) -> Result<Question, RowError> {
    let mut question = context.question(text(row, "question")?.to_owned(), ScorerKind::Exact);
    let aliases = row.get("answer_aliases").map(texts).unwrap_or_default();
    question.golds =
        distinct([Gold::single(text(row, "answer")?)].into_iter().chain(aliases.into_iter().map(Gold::single)));
    if let Some(paragraphs) = row.get("context") {
        question.premise = premise(row, &paragraphs_of(paragraphs)?)?;
    }
    Ok(question)
}

fn premise(row: &Map<String, Value>, paragraphs: &[(&str, String)]) -> Result<Option<String>, RowError> {
    let needed = titles(row.get("supporting_facts").unwrap_or(&Value::Null));
    let kept: Vec<(&str, String)> = paragraphs
        .iter()
        .filter(|(title, _)| needed.contains(title))
        .map(|(title, text)| (*title, text.clone()))
        .collect();
    if kept.is_empty() {
        return Err(fail("`supporting_facts` names no paragraph of `context`"));
    }
    Ok(passage(kept))
}

/// Title and text of every paragraph, in order.
fn paragraphs_of(context: &Value) -> Result<Vec<(&str, String)>, RowError> {
    let wrong = || fail("`context` is no list of [title, [sentences]]");
    let pairs: Vec<(&Value, &Value)> = match context {
        Value::Array(pairs) => {
            let pair = |pair| Some((Value::get(pair, 0)?, Value::get(pair, 1)?));
            pairs.iter().map(|entry| pair(entry).ok_or_else(wrong)).collect::<Result<_, _>>()?
        }
        Value::Object(columns) => {
            let column = |key: &str| columns.get(key).and_then(Value::as_array).ok_or_else(wrong);
            column("title")?.iter().zip(column("sentences")?).collect()
        }
        other => return Err(fail(format!("`context` is {}, not a list", kind_of(other)))),
    };
    pairs.into_iter().map(|(title, sentences)| Ok((title.as_str().ok_or_else(wrong)?, joined(sentences)))).collect()
}

/// Sentences as one text; some files begin each with a blank, some do not.
fn joined(sentences: &Value) -> String {
    texts(sentences).iter().map(|sentence| sentence.trim()).collect::<Vec<_>>().join(" ")
}

fn titles(facts: &Value) -> BTreeSet<&str> {
    match facts {
        Value::Array(facts) => facts.iter().filter_map(|fact| fact.get(0)?.as_str()).collect(),
        Value::Object(columns) => {
            columns.get("title").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
        }
        _ => BTreeSet::new(),
    }
}
