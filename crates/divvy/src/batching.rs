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
use divvy_llm::{
    ApiKey, BatchSettings, Batches, ChatError, ClientConfig, ErrorKind, HttpChat, HttpConfig, News, Tell, Transfer,
};
use divvy_store::Store;

use crate::models::Resolved;

/// Rows under way at once for each that a batch holds: the next batch is handed in while the first is out.
const BATCHES_AT_ONCE: usize = 2;

/// The endpoint and the model under which batches are on record.
type Place = (String, String);

pub(crate) struct Batching {
    progress: Arc<dyn Progress>,
    suspended: AtomicBool,
    /// Two names in a recipe may mean one model, whose batches are the same. With who asks there.
    known: Mutex<HashMap<Place, (HttpChat, Arc<Batches>)>>,
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
        let key = model.recipe.api_key_env.clone();
        let chat = chat(url, &model.recipe, key.map_or(ApiKey::None, ApiKey::Env))?;
        let place = chat.batch_place();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((first, batches)) = known.get(&place) {
            let shared = first.asks_as(&chat).then(|| Arc::clone(batches));
            return shared.map(|batches| Some((batches, at_once))).ok_or_else(|| asked_as_two(&place));
        }
        let batches = Batches::new(chat.clone(), store.clone(), config, settings);
        known.insert(place, (chat, Arc::clone(&batches)));
        Ok(Some((batches, at_once)))
    }
}

/// Whose batch is whose is not on record: one would look for the other's, and be told that there is none.
fn asked_as_two((endpoint, model): &Place) -> ChatError {
    let message = format!(
        "the batches of `{model}` at {endpoint} are asked for under two keys, or two logins in the URL; they are kept together, so \
         give both models the same `api_key_env` and URL, or ask one of them with `mode = \"online\"`"
    );
    ChatError::new(ErrorKind::BadRequest, message)
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

#[cfg(test)]
mod tests {
    use divvy_core::{
        recipe::Recipe,
        records::{Stage, TrainPoint},
    };
    use divvy_flow::progress::Tick;
    use divvy_testkit::workspace::Workspace;

    use super::*;
    use crate::models::resolve;

    const RECIPE: &str = r#"
        name = "x"
        [data.train]
        dataset = "synth"
        rows = 4
        [collect]
        teacher = "one"

        [models.one]
        source = "http://127.0.0.1:9/v1"
        model = "m"
        mode = "batch"

        [models.pasted]
        source = "http://127.0.0.1:9/v1/chat/completions"
        model = "m"
        mode = "batch"

        [models.other]
        source = "http://127.0.0.1:9/v1"
        model = "n"
        mode = "batch"

        [models.stranger]
        source = "http://127.0.0.1:9/v1/"
        model = "m"
        api_key_env = "PATH"
        mode = "batch"

        [models.user]
        source = "http://me:sesame@127.0.0.1:9/v1"
        model = "m"
        mode = "batch"
    "#;

    struct Nobody;

    impl Progress for Nobody {
        fn start(&self, _: Stage, _: &str, _: u64, _: u64) {}
        fn tick(&self, _: Tick) {}
        fn train_step(&self, _: &TrainPoint, _: u64) {}
        fn finish(&self) {}
        fn note(&self, _: &str) {}
    }

    /// The store knows a place and a model: whatever is one to it has one that follows its batches.
    #[tokio::test]
    async fn names_of_one_model_have_the_same_batches_and_one_account() {
        let workspace = Workspace::new();
        let store = Store::open(&workspace.path().join("store.db")).await.unwrap();
        let recipe = Recipe::parse(RECIPE, "x.toml").unwrap();
        let names: Vec<String> = recipe.models.keys().cloned().collect();
        let models = resolve(&recipe, std::path::Path::new("."), &names, true).unwrap();
        let batching = Batching::new(Arc::new(Nobody));
        let of = |name: &str| batching.of(&models[name], &store, &ClientConfig::new(name));
        let batches = |name| of(name).unwrap().unwrap().0;
        assert!(Arc::ptr_eq(&batches("one"), &batches("pasted")));
        assert!(!Arc::ptr_eq(&batches("one"), &batches("other")));
        for name in ["stranger", "user"] {
            let error = of(name).err().unwrap().to_string();
            assert!(
                error.contains("the batches of `m` at http://127.0.0.1:9/v1 are asked for under two keys"),
                "{error}"
            );
            assert!(!error.contains("sesame"), "{error}");
        }
    }
}
