//! Requests that are handed in together: [`Batches`] gathers what reaches it, makes files of it for the endpoint's Batch
//! API, and answers each request when its row comes back, an hour or a day later. Whoever asks knows nothing of it.
//!
//! A batch is on record before it is handed in and carries our own name for it, so that a process which died at any
//! point finds its batches again and hands nothing in twice. On a server each batch is followed by one worker, and by another
//! when that one is no longer heard of.

mod board;
mod follow;
mod gather;
mod hand_in;
mod queue;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use divvy_core::digest::Digest;
use divvy_store::{BatchEvent, BatchRow, BatchState, Store, StoreError};
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};

use self::{board::Board, gather::Gathering, queue::Queue};
use crate::{
    attempt::Attempt,
    client::{Call, ClientConfig},
    clock::Clock,
    error::{ChatError, ErrorKind},
    http::{HttpBatches, HttpChat, wire::Words},
    layer::{Job, Layer},
    ledger::{IN_BATCH, Ledger},
    retry::RetryPolicy,
};

/// How batches are made and how long they are waited for.
#[derive(Clone)]
pub struct BatchSettings {
    /// Most rows in one batch.
    pub rows: usize,
    /// Most bytes in its file.
    pub bytes: u64,
    /// Most tokens of prompts that may wait at the endpoint; `None`: what it says when it refuses.
    pub enqueued_tokens: Option<u64>,
    /// The `completion_window` that is asked for.
    pub window: String,
    /// A batch that is not back by then is cancelled.
    pub deadline: Option<Duration>,
    /// Whether what a cancelled batch has not answered is asked online; else it is handed in again.
    pub online_at_deadline: bool,
    /// Between two looks at a batch.
    pub poll: Duration,
    /// A batch is handed in when nothing was added for so long.
    pub quiet: Duration,
    /// Who hears how it goes.
    pub tell: Tell,
}

impl Default for BatchSettings {
    /// OpenAI's limits for one file.
    fn default() -> Self {
        Self {
            rows: 50_000,
            bytes: 200_000_000,
            enqueued_tokens: None,
            window: "24h".to_owned(),
            deadline: None,
            online_at_deadline: true,
            poll: Duration::from_secs(30),
            quiet: Duration::from_secs(1),
            tell: Arc::new(|_| ()),
        }
    }
}

pub type Tell = Arc<dyn Fn(News) + Send + Sync>;

pub enum News {
    /// A sentence worth reading.
    Note(String),
    Standing(Standing),
}

/// All batches of a model that are out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub batches: usize,
    pub rows: u64,
    /// Of these, answered or failed at the endpoint when it was last looked at.
    pub back: u64,
    /// The first deadline.
    pub deadline_ms: Option<i64>,
}

/// The batches of one model at one endpoint. Clients of the same model there share it.
pub struct Batches {
    api: HttpBatches,
    store: Store,
    clock: Clock,
    retry: RetryPolicy,
    ledger: Ledger,
    settings: BatchSettings,
    board: Board,
    gathering: Mutex<Gathering>,
    queue: Queue,
    out: Mutex<BTreeMap<String, Standing>>,
    /// How often a row that was alone in its batch found no room in the endpoint's queue.
    roomless: Mutex<HashMap<Digest, u32>>,
    /// By intent: what this process handles now.
    followed: Mutex<BTreeSet<String>>,
    /// What an earlier process left open was read.
    taken_up: OnceCell<()>,
}

/// A batch that the endpoint has.
struct Open {
    intent: String,
    /// The endpoint's name for it.
    id: String,
    keys: Vec<Digest>,
    /// Of its file; where an earlier process wrote it, everybody's.
    words: Words,
    created_ms: i64,
    deadline_ms: Option<i64>,
}

/// Why a batch is left before its end.
enum Halt {
    Error(ChatError),
    /// This process was not heard of for a while, and another worker follows it now.
    Elsewhere,
}

impl From<ChatError> for Halt {
    fn from(error: ChatError) -> Self {
        Self::Error(error)
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Error(error.into())
    }
}

/// What becomes of a request.
#[derive(Debug)]
enum Answer {
    Call(Call),
    /// It is to be asked on its own.
    Online,
}

