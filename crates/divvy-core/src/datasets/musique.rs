//! MuSiQue (Trivedi et al. 2022): questions of two to four hops over paragraphs, with aliases and a decomposition that names
//! earlier answers `#k`. Some subquestions are relations, `subject >> relation`; they become questions. The supporting
//! paragraphs are the premise; distractors are left out.
//!
//! ```json
//! {"id": "2hop__1_2", "question": "What is the capital of the land of Ann's birth?", "answer": "Sample City", "answer_aliases": ["Sample"], "answerable": true,
//!  "paragraphs": [{"title": "Ann", "paragraph_text": "Ann was born in Samplia.", "is_supporting": true}, {"title": "Bo", "paragraph_text": "…", "is_supporting": false}],
//!  "question_decomposition": [{"question": "Ann >> country of birth", "answer": "Samplia"}, {"question": "What is the capital of #1?", "answer": "Sample City"}]}
//! ```

use serde_json::Value;

use super::{RowContext, RowError, distinct, fail, list, object, passage, text, texts};
use crate::{
    decomposition::Decomposition,
    question::{Gold, Question, ScorerKind},
};

/// Reads one row.
///
/// # Errors
/// [`RowError`] for a missing question or answer, a malformed paragraph or step, or a question that its paragraphs do not
/// answer.
pub fn parse(row: &Value, context: &RowContext<'_>) -> Result<Question, RowError> {
    let row = object(row)?;
    if row.get("answerable") == Some(&Value::Bool(false)) {
        return Err(fail("its paragraphs do not answer it (`answerable` is false): leave such rows out"));
    }
    let mut question = context.question(text(row, "question")?.to_owned(), ScorerKind::Exact);
    let aliases = row.get("answer_aliases").map(texts).unwrap_or_default();
    question.golds =
        distinct([Gold::single(text(row, "answer")?)].into_iter().chain(aliases.into_iter().map(Gold::single)));
    question.premise = passage(supporting(list(row, "paragraphs")?)?);
    let steps = list(row, "question_decomposition")?.iter().map(step).collect::<Result<Vec<_>, _>>()?;
    if !steps.is_empty() {
        question.steps = u32::try_from(steps.len()).ok();
        question.recorded = Some(Decomposition::from_texts(steps));
    }
    Ok(question)
}

/// Title and text of each paragraph that the question needs.
fn supporting(paragraphs: &[Value]) -> Result<Vec<(&str, String)>, RowError> {
    let mut kept = Vec::new();
    for paragraph in paragraphs {
        let paragraph = object(paragraph)?;
        if paragraph.get("is_supporting") == Some(&Value::Bool(true)) {
            kept.push((text(paragraph, "title")?, text(paragraph, "paragraph_text")?.to_owned()));
        }
    }
    Ok(kept)
}

/// `Ann >> country of birth` → `What is the country of birth of Ann?`
fn step(step: &Value) -> Result<String, RowError> {
    let asked = text(object(step)?, "question")?;
    Ok(match asked.split_once(">>") {
        Some((subject, relation)) => format!("What is the {} of {}?", relation.trim(), subject.trim()),
        None => asked.to_owned(),
    })
}
