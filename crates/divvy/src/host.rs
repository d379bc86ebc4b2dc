//! Local models behind `Chat`: each loaded base lives on a thread of its own that steps the engine while there is work.
//! A base is loaded once, when first asked, whatever number of adapters run on it; requests of all arms share its batch. Models
//! take turns, a step each: so a step has the whole machine, and what it took is what the replies in it cost.

mod hours;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc as std_mpsc},
    time::Instant,
};

use divvy_core::chat::ChatRequest;
use divvy_llm::{Chat, ChatError, Delta, Deltas, ErrorKind};
use divvy_student::{
    adapter::Adapter,
    cache::CacheFormat,
    engine::{Engine, EngineConfig, Event, EventKind, Job},
    error::SubmitError,
    matrix::Numerics,
    model::Model,
};
use futures::stream::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::hours::Hours;

/// Every model in use. One that is trained from and asked in 8 bits is loaded in both forms.
#[derive(Default)]
pub(crate) struct Hosts {
    models: Mutex<HashMap<(PathBuf, Numerics), Slot>>,
    threads: Mutex<HashMap<Form, Host>>,
    /// Adapters that are asked for.
    adapters: Mutex<Vec<(Form, PathBuf)>>,
    /// Whose turn it is to step; those who wait come in their order.
    machine: tokio::sync::Mutex<()>,
}

/// A model as it answers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    pub(crate) path: PathBuf,
    pub(crate) numerics: Numerics,
    /// Of keys and values.
    pub(crate) cache: CacheFormat,
    /// Tokens whose keys and values are held at once, where the recipe says.
    pub(crate) cache_tokens: Option<usize>,
}

/// A model on its way: whoever asks first loads it, the others wait.
type Slot = Arc<OnceLock<Result<Arc<Model>, String>>>;

#[derive(Clone)]
struct Host {
    name: String,
    batch: usize,
    work: std_mpsc::Sender<Work>,
    hours: Arc<Hours>,
}

/// One request on its way to the engine's thread.
struct Work {
    request: ChatRequest,
    /// The messages' text as it is, without a chat template.
    raw: bool,
    adapter: Option<PathBuf>,
    deltas: mpsc::UnboundedSender<Result<Delta, ChatError>>,
    cancel: CancellationToken,
}

impl Hosts {
    /// The model at `path`, loaded by whoever asks first while the others wait.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub(crate) fn model(&self, path: &Path, numerics: Numerics) -> Result<Arc<Model>, String> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(models.entry((path.to_owned(), numerics)).or_default());
        drop(models);
        cell.get_or_init(|| Model::load_as(path, numerics).map(Arc::new).map_err(|error| error.to_string())).clone()
    }

    /// Loads every model that there is a chat with.
    ///
    /// # Errors
    /// Why one cannot be loaded.
    pub(crate) fn load_all(&self) -> Result<(), String> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let forms: Vec<Form> = threads.keys().cloned().collect();
        drop(threads);
        forms.iter().try_for_each(|form| self.model(&form.path, form.numerics).map(drop))?;
        let adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        adapters.iter().try_for_each(|(form, adapter)| {
            let model = self.model(&form.path, form.numerics)?;
            load_adapter(adapter, &model).map(drop)
        })
    }

    /// From now on it counts how the engines' time goes.
    pub(crate) fn watch(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.values().for_each(|host| host.hours.begin_anew(Instant::now()));
    }

    /// How it went, a sentence for each engine that was asked.
    pub(crate) fn watched(&self) -> Vec<String> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut told: Vec<String> =
            threads.values().filter_map(|host| host.hours.told(now, &host.name, host.batch)).collect();
        told.sort();
        told
    }

    /// A chat with a model, perhaps under an adapter (a PEFT directory). Nothing is loaded yet.
    pub(crate) fn chat(self: &Arc<Self>, name: &str, form: Form, adapter: Option<PathBuf>, batch: usize) -> LocalChat {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        self.adapters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(adapter.clone().map(|adapter| (form.clone(), adapter)));
        let start = || start(Arc::clone(self), name, form.clone(), batch);
        let host = threads.entry(form.clone()).or_insert_with(start).clone();
        LocalChat { name: name.to_owned(), host, adapter, raw: false }
    }
}

