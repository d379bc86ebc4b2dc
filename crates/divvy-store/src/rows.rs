//! What goes into the store and comes out of it, as plain structs. Money is i64 nano-dollars, time i64 milliseconds
//! since 1970 UTC; `None` is "unknown", never zero.

mod batch;

use divvy_core::{
    chat::{Reply, Usage},
    digest::Digest,
    question::QuestionId,
    records::{ItemState, Stage},
};

pub use self::batch::{BatchEvent, BatchRow, BatchState};

/// One request to a model and its reply, kept for ever. The first record of a key wins.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    pub key: Digest,
    pub model_name: String,
    pub model_id: Digest,
    /// The `ChatRequest` as JSON.
    pub request_json: String,
    pub reply: Reply,
    /// The body as received; empty for a model that has no wire format.
    pub raw_reply: Vec<u8>,
    pub price_nanos: Option<i64>,
    /// From sending the request to the last byte of the reply.
    pub latency_ms: i64,
    /// Microseconds that the machine worked for it; `None` where the call is paid by its tokens, or nobody measured it.
    pub worked_us: Option<i64>,
    pub created_ms: i64,
    /// Who served it: an attribute, never part of the key.
    pub endpoint: Option<String>,
}

/// The figures of a call without its bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallUsage {
    pub key: Digest,
    pub model_id: Digest,
    pub usage: Usage,
    pub price_nanos: Option<i64>,
    pub latency_ms: i64,
    pub worked_us: Option<i64>,
    pub endpoint: Option<String>,
    pub created_ms: i64,
}

impl From<CallRecord> for CallUsage {
    fn from(call: CallRecord) -> Self {
        let CallRecord { key, model_id, reply, price_nanos, latency_ms, worked_us, endpoint, created_ms, .. } = call;
        Self { key, model_id, usage: reply.usage, price_nanos, latency_ms, worked_us, endpoint, created_ms }
    }
}

/// One try at a call, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    pub key: Digest,
    /// 1 for the first try of this process.
    pub number: u32,
    /// `ok` or the error's short word: `rate-limited`, `server-error`, `timeout`, `cut-off`, …
    pub outcome: String,
    pub http_status: Option<u16>,
    pub message: String,
    pub usage: Usage,
    /// Of a try that brought no reply, where its tokens are known and have a price.
    pub price_nanos: Option<i64>,
    pub started_ms: i64,
    pub latency_ms: i64,
}

/// The bytes of a reply as received, kept before anything reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReply {
    pub key: Digest,
    pub number: u32,
    pub bytes: Vec<u8>,
    pub endpoint: Option<String>,
    pub received_ms: i64,
    /// As a call has it, for the call that may be made of it later; `None` where nobody knows.
    pub latency_ms: Option<i64>,
}

/// Which calls to list; the default is all of them, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFilter {
    pub model_name: Option<String>,
    pub since_ms: Option<i64>,
    /// First digits of the key, hexadecimal, lower case.
    pub key_prefix: Option<String>,
    /// How the reply ended, in the provider's word.
    pub finish: Option<String>,
    pub limit: Option<u32>,
    /// Newest first, so that a limit keeps the last ones.
    pub newest: bool,
}

/// Sums over the calls of one model. Calls that did not say are counted in `unknown_usage`, not as zero tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallTotal {
    pub model_name: String,
    pub calls: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub unknown_usage: u64,
    /// `None` unless every call has a price.
    pub price_nanos: Option<i64>,
}

/// How often attempts ended in one way, and what they took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptTotal {
    /// `ok`, or the reason of the failure.
    pub outcome: String,
    pub sum: AttemptSum,
}

/// What attempts took, as far as the endpoint said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptSum {
    pub attempts: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// Of those that failed and have a price; `None` where none has. What an attempt cost that brought a reply, its call says.
    pub price_nanos: Option<i64>,
    /// Those that failed, took tokens and have no price.
    pub unpriced: u64,
}

impl AttemptSum {
    pub fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.tokens_in += other.tokens_in;
        self.tokens_out += other.tokens_out;
        self.price_nanos = match (self.price_nanos, other.price_nanos) {
            (Some(mine), Some(theirs)) => Some(mine.saturating_add(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        self.unpriced += other.unpriced;
    }
}

/// How many of the last replies are looked at for those that nobody has read: more than any command has in flight.
pub(crate) const LAST_REPLIES: i64 = 1 << 16;

/// An item that was put back to pending, by its question and sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBack {
    pub question: QuestionId,
    pub sample: u32,
    pub times: u32,
    /// What it was put back with, the last time.
    pub payload_json: String,
}

/// The unit of truth of a run: one (plan, stage, question, sample, arm). Putting it again replaces its state; the
/// earlier states stay in the history.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemRow {
    pub plan: Digest,
    pub stage: Stage,
    pub question: QuestionId,
    pub sample: u32,
    /// Arm slug or role; empty where a stage has neither.
    pub arm: String,
    pub state: ItemState,
    /// JSON of what the stage made of it (`Collected`, `Verdict`, a graded answer).
    pub payload_json: String,
    /// The calls that it took, in order.
    pub calls: Vec<Digest>,
    pub updated_ms: i64,
}

