//! How good decompositions are. Of one data set this stands below the arms.

use super::{Section, Told};
use crate::{html::table, quality};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let several = !told.results.by_dataset.is_empty();
    let body = table::html(&quality::table(told.results).filter(|_| several)?);
    Some(Section::new("quality-section", "Decompositions", body))
}
