//! From rows to a batch that the endpoint has, at most once. What we mean to do is on record before it is done; whether a
//! batch came to be when nobody heard the answer is found out from the endpoint's own list, where our name for it stands
//! in its metadata, or else the file of which it is made.

use std::{collections::HashSet, sync::Arc, time::Duration};

use divvy_core::digest::{Digest, derive_seed};
use divvy_store::{BatchEvent, BatchRow, BatchState};
use futures::stream;

use super::{Batches, Halt, Open, Standing, fatal, gather::Row};
use crate::{
    error::{ChatError, ErrorKind},
    http::{batches::View, wire::Words},
};

/// A batch that its endpoint does not know, or about which it says nothing, is given up after this: no window is longer.
const GIVEN_UP_MS: i64 = 8 * DAY_MS;
const DAY_MS: i64 = 24 * 3_600_000;
/// Failures in a row that people hear of.
const WORTH_A_WORD: u32 = 5;
/// Longest pause between two questions to an endpoint that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

impl Batches {
    /// The life of one batch.
    pub(super) async fn carry(self: Arc<Self>, rows: Vec<Row>) {
        let _place = self.queue.enter(rows.iter().map(|row| row.tokens).sum()).await;
        // Whoever was interrupted meanwhile pays nothing.
        let mut seen = HashSet::new();
        let wanted = |row: &Row| seen.insert(row.key.clone()) && self.board.wanted(&row.key).is_some();
        let rows: Vec<Row> = rows.into_iter().filter(wanted).collect();
        if rows.is_empty() {
            return;
        }
        let mut batch = self.intent(rows.iter().map(|row| row.key.clone()).collect());
        self.followed().insert(batch.intent.clone());
        let end = self.carry_intended(&mut batch, rows).await;
        self.ends(&batch.intent, &batch.keys, end);
    }

