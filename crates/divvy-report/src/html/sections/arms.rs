//! The table of all arms, and what their decomposers wrote.

use super::{Section, Told};
use crate::{html::table, quality, seeds, tables};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let results = told.results;
    let body = if results.arms.is_empty() {
        "<p>No arm was evaluated.</p>".to_owned()
    } else {
        let arms = table::html(&tables::arms(results));
        let further = [seeds::table(results), quality::table(results)];
        format!("{arms}{}", further.iter().flatten().map(table::html).collect::<String>())
    };
    Some(Section::new("arms-section", "Arms", body))
}
