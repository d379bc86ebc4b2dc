//! What passes through the layers, and the shape they share. A layer does one thing and hands the job to the next.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use divvy_core::{chat::ChatRequest, digest::Digest};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    budget::{End, Held, spend::most_tokens},
    chat::{Told, TraceHeaders},
    client::Call,
    error::ChatError,
    limit::Slot,
};

/// One request on its way down.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) key: Digest,
    pub(crate) request: Arc<ChatRequest>,
    /// See [`Job::most_tokens`].
    pub(crate) tokens: Arc<OnceLock<(u64, u64)>>,
    /// The request as canonical JSON: written for the key, and what is put on record.
    pub(crate) json: Arc<str>,
    pub(crate) cancel: CancellationToken,
    /// 1 for the first try; set by the retry layer.
    pub(crate) attempt: u32,
    /// An earlier try heard a completion without text; set by the retry layer.
    pub(crate) silent: bool,
    pub(crate) waited: Waited,
    pub(crate) listener: Listener,
    /// What this try holds of the budget.
    pub(crate) held: Held,
    pub(crate) sent: Sent,
    /// Nothing is sent after it; set by the layer of the budget.
    pub(crate) ends: Option<End>,
    /// Nobody waits for it after this moment.
    pub(crate) until: Option<Instant>,
    /// Its tries are over by then, time in line not counted; set by the retry layer.
    pub(crate) deadline: Option<Instant>,
    /// It is sent before this moment, or not by this place in the minute that workers share.
    pub(crate) place_ends: Option<Instant>,
    /// Its place at an endpoint, once it has one.
    pub(crate) slot: Option<Slot>,
    /// It is asked on its own, however often: its batch was late, as the layer of batches says, or it was never to be in one.
    pub(crate) online: Arc<AtomicBool>,
}

impl Job {
    pub(crate) fn new(request: ChatRequest, cancel: CancellationToken, listener: Listener) -> Self {
        let (key, json) = crate::client::key_and_json(&request);
        let (request, json) = (Arc::new(request), json.into());
        let (waited, held, online, sent) = (Waited::default(), Held::default(), Arc::default(), Sent::default());
        let tokens = Arc::default();
        let (attempt, silent, ends, until, deadline, place_ends, slot) = (1, false, None, None, None, None, None);
        Self {
            key,
            request,
            tokens,
            json,
            cancel,
            attempt,
            silent,
            waited,
            listener,
            held,
            sent,
            ends,
            until,
            deadline,
            place_ends,
            slot,
            online,
        }
    }

    /// The most tokens that it may take, in and out: counted once, whoever asks.
    pub(crate) fn most_tokens(&self) -> (u64, u64) {
        *self.tokens.get_or_init(|| most_tokens(&self.request))
    }

    /// When a try of it is given up that is not done by then.
    pub(crate) fn over_at(&self) -> Option<Instant> {
        let deadline = self.deadline.map(|deadline| deadline + self.waited.so_far());
        self.until.into_iter().chain(deadline).min()
    }

    /// Whether there is anything left of its time after a pause.
    pub(crate) fn outlasts(&self, pause: Duration) -> bool {
        self.over_at().is_none_or(|over| Instant::now() + pause < over)
    }

    /// Stands in a line until its turn, or until nothing would be sent any more.
    pub(crate) async fn in_line<T>(&self, turn: impl Future<Output = T>) -> Result<T, ChatError> {
        let turn = self.cancel.run_until_cancelled(turn);
        let came = match self.ends {
            Some(end) => timeout_at(end.at, turn).await.map_err(|_| end.error())?,
            None => turn.await,
        };
        came.ok_or_else(ChatError::unsent)
    }
}

/// Whoever follows a request while it is answered.
pub trait Hear: Send + Sync {
    /// The next piece of the reply.
    fn piece(&self, text: &str);

    /// A try goes out to this endpoint; `None` is a model in this process. Where the call belongs to a trace, the endpoint
    /// is told.
    fn trying(&self, _endpoint: Option<&str>) -> Option<TraceHeaders> {
        None
    }

    /// A try came to nothing, and another follows; it may have been charged.
    fn failed_try(&self, _error: &ChatError) {}
}

/// What was heard cannot be taken back, so a reply that breaks off after its first piece is not asked for again.
#[derive(Clone, Default)]
pub(crate) struct Listener {
    hears: Option<Arc<dyn Hear>>,
    heard: Arc<AtomicBool>,
}

impl Listener {
    pub(crate) fn new(hears: Arc<dyn Hear>) -> Self {
        Self { hears: Some(hears), heard: Arc::default() }
    }

    pub(crate) fn hear(&self, piece: &str) {
        if let Some(hears) = &self.hears
            && !piece.is_empty()
        {
            self.heard.store(true, Ordering::Relaxed);
            hears.piece(piece);
        }
    }

    pub(crate) fn trying(&self, endpoint: Option<&str>) -> Option<TraceHeaders> {
        self.hears.as_ref()?.trying(endpoint)
    }

    pub(crate) fn failed_try(&self, error: &ChatError) {
        self.hears.iter().for_each(|hears| hears.failed_try(error));
    }

    pub(crate) fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("heard", &self.has_heard()).finish_non_exhaustive()
    }
}

/// How long a call has stood in line here, in all its tries: time that its deadline does not count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waited(Arc<AtomicU64>);

impl Waited {
    pub(crate) fn since(&self, start: Instant) {
        self.0.fetch_add(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn so_far(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Whether a try is past the lines at its endpoint. Until then it may go to another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicBool>);

impl Sent {
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// It is to stand in line, here or elsewhere.
    pub(crate) fn not_yet(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) trait Layer: Send + Sync + 'static {
    fn call(&self, job: Job) -> impl Future<Output = Result<Call, ChatError>> + Send;

    /// Until when the endpoint below takes nothing, by its own word.
    fn held_until(&self) -> Option<Instant> {
        None
    }

    /// What the endpoint below said last about its limits.
    fn told(&self) -> Told {
        Told::default()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use divvy_core::{
        chat::{Message, Sampling},
        model::ModelId,
    };

    use super::*;

    /// A greedy request for so many tokens at most.
    pub(crate) fn job(max_tokens: u32) -> Job {
        let request = ChatRequest {
            model: ModelId::remote("test", "model"),
            messages: vec![Message::user("hello")],
            sampling: Sampling::greedy(max_tokens),
            sample: 0,
        };
        Job::new(request, CancellationToken::new(), Listener::default())
    }
}
