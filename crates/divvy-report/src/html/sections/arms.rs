//! The table of all arms, and what their decomposers wrote.

use super::{Section, Told};
use crate::{html::table, quality, tables};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let results = told.results;
    let body = if results.arms.is_empty() {
        "<p>No arm was evaluated.</p>".to_owned()
    } else {
        let arms = table::html(&tables::arms(results));
        format!("{arms}{}", quality::table(results).as_ref().map(table::html).unwrap_or_default())
    };
    Some(Section::new("arms-section", "Arms", body))
}