impl Batches {
    #[must_use]
    pub fn new(chat: HttpChat, store: Store, config: &ClientConfig, settings: BatchSettings) -> Arc<Self> {
        let api = chat.batches();
        let attempt = Attempt {
            endpoint: Some(format!("{}{IN_BATCH}", api.endpoint())),
            backend: Arc::new(chat),
            model_name: config.model_name.clone(),
            timeout: config.attempt_timeout,
            stall: None,
            meter: Arc::default(),
            lands: None,
            speaks: AtomicBool::new(false),
        };
        let ledger = Ledger::new(attempt, &store, config);
        Arc::new(Self {
            api,
            store,
            clock: config.clock,
            retry: config.retry,
            ledger,
            queue: Queue::new(settings.enqueued_tokens),
            settings,
            board: Board::default(),
            gathering: Mutex::default(),
            out: Mutex::default(),
            roomless: Mutex::default(),
            followed: Mutex::default(),
            taken_up: OnceCell::new(),
        })
    }

    /// Some rows may be asked online in the end.
    pub(crate) fn falls_back(&self) -> bool {
        self.settings.deadline.is_some() && self.settings.online_at_deadline
    }

    /// Waits until a row comes back, however long that takes.
    async fn ask(self: &Arc<Self>, job: &Job) -> Result<Answer, ChatError> {
        if !self.taken_up.initialized() {
            Box::pin(self.taken_up.get_or_try_init(|| async { self.take_up().await.map(drop) })).await?;
        }
        let (seat, first) = self.board.join(job);
        if first {
            Box::pin(self.gather_unless_kept(job)).await;
        }
        // Its batch goes on, and the next command hears what comes of it: nothing is spent by leaving.
        let answer = job.cancel.run_until_cancelled(seat).await.ok_or_else(ChatError::unsent)?;
        answer.unwrap_or_else(|_| Err(ChatError::new(ErrorKind::Backend, "a batch was forgotten (a bug); see the log")))
    }

    /// A row may have come in before anybody asked for it.
    async fn gather_unless_kept(self: &Arc<Self>, job: &Job) {
        match self.answered_from_store(&job.key).await {
            Ok(true) => {}
            Ok(false) => self.gather(gather::Row::of(&self.api, job)),
            Err(error) => self.board.answer(&job.key, Err(error)),
        }
    }

    /// Whether a row that is waited for is in the store by now; a row that nobody waits for needs no answer.
    async fn answered_from_store(&self, key: &Digest) -> Result<bool, ChatError> {
        let Some(job) = self.board.wanted(key) else { return Ok(true) };
        // Whatever came of its earlier tries here, another worker may have its answer.
        let kept = self.ledger.kept(&Job { attempt: 1, ..job }).await?;
        Ok(kept.map(|call| self.board.answer(key, Ok(Answer::Call(call)))).is_some())
    }

    /// Batches that an earlier process, or a worker that is no longer heard of, handed in or meant to; their rows.
    async fn take_up(self: &Arc<Self>) -> Result<HashSet<Digest>, ChatError> {
        // What is followed is listed, too, and may come to its end while the list is on its way.
        let known = self.followed().clone();
        let mut rows = HashSet::new();
        for batch in self.store.take_up_batches(&self.api.endpoint(), self.api.model()).await? {
            if !known.contains(&batch.intent) && self.followed().insert(batch.intent.clone()) {
                self.board.expect(&batch.keys);
                rows.extend(batch.keys.iter().cloned());
                tokio::spawn(Arc::clone(self).take_up_one(batch));
            }
        }
        Ok(rows)
    }

    fn followed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take_up_one(self: Arc<Self>, batch: BatchRow) {
        let end = match self.found_again(&batch).await {
            Ok(Some(open)) => {
                self.note(format!("batch {} ({} rows) is taken up again", open.id, open.keys.len()));
                self.follow(&open).await
            }
            Ok(None) => self.came_to_nothing(&batch).await,
            Err(halt) => Err(halt),
        };
        self.ends(&batch.intent, &batch.keys, end);
    }

    async fn came_to_nothing(self: &Arc<Self>, batch: &BatchRow) -> Result<(), Halt> {
        self.record(self.event(&batch.intent, BatchState::Abandoned)).await?;
        self.gather_again(&batch.keys);
        Ok(())
    }

