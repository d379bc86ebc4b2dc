//! What scorers say, where more than one was asked.

use super::{Section, Told};
use crate::{html::table, scoring};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let body: String = scoring::tables(told.results).iter().map(table::html).collect();
    (!body.is_empty()).then_some(Section::new("scoring-section", "Scorers", body))
}
