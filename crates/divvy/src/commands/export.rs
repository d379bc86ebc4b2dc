//! `divvy export`: a trained student as a directory of its own.

use std::path::Path;

use anyhow::Context as _;
use divvy_core::plan::StudentPlan;

use crate::{
    cli::Place,
    output::{Usage, say},
    session::{Access, Session},
};

pub(crate) async fn run(place: &Place, student: &str, out: &Path) -> anyhow::Result<()> {
    let session = Session::open(place, Access::Look).await?;
    let context = &session.context;
    student_plan(&session, student)?;
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

/// The student that `--student` names.
pub(crate) fn student_plan<'s>(session: &'s Session, student: &str) -> anyhow::Result<&'s StudentPlan> {
    let students = &session.context.plan.students;
    let known = || students.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let unknown = || Usage(format!("--student: the recipe has no student `{student}`; it has {}", known()));
    Ok(students.get(student).ok_or_else(unknown)?)
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