    /// Nothing more is done here about a batch.
    fn ends(self: &Arc<Self>, intent: &str, keys: &[Digest], end: Result<(), Halt>) {
        self.stands(intent, None);
        self.followed().remove(intent);
        match end {
            Ok(()) => {}
            // It is still open, and the next command goes on with it.
            Err(Halt::Error(error)) => self.answer_all(keys, &fatal(error)),
            Err(Halt::Elsewhere) => self.wait_for_others(keys.to_vec()),
        }
    }

    /// Rows in a batch that another worker follows: what it brings is in the store, and it may come to nothing, or its worker.
    fn wait_for_others(self: &Arc<Self>, keys: Vec<Digest>) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut waiting = keys;
            while !waiting.is_empty() {
                if let Err(error) = this.look_elsewhere(&mut waiting).await {
                    return this.answer_all(&waiting, &error);
                }
            }
        });
    }

    /// Leaves those that are still in others' batches.
    async fn look_elsewhere(self: &Arc<Self>, waiting: &mut Vec<Digest>) -> Result<(), ChatError> {
        let ours = self.take_up().await?;
        waiting.retain(|key| !ours.contains(key));
        tokio::time::sleep(self.settings.poll).await;
        waiting.retain(|key| self.board.wanted(key).is_some());
        let Some(shared) = self.store.shared() else {
            waiting.clear();
            return Ok(());
        };
        let out = shared.in_batches(&self.api.endpoint(), self.api.model(), waiting).await?;
        for key in waiting.extract_if(.., |key| !out.contains(key)) {
            if let Some(job) = self.board.wanted(&key) {
                self.gather_unless_kept(&job).await;
            }
        }
        Ok(())
    }

    fn answer_all(&self, keys: &[Digest], error: &ChatError) {
        keys.iter().for_each(|key| self.board.answer(key, Err(error.clone())));
    }

    /// A row that its endpoint wants to hear in its own word is handed in once more.
    fn reworded(&self, open: &Open, job: &Job, error: ChatError) -> ChatError {
        let may_help = job.attempt == 1 && open.words == Words::default();
        if may_help { self.api.reworded(error) } else { error }
    }

    fn event(&self, intent: &str, state: BatchState) -> BatchEvent {
        BatchEvent::new(intent, state, self.clock.now_ms())
    }

    async fn record(&self, event: BatchEvent) -> Result<(), Halt> {
        if self.store.record_batch_event(&event).await? { Ok(()) } else { Err(Halt::Elsewhere) }
    }

    fn note(&self, text: String) {
        (self.settings.tell)(News::Note(text));
    }

    /// `None`: it is over.
    fn stands(&self, intent: &str, standing: Option<Standing>) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        match standing {
            Some(standing) => drop(out.insert(intent.to_owned(), standing)),
            None => drop(out.remove(intent)),
        }
        let sum = |sum: Standing, one: &Standing| Standing {
            batches: sum.batches + 1,
            rows: sum.rows + one.rows,
            back: sum.back + one.back,
            deadline_ms: sum.deadline_ms.into_iter().chain(one.deadline_ms).min(),
        };
        (self.settings.tell)(News::Standing(out.values().fold(Standing::default(), sum)));
    }
}

/// An error while rows are out must end the stage: a row that is tried again would be handed in twice.
fn fatal(error: ChatError) -> ChatError {
    let kind = if error.is_fatal() && !error.is_retryable() { error.kind } else { ErrorKind::BatchFailed };
    ChatError { kind, ..error }
}

/// The layer: without [`Batches`] it is none.
pub(crate) struct InBatches<L> {
    pub(crate) batches: Option<Arc<Batches>>,
    pub(crate) inner: L,
}

impl<L: Layer> InBatches<L> {
    /// When the budget's time is used up, nobody waits any longer: the next command takes the batches up again.
    async fn ask(&self, batches: &Arc<Batches>, job: &Job) -> Result<Answer, ChatError> {
        match job.ends {
            Some(end) => timeout_at(end.at, batches.ask(job)).await.unwrap_or_else(|_| Err(end.error())),
            None => batches.ask(job).await,
        }
    }
}

impl<L: Layer> Layer for InBatches<L> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        if let Some(batches) = self.batches.as_ref().filter(|_| !job.online.load(Relaxed)) {
            let start = Instant::now();
            let answer = self.ask(batches, &job).await;
            job.waited.since(start);
            if let Answer::Call(call) = answer? {
                return Ok(call);
            }
            job.online.store(true, Relaxed);
        }
        self.inner.call(job).await
    }
}
