//! `divvy report --compare A B`: two runs of the store, or two recipes, on the questions that both were asked.

use std::path::Path;

use divvy_core::{
    digest::derive_seed,
    regression::{self, Regression, RunRows},
};
use divvy_flow::{
    context::Context,
    rows::{self, Make, OfCalls},
};

use super::{Asked, Source, usage, write};
use crate::{
    cli::{Format, Place},
    output::{Unjudged, print, say},
    session::short,
};

pub(super) async fn run(place: &Place, before: &str, after: &str, asked: &Asked) -> anyhow::Result<()> {
    let format = format(asked)?;
    let (before, after) = (open(place, before).await?, open(place, after).await?);
    if before.context().digest == after.context().digest {
        let plan = short(&before.context().digest);
        return usage(format!("--compare: both are plan {plan}, whose rows are the same; name two that differ"));
    }
    let (was, is) = futures::try_join!(rows(before.context()), rows(after.context()))?;
    let seed = derive_seed(after.context().plan.seed, "bootstrap");
    let found = regression::compare(&was, &is, seed);
    let (before, after) = (before.label(), after.label());
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&divvy_report::compare_json(&before, &after, &found))?,
        _ => divvy_report::compare_markdown(&before, &after, &found),
    };
    match &asked.out {
        Some(path) => {
            write(path, &text)?;
            say(&format!("report: {}", path.display()));
        }
        None => print(&text)?,
    }
    if found.arms.iter().all(|arm| arm.n == 0) {
        anyhow::ensure!(!asked.fail_on_regression, "nothing can be compared: no arm has a question in both runs");
        say("nothing can be compared: no arm has a question in both runs");
    }
    if asked.fail_on_regression { judge(&found) } else { Ok(()) }
}

/// What is shown to be worse comes before what cannot be judged.
fn judge(found: &Regression) -> anyhow::Result<()> {
    let worse: Vec<&str> = found.worse().map(|arm| arm.arm.as_str()).collect();
    anyhow::ensure!(worse.is_empty(), "regression: {} (Holm p < 0.05)", worse.join(", "));
    let unjudged: Vec<&str> = found.unjudged().map(|arm| arm.arm.as_str()).collect();
    if !unjudged.is_empty() {
        let text = format!(
            "not judged: {}; more than 1 % of its answers failed for reasons outside the models or are still to come, or it has no \
             question in both runs: `divvy status` has the reasons, and `divvy run` again asks only for those",
            unjudged.join(", ")
        );
        return Err(Unjudged(text).into());
    }
    if !found.only_before.is_empty() {
        let text = format!(
            "not judged: {}; the run after has no such arm: give it one, or compare without --fail-on-regression",
            found.only_before.join(", ")
        );
        return Err(Unjudged(text).into());
    }
    Ok(())
}

/// A comparison is Markdown or JSON.
fn format(asked: &Asked) -> anyhow::Result<Format> {
    let by_ending = asked.out.as_ref().is_some_and(|out| out.extension().is_some_and(|ending| ending == "json"));
    match asked.formats[..] {
        [] if asked.json || by_ending => Ok(Format::Json),
        [] => Ok(Format::Md),
        [format @ (Format::Md | Format::Json)] => Ok(format),
        _ => usage("--compare is written as md or json".to_owned()),
    }
}

/// A file is a recipe; anything else is a run.
async fn open(place: &Place, name: &str) -> anyhow::Result<Source> {
    let path = Path::new(name);
    if path.exists() || path.extension().is_some_and(|ending| ending == "toml") {
        return Source::open(&Place { recipe: path.to_owned(), ..place.clone() }, None).await;
    }
    Source::open_run(place, name, "--compare").await
}

async fn rows(context: &Context) -> anyhow::Result<RunRows> {
    let mut rows = RunRows::default();
    let Some(plan) = &context.plan.evaluate else { return Ok(rows) };
    let one = |sheet: &_| {
        let mut rows = RunRows::default();
        rows.add(sheet);
        rows
    };
    rows::each(context, plan, Make::new(OfCalls::Nothing, one), |more| {
        rows.append(more);
        Ok(())
    })
    .await?;
    Ok(rows)
}