/// More than any text has on average.
const BYTES_A_TOKEN: usize = 16;

fn start(hosts: Arc<Hosts>, name: &str, form: Form, batch: usize) -> Host {
    let (work, inbox) = std_mpsc::channel();
    let host = Host { name: name.to_owned(), batch, work, hours: Arc::default() };
    let thread = std::thread::Builder::new().name(format!("model {name}"));
    let (name, hours) = (host.name.clone(), Arc::clone(&host.hours));
    thread.spawn(move || serve(&hosts, (&name, &hours), &form, batch, &inbox)).expect("the system starts threads");
    host
}

/// The thread: waits for work, loads at the first, steps while there is some.
fn serve(hosts: &Hosts, (name, hours): (&str, &Hours), form: &Form, batch: usize, inbox: &std_mpsc::Receiver<Work>) {
    let Ok(first) = inbox.recv() else { return };
    let model = match hosts.model(&form.path, form.numerics) {
        Ok(model) => model,
        Err(reason) => return refuse_all(name, &reason, first, inbox),
    };
    let config = EngineConfig {
        max_sequences: batch,
        max_held_tokens: form.cache_tokens,
        cache: form.cache,
        ..EngineConfig::default()
    };
    let mut desk = Desk {
        engine: Engine::new(Arc::clone(&model), config),
        model,
        name: name.to_owned(),
        live: HashMap::new(),
        adapters: HashMap::new(),
        next: 0,
    };
    hours.work(Instant::now());
    desk.take(first);
    loop {
        if desk.engine.is_idle() {
            hours.rest(Instant::now());
            let Ok(work) = inbox.recv() else { return };
            hours.work(Instant::now());
            desk.take(work);
        }
        while let Ok(work) = inbox.try_recv() {
            desk.take(work);
        }
        desk.drop_cancelled();
        let turn = hosts.machine.blocking_lock();
        let began = Instant::now();
        let events = desk.engine.step();
        hours.step(began.elapsed(), desk.engine.stepped());
        drop(turn);
        events.into_iter().for_each(|event| desk.pass_on(event));
    }
}

fn load_adapter(path: &Path, model: &Model) -> Result<Arc<Adapter>, String> {
    model.adapter(path).map(Arc::new).map_err(|error| error.to_string())
}

fn refuse_all(name: &str, reason: &str, first: Work, inbox: &std_mpsc::Receiver<Work>) {
    let mut next = Some(first);
    while let Some(work) = next.or_else(|| inbox.recv().ok()) {
        // A receiver that is gone asked no more.
        let _ = work.deltas.send(Err(broken(name, reason)));
        next = None;
    }
}

/// The model itself cannot answer, so no further request can be answered either: the stage has to stop.
fn broken(name: &str, reason: &str) -> ChatError {
    ChatError::new(ErrorKind::Unreachable, format!("model `{name}`: {reason}"))
}

/// This one request cannot be answered.
fn refused(name: &str, error: &dyn std::fmt::Display) -> ChatError {
    ChatError::new(ErrorKind::BadRequest, format!("model `{name}`: {error}"))
}

/// Nor this one, which the engine does not take.
fn not_taken(name: &str, error: &SubmitError) -> ChatError {
    let refused = refused(name, error);
    match error {
        SubmitError::PromptTooLong { .. } | SubmitError::NoRoom { .. } => {
            ChatError { kind: ErrorKind::ContextTooLong, ..refused }
        }
        _ => refused,
    }
}

/// What the engine's thread keeps of its live requests.
struct Desk {
    engine: Engine,
    model: Arc<Model>,
    name: String,
    live: HashMap<u64, (mpsc::UnboundedSender<Result<Delta, ChatError>>, CancellationToken)>,
    adapters: HashMap<PathBuf, Result<Arc<Adapter>, String>>,
    next: u64,
}

