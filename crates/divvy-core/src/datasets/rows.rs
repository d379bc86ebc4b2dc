//! Any data set of rows: the recipe's `columns` say which holds what. With
//! `columns = { question = "q", answer = "a", premise = "ctx", decomposition = "subs" }`:
//!
//! ```json
//! {"q": "How old is Bo?", "a": ["9", "nine"], "ctx": "Bo is 2 years older than Ann, who is 7.", "subs": ["How old is Ann?", "What is #1 plus 2?"]}
//! ```
//!
//! An answer is a text, a number, a list of which any is right, or a list of lists of which all spans of one are needed.
//! A column of `tests` makes the answer a program, and the tests its gold. Else the recipe's `scorer` grades it, or what gold is
//! decides: all golds `true` or `false` → yes-no; all golds numbers → numeric; several spans or a premise → DROP; else exact match.

use serde_json::{Map, Value};

use super::{RowContext, RowError, distinct, fail, kind_of, object, texts};
use crate::{
    chat::Finish,
    decomposition::Decomposition,
    prompts::decompose,
    question::{Gold, Question, QuestionId, ScorerKind},
    recipe::Columns,
    scorers::{self, number},
};

/// Most subquestions read from one text; a recorded decomposition is capped again by the recipe.
const MOST_SUBQUESTIONS: usize = 64;

/// Reads one row.
///
/// # Errors
/// [`RowError`] that names the column: a mapped one that is missing, blank or of the wrong type.
pub fn parse(
    row: &Value,
    columns: &Columns,
    scorer: Option<ScorerKind>,
    context: &RowContext<'_>,
) -> Result<Question, RowError> {
    let row = object(row)?;
    let mut question = context.question(scalar(row, &columns.question)?, ScorerKind::Exact);
    if let Some(column) = &columns.id {
        question.id = QuestionId(format!("{}/{}/{}", context.dataset, context.split, scalar(row, column)?));
    }
    // `null` says that this question stands alone.
    if let Some(column) = &columns.premise
        && !value(row, column)?.is_null()
    {
        question.premise = Some(scalar(row, column)?);
    }
    if let Some(column) = &columns.answer {
        question.golds = golds(column, value(row, column)?)?;
    }
    if let Some(column) = &columns.decomposition {
        let decomposition = decomposition(column, value(row, column)?)?;
        question.steps = u32::try_from(decomposition.steps().len()).ok().filter(|steps| *steps > 0);
        question.recorded = Some(decomposition);
    }
    let is_truth = columns.answer.as_ref().is_some_and(|column| row.get(column).is_some_and(is_truth));
    question.scorer = scorer.unwrap_or_else(|| if is_truth { ScorerKind::YesNo } else { scorer_of(&question) });
    if let Some(gold) = question.golds.iter().find(|gold| !scorers::reads_gold(question.scorer, gold)) {
        return Err(unreadable(question.scorer, gold));
    }
    if let Some(column) = &columns.tests {
        question.golds = vec![tests(column, value(row, column)?)?];
        question.scorer = ScorerKind::Code;
    }
    Ok(question)
}

fn value<'a>(row: &'a Map<String, Value>, column: &str) -> Result<&'a Value, RowError> {
    row.get(column).ok_or_else(|| {
        let mut there: Vec<&str> = row.keys().map(String::as_str).collect();
        there.sort_unstable();
        fail(format!("column `{column}` is missing; the row has {}", there.join(", ")))
    })
}

fn scalar(row: &Map<String, Value>, column: &str) -> Result<String, RowError> {
    let value = value(row, column)?;
    let text = scalar_text(value)
        .ok_or_else(|| fail(format!("column `{column}` is {}, not a text or a number", kind_of(value))))?;
    if text.is_empty() { Err(fail(format!("column `{column}` is blank"))) } else { Ok(text) }
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(if *truth { "yes" } else { "no" }.to_owned()),
        _ => None,
    }
}

/// A program's tests are one gold, whatever their number: all have to pass.
fn tests(column: &str, value: &Value) -> Result<Gold, RowError> {
    let lines = texts(value).join("\n");
    if lines.trim().is_empty() {
        return Err(fail(format!("column `{column}` is {}, not a text of tests or a list of them", kind_of(value))));
    }
    Ok(Gold::single(lines))
}

fn golds(column: &str, value: &Value) -> Result<Vec<Gold>, RowError> {
    let wrong = |value: &Value| fail(format!("column `{column}` holds {} where an answer should be", kind_of(value)));
    let spans = |value: &Value| match value {
        Value::Array(list) => {
            let spans = list.iter().map(|span| scalar_text(span).ok_or_else(|| wrong(span)));
            Ok(Gold(spans.collect::<Result<_, _>>()?))
        }
        value => scalar_text(value).map(Gold::single).ok_or_else(|| wrong(value)),
    };
    let golds = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list.iter().map(spans).collect::<Result<Vec<_>, _>>()?,
        value => vec![spans(value)?],
    };
    Ok(distinct(golds))
}

/// A list of texts as it stands; one text is read as a decomposer's reply.
fn decomposition(column: &str, value: &Value) -> Result<Decomposition, RowError> {
    match value {
        Value::Null => Ok(Decomposition::None),
        Value::Array(list) => {
            let text = |item: &Value| {
                scalar_text(item)
                    .ok_or_else(|| fail(format!("column `{column}` lists {} as a subquestion", kind_of(item))))
            };
            let texts: Vec<String> = list.iter().map(text).collect::<Result<_, _>>()?;
            Ok(Decomposition::from_texts(texts.into_iter().filter(|text| !text.is_empty())))
        }
        Value::String(text) => decompose::parse(text, &Finish::Stop, MOST_SUBQUESTIONS)
            .decomposition
            .ok_or_else(|| fail(format!("column `{column}` holds no subquestions: write one a line"))),
        other => Err(fail(format!("column `{column}` is {}, not a list or a text", kind_of(other)))),
    }
}

/// `true`, `false`, or a list of them.
fn is_truth(value: &Value) -> bool {
    match value {
        Value::Array(list) => !list.is_empty() && list.iter().all(Value::is_boolean),
        value => value.is_boolean(),
    }
}

fn unreadable(scorer: ScorerKind, gold: &Gold) -> RowError {
    let wanted = if scorer == ScorerKind::YesNo { "yes, no, true or false" } else { "a number" };
    fail(format!(
        "its gold answer is `{gold}`, and the recipe's `scorer` wants {wanted}: mend the row, or name another scorer"
    ))
}

fn scorer_of(question: &Question) -> ScorerKind {
    let mut spans = question.golds.iter().flat_map(|gold| &gold.0);
    let single = question.golds.iter().all(|gold| gold.0.len() == 1);
    if single && !question.golds.is_empty() && spans.all(|span| is_number(span)) {
        ScorerKind::Numeric
    } else if !single || question.premise.is_some() {
        ScorerKind::Drop
    } else {
        ScorerKind::Exact
    }
}

/// Nothing but a number: "1,000" and "$5" are, "5 March" is not.
fn is_number(span: &str) -> bool {
    number::stated(span).is_some() && span.chars().all(|c| c.is_ascii_digit() || " -−$€£%.,/".contains(c))
}
