//! The page, and the folder of rows beside it where it needs one.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use divvy_core::results::Results;
use divvy_report::{Chunk, Rows};

use super::{make_folder_of, write};

pub(super) struct Page {
    path: PathBuf,
    rows: Rows,
    /// `report.html` has `report.rows`.
    folder: PathBuf,
}

impl Page {
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        let folder = path.with_extension("rows");
        let name = folder.file_name().with_context(|| format!("`{}` names no file", path.display()))?;
        let page = Self {
            path: path.to_owned(),
            rows: Rows::new(Some(name.to_string_lossy().into_owned())),
            folder: folder.clone(),
        };
        // What a report that was stopped has left.
        make_folder_of(path)?;
        remove(&page.partial())?;
        Ok(page)
    }

    /// Where the rows are until all are there.
    fn partial(&self) -> PathBuf {
        self.folder.with_extension("rows.partial")
    }

    pub(super) fn add(&mut self, chunk: Chunk) -> anyhow::Result<()> {
        for file in self.rows.add(chunk) {
            let partial = self.partial();
            std::fs::create_dir_all(&partial)
                .with_context(|| format!("cannot make the folder `{}`", partial.display()))?;
            let path = partial.join(&file.name);
            std::fs::write(&path, file.text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(())
    }

    /// The rows first: a page never leads to rows that are not there. Those of an earlier page go.
    pub(super) fn finish(self, results: &Results) -> anyhow::Result<()> {
        remove(&self.folder)?;
        if self.rows.beside() {
            std::fs::rename(self.partial(), &self.folder)
                .with_context(|| format!("cannot write `{}`", self.folder.display()))?;
        }
        write(&self.path, &divvy_report::html(results, &self.rows))
    }
}

/// A folder of rows, and nothing else: one that holds anything but our scripts is somebody's.
fn remove(folder: &Path) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read `{}`", folder.display()))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !(name.ends_with(".js") && (name.starts_with("rows-") || name.starts_with("calls-"))) {
            anyhow::bail!(
                "`{}` is in the place where the report's rows go; name another page, or move it",
                path.display()
            );
        }
    }
    std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove `{}`", folder.display()))
}
