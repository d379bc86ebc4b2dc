//! What passes through the layers, and the shape they share. A layer does one thing and hands the job to the next.

use std::sync::Arc;

use divvy_core::{chat::ChatRequest, digest::Digest};
use tokio_util::sync::CancellationToken;

use crate::{client::Call, error::ChatError};

/// One request on its way down.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) key: Digest,
    pub(crate) request: Arc<ChatRequest>,
    pub(crate) cancel: CancellationToken,
    /// 1 for the first try; set by the retry layer.
    pub(crate) attempt: u32,
}

pub(crate) trait Layer: Send + Sync + 'static {
    fn call(&self, job: Job) -> impl Future<Output = Result<Call, ChatError>> + Send;
}