impl Desk {
    fn take(&mut self, work: Work) {
        let id = self.next;
        self.next += 1;
        match self.submit(id, &work) {
            Ok(()) => {
                self.live.insert(id, (work.deltas, work.cancel));
            }
            Err(error) => {
                let _ = work.deltas.send(Err(error));
            }
        }
    }

    fn submit(&mut self, id: u64, work: &Work) -> Result<(), ChatError> {
        let bytes: usize = work.request.messages.iter().map(|message| message.content.len()).sum();
        let context = self.model.config.context_length;
        // Reading such a text into tokens would keep everybody waiting, only to find that it does not fit.
        if bytes > BYTES_A_TOKEN * context {
            let message = format!("model `{}`: {bytes} bytes do not fit into its {context} tokens", self.name);
            return Err(ChatError::new(ErrorKind::ContextTooLong, message));
        }
        let messages = &work.request.messages;
        let prompt = if work.raw {
            let text: String = messages.iter().map(|message| &*message.content).collect();
            self.model.encode_raw(&text)
        } else {
            self.model.encode_chat(messages)
        };
        let prompt = prompt.map_err(|error| refused(&self.name, &error))?;
        let adapter = match &work.adapter {
            Some(path) => Some(self.adapter(path).map_err(|reason| broken(&self.name, &reason))?),
            None => None,
        };
        let job = Job { id, prompt, sampling: work.request.sampling.clone(), adapter, log_probabilities: false };
        self.engine.submit(job).map_err(|error| not_taken(&self.name, &error))
    }

    fn adapter(&mut self, path: &Path) -> Result<Arc<Adapter>, String> {
        let model = &self.model;
        let load = || load_adapter(path, model);
        self.adapters.entry(path.to_owned()).or_insert_with(load).clone()
    }

    fn drop_cancelled(&mut self) {
        let gone: Vec<u64> = self
            .live
            .iter()
            .filter(|(_, (deltas, cancel))| cancel.is_cancelled() || deltas.is_closed())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.engine.cancel(id);
            self.live.remove(&id);
        }
    }

    fn pass_on(&mut self, event: Event) {
        let Some((deltas, _)) = self.live.get(&event.id) else { return };
        // A receiver that is gone asked no more.
        let tell = |delta| _ = deltas.send(Ok(delta));
        match event.kind {
            EventKind::Text(text) => tell(Delta::Text(text)),
            EventKind::Done { finish, usage, worked, .. } => {
                tell(Delta::Worked(worked));
                tell(Delta::Done { finish, usage });
                self.live.remove(&event.id);
            }
            EventKind::Broken => {
                let damaged = "its logits are no numbers: a weight of its file or adapter is none; get the file again";
                _ = deltas.send(Err(ChatError::new(ErrorKind::Backend, format!("model `{}`: {damaged}", self.name))));
                self.live.remove(&event.id);
            }
        }
    }
}

/// One local model, with or without an adapter.
pub(crate) struct LocalChat {
    name: String,
    host: Host,
    adapter: Option<PathBuf>,
    raw: bool,
}

impl LocalChat {
    /// The same model, which goes on with a text instead of answering messages.
    pub(crate) fn raw(&self) -> Self {
        Self { name: self.name.clone(), host: self.host.clone(), adapter: self.adapter.clone(), raw: true }
    }
}

impl Chat for LocalChat {
    fn start(&self, request: ChatRequest, cancel: CancellationToken) -> Deltas {
        let (deltas, stream) = mpsc::unbounded_channel();
        let work = Work { request, raw: self.raw, adapter: self.adapter.clone(), deltas, cancel };
        if let Err(std_mpsc::SendError(work)) = self.host.work.send(work) {
            let _ = work.deltas.send(Err(broken(&self.name, "its thread has ended")));
        }
        futures::stream::unfold(stream, |mut stream| async move { Some((stream.recv().await?, stream)) }).boxed()
    }
}

#[cfg(test)]
mod tests;
