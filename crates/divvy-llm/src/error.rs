//! Why a request got no reply: what happened, at which endpoint, and the way out. Clonable, since one answer may serve
//! several callers. No message ever holds an API key.

use std::time::Duration;

use divvy_core::{chat::Usage, digest::Digest};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ChatError {
    pub kind: ErrorKind,
    pub message: String,
    pub status: Option<u16>,
    /// How long the endpoint asked us to wait.
    pub retry_after: Option<Duration>,
    /// Tokens that the endpoint says it charged all the same.
    pub usage: Usage,
    /// Calls that were asked for one item, the failed one last: what they took is on record under these keys.
    pub calls: Box<[Digest]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 401, 403: the key. A 403 that says that the input was flagged is [`Self::Refused`].
    Unauthorized,
    /// 402, or a 429 that says the account's quota is used up.
    Unpaid,
    /// 404.
    NotFound,
    /// 400, 422 and other 4xx.
    BadRequest,
    /// 400 for a word that the endpoint calls otherwise: the next request to it uses its own.
    OtherWord,
    ContextTooLong,
    /// The provider's filter does not let this request through. A reply that it withheld is a reply.
    Refused,
    /// By a firewall, which says so in a page: this request, or whatever comes from here. The endpoint itself has not heard of it.
    Blocked,
    /// 429.
    RateLimited,
    /// 5xx, 408, 409, 425.
    ServerError,
    /// No connection.
    Unreachable,
    /// Whoever answers there shows no certificate that this machine trusts.
    Untrusted,
    TimedOut,
    /// Nothing of the reply, or nothing more of it, came for `stall_seconds`.
    Stalled,
    /// Nothing that ever came from there was a reply, and each try may have been charged: it is asked no further.
    Useless,
    /// What earlier tries had left of the time for its request was over before the reply was there: nobody knows whether the
    /// endpoint is slow.
    OutOfTime,
    /// The connection or the stream ended in the middle of a reply, or the endpoint says that it broke it off.
    CutOff,
    /// A body that is no chat completion.
    Unreadable,
    /// A completion without text, of which no filter is said to be the cause.
    Empty,
    BudgetExhausted,
    Cancelled,
    /// Cancelled while it stood in line: the endpoint never heard of it.
    Unsent,
    /// What it was to be paid from was lent to another worker while this one stood still: it borrows anew. Nobody but the budget
    /// sees it.
    Unlent,
    /// Its place in the minute that workers share was over before it went out: it takes another. Nobody but the rate sees it.
    Overdue,
    /// Another worker took the request over while this one stood still: it looks for the answer anew. Nobody but the claim sees it.
    Taken,
    /// The store cannot keep the reply.
    Store,
    /// A batch was refused or stopped as a whole.
    BatchFailed,
    /// The model itself failed or has no reply for this request (local, recorded, scripted).
    Backend,
    /// The reply is a program, and this machine could not start a process for it.
    NotRun,
}

impl ChatError {
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            retry_after: None,
            usage: Usage::default(),
            calls: Box::default(),
        }
    }

    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "interrupted")
    }

    /// Cancelled before anything was sent.
    #[must_use]
    pub(crate) fn unsent() -> Self {
        Self::new(ErrorKind::Unsent, "interrupted")
    }

    /// Short kebab-case word, for records to be grouped by.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.kind {
            ErrorKind::Unauthorized => "unauthorized",
            ErrorKind::Unpaid => "unpaid",
            ErrorKind::NotFound => "not-found",
            ErrorKind::BadRequest => "bad-request",
            ErrorKind::OtherWord => "other-word",
            ErrorKind::ContextTooLong => "context-too-long",
            ErrorKind::Refused => "refused",
            ErrorKind::Blocked => "blocked",
            ErrorKind::RateLimited | ErrorKind::Overdue => "rate-limited",
            ErrorKind::ServerError => "server-error",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::TimedOut | ErrorKind::Stalled | ErrorKind::OutOfTime => "timed-out",
            ErrorKind::CutOff => "cut-off",
            ErrorKind::Unreadable => "unreadable",
            ErrorKind::Empty => "empty-completion",
            ErrorKind::Useless => "useless-endpoint",
            ErrorKind::BudgetExhausted | ErrorKind::Unlent => "budget",
            ErrorKind::Taken => "taken-over",
            ErrorKind::Untrusted => "untrusted-certificate",
            ErrorKind::Cancelled | ErrorKind::Unsent => "cancelled",
            ErrorKind::Store => "store",
            ErrorKind::BatchFailed => "batch-failed",
            ErrorKind::Backend => "backend",
            ErrorKind::NotRun => "program-not-run",
        }
    }

    /// The same request may succeed a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use ErrorKind::{
            CutOff, Empty, OtherWord, OutOfTime, RateLimited, ServerError, Stalled, TimedOut, Unreachable, Unreadable,
        };
        let is_slow = matches!(self.kind, TimedOut | Stalled | OutOfTime);
        let is_ill = matches!(self.kind, RateLimited | ServerError | Unreachable | CutOff | Unreadable | Empty);
        is_slow || is_ill || self.kind == OtherWord
    }

    /// Every further request would fail in the same way: the stage should stop.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        use ErrorKind::{BatchFailed, Store, Unreachable};
        self.condemns_endpoint() || matches!(self.kind, Unreachable | Store | BatchFailed)
    }

    /// The endpoint does not take the form that it was told for the reply.
    #[must_use]
    pub fn refuses_format(&self) -> bool {
        // vLLM says `Grammar error` of a schema that it cannot hold a reply to.
        const WORDS: [&str; 6] =
            ["response_format", "json_schema", "json schema", "structured output", "guided", "grammar error"];
        let lower = self.message.to_lowercase();
        self.kind == ErrorKind::BadRequest && WORDS.iter().any(|word| lower.contains(word))
    }

    /// The endpoint will never serve us: it refuses the key, wants money, does not know the model, is not to be trusted, or never
    /// says anything that is a reply.
    #[must_use]
    pub fn condemns_endpoint(&self) -> bool {
        use ErrorKind::{NotFound, Unauthorized, Unpaid, Untrusted, Useless};
        matches!(self.kind, Unauthorized | Unpaid | NotFound | Untrusted | Useless)
    }

    /// The endpoint may have worked, and charged, for a reply that we did not get or cannot read. What was never sent has cost
    /// nothing, whatever it ended with.
    #[must_use]
    pub fn may_be_charged(&self) -> bool {
        use ErrorKind::{Cancelled, CutOff, Empty, OutOfTime, Refused, Stalled, TimedOut, Unreadable};
        let unheard =
            matches!(self.kind, TimedOut | Stalled | OutOfTime | CutOff | Unreadable | Empty | Refused | Cancelled);
        (unheard || self.status.is_some_and(may_be_charged_with)) && self.usage != UNCHARGED
    }

    #[must_use]
    pub fn is_budget(&self) -> bool {
        self.kind == ErrorKind::BudgetExhausted
    }

    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind, ErrorKind::Cancelled | ErrorKind::Unsent)
    }
}

/// What a try took that was never sent, or that its batch did not come to.
pub(crate) const UNCHARGED: Usage = Usage { tokens_in: Some(0), tokens_cached: Some(0), tokens_out: Some(0) };

/// A proxy in between has given up waiting, and the model behind it may not have: 504, and Cloudflare's 524.
#[must_use]
pub fn may_be_charged_with(status: u16) -> bool {
    matches!(status, 504 | 524)
}

impl From<divvy_store::StoreError> for ChatError {
    fn from(error: divvy_store::StoreError) -> Self {
        Self::new(ErrorKind::Store, error.to_string())
    }
}
