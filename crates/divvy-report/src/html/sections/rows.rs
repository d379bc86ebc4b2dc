//! Every row with its calls: a frame that the page's script fills. Whoever reads without script has a few examples of each arm.

use super::{Section, Told, examples};
use crate::number;

/// Filters, a list of rows, and a pager; what is in the rows comes from the page's data.
const BROWSER: &str = r#"<div class="browser needs-script" id="browser"><div class="controls"><label class="field">Arm <select id="rows-arm"></select></label><label class="field">Show <select id="rows-state"></select></label><label class="field">Differs from <select id="rows-against"></select></label><label class="field wide">Text <input type="search" id="rows-text" placeholder="in questions, replies, answers, ids"></label></div><div class="controls"><output id="rows-found" aria-live="polite"></output><div class="pager"><button type="button" id="rows-previous" aria-label="Previous rows">←</button><output id="rows-where"></output><button type="button" id="rows-next" aria-label="Next rows">→</button></div></div><p class="problem" id="rows-problem" role="alert" hidden></p><ol class="rows" id="rows-list"></ol></div>"#;

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let examples = examples::html(told.results);
    if told.rows.any() {
        let count = number::count(told.rows.count());
        let few = examples.map(|few| format!(r#"<div class="without-script">{few}</div>"#)).unwrap_or_default();
        let body = format!(
            r#"<p class="note needs-script">All {count} graded rows, each with the calls behind it.</p>{BROWSER}{few}"#
        );
        return Some(Section::new("rows", "Rows", body));
    }
    let note = if told.rows.too_many() {
        let count = number::count(told.rows.count());
        format!(
            r#"<p class="note">There are {count} rows, too many for one file; <code>divvy report --html FILE</code> writes them beside the page. A few of each arm:</p>"#
        )
    } else {
        String::new()
    };
    Some(Section::new("rows", "Rows", format!("{note}{}", examples?)))
}
