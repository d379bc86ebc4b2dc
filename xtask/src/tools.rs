//! `cargo xtask fuzz` and `cargo xtask sbom`: what takes a tool that a machine may lack, and more time than every commit has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::steps::{cargo, installed};

const TARGETS: &str = "fuzz/fuzz_targets";
const SECONDS: u64 = 60;
/// What the tool writes for a program, beside the program's manifest.
const WRITTEN: &str = "_bin.cdx.json";
const SBOM: &str = "target/sbom/divvy.cdx.json";

/// Each target for so many seconds, or one of them. What was found before, and the seeds, go first.
pub(crate) fn fuzz(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    needs("fuzz")?;
    let seconds = arguments.next().map_or(Ok(SECONDS), |text| text.parse());
    let seconds = seconds.context("cargo xtask fuzz [SECONDS] [TARGET]")?;
    let (targets, wanted) = (targets()?, arguments.next());
    if let Some(wanted) = wanted.as_ref().filter(|wanted| !targets.contains(wanted)) {
        bail!("there is no target `{wanted}`, but {}", targets.join(", "));
    }
    for target in targets.iter().filter(|target| wanted.as_ref().is_none_or(|wanted| wanted == *target)) {
        let (corpus, seeds) = (format!("fuzz/corpus/{target}"), format!("fuzz/seeds/{target}"));
        fs::create_dir_all(&corpus).with_context(|| corpus.clone())?;
        let time = format!("-max_total_time={seconds}");
        // Without a sanitizer, which only a nightly compiler has: all but the kernels is safe Rust.
        cargo(
            &["fuzz", "run", "--sanitizer", "none", target, &corpus, &seeds, "--", &time, "-rss_limit_mb=4096"],
            &[],
        )?;
    }
    Ok(())
}

/// Each is a file.
fn targets() -> Result<Vec<String>> {
    let files = fs::read_dir(TARGETS).context(TARGETS)?.flatten();
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".rs")?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Writes what the program is made of.
pub(crate) fn sbom() -> Result<()> {
    needs("cyclonedx")?;
    let manifest = ["--manifest-path", "crates/divvy/Cargo.toml"];
    let form = ["--format", "json", "--spec-version", "1.5", "--describe", "binaries"];
    let arguments = [&["cyclonedx"], &manifest[..], &form[..]].concat();
    cargo(&arguments, &[])?;
    let folder = Path::new(SBOM).parent().context("it lies in a folder")?;
    fs::create_dir_all(folder).context("target/sbom")?;
    let ours = format!("crates/divvy/divvy{WRITTEN}");
    fs::rename(&ours, SBOM).with_context(|| format!("{ours}, which cargo-cyclonedx should have written"))?;
    // It writes one for every program of the workspace.
    for file in written("crates")?.into_iter().chain(written(".")?) {
        fs::remove_file(&file).with_context(|| file.display().to_string())?;
    }
    println!("wrote {SBOM}");
    Ok(())
}

/// What the tool wrote into the folders of this folder.
fn written(folder: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for inner in fs::read_dir(folder)?.flatten().filter(|inner| inner.path().is_dir()) {
        let files = fs::read_dir(inner.path())?.flatten().map(|file| file.path());
        found.extend(files.filter(|file| file.to_string_lossy().ends_with(WRITTEN)));
    }
    Ok(found)
}

fn needs(tool: &str) -> Result<()> {
    if installed(tool) {
        return Ok(());
    }
    bail!("cargo-{tool} is not installed: `cargo install cargo-{tool} --locked` builds it in some minutes")
}
