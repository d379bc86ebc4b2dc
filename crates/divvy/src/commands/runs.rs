//! `divvy runs`: what was run in a store, newest first.

use std::path::Path;

use divvy_store::{RunRow, RunStatus, Store, StoreError};
use serde_json::{Value, json};

use crate::{
    clock,
    home::Home,
    output::{print, say},
    session::{Access, short},
};

pub(crate) async fn run(store: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
    let store = Home::new(store, None).open(Access::Look).await?;
    let runs = all(&store).await?;
    for (run, word) in &runs {
        print(&if as_json { value(run, word).to_string() } else { format!("{}  {word}", line(run)) })?;
    }
    if runs.is_empty() {
        say("no runs; `divvy run RECIPE` makes one");
    }
    Ok(())
}

/// Every run, newest first, and how it stands. One that was killed could not say so: only the newest can be at work, and
/// only while somebody writes to the store.
pub(crate) async fn all(store: &Store) -> Result<Vec<(RunRow, &'static str)>, StoreError> {
    let written = store.is_being_written().await?;
    let runs = store.runs().await?;
    let stands = |(at, run): (usize, RunRow)| {
        let word = word(&run, at == 0 && written);
        (run, word)
    };
    Ok(runs.into_iter().enumerate().map(stands).collect())
}

/// Which run it is.
pub(crate) fn line(run: &RunRow) -> String {
    format!("{:>4}  {}  {}  {}", run.id.0, short(&run.plan), clock::rfc3339(run.started_ms), run.name)
}

pub(crate) fn value(run: &RunRow, word: &str) -> Value {
    json!({
        "id": run.id.0, "plan": run.plan.hex(), "recipe": run.name, "version": run.version, "status": word,
        "started": clock::rfc3339(run.started_ms), "ended": run.ended_ms.map(clock::rfc3339),
    })
}

fn word(run: &RunRow, at_work: bool) -> &'static str {
    match run.status {
        RunStatus::Running if at_work => "running",
        RunStatus::Running => "killed",
        RunStatus::Done => "done",
        RunStatus::Failed => "failed",
        RunStatus::Stopped => "stopped",
        RunStatus::Interrupted => "interrupted",
    }
}