    async fn carry_intended(self: &Arc<Self>, batch: &mut BatchRow, rows: Vec<Row>) -> Result<(), Halt> {
        batch.keys = self.store.intend_batch(batch).await?;
        let ours: HashSet<&Digest> = batch.keys.iter().collect();
        let (ours, others): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| ours.contains(&row.key));
        if !others.is_empty() {
            self.wait_for_others(others.into_iter().map(|row| row.key).collect());
        }
        let ours = self.still_open(ours).await?;
        if ours.is_empty() {
            // Without rows there is nothing on record, nor anything to take over.
            let _ = self.store.record_batch_event(&self.event(&batch.intent, BatchState::Abandoned)).await?;
            return Ok(());
        }
        let handed_in = BatchRow { keys: ours.iter().map(|row| row.key.clone()).collect(), ..batch.clone() };
        match self.hand_in(&handed_in, ours.into()).await {
            Ok(open) => self.follow(&open).await,
            Err(Halt::Elsewhere) => Err(Halt::Elsewhere),
            // Nothing is out.
            Err(Halt::Error(error)) => {
                self.answer_all(&batch.keys, &error);
                Ok(())
            }
        }
    }

    /// But for rows that another worker's batch has answered since they were gathered: they are free again once it is over.
    async fn still_open(&self, rows: Vec<Row>) -> Result<Vec<Row>, ChatError> {
        let Some(shared) = self.store.shared() else { return Ok(rows) };
        let answered = shared.replied(rows.iter().map(|row| &row.key)).await?;
        let mut open = Vec::with_capacity(rows.len());
        for row in rows {
            if !answered.contains(&row.key) || !self.answered_from_store(&row.key).await? {
                open.push(row);
            }
        }
        Ok(open)
    }

    async fn hand_in(&self, batch: &BatchRow, rows: Arc<[Row]>) -> Result<Open, Halt> {
        let words = self.api.words();
        let file = match self.persist(&batch.intent, || self.upload(&batch.intent, words, &rows)).await {
            Ok(file) => file,
            Err(error) => return Err(self.abandoned(&batch.intent, error).await),
        };
        let view = self.create(batch, &file).await?;
        let id = view.id.clone();
        match self.handed_in(batch, view).await {
            Err(Halt::Elsewhere) => Err(self.handed_in_late(batch, &id).await),
            handed_in => handed_in.map(|open| Open { words, ..open }),
        }
    }

    /// Another worker took it over while it came to be. Did he give it up before, it is nobody's, and its rows go elsewhere.
    async fn handed_in_late(&self, batch: &BatchRow, id: &str) -> Halt {
        match self.store.open_batches().await {
            Ok(open) if open.iter().any(|other| other.intent == batch.intent) => {}
            Ok(_) => {
                // What is over already cannot be cancelled, and answers nobody.
                let is_over = |error: &ChatError| error.status == Some(409);
                let cancel = || async {
                    self.api
                        .cancel(id)
                        .await
                        .map(drop)
                        .or_else(|error| if is_over(&error) { Ok(()) } else { Err(error) })
                };
                if let Err(error) = self.until_told(cancel).await {
                    self.note(format!("batch {id} was handed in too late and is not cancelled: {error}"));
                }
            }
            Err(error) => return error.into(),
        }
        Halt::Elsewhere
    }

    fn intent(&self, keys: Vec<Digest>) -> BatchRow {
        let created_ms = self.clock.now_ms();
        let intent = Digest::of("batch-intent/1", &(&keys, created_ms));
        let after = |deadline: Duration| i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX / 2);
        BatchRow {
            intent: intent.hex()[..32].to_owned(),
            endpoint: self.api.endpoint(),
            model: self.api.model().to_owned(),
            keys,
            created_ms,
            deadline_ms: self.settings.deadline.map(|deadline| created_ms + after(deadline)),
            state: None,
            file: None,
            remote: None,
            back: 0,
            failed: 0,
            followed: true,
        }
    }

    /// Line by line, so that a file is never whole in memory.
    async fn upload(&self, intent: &str, words: Words, rows: &Arc<[Row]>) -> Result<String, ChatError> {
        let (api, rows) = (self.api.clone(), Arc::clone(rows));
        let line = move |row: &Row| api.line(words, &row.key, &row.request);
        let length = rows.iter().map(|row| line(row).len() as u64).sum();
        let lines = (0..rows.len()).map(move |at| line(&rows[at]));
        self.api.upload(&format!("divvy-{intent}"), length, stream::iter(lines)).await
    }

    async fn create(&self, batch: &BatchRow, file: &str) -> Result<View, Halt> {
        let mut attempt = 1;
        loop {
            // Each time, since whoever was taken for dead meanwhile hands nothing in.
            let uploaded = self.event(&batch.intent, BatchState::Uploaded);
            self.record(BatchEvent { name: Some(file.to_owned()), ..uploaded }).await?;
            let error = match self.api.create(file, &batch.intent, &self.settings.window).await {
                Ok(view) => return Ok(view),
                Err(error) => error,
            };
            if may_have_worked(&error)
                && let Some(view) = self.find(batch, Some(file)).await.map_err(fatal)?
            {
                return Ok(view);
            }
            if !error.is_retryable() || attempt >= self.retry.attempts {
                return Err(self.abandoned(&batch.intent, error).await);
            }
            self.pause(&batch.intent, attempt, &error).await;
            attempt += 1;
        }
    }

    async fn handed_in(&self, batch: &BatchRow, view: View) -> Result<Open, Halt> {
        let submitted = self.event(&batch.intent, BatchState::Submitted);
        self.record(BatchEvent { name: Some(view.id.clone()), ..submitted }).await?;
        let open = self.open(batch, view.id);
        self.note(format!("batch {}: {} rows handed in at {}", open.id, open.keys.len(), self.api.endpoint()));
        Ok(open)
    }

    fn open(&self, batch: &BatchRow, id: String) -> Open {
        let BatchRow { intent, keys, created_ms, deadline_ms, .. } = batch.clone();
        let (rows, back) = (keys.len() as u64, batch.back + batch.failed);
        self.stands(&intent, Some(Standing { batches: 1, rows, back, deadline_ms }));
        Open { intent, id, keys, words: Words::default(), created_ms, deadline_ms }
    }

    /// A batch that an earlier process meant to hand in; `None` where it never came to be.
    pub(super) async fn found_again(&self, batch: &BatchRow) -> Result<Option<Open>, Halt> {
        if let Some(id) = batch.remote.clone() {
            return Ok(Some(self.open(batch, id)));
        }
        match self.find(batch, batch.file.as_deref()).await {
            Ok(Some(view)) => self.handed_in(batch, view).await.map(Some),
            Ok(None) => Ok(None),
            Err(error) if error.kind == ErrorKind::NotFound && self.is_given_up(batch.created_ms) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks twice: when a process dies or a connection breaks, a creation may still be on its way.
    async fn find(&self, batch: &BatchRow, file: Option<&str>) -> Result<Option<View>, ChatError> {
        if let Some(view) = self.look(batch, file).await? {
            return Ok(Some(view));
        }
        tokio::time::sleep(self.settings.poll).await;
        self.look(batch, file).await
    }

    /// Newest first, as far back as the batch can be.
    async fn look(&self, batch: &BatchRow, file: Option<&str>) -> Result<Option<View>, ChatError> {
        let mut after = None;
        loop {
            let page = self.until_told(|| self.api.list(after.as_deref())).await?;
            let last = page.data.last().map(|view| (view.id.clone(), view.created_at()));
            if let Some(view) = page.data.into_iter().find(|view| view.is_of(&batch.intent, file)) {
                return Ok(Some(view));
            }
            // The endpoint's clock may differ from ours.
            let older = |created: Option<i64>| created.is_some_and(|at| at * 1000 < batch.created_ms - DAY_MS);
            match last {
                Some((id, created)) if page.has_more && !older(created) => after = Some(id),
                _ => return Ok(None),
            }
        }
    }

    pub(super) fn is_given_up(&self, created_ms: i64) -> bool {
        self.clock.now_ms() - created_ms > GIVEN_UP_MS
    }

    /// Nothing was handed in: the rows are free to be tried again.
    async fn abandoned(&self, intent: &str, error: ChatError) -> Halt {
        let detail = Some(error.message.clone());
        let event = BatchEvent { detail, ..self.event(intent, BatchState::Abandoned) };
        self.record(event).await.err().unwrap_or(Halt::Error(error))
    }

    /// Tries again what may be done twice.
    async fn persist<T, F: Future<Output = Result<T, ChatError>>>(
        &self,
        intent: &str,
        act: impl Fn() -> F,
    ) -> Result<T, ChatError> {
        let mut attempt = 1;
        loop {
            match act().await {
                Err(error) if error.is_retryable() && attempt < self.retry.attempts => {
                    self.pause(intent, attempt, &error).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Asks on until the endpoint answers, since nothing can be done before.
    pub(super) async fn until_told<T, F: Future<Output = Result<T, ChatError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, ChatError> {
        let mut failures = 0;
        loop {
            match ask().await {
                Err(error) if error.is_retryable() => {
                    failures += 1;
                    tracing::debug!(%error, failures, "asking about a batch again");
                    if failures == WORTH_A_WORD {
                        self.note(format!("still waiting, though asking about a batch fails: {error}"));
                    }
                    tokio::time::sleep(self.pause_after(failures, &error)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Twice as long after each failure, and never sooner than the endpoint asked.
    pub(super) fn pause_after(&self, failures: u32, error: &ChatError) -> Duration {
        let doubled = self.settings.poll.saturating_mul(1 << failures.min(16));
        let most = LONGEST_PAUSE.max(self.settings.poll);
        doubled.min(most).max(error.retry_after.unwrap_or_default())
    }

    async fn pause(&self, intent: &str, attempt: u32, error: &ChatError) {
        let random = derive_seed(u64::from(attempt), intent);
        tracing::debug!(%error, attempt, "handing a batch in again");
        tokio::time::sleep(self.retry.pause(attempt, error.retry_after, random)).await;
    }
}

/// The endpoint may have made the batch although we did not hear so.
fn may_have_worked(error: &ChatError) -> bool {
    match error.status {
        Some(408 | 409 | 425 | 500..) => true,
        Some(_) => false,
        None => !matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Untrusted),
    }
}
