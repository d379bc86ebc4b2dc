//! From a recipe's `mode = "batch"` to the batches of its model, and from their news to whoever watches.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use divvy_core::{
    model::ModelSource,
    recipe::{self, BatchFallback, Mode},
};
use divvy_flow::progress::Progress;
use divvy_llm::{ApiKey, BatchSettings, Batches, ChatError, ClientConfig, HttpChat, HttpConfig, News, Tell, Transfer};
use divvy_store::Store;

use crate::models::Resolved;

/// Rows under way at once for each that a batch holds: the next batch is handed in while the first is out.
const BATCHES_AT_ONCE: usize = 2;

/// The URL, the model's name there, and where the key is.
type Place = (String, String, Option<String>);

pub(crate) struct Batching {
    progress: Arc<dyn Progress>,
    suspended: AtomicBool,
    /// Two names in a recipe may mean one model, whose batches are the same.
    known: Mutex<HashMap<Place, Arc<Batches>>>,
}

impl Batching {
    pub(crate) fn new(progress: Arc<dyn Progress>) -> Self {
        Self { progress, suspended: AtomicBool::new(false), known: Mutex::default() }
    }

    pub(crate) fn suspend(&self) {
        self.suspended.store(true, Ordering::Relaxed);
    }

    /// The batches of a model, and how many rows are worth having under way; `None` for one that is asked online.
    pub(crate) fn of(
        &self,
        model: &Resolved,
        store: &Store,
        config: &ClientConfig,
    ) -> Result<Option<(Arc<Batches>, usize)>, ChatError> {
        let ModelSource::Endpoint { url } = &model.source else { return Ok(None) };
        if model.recipe.mode == Mode::Online || self.suspended.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let written = model.recipe.batch.clone().unwrap_or_default();
        let settings = settings(&written, tell(&self.progress));
        let at_once = written.at_once.unwrap_or(BATCHES_AT_ONCE * settings.rows);
        let key = &model.recipe.api_key_env;
        let place = (url.clone(), model.recipe.model.clone().unwrap_or_default(), key.clone());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(batches) = known.get(&place) {
            return Ok(Some((Arc::clone(batches), at_once)));
        }
        let chat = chat(url, &model.recipe, key.clone().map_or(ApiKey::None, ApiKey::Env))?;
        let batches = Batches::new(chat, store.clone(), config, settings);
        known.insert(place, Arc::clone(&batches));
        Ok(Some((batches, at_once)))
    }
}

/// The endpoint and the model under which the batches of a model are on record; `None` for one that is asked online.
pub(crate) fn batch_place(model: &Resolved) -> Option<(String, String)> {
    let ModelSource::Endpoint { url } = &model.source else { return None };
    let batched = model.recipe.mode == Mode::Batch;
    batched.then(|| chat(url, &model.recipe, ApiKey::None).ok())?.map(|chat| chat.batch_place())
}

fn chat(url: &str, recipe: &recipe::Model, api_key: ApiKey) -> Result<HttpChat, ChatError> {
    let model = recipe.model.clone().unwrap_or_default();
    HttpChat::new(HttpConfig { url: url.to_owned(), model, api_key, transfer: Transfer::Whole })
}

fn settings(written: &recipe::Batch, tell: Tell) -> BatchSettings {
    let usual = BatchSettings::default();
    BatchSettings {
        rows: written.rows.unwrap_or(usual.rows),
        bytes: written.bytes.unwrap_or(usual.bytes),
        enqueued_tokens: written.enqueued_tokens,
        window: written.window.clone().unwrap_or(usual.window),
        deadline: written.deadline_hours.map(|hours| Duration::from_secs_f64(3600.0 * hours)),
        online_at_deadline: written.fallback == BatchFallback::Online,
        poll: written.poll_seconds.map_or(usual.poll, Duration::from_secs_f64),
        quiet: written.gather_seconds.map_or(usual.quiet, Duration::from_secs_f64),
        tell,
    }
}

fn tell(progress: &Arc<dyn Progress>) -> Tell {
    let progress = Arc::clone(progress);
    Arc::new(move |news| match news {
        News::Note(text) => progress.note(&text),
        News::Standing(standing) => progress.batches(standing),
    })
}
