//! What passes through the layers, and the shape they share. A layer does one thing and hands the job to the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use divvy_core::{chat::ChatRequest, digest::Digest};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{chat::Told, client::Call, error::ChatError};

/// One request on its way down.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) key: Digest,
    pub(crate) request: Arc<ChatRequest>,
    pub(crate) cancel: CancellationToken,
    /// 1 for the first try; set by the retry layer.
    pub(crate) attempt: u32,
    pub(crate) waited: Waited,
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
    use crate::client::call_key;

    /// A greedy request for so many tokens at most.
    pub(crate) fn job(max_tokens: u32) -> Job {
        let request = ChatRequest {
            model: ModelId::remote("test", "model"),
            messages: vec![Message::user("hello")],
            sampling: Sampling::greedy(max_tokens),
            sample: 0,
        };
        let (key, request) = (call_key(&request), Arc::new(request));
        Job { key, request, cancel: CancellationToken::new(), attempt: 1, waited: Waited::default() }
    }
}
