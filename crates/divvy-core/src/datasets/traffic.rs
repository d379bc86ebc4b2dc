//! Questions that were asked of `divvy serve --record`, as real ones for the next training set. There is no gold, and what
//! the arms answered is not taken for it: nothing here but the question is learnt from.
//!
//! ```json
//! {"question": "How many are left?", "premise": null, "scorer": "numeric", "answer": "29", "decomposition": ["…"], "arm": "two-stage/sd-t/qwen", "fallback": null, "at": 1795567059}
//! ```
//!
//! A question is named by what it says, so that one which was asked twice is one, and none is asked of a teacher again
//! because others came before it.

use serde_json::{Map, Value};

use super::{RowContext, RowError, fail, kind_of, object, text};
use crate::{
    leak::content_digest,
    question::{Question, QuestionId, ScorerKind},
};

/// Digits of the name: enough for any record of traffic.
const DIGITS: usize = 16;

/// Reads one line of a record.
///
/// # Errors
/// [`RowError`] that names the field.
pub fn parse(row: &Value, context: &RowContext<'_>) -> Result<Question, RowError> {
    let row = object(row)?;
    let mut question = context.question(text(row, "question")?.to_owned(), scorer(row)?);
    if row.get("premise").is_some_and(|premise| !premise.is_null()) {
        question.premise = Some(text(row, "premise")?.to_owned());
    }
    let content = content_digest(&question);
    question.id = QuestionId(format!("{}/{}/{}", context.dataset, context.split, &content.hex()[..DIGITS]));
    Ok(question)
}

/// The form of answer that the arms were asked for.
fn scorer(row: &Map<String, Value>) -> Result<ScorerKind, RowError> {
    let value = row.get("scorer").ok_or_else(|| fail("`scorer` is missing: is this a record of `divvy serve`?"))?;
    serde_json::from_value(value.clone()).map_err(|_| fail(format!("`scorer` is {}: {value}", kind_of(value))))
}
