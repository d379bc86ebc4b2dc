//! From questions asked of the teacher to decompositions that can be used.

use super::{Section, Told};
use crate::{html::table, tables};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let body = table::html(&tables::collection(told.results)?);
    Some(Section::new("collection-section", "Collection", body))
}
