//! What each worker does, written behind `--` as it would be typed on one machine:
//! `divvy submit --ray URL -- collect my-task.toml --shards 8`. It says what `--stage`, `--workers`, `--data` and the recipe
//! say before it, and nothing else: what is the cluster's stays there.

use std::path::{Path, PathBuf};

use clap::Parser;

use super::{Asked, Stage};
use crate::{
    cli::{Place, RECIPE},
    output::Usage,
};

/// Words behind `--`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, bin_name = "divvy submit … --", disable_help_flag = true)]
struct Line {
    stage: Stage,
    recipe: Option<PathBuf>,
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How many do it
    #[arg(long, alias = "workers", value_name = "N", value_parser = super::count())]
    shards: Option<u32>,
}

/// Puts what it says where the flags would have put it.
pub(super) fn take(place: &mut Place, asked: &mut Asked) -> Result<(), Usage> {
    if asked.line.is_empty() {
        return Ok(());
    }
    let line = Line::try_parse_from(&asked.line).map_err(|error| refused(&error))?;
    if let Some(recipe) = line.recipe {
        one(&place.recipe, &recipe)?;
        place.recipe = recipe;
    }
    place.data = line.data;
    asked.stage = line.stage;
    asked.workers = line.shards;
    if asked.workers.is_none() && !asked.cluster.only_looks() {
        return Err(Usage(format!("behind `--`: how many? write {} --shards 8", asked.stage.command())));
    }
    Ok(())
}

/// A recipe on either side, and not two.
fn one(before: &Path, behind: &Path) -> Result<(), Usage> {
    if before == Path::new(RECIPE) || before == behind {
        return Ok(());
    }
    let [before, behind] = [before, behind].map(Path::display);
    Err(Usage(format!("`{before}` stands before `--` and `{behind}` behind it; name one recipe")))
}

fn refused(error: &clap::Error) -> Usage {
    let told = error.to_string();
    Usage(format!(
        "behind `--`: {}\nthere stands what each worker does, as in `-- collect my-task.toml --shards 8`; --store and all \
         that is the cluster's go before it",
        told.trim_start_matches("error: ").trim_end()
    ))
}
