//! Graded rows as a table: one line a question and arm, columns of plain values. What is unknown is empty, never zero.

use serde_json::{Value, json};

use super::{Asked, GradedRow, Sheet};
use crate::results::costs::Tokens;

/// What a column holds; any value may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bool,
    Integer,
    Float,
}

/// Name and kind of each column. A stable surface: columns are added at the end.
pub const COLUMNS: [(&str, Kind); 20] = [
    ("question_id", Kind::Text),
    ("arm", Kind::Text),
    ("correct", Kind::Bool),
    ("score", Kind::Float),
    ("outcome", Kind::Text),
    ("reason", Kind::Text),
    ("answer", Kind::Text),
    // A JSON list: any one of them is right.
    ("gold", Kind::Text),
    ("steps", Kind::Integer),
    ("tokens_in", Kind::Integer),
    ("tokens_cached", Kind::Integer),
    ("tokens_out", Kind::Integer),
    ("cost_nanos", Kind::Integer),
    // Of all calls, one after another.
    ("latency_ms", Kind::Integer),
    // A JSON list of keys.
    ("calls", Kind::Text),
    ("premise", Kind::Text),
    ("question", Kind::Text),
    // JSON lists.
    ("subquestions", Kind::Text),
    ("sub_answers", Kind::Text),
    ("reply", Kind::Text),
];

/// The lines of a sheet, each with a value for every column.
#[must_use]
pub fn cells(sheet: &Sheet) -> Vec<Vec<Value>> {
    let rows = sheet.questions.iter().flat_map(|asked| asked.rows.iter().map(move |row| (asked, row)));
    rows.map(|(asked, row)| line(sheet, asked, row)).collect()
}

fn line(sheet: &Sheet, asked: &Asked, row: &GradedRow) -> Vec<Value> {
    let calls = || row.calls.iter().filter_map(|place| sheet.calls.get(*place));
    let latency: i64 = calls().map(|call| call.latency_ms).sum();
    let keys: Vec<&str> = calls().map(|call| call.key.as_str()).collect();
    let tokens = |of: fn(Tokens) -> u64| json!(row.tokens.map(of));
    vec![
        json!(asked.id),
        json!(sheet.arms.get(row.arm)),
        json!(row.correct),
        json!(row.score),
        json!(row.outcome),
        json!(row.reason),
        json!(row.answer),
        list(&asked.gold),
        json!(asked.steps),
        tokens(|tokens| tokens.input),
        tokens(|tokens| tokens.cached),
        tokens(|tokens| tokens.output),
        json!(row.cost_nanos),
        json!((!keys.is_empty()).then_some(latency)),
        list(&keys),
        json!(asked.premise),
        json!(asked.question),
        list(&row.subquestions),
        list(&row.sub_answers),
        json!(row.reply),
    ]
}

/// As JSON in a text; nothing for an empty list.
fn list<T: serde::Serialize>(values: &[T]) -> Value {
    if values.is_empty() { Value::Null } else { json!(json!(values).to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graded::RowCall, question::ScorerKind, records::Outcome};

    #[test]
    fn a_row_has_a_value_for_every_column_and_what_is_unknown_is_empty() {
        let call = RowCall {
            key: "ab".repeat(32),
            tokens_in: Some(3),
            tokens_cached: None,
            tokens_out: Some(4),
            cost_nanos: None,
            latency_ms: 20,
            said: None,
        };
        let row = GradedRow {
            score: 0.5,
            outcome: Outcome::NoAnswer,
            subquestions: vec!["How many?".to_owned()],
            reply: "7".to_owned(),
            tokens: Some(Tokens { input: 3, cached: 0, output: 4 }),
            calls: vec![0, 0],
            ..GradedRow::failed(1)
        };
        let asked = Asked {
            id: "q/test/1".to_owned(),
            premise: None,
            question: "?".to_owned(),
            gold: vec!["7".to_owned(), "seven".to_owned()],
            steps: Some(2),
            dataset: "q".to_owned(),
            scorer: ScorerKind::Numeric,
            rows: vec![row],
        };
        let mut sheet =
            Sheet { arms: ["a".to_owned(), "b".to_owned()].into(), questions: vec![asked], calls: vec![call] };
        let lines = cells(&sheet);
        assert_eq!((lines.len(), lines[0].len()), (1, COLUMNS.len()));
        let at = |name: &str| &lines[0][COLUMNS.iter().position(|column| column.0 == name).unwrap()];
        assert_eq!((at("arm"), at("outcome"), at("latency_ms")), (&json!("b"), &json!("no-answer"), &json!(40)));
        assert_eq!(
            (at("gold"), at("cost_nanos"), at("sub_answers")),
            (&json!(r#"["7","seven"]"#), &Value::Null, &Value::Null)
        );
        assert_eq!((at("tokens_in"), at("tokens_out")), (&json!(3), &json!(4)));
        sheet.questions[0].rows[0].tokens = None;
        let line = &cells(&sheet)[0];
        for (name, value) in COLUMNS.iter().zip(line).filter(|((name, _), _)| name.starts_with("tokens_")) {
            assert!(value.is_null(), "nobody counted {name:?}");
        }
    }
}
