//! How the students learnt: a curve each, and the figures.

use divvy_core::results::TrainingSummary;

use super::{Section, Told};
use crate::{
    chosen,
    html::{escape::text, table},
    plot::{self, Page},
    roles, tables,
};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let table = tables::training(told.results)?;
    let figures: String = told.results.training.iter().filter_map(curve).collect();
    let chosen = [chosen::sweeps(told.results), chosen::steps(told.results)];
    let tables: String = [Some(table)].iter().chain(&chosen).flatten().map(table::html).collect();
    Some(Section::new("training-section", "Training", format!("{figures}{tables}")))
}

fn curve(training: &TrainingSummary) -> Option<String> {
    let pictures = Page::BOTH.iter().map(|page| plot::training::draw(training, *page)).collect::<Option<Vec<_>>>()?;
    Some(format!(
        r#"<figure>{}<figcaption>{}: {} from {}, {}.</figcaption></figure>"#,
        pictures.concat(),
        text(roles::plain(&training.student)),
        text(&training.target),
        text(&training.base),
        text(&training.method),
    ))
}
