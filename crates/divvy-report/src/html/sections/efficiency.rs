//! Accuracy by number of training rows: a plot, and the figures.

use super::{Section, Told};
use crate::{
    efficiency,
    html::table,
    plot::{self, Page},
};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let results = told.results;
    let pictures = Page::BOTH.iter().map(|page| plot::efficiency::draw(results, *page)).collect::<Option<Vec<_>>>()?;
    let table = efficiency::table(results).as_ref().map(table::html).unwrap_or_default();
    let body = format!(
        r#"<figure>{}<figcaption>Accuracy in % by number of training rows, with 95 % intervals. The rows of a smaller student are among those of a larger one.</figcaption></figure><details><summary>The figures</summary>{table}</details>"#,
        pictures.concat()
    );
    Some(Section::new("efficiency-section", "Training rows", body))
}
