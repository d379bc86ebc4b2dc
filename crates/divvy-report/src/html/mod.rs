//! One self-contained page: verdict, plots, tables, rows. It opens from disk, loads nothing but rows that lie beside it, and
//! reads without script; script adds sorting, filtering, browsing and the theme switch. Everything that came from outside is
//! escaped.

pub(crate) mod escape;
mod sections;
mod table;
mod verdict;

use divvy_core::results::Results;

use crate::{
    markdown::notes,
    rows::{self, Rows},
};
use escape::{escape, text};
use sections::{Section, Told};

const STYLE: &str = concat!(include_str!("../../assets/report.css"), include_str!("../../assets/rows.css"));
/// One script, since the page's policy knows one; in files, since each is one thing.
pub(crate) const SCRIPT: &str = concat!(
    include_str!("../../assets/report/theme.js"),
    include_str!("../../assets/report/tables.js"),
    include_str!("../../assets/report/chunks.js"),
    include_str!("../../assets/report/matches.js"),
    include_str!("../../assets/report/row.js"),
    include_str!("../../assets/report/browser.js"),
);
/// SHA-256 of the script, in base64: the page's policy runs this script and no other. A test says the new value.
const SCRIPT_SHA256: &str = include_str!("../../assets/report.js.sha256");

/// The whole page. Pure text of the results and their rows: the same give the same bytes.
#[must_use]
pub fn html(results: &Results, rows: &Rows) -> String {
    let sections = sections::all(Told { results, rows });
    let mut page = head(results, rows);
    page.push_str(&header(results, &sections));
    page.push_str(r#"<main id="main">"#);
    page.push_str(&verdict::section(results));
    for Section { id, title, body } in &sections {
        page.push_str(&format!(
            r#"<section id="{id}" aria-labelledby="{id}-title"><h2 id="{id}-title">{}</h2>{body}</section>"#,
            text(title)
        ));
    }
    page.push_str("</main>");
    page.push_str(&footer(results));
    // Behind everything that is read at first.
    page.push_str(&rows::data(rows));
    page.push_str("</body></html>\n");
    page
}

fn head(results: &Results, rows: &Rows) -> String {
    // The script may load the files beside the page, and nobody else may load anything.
    let dynamic = if rows.beside() { " 'strict-dynamic'" } else { "" };
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'{dynamic}; base-uri 'none'; form-action 'none'",
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
    let links: String =
        sections.iter().map(|Section { id, title, .. }| format!(r##"<a href="#{id}">{}</a>"##, text(title))).collect();
    format!(
        r##"<a class="skip" href="#main">Skip to the verdict</a><header><p class="brand">divvy <span>report</span></p><h1>{}</h1><button type="button" id="theme" class="needs-script" aria-pressed="false">Dark</button></header><nav aria-label="Sections">{links}</nav>"##,
        text(&results.name)
    )
}

fn footer(results: &Results) -> String {
    let notes: String = notes(results).iter().map(|note| format!("<li>{}</li>", text(note))).collect();
    format!(r#"<footer aria-labelledby="notes-title"><h2 id="notes-title">Notes</h2><ul>{notes}</ul></footer>"#)
}
