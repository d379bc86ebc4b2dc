//! Plots with their captions and keys, and the tables that belong to them.

use divvy_core::results::Results;

use super::{escape::text, table};
use crate::{
    efficiency,
    plot::{self, Page},
    roles, slices, tables,
};

pub(crate) fn accuracy(results: &Results) -> Option<String> {
    let pictures = Page::BOTH.iter().map(|page| plot::accuracy::draw(results, *page)).collect::<Option<Vec<_>>>()?;
    let item = |kind: &roles::Kind| format!("<li>{}{}</li>", plot::accuracy::key(*kind), text(kind.words()));
    let key: String = plot::accuracy::kinds(results).iter().map(item).collect();
    let one_solver = results.arms.windows(2).all(|pair| pair[0].solver == pair[1].solver);
    let solver = match results.arms.first() {
        Some(arm) if one_solver && results.arms.len() > 1 => format!(" Solver throughout: {}.", text(&arm.solver)),
        _ => String::new(),
    };
    Some(format!(
        r#"<figure>{}<ul class="key">{key}</ul><figcaption>Up and to the left is better. Bars are 95 % intervals; the dashed line joins arms that no other arm beats on both axes.{solver}</figcaption></figure>"#,
        pictures.concat()
    ))
}

pub(crate) fn steps(results: &Results) -> Option<String> {
    let table = tables::steps(results)?;
    let panel = |(name, picture): &(String, String)| format!("<div><p>{}</p>{picture}</div>", text(name));
    let panels: String = plot::steps::draw(results).iter().map(panel).collect();
    Some(format!(
        r#"<figure><div class="panels">{panels}</div><figcaption>Accuracy in % by number of reasoning steps, with 95 % intervals; the other arms in grey.</figcaption></figure><details><summary>The figures</summary>{}</details>"#,
        table::html(&table)
    ))
}

/// By kind of answer, and by passage where questions share one.
pub(crate) fn slices(results: &Results) -> Option<String> {
    let answers = slices::answers(results).as_ref().map(table::html);
    let passages = slices::passages(results).as_ref().map(table::html);
    let passages = passages.map(|table| format!("<details><summary>By passage</summary>{table}</details>"));
    (answers.is_some() || passages.is_some())
        .then(|| format!("{}{}", answers.unwrap_or_default(), passages.unwrap_or_default()))
}

pub(crate) fn efficiency(results: &Results) -> Option<String> {
    let pictures = Page::BOTH.iter().map(|page| plot::efficiency::draw(results, *page)).collect::<Option<Vec<_>>>()?;
    let table = efficiency::table(results).as_ref().map(table::html).unwrap_or_default();
    Some(format!(
        r#"<figure>{}<figcaption>Accuracy in % by number of training rows, with 95 % intervals. The rows of a smaller student are among those of a larger one.</figcaption></figure><details><summary>The figures</summary>{table}</details>"#,
        pictures.concat()
    ))
}

pub(crate) fn training(results: &Results) -> Option<String> {
    let table = tables::training(results)?;
    let figures: String = results.training.iter().filter_map(curve).collect();
    Some(format!("{figures}{}", table::html(&table)))
}

fn curve(training: &divvy_core::results::TrainingSummary) -> Option<String> {
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
