//! From candidates to kept rows.

use super::{Section, Told};
use crate::{html::table, tables};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let body = table::html(&tables::screening(told.results)?);
    Some(Section::new("screening-section", "Screening", body))
}
