//! What was run: data sets, models, wall times.

use super::{Section, Told};
use crate::{html::table, tables};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let results = told.results;
    let tables = [tables::datasets(results), tables::models(results), tables::stages(results)];
    let run: String = tables.iter().flatten().map(table::html).collect();
    (!run.is_empty()).then(|| Section::new("run", "The run", format!(r#"<div class="columns">{run}</div>"#)))
}
