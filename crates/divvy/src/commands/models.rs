//! `divvy models`: what is known, what is cached, and how to get more.

use anyhow::Context as _;
use divvy_core::model::ModelSource;
use divvy_data::models::{cache::Cache, catalogue, fetch};

use crate::{cli::ModelsAction, output::print, progress::FetchBar};

pub(crate) fn run(action: Option<ModelsAction>, json: bool) -> anyhow::Result<()> {
    match action.unwrap_or(ModelsAction::List) {
        ModelsAction::List => list(json),
        ModelsAction::Fetch { model, sha256 } => fetch_one(&model, sha256.as_deref(), json),
    }
}

fn list(json: bool) -> anyhow::Result<()> {
    let cache = Cache::from_env()?;
    let cached = cache.models()?;
    if json {
        let known: Vec<_> = catalogue::CATALOGUE.iter().map(|known| serde_json::json!({
            "name": known.name, "sources": known.sources, "sha256": known.sha256, "bytes": known.bytes, "licence": known.licence,
        })).collect();
        return Ok(print(&serde_json::to_string_pretty(&serde_json::json!({ "known": known, "cached": cached }))?)?);
    }
    print("known models\n")?;
    for known in catalogue::CATALOGUE {
        print(&format!(
            "  {:<20} {:>5}  {:>7}  {:<11} {}",
            known.name,
            known.parameters,
            megabytes(known.bytes),
            known.licence,
            known.about
        ))?;
        known.sources.iter().try_for_each(|source| print(&format!("  {:<20} source = \"{source}\"", "")))?;
    }
    print(&format!("\ncached under {}\n", cache.root.display()))?;
    if cached.is_empty() {
        print("  nothing yet; `divvy models fetch smollm2-135m` gets the smallest")?;
    }
    for model in &cached {
        print(&format!("  {:<44} {:>7}  sha256 {}…", model.source, megabytes(model.bytes), &model.sha256[..12]))?;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

fn fetch_one(model: &str, sha256: Option<&str>, json: bool) -> anyhow::Result<()> {
    let named = catalogue::find(model).and_then(|known| known.parsed().next());
    let source: ModelSource = match named {
        Some(source) => source,
        None => model
            .parse()
            .with_context(|| format!("`{model}` is neither a known model (see `divvy models`) nor a source"))?,
    };
    let bar = FetchBar::default();
    let path = fetch::fetch(&source, sha256, &Cache::from_env()?, &mut |progress| bar.show(&progress))?;
    bar.finish();
    let path = path.display().to_string();
    Ok(print(&if json { serde_json::json!({ "source": source.to_string(), "path": path }).to_string() } else { path })?)
}
