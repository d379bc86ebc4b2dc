//! Accuracy by number of reasoning steps: a panel an arm, and the figures.

use super::{Section, Told};
use crate::{
    html::{escape::text, table},
    plot, tables,
};

pub(super) fn section(told: Told<'_>) -> Option<Section> {
    let table = tables::steps(told.results)?;
    let panel = |(name, picture): &(String, String)| format!("<div><p>{}</p>{picture}</div>", text(name));
    let panels: String = plot::steps::draw(told.results).iter().map(panel).collect();
    let body = format!(
        r#"<figure><div class="panels">{panels}</div><figcaption>Accuracy in % by number of reasoning steps, with 95 % intervals; the other arms in grey.</figcaption></figure><details><summary>The figures</summary>{}</details>"#,
        table::html(&table)
    );
    Some(Section::new("steps-section", "Reasoning steps", body))
}
