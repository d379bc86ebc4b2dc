//! What was run: data sets, models, wall times.

use super::{Section, Told};
use crate::{
    html::{escape::text, table},
    tables,
};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let results = told.results;
    let what = [tables::datasets(results), tables::models(results)];
    let note = text(tables::STAGES_NOTE);
    let stages = tables::stages(results);
    let stages = stages.map(|stages| format!(r#"<div>{}<p class="note">{note}</p></div>"#, table::html(&stages)));
    let run: String = what.iter().flatten().map(table::html).chain(stages).collect();
    (!run.is_empty()).then(|| Section::new("run", "The run", format!(r#"<div class="columns">{run}</div>"#)))
}
