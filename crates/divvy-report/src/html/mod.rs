//! One self-contained page: verdict, plots, tables, examples. It opens from disk, loads nothing, and reads without script;
//! script adds sorting, browsing and the theme switch. Everything that came from outside is escaped.

pub(crate) mod escape;
mod examples;
mod figures;
mod table;

use divvy_core::results::Results;

use crate::{costs, markdown::notes, quality, scoring, table::Table, tables, verdict};
use escape::{escape, text};

const STYLE: &str = include_str!("../../assets/report.css");
const SCRIPT: &str = include_str!("../../assets/report.js");
/// SHA-256 of the script, in base64: the page's policy runs this script and no other. A test says the new value.
const SCRIPT_SHA256: &str = include_str!("../../assets/report.js.sha256");

/// The whole page. Pure text of the results: the same results give the same bytes.
#[must_use]
pub fn html(results: &Results) -> String {
    let sections = sections(results);
    let mut page = head(results);
    page.push_str(&header(results, &sections));
    page.push_str(r#"<main id="main">"#);
    page.push_str(&verdict_section(results));
    for (id, title, body) in &sections {
        page.push_str(&format!(
            r#"<section id="{id}" aria-labelledby="{id}-title"><h2 id="{id}-title">{title}</h2>{body}</section>"#
        ));
    }
    page.push_str("</main>");
    page.push_str(&footer(results));
    page.push_str("</body></html>\n");
    page
}

fn head(results: &Results) -> String {
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        SCRIPT_SHA256.trim()
    );
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{} · divvy</title>\
         <style>{STYLE}</style><script>{SCRIPT}</script></head><body>",
        escape(&results.name)
    )
}

fn header(results: &Results, sections: &[Section]) -> String {
    let links: String = sections.iter().map(|(id, title, _)| format!(r##"<a href="#{id}">{title}</a>"##)).collect();
    format!(
        r##"<a class="skip" href="#main">Skip to the verdict</a><header><p class="brand">divvy <span>report</span></p><h1>{}</h1><button type="button" id="theme" class="needs-script" aria-pressed="false">Dark</button></header><nav aria-label="Sections">{links}</nav>"##,
        text(&results.name)
    )
}

fn verdict_section(results: &Results) -> String {
    let verdict = verdict::verdict(results);
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
    let list = if findings.is_empty() { String::new() } else { format!("<ul>{}</ul>", findings.concat()) };
    let entry = |(label, line): &(&str, String)| format!("<dt>{label}</dt><dd>{}</dd>", text(line));
    let summary: String = verdict.summary.iter().map(entry).collect();
    let summary = if summary.is_empty() { summary } else { format!("<dl>{summary}</dl>") };
    format!(
        r#"<section class="verdict {}" aria-labelledby="verdict-title"><p class="eyebrow">Which part should you distil?</p><h2 id="verdict-title">{}</h2>{summary}{list}{more}</section>"#,
        verdict.answer.word(),
        text(&verdict.headline),
    )
}

/// Element id, title, body.
type Section = (&'static str, &'static str, String);

fn sections(results: &Results) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    sections.extend(figures::accuracy(results).map(|body| ("plot", "Accuracy and tokens", body)));
    sections.push(("arms-section", "Arms", arms(results)));
    let costs: String = costs::tables(results).iter().map(table::html).collect();
    if !costs.is_empty() {
        sections.push(("costs-section", "Costs", costs));
    }
    let comparisons = tables::comparisons(results);
    let none = "<p>No two arms were compared.</p>".to_owned();
    let body = if comparisons.rows.is_empty() { none } else { table::html(&comparisons) };
    sections.push(("comparisons-section", "Paired comparisons", body));
    let scoring: String = scoring::tables(results).iter().map(table::html).collect();
    if !scoring.is_empty() {
        sections.push(("scoring-section", "Scorers", scoring));
    }
    sections.extend(figures::steps(results).map(|body| ("steps-section", "Reasoning steps", body)));
    sections.extend(examples::html(results).map(|body| ("examples", "Examples", body)));
    sections.extend(figures::training(results).map(|body| ("training-section", "Training", body)));
    let optional = |table: Option<Table>| table.as_ref().map(table::html);
    sections.extend(optional(tables::collection(results)).map(|body| ("collection-section", "Collection", body)));
    sections.extend(optional(tables::screening(results)).map(|body| ("screening-section", "Screening", body)));
    let run: String = [tables::datasets(results), tables::models(results), tables::stages(results)]
        .into_iter()
        .filter_map(optional)
        .collect();
    if !run.is_empty() {
        sections.push(("run", "The run", format!(r#"<div class="columns">{run}</div>"#)));
    }
    sections
}

fn arms(results: &Results) -> String {
    if results.arms.is_empty() {
        return "<p>No arm was evaluated.</p>".to_owned();
    }
    let arms = table::html(&tables::arms(results));
    format!("{arms}{}", quality::table(results).as_ref().map(table::html).unwrap_or_default())
}

fn footer(results: &Results) -> String {
    let notes: String = notes(results).iter().map(|note| format!("<li>{}</li>", text(note))).collect();
    format!(r#"<footer aria-labelledby="notes-title"><h2 id="notes-title">Notes</h2><ul>{notes}</ul></footer>"#)
}
