//! At most so many requests in flight at once. Waiting in line is not part of a call's latency.

use tokio::{sync::Semaphore, time::Instant};

use crate::{
    client::Call,
    error::ChatError,
    layer::{Job, Layer},
};

pub(crate) struct Limit<L> {
    slots: Semaphore,
    inner: L,
}

impl<L> Limit<L> {
    pub(crate) fn new(most: usize, inner: L) -> Self {
        Self { slots: Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)), inner }
    }
}

impl<L: Layer> Layer for Limit<L> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let start = Instant::now();
        let waiting = job.cancel.run_until_cancelled(self.slots.acquire()).await;
        let _slot = waiting.ok_or_else(ChatError::cancelled)?.expect("the semaphore is never closed");
        job.waited.since(start);
        self.inner.call(job).await
    }
}
