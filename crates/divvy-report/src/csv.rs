//! Comma-separated values (RFC 4180): every graded row, or a line an arm. What is unknown is empty. Texts are those of models
//! and data sets, and a spreadsheet takes a cell that begins with `=` for a formula, whoever wrote it: such a text has an
//! apostrophe before it (OWASP, "CSV Injection"). Numbers stay numbers, also those that stand in a text.

use divvy_core::{
    graded::{COLUMNS, Sheet, cells},
    results::{ArmResult, Results},
};
use serde_json::{Value, json};

/// Names of the columns of [`csv_rows`].
#[must_use]
pub fn csv_head() -> String {
    line(&COLUMNS.map(|(name, _)| Value::from(name)))
}

/// The rows of one sheet.
#[must_use]
pub fn csv_rows(sheet: &Sheet) -> String {
    cells(sheet).iter().map(|row| line(row)).collect()
}

/// The table of arms on each data set, with a head; shares as fractions, tokens as totals over n.
#[must_use]
pub fn csv_arms(results: &Results) -> String {
    let sets = results.by_data_set();
    let rows: Vec<_> =
        sets.iter().flat_map(|(set, one)| one.arms.iter().map(move |arm| arm_columns(set, arm))).collect();
    let head = rows.first().map(|columns| line(&columns.clone().map(|(name, _)| Value::from(name))));
    head.into_iter().chain(rows.into_iter().map(|columns| line(&columns.map(|(_, value)| value)))).collect()
}

fn arm_columns(set: &str, arm: &ArmResult) -> [(&'static str, Value); 28] {
    [
        ("dataset", json!(set)),
        ("arm", json!(arm.arm)),
        ("strategy", json!(arm.strategy)),
        ("decomposer", json!(arm.decomposer)),
        ("solver", json!(arm.solver)),
        ("n", json!(arm.n)),
        ("correct", json!(arm.correct)),
        ("accuracy", json!(arm.accuracy)),
        ("ci_low", json!(arm.ci.0)),
        ("ci_high", json!(arm.ci.1)),
        ("score", json!(arm.score)),
        ("no_answer", json!(arm.no_answer)),
        ("truncated", json!(arm.truncated)),
        ("refused", json!(arm.refused)),
        ("errors", json!(arm.errors)),
        ("tokens_in", json!(arm.tokens_in)),
        ("tokens_out", json!(arm.tokens_out)),
        ("decompose_tokens_in", json!(arm.decompose_tokens_in)),
        ("decompose_tokens_out", json!(arm.decompose_tokens_out)),
        ("solve_tokens_in", json!(arm.solve_tokens_in)),
        ("solve_tokens_out", json!(arm.solve_tokens_out)),
        ("cost_nanos", json!(arm.cost_nanos)),
        ("well_formed", json!(arm.well_formed)),
        ("mean_subquestions", json!(arm.mean_subquestions)),
        // Answers to each question; of several seeds the least and the most accurate.
        ("each", json!(arm.each)),
        ("seed_lowest", json!(arm.pool.as_ref().map(|pool| pool.lowest))),
        ("seed_highest", json!(arm.pool.as_ref().map(|pool| pool.highest))),
        ("pending", json!(arm.pending)),
    ]
}

pub(crate) fn line(values: &[Value]) -> String {
    let fields: Vec<String> = values.iter().map(field).collect();
    fields.join(",") + "\r\n"
}

fn field(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) if is_formula(text) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Behind a semicolon or a tab a new cell begins where a spreadsheet takes these for the separator.
    match text.contains([',', '"', '\n', '\r', ';', '\t']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

fn is_formula(text: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let is_number = plain(text) && text.parse::<f64>().is_ok();
    text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{results, sheet, two_sets};

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let fields = [json!("a,b"), json!("say \"no\""), json!("two\nlines"), json!(null), json!(0.5), json!(true)];
        assert_eq!(line(&fields), "\"a,b\",\"say \"\"no\"\"\",\"two\nlines\",,0.5,true\r\n");
    }

    #[test]
    fn no_text_is_a_formula_and_a_number_stays_one() {
        for text in ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "-", "-inf", "+", "--1"] {
            assert_eq!(field(&json!(text)), format!("'{text}"), "{text}");
        }
        assert_eq!(field(&json!("=HYPERLINK(\"http://x\",\"y\")")), "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\"");
        assert_eq!(field(&json!("\t=1")), "\"'\t=1\"");
        assert_eq!(field(&json!("\r=1")), "\"'\r=1\"");
        assert_eq!(field(&json!("a;=1")), "\"a;=1\"");
        for number in ["-5", "+5.25", "-1e-3", "7"] {
            assert_eq!(field(&json!(number)), number);
        }
        assert_eq!(field(&json!(-5)), "-5");
        assert_eq!(field(&json!("a = b")), "a = b");
    }

    #[test]
    fn every_row_and_every_arm_has_a_line() {
        assert_eq!(csv_head().split(',').count(), COLUMNS.len());
        let rows = csv_rows(&sheet());
        assert_eq!(rows.matches("\r\n").count(), 3, "{rows}");
        assert!(rows.starts_with("synth/test/0,cot/big,true,1.0,answered,,12,"), "{rows}");
        assert!(rows.contains("synth/test/1,cot/big,false,0.0,error,bad-request,,"), "{rows}");
        let arms = csv_arms(&results());
        assert_eq!(arms.lines().count(), 6, "{arms}");
        assert!(
            arms.lines().nth(4).is_some_and(
                |line| line.starts_with("synth,two-stage/sd-r/big,two-stage,student:sd-r,big,300,180,0.6,")
            ),
            "{arms}"
        );
    }

    #[test]
    fn arms_on_several_data_sets_have_a_line_for_each() {
        let arms = csv_arms(&two_sets());
        let of = |set: &str| arms.lines().filter(|line| line.starts_with(set) && line.contains(",300,")).count();
        assert_eq!((of("stories,"), of("facts,"), arms.lines().count()), (5, 4, 10), "{arms}");
    }
}
