//! What was paid, and what distilling saves.

use super::{Section, Told};
use crate::{costs, html::table};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let body: String = costs::tables(told.results).iter().map(table::html).collect();
    (!body.is_empty()).then(|| Section::new("costs-section", "Costs", body))
}
