//! Outcomes to publish (CSV): a line for every graded row, in numbers and in names of the recipe. No text of a data set or of a
//! model is among them, so that they may go where the data set may not.

use divvy_core::{
    digest::Digest,
    graded::{Asked, GradedRow, Sheet, answer_of},
    results::costs::Tokens,
};
use serde_json::{Value, json};

use crate::csv::line;

/// Of a question's digest: enough for a million questions without two alike.
const DIGITS: usize = 16;

/// A stable surface: columns are added at the end.
const COLUMNS: [&str; 17] = [
    "question",
    "dataset",
    "arm",
    "repeat",
    "scorer",
    "correct",
    "score",
    "outcome",
    "reason",
    "steps",
    "subquestions",
    "decompose_in",
    "decompose_cached",
    "decompose_out",
    "solve_in",
    "solve_cached",
    "solve_out",
];

/// Names of the columns of [`outcomes_rows`].
#[must_use]
pub fn outcomes_head() -> String {
    line(&COLUMNS.map(Value::from))
}

/// The rows of one sheet.
#[must_use]
pub fn outcomes_rows(sheet: &Sheet) -> String {
    let rows = sheet.questions.iter().flat_map(|asked| asked.rows.iter().map(move |row| (asked, row)));
    rows.map(|(asked, row)| line(&values(sheet, asked, row))).collect()
}

fn values(sheet: &Sheet, asked: &Asked, row: &GradedRow) -> [Value; COLUMNS.len()] {
    let (arm, repeat) = answer_of(&sheet.arms[row.arm]);
    let (all, decomposing) = (row.tokens, row.decomposing);
    let decompose = |of: fn(Tokens) -> u64| json!(all.map(|_| of(decomposing)));
    let solve = |of: fn(Tokens) -> u64| json!(all.map(|all| of(all) - of(decomposing)));
    [
        json!(&Digest::of_bytes(asked.id.as_bytes()).hex()[..DIGITS]),
        json!(asked.dataset),
        json!(arm),
        json!(repeat + 1),
        json!(asked.scorer),
        json!(row.correct),
        json!(row.score),
        json!(row.outcome),
        json!(row.reason),
        json!(asked.steps),
        json!(row.decomposed),
        decompose(|tokens| tokens.input),
        decompose(|tokens| tokens.cached),
        decompose(|tokens| tokens.output),
        solve(|tokens| tokens.input),
        solve(|tokens| tokens.cached),
        solve(|tokens| tokens.output),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sheet;

    #[test]
    fn a_line_has_numbers_and_names_and_no_text() {
        let mut sheet = sheet();
        // An arm's second answer to a question.
        sheet.arms = [sheet.arms[0].clone(), format!("{} (2)", sheet.arms[1])].into();
        // `printf %s synth/test/0 | b3sum | cut -c1-16`, and of synth/test/1.
        let lines = [
            "f06308506d0eefd1,synth,cot/big,1,numeric,true,1.0,answered,,2,,0,0,0,90,0,8",
            "f06308506d0eefd1,synth,two-stage/sd-r/big,2,numeric,true,1.0,answered,,2,1,90,64,8,90,0,8",
            "cc24d1f60c10dd4f,synth,cot/big,1,numeric,false,0.0,error,bad-request,2,,0,0,0,90,0,8",
        ];
        let rows = outcomes_rows(&sheet);
        assert_eq!(rows.lines().collect::<Vec<_>>(), lines);
        for asked in &sheet.questions {
            let texts = asked.gold.iter().chain([&asked.question]).chain(asked.rows.iter().map(|row| &row.reply));
            let published: Vec<&str> = rows.split([',', '\n']).collect();
            assert!(texts.filter(|text| !text.is_empty()).all(|text| !published.contains(&text.as_str())), "{rows}");
        }
        sheet.questions[0].rows[0].tokens = None;
        assert!(
            outcomes_rows(&sheet)
                .starts_with("f06308506d0eefd1,synth,cot/big,1,numeric,true,1.0,answered,,2,,,,,,,\r\n")
        );
        assert_eq!(outcomes_head().split(',').count(), rows.lines().next().map_or(0, |line| line.split(',').count()));
    }
}
