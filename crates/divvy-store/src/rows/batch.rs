//! Batches that are handed to a Batch API.

use divvy_core::digest::Digest;

/// A file of requests that was to be handed to a Batch API, with how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRow {
    /// Our name for it, which stands in its metadata at the endpoint.
    pub intent: String,
    pub endpoint: String,
    /// What the model is called there.
    pub model: String,
    /// Of the calls in it.
    pub keys: Vec<Digest>,
    pub created_ms: i64,
    pub deadline_ms: Option<i64>,
    /// `None`: nothing is known to have been sent.
    pub state: Option<BatchState>,
    /// The endpoint's name for the file of requests.
    pub file: Option<String>,
    /// The endpoint's name for the batch.
    pub remote: Option<String>,
    /// Rows that the endpoint had answered when it was last looked at, and rows that it had failed.
    pub back: u64,
    pub failed: u64,
    /// A worker follows it that is heard of. In a file nobody can tell.
    pub followed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchState {
    Uploaded,
    Submitted,
    /// Looked at; some rows more are answered than the last time.
    Running,
    /// It is over, and what it brought is kept.
    Settled,
    /// It never came to be at the endpoint.
    Abandoned,
}

impl BatchState {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Submitted => "submitted",
            Self::Running => "running",
            Self::Settled => "settled",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A step of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEvent {
    pub intent: String,
    pub state: BatchState,
    /// The endpoint's name for the file (uploaded) or the batch (submitted).
    pub name: Option<String>,
    pub back: Option<u64>,
    pub failed: Option<u64>,
    /// How it ended.
    pub detail: Option<String>,
    pub at_ms: i64,
}

impl BatchEvent {
    #[must_use]
    pub fn new(intent: &str, state: BatchState, at_ms: i64) -> Self {
        Self { intent: intent.to_owned(), state, name: None, back: None, failed: None, detail: None, at_ms }
    }
}
