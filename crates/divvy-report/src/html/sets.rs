//! Several data sets on one page: all answers first, the arms side by side, then each data set as a page of one would tell
//! it.

use divvy_core::results::Results;

use super::{Section, escape::text, findings, of_one_set, section, table};
use crate::{sets, verdict};

/// An answer for each data set.
pub(super) fn verdicts(results: &Results) -> String {
    let answers: String = sets::verdicts(results)
        .iter()
        .map(|(set, verdict)| format!("<li><strong>{}</strong>: {}</li>", text(set), text(&verdict.headline)))
        .collect();
    format!(
        r#"<section class="verdict by-dataset" aria-labelledby="verdict-title"><p class="eyebrow">Which part should you distil?</p><h2 id="verdict-title">Each data set has its own answer.</h2><ul>{answers}</ul></section>"#
    )
}

pub(super) fn sections(results: &Results) -> Vec<Section> {
    let overview = sets::overview(results).as_ref().map(table::html).unwrap_or_default();
    let mut sections = vec![section("data-sets-section", "Data sets", overview)];
    for (number, (set, one)) in (1..).zip(results.by_data_set()) {
        sections.push(section(&format!("set-{number}"), set, numbered(&of_set(&one), number)));
    }
    sections
}

fn of_set(results: &Results) -> String {
    let verdict = verdict::verdict(results);
    let parts: String =
        of_one_set(results).iter().map(|(_, title, body)| format!("<h3>{}</h3>{body}", text(title))).collect();
    format!(
        r#"<div class="verdict {}"><p><strong>{}</strong></p>{}</div>{parts}"#,
        verdict.answer.word(),
        text(&verdict.headline),
        findings(&verdict)
    )
}

/// Ids are unique on a page: those of a data set get its number. Ids are ours, and no text from outside has a bare quote.
fn numbered(body: &str, number: usize) -> String {
    let mut numbered = String::with_capacity(body.len());
    for (at, part) in body.split('"').enumerate() {
        let is_id = at % 2 == 1 && (numbered.ends_with(r#" id=""#) || numbered.ends_with(r#" aria-labelledby=""#));
        numbered.push_str(part);
        if is_id {
            numbered.push_str(&format!("-{number}"));
        }
        numbered.push('"');
    }
    numbered.pop();
    numbered
}
