//! StrategyQA (Geva et al. 2021): yes/no questions whose steps are implicit, each with a decomposition and the facts it
//! rests on. The facts are the premise, so that reasoning is measured and not memory; closed-book it is read as `rows`.
//!
//! ```json
//! {"qid": "q1", "question": "Could a cat outlive a tortoise?", "answer": false,
//!  "facts": ["Cats live about 15 years.", "Tortoises can live 100 years."],
//!  "decomposition": ["How long do cats live?", "How long do tortoises live?", "Is #1 more than #2?"]}
//! ```

use serde_json::Value;

use super::{RowContext, RowError, fail, kind_of, object, text, texts};
use crate::{
    decomposition::Decomposition,
    question::{Gold, Question, ScorerKind},
};

/// Reads one row. Without an answer (the hidden test split) it has no gold.
///
/// # Errors
/// [`RowError`] without a question, or for an answer that is neither true nor false.
pub fn parse(row: &Value, context: &RowContext<'_>) -> Result<Question, RowError> {
    let row = object(row)?;
    let mut question = context.question(text(row, "question")?.to_owned(), ScorerKind::YesNo);
    question.golds = match row.get("answer") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Bool(truth)) => vec![Gold::single(if *truth { "yes" } else { "no" })],
        Some(other) => return Err(fail(format!("`answer` is {}, not true or false", kind_of(other)))),
    };
    let facts = row.get("facts").map(texts).unwrap_or_default();
    question.premise = (!facts.is_empty()).then(|| facts.join("\n"));
    let steps = row.get("decomposition").map(texts).unwrap_or_default();
    if !steps.is_empty() {
        question.steps = u32::try_from(steps.len()).ok();
        question.recorded = Some(Decomposition::from_texts(steps));
    }
    Ok(question)
}
