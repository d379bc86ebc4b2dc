//! `divvy report`: the figures of a recipe as Markdown, JSON or a page, from the store alone.

use std::path::Path;

use anyhow::Context as _;
use divvy_core::results::Results;

use crate::{
    cli::Place,
    output::{print, say},
    session::{Access, Session, short},
};

pub(crate) async fn run(place: &Place, json: bool, html: Option<&Path>) -> anyhow::Result<()> {
    let session = Session::open(place, Access::Look).await?;
    let results = session.results().await?;
    if let Some(path) = html {
        write_page(&results, path)?;
        say(&format!("report: {}", path.display()));
    }
    if results.arms.is_empty() && results.screening.as_ref().is_none_or(|screening| screening.candidates == 0) {
        say(&format!(
            "nothing is recorded yet for plan {}; `divvy run {}` does the work",
            short(&session.context.digest),
            place.recipe.display()
        ));
        session.mention_other_plans().await?;
    }
    let text = if json {
        serde_json::to_string_pretty(&divvy_report::json(&results))?
    } else {
        divvy_report::markdown(&results)
    };
    Ok(print(&text)?)
}

/// Written beside and renamed, so that a reader never sees half a page.
pub(crate) fn write_page(results: &Results, path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    }
    let beside = path.with_extension("html.partial");
    std::fs::write(&beside, divvy_report::html(results))
        .with_context(|| format!("cannot write `{}`", beside.display()))?;
    std::fs::rename(&beside, path).with_context(|| format!("cannot write `{}`", path.display()))
}

/// A run's name as a file name: letters, digits, `-`, `_` and `.`; anything else becomes `-`.
pub(crate) fn file_name(name: &str) -> String {
    let safe: String = name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    if safe.trim_matches(['.', '-']).is_empty() { "run".to_owned() } else { safe }
}
