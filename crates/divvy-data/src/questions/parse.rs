//! From a raw row to questions: which parser of `divvy_core::datasets` a data set's name stands for.

use divvy_core::question::Question;
use serde_json::Value;

use super::load::SourceSpec;

/// Key of the row in its file if it has one, the row, and the number of its first question.
pub(crate) type Parser<'a> = dyn Fn(Option<&str>, &Value, usize) -> Result<Vec<Question>, String> + 'a;

/// The parser for the rows of `spec`, or why there is none.
pub(crate) fn parser(spec: &SourceSpec) -> Result<Box<Parser<'_>>, String> {
    Err(format!("no parser for {}", spec.dataset))
}
