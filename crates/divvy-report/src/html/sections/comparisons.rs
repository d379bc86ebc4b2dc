//! Paired differences on the same questions.

use super::{Section, Told};
use crate::{html::table, tables};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let comparisons = tables::comparisons(told.results);
    let none = "<p>No two arms were compared.</p>".to_owned();
    let body = if comparisons.rows.is_empty() { none } else { table::html(&comparisons) };
    Some(Section::new("comparisons-section", "Paired comparisons", body))
}
