//! What an arrangement gives for what it takes: the plot of accuracy against cost.

use super::{Section, Told};
use crate::{
    html::escape::text,
    plot::{self, Page, accuracy::Axis},
    roles,
};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let results = told.results;
    let pictures = Page::BOTH.iter().map(|page| plot::accuracy::draw(results, *page)).collect::<Option<Vec<_>>>()?;
    let item = |kind: &roles::Kind| format!("<li>{}{}</li>", plot::accuracy::key(*kind), text(kind.words()));
    let key: String = plot::accuracy::kinds(results).iter().map(item).collect();
    let one_solver = results.arms.windows(2).all(|pair| pair[0].solver == pair[1].solver);
    let solver = match results.arms.first() {
        Some(arm) if one_solver && results.arms.len() > 1 => format!(" Solver throughout: {}.", text(&arm.solver)),
        _ => String::new(),
    };
    let recorded = match results.costs.iter().flat_map(|costs| &costs.arms).any(|cost| cost.recorded) {
        true => " Decompositions that came with the data take nothing here.",
        false => "",
    };
    let body = format!(
        r#"<figure>{}<ul class="key">{key}</ul><figcaption>Up and to the left is better. Bars are 95 % intervals; the dashed line joins arms that no other arm beats on both axes.{solver}{recorded}</figcaption></figure>"#,
        pictures.concat()
    );
    let title = match plot::accuracy::axis(results) {
        Axis::Dollars => "Accuracy and cost",
        Axis::Machine => "Accuracy and the machine’s time",
        Axis::Tokens => "Accuracy and tokens",
    };
    Some(Section::new("plot", title, body))
}
