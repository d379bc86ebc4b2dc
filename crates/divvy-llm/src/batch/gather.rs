//! Requests on their way into a batch. One is handed in when it is full, or when nothing was added for a moment: then
//! whoever asks has nothing more to ask before it hears an answer.

use std::sync::{Arc, MutexGuard, PoisonError};

use divvy_core::{chat::ChatRequest, digest::Digest};

use super::Batches;
use crate::{
    http::{HttpBatches, wire::Words},
    layer::Job,
};

/// A line of a file to come.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) key: Digest,
    pub(super) request: Arc<ChatRequest>,
    pub(super) bytes: u64,
    /// Of its prompt.
    pub(super) tokens: u64,
}

impl Row {
    pub(super) fn of(api: &HttpBatches, job: &Job) -> Self {
        Self {
            key: job.key.clone(),
            // In the longer words: a file is never larger than it may be.
            bytes: api.line(Words::MaxCompletionTokens, &job.key, &job.request).len() as u64,
            tokens: job.most_tokens().0,
            request: Arc::clone(&job.request),
        }
    }
}

#[derive(Default)]
pub(super) struct Gathering {
    rows: Vec<Row>,
    bytes: u64,
    tokens: u64,
    arrivals: u64,
    /// Somebody waits for quiet.
    watched: bool,
}

impl Gathering {
    fn take(&mut self) -> Vec<Row> {
        (self.bytes, self.tokens) = (0, 0);
        std::mem::take(&mut self.rows)
    }

    fn add(&mut self, row: Row) {
        self.bytes += row.bytes;
        self.tokens += row.tokens;
        self.arrivals += 1;
        self.rows.push(row);
    }
}

impl Batches {
    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gather(self: &Arc<Self>, row: Row) {
        let (settings, most_tokens) = (&self.settings, self.queue.limit().unwrap_or(u64::MAX));
        let mut gathering = self.gathering();
        let fits = gathering.rows.len() < settings.rows
            && gathering.bytes + row.bytes <= settings.bytes
            && gathering.tokens + row.tokens <= most_tokens;
        // A row that is larger than a limit goes alone, and hears from the endpoint what it thinks of it.
        let full = if fits { Vec::new() } else { gathering.take() };
        gathering.add(row);
        let watched = std::mem::replace(&mut gathering.watched, true);
        drop(gathering);
        self.hand_over(full);
        if !watched {
            tokio::spawn(Arc::clone(self).hand_over_when_quiet());
        }
    }

    /// Rows of a batch that came to nothing, as far as anybody still waits for them.
    pub(super) fn gather_again(self: &Arc<Self>, keys: &[Digest]) {
        let wanted: Vec<Job> = keys.iter().filter_map(|key| self.board.wanted(key)).collect();
        wanted.iter().for_each(|job| self.gather(Row::of(&self.api, job)));
    }

    async fn hand_over_when_quiet(self: Arc<Self>) {
        let mut seen = self.gathering().arrivals;
        loop {
            tokio::time::sleep(self.settings.quiet).await;
            let mut gathering = self.gathering();
            if gathering.arrivals == seen {
                gathering.watched = false;
                let rows = gathering.take();
                drop(gathering);
                return self.hand_over(rows);
            }
            seen = gathering.arrivals;
        }
    }

    fn hand_over(self: &Arc<Self>, rows: Vec<Row>) {
        if !rows.is_empty() {
            tokio::spawn(Arc::clone(self).carry(rows));
        }
    }
}
