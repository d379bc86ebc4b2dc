//! `divvy export`: a trained student as a directory of its own.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    cli::Place,
    output::{Usage, say},
    session::{Access, Session},
};

pub(crate) async fn run(place: &Place, student: &str, out: &Path) -> anyhow::Result<()> {
    let session = Session::open(place, Access::Look).await?;
    let context = &session.context;
    if !context.plan.students.contains_key(student) {
        let known: Vec<&str> = context.plan.students.keys().map(String::as_str).collect();
        return Err(
            Usage(format!("--student: the recipe has no student `{student}`; it has {}", known.join(", "))).into()
        );
    }
    let key = divvy_flow::train::key(context, student).await?;
    let Some(artefact) = divvy_flow::train::find(context, &key).await? else {
        anyhow::bail!("`{student}` is not trained yet; run `divvy train {}` first", place.recipe.display());
    };
    if out.exists() {
        return Err(Usage(format!("--out: `{}` is already there; name a new folder", out.display())).into());
    }
    copy(&artefact.path, out)?;
    say(&format!("wrote {} ({} rows, digest {})", out.display(), artefact.rows, &artefact.content[..12]));
    Ok(())
}

/// Whole files into a folder beside the target, renamed at the end.
fn copy(from: &Path, out: &Path) -> anyhow::Result<()> {
    let partial = out.with_extension("partial");
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot make `{}`", partial.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))? {
        let path = entry?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            std::fs::copy(&path, partial.join(name)).with_context(|| format!("cannot copy `{}`", path.display()))?;
        }
    }
    std::fs::rename(&partial, out).with_context(|| format!("cannot write `{}`", out.display()))
}
