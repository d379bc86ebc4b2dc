//! What decomposing gains by number of steps, accuracy by kind of answer, by the teacher's number of subquestions where no steps are known, and by passage where questions share one.

use super::{Section, Told};
use crate::{html::table, slices};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let results = told.results;
    let across = [slices::gains(results), slices::answers(results), slices::subquestions(results)];
    let across: String = across.iter().flatten().map(table::html).collect();
    let passages = slices::passages(results).as_ref().map(table::html);
    let passages = passages.map(|table| format!("<details><summary>By passage</summary>{table}</details>"));
    let body = across + &passages.unwrap_or_default();
    (!body.is_empty()).then(|| Section::new("slices-section", "Slices", body))
}
