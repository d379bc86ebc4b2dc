//! Inspect's logs: one for each arm. A log's head has the figures, which are known last, so that the samples wait in a file of
//! their own.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use divvy_core::results::Results;
use divvy_report::{INSPECT_END, inspect_head, inspect_name};

pub(super) struct Logs {
    folder: PathBuf,
    waiting: Vec<Samples>,
}

/// Those of one arm, so far.
struct Samples {
    arm: String,
    path: PathBuf,
    file: BufWriter<File>,
    any: bool,
}

impl Logs {
    pub(super) fn new(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), waiting: Vec::new() })
    }

    /// The samples of every arm of a sheet.
    pub(super) fn add(&mut self, samples: &[(String, String)]) -> anyhow::Result<()> {
        for (arm, _) in samples.iter().skip(self.waiting.len()) {
            let path = self.folder.join(format!("samples-{}.partial", self.waiting.len()));
            let file = File::create(&path).with_context(|| cannot_write(&path))?;
            self.waiting.push(Samples { arm: arm.clone(), path, file: BufWriter::new(file), any: false });
        }
        for (waiting, (_, text)) in self.waiting.iter_mut().zip(samples).filter(|(_, (_, text))| !text.is_empty()) {
            let comma: &[u8] = if waiting.any { b",\n" } else { b"" };
            let written = waiting.file.write_all(comma).and_then(|()| waiting.file.write_all(text.as_bytes()));
            written.with_context(|| cannot_write(&waiting.path))?;
            waiting.any = true;
        }
        Ok(())
    }

    pub(super) fn finish(self, results: &Results) -> anyhow::Result<()> {
        for mut waiting in self.waiting {
            waiting.file.flush().with_context(|| cannot_write(&waiting.path))?;
            if waiting.any {
                join(&self.folder, &waiting, results)?;
            }
            std::fs::remove_file(&waiting.path).with_context(|| cannot_write(&waiting.path))?;
        }
        Ok(())
    }
}

/// Head, samples, end, under the log's own name.
fn join(folder: &Path, samples: &Samples, results: &Results) -> anyhow::Result<()> {
    let all = || results.arms.iter().chain(&results.seeds);
    let arm = all().find(|arm| arm.arm == samples.arm).expect("an arm with rows has figures");
    let (path, partial) = (folder.join(inspect_name(results, arm)), folder.join("log.partial"));
    let joined = || -> std::io::Result<()> {
        let mut log = BufWriter::new(File::create(&partial)?);
        log.write_all(inspect_head(results, arm).as_bytes())?;
        std::io::copy(&mut File::open(&samples.path)?, &mut log)?;
        log.write_all(INSPECT_END.as_bytes())?;
        log.flush()?;
        std::fs::rename(&partial, &path)
    };
    joined().with_context(|| cannot_write(&path))
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}
