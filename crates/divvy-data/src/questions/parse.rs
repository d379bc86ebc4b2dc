//! From raw rows to questions: which parser of `divvy_core::datasets` a data set's rows go to. A row may hold several
//! questions (a passage of DROP's official file) or none (a row of DROP's passages file).

use divvy_core::{
    datasets::{
        DatasetKind, RowContext, RowError, bamboogle, bbh, drop, gsm8k, hotpotqa, musique, rows, strategyqa, traffic,
        two_wiki,
    },
    question::Question,
};
use serde_json::{Map, Value};

use super::{load::SourceSpec, raw::RawRow};

/// A parser with what it has to know beside the row.
pub(crate) enum Parser<'a> {
    Bamboogle,
    /// The passages of all files, so that their order does not matter.
    Drop(drop::Passages),
    Rows(&'a divvy_core::recipe::Columns),
    /// A row that needs nothing but itself.
    Plain(fn(&Value, &RowContext<'_>) -> Result<Question, RowError>),
    Traffic,
}

/// The parser for the rows of `spec`, or why there is none. `raw` is asked for passages.
pub(crate) fn parser<'a, 'r>(
    spec: &'a SourceSpec,
    kind: DatasetKind,
    raw: impl Iterator<Item = &'r RawRow>,
) -> Result<Parser<'a>, String> {
    match kind {
        DatasetKind::Synth => Err("it is generated and has no files".to_owned()),
        DatasetKind::Gsm8k => Ok(Parser::Plain(gsm8k::parse)),
        DatasetKind::StrategyQa => Ok(Parser::Plain(strategyqa::parse)),
        DatasetKind::MuSiQue => Ok(Parser::Plain(musique::parse)),
        DatasetKind::HotpotQa => Ok(Parser::Plain(hotpotqa::parse)),
        DatasetKind::TwoWiki => Ok(Parser::Plain(two_wiki::parse)),
        DatasetKind::Bbh => Ok(Parser::Plain(bbh::parse)),
        DatasetKind::Bamboogle => Ok(Parser::Bamboogle),
        DatasetKind::Drop => Ok(Parser::Drop(passages(raw))),
        DatasetKind::Traffic => Ok(Parser::Traffic),
        DatasetKind::Rows => {
            spec.columns.as_ref().map(Parser::Rows).ok_or_else(|| {
                "its columns are not named; add columns = { question = \"…\", answer = \"…\" }".to_owned()
            })
        }
    }
}

/// The readable passages. An unreadable one is reported when its own row is parsed.
fn passages<'r>(raw: impl Iterator<Item = &'r RawRow>) -> drop::Passages {
    let passage_rows = raw.filter(|row| row.key.is_none()).filter_map(|row| row.value.as_ref().ok());
    passage_rows.filter(|value| is_passage(value)).filter_map(|value| drop::parse_passage(value).ok()).collect()
}

/// A row of the passages file has a passage and asks nothing.
fn is_passage(value: &Value) -> bool {
    value.get("passage").is_some() && value.get("question").is_none()
}

/// The questions of one row, each readable or not. `row` is the number of the first.
pub(crate) fn questions(
    parser: &Parser<'_>,
    key: Option<&str>,
    value: &Value,
    spec: &SourceSpec,
    row: usize,
) -> Vec<Result<Question, RowError>> {
    let context = RowContext { dataset: &spec.name, split: spec.split, row };
    match parser {
        Parser::Plain(parse) => vec![parse(value, &context)],
        Parser::Traffic => vec![traffic::parse(value, &context)],
        Parser::Bamboogle => vec![bamboogle_row(value, &context)],
        Parser::Rows(columns) => vec![rows::parse(value, columns, spec.scorer, &context)],
        Parser::Drop(passages) => match key {
            Some(key) => official_drop(key, value, &context),
            None if is_passage(value) => drop::parse_passage(value).err().into_iter().map(Err).collect(),
            None => vec![drop::parse_flat(value, passages, &context)],
        },
    }
}

/// One passage of the official file, as a file of that passage alone.
fn official_drop(key: &str, value: &Value, context: &RowContext<'_>) -> Vec<Result<Question, RowError>> {
    let file = Value::Object(Map::from_iter([(key.to_owned(), value.clone())]));
    drop::parse_nested(&file, context).unwrap_or_else(|error| vec![Err(error)])
}

/// A JSON row, a CSV record under a header, or one without (its fields are numbered).
fn bamboogle_row(value: &Value, context: &RowContext<'_>) -> Result<Question, RowError> {
    let Some(object) = value.as_object() else { return bamboogle::parse(value, context) };
    if object.contains_key("0") {
        let field = |index: usize| object.get(&index.to_string()).and_then(Value::as_str);
        let fields: Vec<&str> = (0..object.len()).map_while(field).collect();
        return bamboogle::parse_csv(&fields, context);
    }
    let lower = object.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
    bamboogle::parse(&Value::Object(lower.collect()), context)
}
