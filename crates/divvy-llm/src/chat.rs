//! The one trait: a request in, a stream of deltas out. Dropping the stream or cancelling the token stops the model.

use std::time::Duration;

use bytes::Bytes;
use divvy_core::chat::{ChatRequest, Finish, Reply, Usage};
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{ChatError, ErrorKind};

/// A piece of a reply, in the order of arrival. `Done` is the last; a stream that ends without it was cut off.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// The body as received, without our key. A backend with a wire format sends it before it parses it, or, when it streams,
    /// after the last piece of text, also where it broke off or was stopped.
    Raw(Bytes),
    /// May be empty: the model is at work, with nothing to show yet.
    Text(String),
    /// How long this machine worked for the reply: from a model in this process, before `Done`.
    Worked(Duration),
    Done {
        finish: Finish,
        usage: Usage,
    },
}

pub type Deltas = BoxStream<'static, Result<Delta, ChatError>>;

/// What an endpoint said about its limits with its last reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub requests: Quota,
    pub tokens: Quota,
}

/// One of an endpoint's limits; `None` where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// A minute, or a longer time.
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    /// When all of it is there again.
    pub resets: Option<Instant>,
}

/// Where a call stands in a trace, as W3C Trace Context writes it into headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceHeaders {
    /// `traceparent`.
    pub parent: String,
    /// `tracestate`; may be empty.
    pub state: String,
}

/// A model that can be asked.
pub trait Chat: Send + Sync {
    /// Asks. Nothing happens before the stream is polled, and parsing happens after `Raw` was taken from it. Once the token is
    /// cancelled, what has come is there at the next poll, or never.
    fn start(&self, request: ChatRequest, cancel: CancellationToken) -> Deltas;

    /// The same for a call that belongs to a trace. A model without a wire has nobody to tell.
    fn start_traced(&self, request: ChatRequest, cancel: CancellationToken, _trace: Option<TraceHeaders>) -> Deltas {
        self.start(request, cancel)
    }

    /// Reads a body that was kept earlier; `None` for a model without a wire format.
    fn reread(&self, _raw: &[u8]) -> Option<Result<Reply, ChatError>> {
        None
    }

    /// What the endpoint said last about its limits.
    fn told(&self) -> Told {
        Told::default()
    }

    /// Asks and waits for the whole reply.
    fn complete(
        &self,
        request: ChatRequest,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, Result<Reply, ChatError>> {
        Box::pin(collect(self.start(request, cancel)))
    }
}

/// The whole reply of a stream.
///
/// # Errors
/// The stream's own, or [`ErrorKind::CutOff`] when it ends early.
pub async fn collect(mut deltas: Deltas) -> Result<Reply, ChatError> {
    let mut text = String::new();
    while let Some(delta) = deltas.next().await {
        match delta? {
            Delta::Raw(_) | Delta::Worked(_) => {}
            Delta::Text(piece) => text.push_str(&piece),
            Delta::Done { finish, usage } => return Ok(Reply { text, finish, usage }),
        }
    }
    Err(ChatError::new(ErrorKind::CutOff, "the reply ended before the model said that it was done"))
}