/// How many items of a stage and arm are in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemCount {
    pub stage: Stage,
    pub arm: String,
    pub state: ItemState,
    pub items: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// Also what a killed run says for ever: only a live lock tells the two apart.
    Running,
    Done,
    Failed,
    /// Stopped at a budget.
    Stopped,
    Interrupted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    pub id: RunId,
    pub plan: Digest,
    pub name: String,
    /// Version of divvy that ran.
    pub version: String,
    pub started_ms: i64,
    pub ended_ms: Option<i64>,
    pub status: RunStatus,
}

/// A file or directory that a stage made, found again by the digest of what it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtefactRow {
    pub key: Digest,
    pub kind: String,
    pub path: String,
    pub meta_json: String,
    pub created_ms: i64,
}

/// Every time a test set was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOpening {
    pub plan: Digest,
    pub dataset: String,
    pub rows: u64,
    pub opened_ms: i64,
}

/// One item of a stage of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub question: QuestionId,
    pub sample: u32,
    pub arm: String,
}

/// A process that is at work on a store on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    /// Its number on its machine, and where that is.
    pub name: String,
    /// In its work.
    pub items: u64,
}

/// What came of claiming items, by their place in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub mine: Vec<(usize, crate::postgres::Token)>,
    /// Not over, and not this worker's: in work elsewhere, beyond what was asked for, or just taken by another.
    pub open: Vec<usize>,
    /// Of those, how many are in work elsewhere.
    pub busy: usize,
}

/// A count of tokens beyond this is none: somebody's mistake, with which no sum can be made.
pub const MOST_TOKENS: u64 = 1 << 40;

/// Calls, tokens and nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub calls: i64,
    pub tokens: i64,
    pub nanos: i64,
}

impl Amount {
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        let (tokens, nanos) = (self.tokens.saturating_add(more.tokens), self.nanos.saturating_add(more.nanos));
        Self { calls: self.calls + more.calls, tokens, nanos }
    }

    #[must_use]
    pub fn minus(self, less: Self) -> Self {
        Self { calls: self.calls - less.calls, tokens: self.tokens - less.tokens, nanos: self.nanos - less.nanos }
    }

    /// In the order in which caps on them are given.
    #[must_use]
    pub fn columns(self) -> [i64; 3] {
        [self.calls, self.tokens, self.nanos]
    }
}

/// What was spent for a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    pub spent: Amount,
    /// In flight when a process died: it may have been charged, and nobody has heard the answer. Of a command that runs on a
    /// store in a file, what is in flight.
    pub lost: Amount,
}

/// What a worker tells the common account, and asks of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// One more than the last: an exchange that is sent again is booked once.
    pub turn: i64,
    /// Settled since the last.
    pub spent: Amount,
    /// Reserved by calls in flight.
    pub keep: Amount,
    /// For the call that asks.
    pub need: Amount,
    /// For those after it, as far as there is plenty.
    pub more: Amount,
    /// Calls, tokens and nano-dollars of all workers together; `None`: no cap.
    pub caps: [Option<i64>; 3],
}

/// What becomes of a try that is about to go out, where workers share the plan's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It goes out: should nobody live to hear what comes of it, it is lost.
    Out,
    /// A reply to its request is there.
    Replied,
    /// What it was to be paid from was lent to others while nobody heard of this worker.
    Unlent,
    /// Another worker has taken its request over, and perhaps has the answer.
    Taken,
}

/// The account's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Borrowed {
    pub granted: bool,
    /// What this worker may have spent and reserved from now on.
    pub holds: Amount,
    /// Settled by all workers, ever.
    pub total: Amount,
    /// Out when their workers vanished: counted as spent.
    pub lost: Amount,
    /// Another worker holds something, and may give it back.
    pub others: bool,
}

/// A share of an endpoint's rate that is asked for; `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// For how long it counts.
    pub window: std::time::Duration,
    pub most_requests: Option<i64>,
    pub most_tokens: Option<i64>,
    pub want_requests: i64,
    pub need_tokens: i64,
    pub want_tokens: i64,
}

/// A share as it was lent, or what was used of it in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LentBefore {
    pub id: i64,
    pub requests: i64,
    pub tokens: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lent {
    Some(LentBefore),
    /// Nothing comes free sooner.
    Wait(std::time::Duration),
}
