//! Files from a Hugging Face hub through the `hf-hub` client: its cache (`HF_HOME`), its range-resume, its locks. A
//! download lies beside its place until it is whole. `HF_ENDPOINT` and `HF_TOKEN` arrive in the settings.

use std::path::{Path, PathBuf};

use hf_hub::{
    Cache as HubCache, Repo, RepoType,
    api::sync::{Api, ApiBuilder, ApiError},
};

use super::{
    fetch::{FetchError, FetchSettings, Phase, Progress, hash_with_progress, require_hash},
    hash::sha256_listing,
};

/// Attempts after the first, each going on where the last one broke off.
const RETRIES: usize = 3;

/// The model file of `repo`, or its directory where the model is several files, with the SHA-256. Without `file` the
/// repository must hold one `.gguf` or safetensors.
///
/// # Errors
/// [`FetchError::Hub`] with the hub's answer, [`FetchError::HubChoice`] where the file has to be named,
/// [`FetchError::HashMismatch`].
pub fn fetch_model(
    settings: &FetchSettings,
    repo: &str,
    file: Option<&str>,
    pin: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(PathBuf, String), FetchError> {
    let client = Client::new(settings, repo, RepoType::Model)?;
    let files = match file {
        Some(file) => vec![file.to_owned()],
        None => choose(repo, &client.list()?)?,
    };
    let mut paths = Vec::with_capacity(files.len());
    let mut hashes = Vec::with_capacity(files.len());
    for name in &files {
        let path = client.get(name, progress)?;
        hashes.push((name.clone(), hash_with_progress(&path, progress)?));
        paths.push(path);
    }
    let whole = match hashes.as_slice() {
        [(_, sha256)] => sha256.clone(),
        many => sha256_listing(many),
    };
    if let Some(expected) = pin {
        let removed = "the file was removed from the hub's cache; if the pin is right, do not trust the source";
        require_hash(&format!("hf:{repo}"), expected, &whole, removed)
            .inspect_err(|_| paths.iter().for_each(|path| remove(path)))?;
    }
    let first = paths.into_iter().next().expect("at least one file was chosen");
    let directory = || first.parent().expect("a file lies in a directory").to_owned();
    Ok((if files.len() == 1 { first.clone() } else { directory() }, whole))
}

/// One file of a data-set repository.
///
/// # Errors
/// [`FetchError::Hub`] with the hub's answer.
pub fn fetch_data(settings: &FetchSettings, repo: &str, file: &str) -> Result<PathBuf, FetchError> {
    Client::new(settings, repo, RepoType::Dataset)?.get(file, &mut |_| ())
}

struct Client {
    api: Api,
    cache: HubCache,
    repo: Repo,
}

impl Client {
    fn new(settings: &FetchSettings, repo: &str, kind: RepoType) -> Result<Self, FetchError> {
        let cache = settings.hub_cache.clone().map_or_else(HubCache::from_env, HubCache::new);
        let mut builder = ApiBuilder::from_cache(cache.clone()).with_progress(false).with_retries(RETRIES);
        if let Some(endpoint) = &settings.hub_endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        if let Some(token) = &settings.hub_token {
            builder = builder.with_token(Some(token.0.clone()));
        }
        let whole = |error| explain(repo, "", &error);
        Ok(Self { api: builder.build().map_err(whole)?, cache, repo: Repo::new(repo.to_owned(), kind) })
    }

    /// From the hub's cache, else from the hub.
    fn get(&self, file: &str, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
        // The name becomes a path below the hub's cache.
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\\');
        if !file.split('/').all(plain) {
            let reason = "a file is named by its path inside the repository".to_owned();
            return Err(FetchError::Hub { repo: self.repo.url(), file: file.to_owned(), reason });
        }
        if let Some(path) = self.cache.repo(self.repo.clone()).get(file) {
            return Ok(path);
        }
        let report = Report { progress, what: file.to_owned(), done: 0, total: 0 };
        let api = self.api.repo(self.repo.clone());
        api.download_with_progress(file, report).map_err(|error| explain(&self.repo.url(), file, &error))
    }

    fn list(&self) -> Result<Vec<String>, FetchError> {
        let info = self.api.repo(self.repo.clone()).info();
        let info = info.map_err(|error| explain(&self.repo.url(), "(list of files)", &error))?;
        Ok(info.siblings.into_iter().map(|sibling| sibling.rfilename).collect())
    }
}

/// The files that make up the model of a repository.
fn choose(repo: &str, files: &[String]) -> Result<Vec<String>, FetchError> {
    let fail = |reason: String| FetchError::HubChoice { repo: repo.to_owned(), reason };
    let top = || files.iter().filter(|name| !name.contains('/'));
    let ggufs: Vec<&String> = files.iter().filter(|name| name.ends_with(".gguf")).collect();
    if let [one] = ggufs.as_slice() {
        return Ok(vec![(*one).clone()]);
    }
    if ggufs.len() > 1 {
        let list = ggufs.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(fail(format!("it holds several models; name one as hf:{repo}:FILE, of {list}")));
    }
    if !top().any(|name| name.ends_with(".safetensors")) {
        return Err(fail("it holds neither .gguf nor .safetensors".to_owned()));
    }
    // Configuration, tokenizer and chat template stand in small files beside the weights.
    let wanted = |name: &&String| {
        let name = name.as_str();
        [".safetensors", ".json", ".jinja"].iter().any(|ending| name.ends_with(ending))
    };
    Ok(top().filter(wanted).cloned().collect())
}

/// Removes a file of the hub's cache: the link and the blob that it points to.
fn remove(path: &Path) {
    let blob = path.canonicalize().ok();
    for path in [Some(path.to_owned()), blob].into_iter().flatten() {
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "already gone");
        }
    }
}

/// The client's errors in our words: what the hub answered and what to do about it.
fn explain(repo: &str, file: &str, error: &ApiError) -> FetchError {
    let text = error.to_string();
    let status =
        |code: &str| text.contains(&format!("status: {code}")) || text.contains(&format!("status code {code}"));
    let reason = if status("401") || status("403") {
        "the hub refuses it; accept the model's terms there, and put a token with read access in HF_TOKEN".to_owned()
    } else if status("404") {
        "the hub has no such file; check the name, and HF_TOKEN if the repository is private".to_owned()
    } else if matches!(error, ApiError::LockAcquisition(_)) {
        "another process is downloading it; wait for that one, then run again".to_owned()
    } else if text.contains("os error 28") {
        "no space left in the hub's cache; free some, or move it with HF_HOME".to_owned()
    } else {
        format!(
            "{text}; what was fetched is kept, so the same command goes on from here (HF_ENDPOINT names another hub)"
        )
    };
    FetchError::Hub { repo: repo.to_owned(), file: file.to_owned(), reason }
}

/// Passes the client's progress on.
struct Report<'a> {
    progress: &'a mut dyn FnMut(Progress),
    what: String,
    done: u64,
    total: u64,
}

impl hf_hub::api::Progress for Report<'_> {
    /// Called anew at every attempt.
    fn init(&mut self, size: usize, _filename: &str) {
        self.total = size as u64;
        self.done = 0;
        self.update(0);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        let (what, total) = (self.what.clone(), Some(self.total));
        (self.progress)(Progress { phase: Phase::Downloading, what, done: self.done, total });
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests;
