//! The answer in words, on top of the page: of the run, or of each of its data sets.

use divvy_core::results::Results;

use super::escape::text;
use crate::{
    sets,
    verdict::{self, Verdict},
};

pub(super) fn section(results: &Results) -> String {
    if !results.by_dataset.is_empty() {
        return by_set(results);
    }
    let verdict = verdict::verdict(results);
    format!(
        r#"<section class="verdict {}" aria-labelledby="verdict-title"><p class="eyebrow">Which part should you distil?</p><h2 id="verdict-title">{}</h2>{}</section>"#,
        verdict.answer.word(),
        text(&verdict.headline),
        findings(&verdict),
    )
}

fn by_set(results: &Results) -> String {
    let verdicts = sets::verdicts(results);
    let title = text(&sets::title(&verdicts));
    let answers: String = verdicts
        .iter()
        .map(|(set, verdict)| {
            format!("<li><strong>{}</strong>: {}{}</li>", text(set), text(&verdict.headline), list(&verdict.brief))
        })
        .collect();
    format!(
        r#"<section class="verdict by-dataset" aria-labelledby="verdict-title"><p class="eyebrow">Which part should you distil?</p><h2 id="verdict-title">{title}</h2><ul>{answers}</ul></section>"#
    )
}

/// Within the section of one data set of several.
pub(super) fn of_set(results: &Results) -> String {
    let verdict = verdict::verdict(results);
    format!(
        r#"<div class="verdict {}"><p><strong>{}</strong></p>{}</div>"#,
        verdict.answer.word(),
        text(&verdict.headline),
        findings(&verdict)
    )
}

/// The first three at once, the rest below.
fn findings(verdict: &Verdict) -> String {
    let mut findings: Vec<String> =
        verdict.findings.iter().map(|finding| format!("<li>{}</li>", text(finding))).collect();
    let rest = findings.split_off(findings.len().min(3));
    let more = if rest.is_empty() {
        String::new()
    } else {
        format!(
            r#"<details open class="more"><summary>Limits, cost and what else was measured</summary><ul>{}</ul></details>"#,
            rest.concat()
        )
    };
    let findings = if findings.is_empty() { String::new() } else { format!("<ul>{}</ul>", findings.concat()) };
    format!("{}{findings}{more}", list(&verdict.summary))
}

fn list(lines: &[(&'static str, String)]) -> String {
    let entry = |(label, line): &(&str, String)| format!("<dt>{label}</dt><dd>{}</dd>", text(line));
    let entries: String = lines.iter().map(entry).collect();
    if entries.is_empty() { entries } else { format!("<dl>{entries}</dl>") }
}
