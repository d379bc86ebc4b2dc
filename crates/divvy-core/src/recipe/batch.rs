//! How a model is asked: one request at a time, or many in a file that the endpoint works off within a day for less
//! money. None of it is part of a call's key, so that a reply is the same and is paid for once either way.

use serde::Deserialize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Online,
    /// Through the endpoint's Batch API.
    Batch,
}

/// `[models.NAME.batch]`: for the mode `batch`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Most rows in one batch.
    pub rows: Option<usize>,
    /// Most bytes in the file of one batch.
    pub bytes: Option<u64>,
    /// Most tokens of prompts that may wait at the endpoint; where it is left out, what the endpoint says when it refuses.
    pub enqueued_tokens: Option<u64>,
    /// Rows under way at once, in all batches together; each takes memory.
    pub at_once: Option<usize>,
    /// The `completion_window` that is asked for.
    pub window: Option<String>,
    /// A batch that is not back by then is cancelled, what it has answered is kept, and the rest goes the way of
    /// `fallback`.
    pub deadline_hours: Option<f64>,
    #[serde(default)]
    pub fallback: BatchFallback,
    /// Between two looks at a batch.
    pub poll_seconds: Option<f64>,
    /// A batch is handed in when no further request came for so long.
    pub gather_seconds: Option<f64>,
}

/// What happens at the deadline to rows that are not back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchFallback {
    /// They are asked one by one, at the full price.
    #[default]
    Online,
    /// They are handed in again.
    Resubmit,
}
