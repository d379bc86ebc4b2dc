//! Accuracy by kind of answer, and by passage where questions share one.

use super::{Section, Told};
use crate::{html::table, slices};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let answers = slices::answers(told.results).as_ref().map(table::html).unwrap_or_default();
    let passages = slices::passages(told.results).as_ref().map(table::html);
    let passages = passages.map(|table| format!("<details><summary>By passage</summary>{table}</details>"));
    let body = answers + &passages.unwrap_or_default();
    (!body.is_empty()).then(|| Section::new("slices-section", "Slices", body))
}
