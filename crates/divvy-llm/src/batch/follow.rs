//! A batch that is out: looked at until it is over, cancelled at its deadline, taken in row by row. Whatever happens on
//! the way, it stays open in the store until all that it brought is kept.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use divvy_core::digest::Digest;
use divvy_store::{BatchEvent, BatchState};
use futures::future::join_all;

use super::{
    Answer, Batches, Halt, Open, Standing, board,
    rows::{AT_ONCE, Back},
};
use crate::{
    error::{ChatError, ErrorKind, UNCHARGED},
    http::batches::{Counts, Fault, View},
};

/// Within which a cancelled batch comes to its end, at OpenAI at least.
const CANCELLING_MS: i64 = 15 * 60_000;
/// The code of a batch that is refused since too many tokens wait at the endpoint.
const TOO_MANY_TOKENS: &str = "token_limit_exceeded";
/// Refusals, over hours, after which a row alone in its batch is taken for too long by itself.
const HOPELESS: u32 = 16;

/// How it goes with a batch that is to be cancelled.
#[derive(Default)]
struct Cancelling {
    since: Option<i64>,
    /// The endpoint has taken it.
    agreed: bool,
    told: bool,
}

impl Batches {
    pub(super) async fn follow(self: &Arc<Self>, open: &Open) -> Result<(), Halt> {
        let (status, back, faults) = match self.until_over(open).await? {
            Some(view) => {
                // Whoever was taken for dead takes nothing in, and charges for nothing.
                self.record(self.looked_at(open, view.counts())).await?;
                let back = self.take_in(open, &view).await?;
                (view.status(), back, view.faults())
            }
            None => ("unknown to the endpoint".to_owned(), Back::of(open), Vec::new()),
        };
        let detail = faults.first().map_or_else(|| status.clone(), |fault| format!("{status}: {}", told(fault)));
        let event = self.event(&open.intent, BatchState::Settled);
        let (answered, failed) = (Some(back.answered), Some(back.failed));
        self.record(BatchEvent { back: answered, failed, detail: Some(detail), ..event }).await?;
        let left: Vec<Digest> = open.keys.iter().filter(|key| back.left.contains(key)).cloned().collect();
        let missing = if left.is_empty() { String::new() } else { format!(", {} without an answer", left.len()) };
        self.note(format!(
            "batch {} is {status}: {} rows answered, {} failed{missing}",
            open.id, back.answered, back.failed
        ));
        self.part_with(open, &status, &faults, left).await;
        Ok(())
    }

    /// What becomes of the rows that the batch has not answered.
    async fn part_with(self: &Arc<Self>, open: &Open, status: &str, faults: &[Fault], left: Vec<Digest>) {
        if let Some(fault) = faults.iter().find(|fault| fault.code.as_deref() == Some(TOO_MANY_TOKENS)) {
            self.make_room(fault).await;
            if !self.is_hopeless(open) {
                return self.gather_again(&left);
            }
        }
        self.queue.let_in();
        for some in left.chunks(AT_ONCE) {
            join_all(some.iter().map(|key| self.part_with_row(open, status, faults, key))).await;
        }
    }

    /// Asked online, or an attempt that came to nothing.
    async fn part_with_row(&self, open: &Open, status: &str, faults: &[Fault], key: &Digest) {
        let waiters = self.board.take(key);
        let Some(first) = waiters.first() else { return };
        let late = self.is_late(open);
        let error = match status {
            "failed" => self.reworded(open, &first.job, refused(open, faults)),
            _ if late && self.settings.online_at_deadline => return board::answer(waiters, Ok(Answer::Online)),
            "cancelled" | "canceled" if !late => cancelled_there(open),
            _ => unanswered(open, status),
        };
        let said = self.ledger.settle(&first.job, Err(error), open.created_ms).await;
        board::answer(waiters, said.map(Answer::Call));
    }

    /// A row alone in its batch that found no room too often.
    fn is_hopeless(&self, open: &Open) -> bool {
        let [key] = &open.keys[..] else { return false };
        let mut roomless = self.roomless.lock().unwrap_or_else(PoisonError::into_inner);
        let times = roomless.entry(key.clone()).or_default();
        *times += 1;
        *times >= HOPELESS
    }

    async fn make_room(&self, fault: &Fault) {
        let refusals = self.queue.refused(fault.message.as_deref().and_then(stated_limit));
        self.note(format!("{}; smaller batches follow, one after another", told(fault)));
        // Others may fill the endpoint's queue too.
        let pause = self.settings.poll.saturating_mul(1 << refusals.min(10));
        tokio::time::sleep(pause.min(Duration::from_mins(10).max(self.settings.poll))).await;
    }

    /// Looks at it until it is over; `None` when the endpoint has forgotten it. As long as it is not over, its rows are nobody
    /// else's: it may answer them, and charge for it.
    async fn until_over(&self, open: &Open) -> Result<Option<View>, Halt> {
        let (mut known, mut cancelling) = (Counts::default(), Cancelling::default());
        loop {
            let view = match self.until_told(|| self.api.view(&open.id)).await {
                Ok(view) => view,
                Err(error) if error.kind == ErrorKind::NotFound && self.is_given_up(open.created_ms) => {
                    return Ok(None);
                }
                Err(error) if error.kind == ErrorKind::NotFound => return Err(unknown(open, &error).into()),
                Err(error) => return Err(error.into()),
            };
            if known != view.counts() {
                known = view.counts();
                self.progressed(open, known).await?;
            }
            if view.is_over() {
                return Ok(Some(view));
            }
            if self.is_late(open) {
                self.cancel(open, &mut cancelling).await;
            }
            tokio::time::sleep(self.until_next_look(open)).await;
        }
    }

    fn is_late(&self, open: &Open) -> bool {
        open.deadline_ms.is_some_and(|deadline| self.clock.now_ms() >= deadline)
    }

    fn until_next_look(&self, open: &Open) -> Duration {
        let left = open.deadline_ms.map(|deadline| deadline - self.clock.now_ms()).filter(|left| *left > 0);
        let left = left.map_or(Duration::MAX, |ms| Duration::from_millis(ms.unsigned_abs()));
        self.settings.poll.min(left)
    }

    /// At each look until the endpoint agrees.
    async fn cancel(&self, open: &Open, cancelling: &mut Cancelling) {
        if cancelling.since.is_none() {
            self.note(format!(
                "batch {} is not back at its deadline and is cancelled; what it has answered is kept",
                open.id
            ));
        }
        let since = *cancelling.since.get_or_insert(self.clock.now_ms());
        if !cancelling.agreed {
            match self.api.cancel(&open.id).await {
                Ok(_) => cancelling.agreed = true,
                // It may be over by now, which the next look tells.
                Err(error) => tracing::warn!(%error, batch = open.id, "the endpoint does not cancel it"),
            }
        }
        if self.clock.now_ms() - since > CANCELLING_MS && !std::mem::replace(&mut cancelling.told, true) {
            self.note(format!(
                "batch {} does not end; its rows wait for it, since asked anew they would be paid for twice",
                open.id
            ));
        }
    }

    async fn progressed(&self, open: &Open, counts: Counts) -> Result<(), Halt> {
        self.record(self.looked_at(open, counts)).await?;
        let (rows, back) = (open.keys.len() as u64, counts.completed + counts.failed);
        self.stands(&open.intent, Some(Standing { batches: 1, rows, back, deadline_ms: open.deadline_ms }));
        Ok(())
    }

    fn looked_at(&self, open: &Open, counts: Counts) -> BatchEvent {
        let running = self.event(&open.intent, BatchState::Running);
        BatchEvent { back: Some(counts.completed), failed: Some(counts.failed), ..running }
    }
}

fn told(fault: &Fault) -> String {
    let line = fault.line.map_or_else(String::new, |line| format!(" (line {line})"));
    let text = fault.message.as_deref().or(fault.code.as_deref()).unwrap_or("it does not say why");
    format!("{}{line}", text.trim_end_matches('.'))
}

/// `…Limit: 90,000 enqueued tokens…`
fn stated_limit(message: &str) -> Option<u64> {
    let (_, rest) = message.split_once("Limit: ")?;
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
    digits.parse().ok().filter(|limit| *limit > 0)
}

fn refused(open: &Open, faults: &[Fault]) -> ChatError {
    let first = faults.first().map_or_else(|| "it does not say why".to_owned(), told);
    let more = if faults.len() > 1 { format!(" (and {} more)", faults.len() - 1) } else { String::new() };
    let kind = match faults.first().and_then(|fault| fault.code.as_deref()) {
        Some("model_not_found") => ErrorKind::NotFound,
        // It may be this row, and the others do well without it.
        _ if open.keys.len() == 1 => ErrorKind::BadRequest,
        _ => ErrorKind::BatchFailed,
    };
    ChatError {
        usage: UNCHARGED,
        ..ChatError::new(kind, format!("the endpoint refused batch {}: {first}{more}", open.id))
    }
}

fn cancelled_there(open: &Open) -> ChatError {
    let message = format!("batch {} was cancelled at the endpoint; the same command hands its rows in again", open.id);
    ChatError { usage: UNCHARGED, ..ChatError::new(ErrorKind::BatchFailed, message) }
}

/// The row is handed in again.
fn unanswered(open: &Open, status: &str) -> ChatError {
    let message = format!("batch {} is {status} and has no answer to this row", open.id);
    ChatError { usage: UNCHARGED, ..ChatError::new(ErrorKind::TimedOut, message) }
}

/// It stays open: with the right key it may be there.
fn unknown(open: &Open, error: &ChatError) -> ChatError {
    let message = format!(
        "the endpoint does not know batch {} ({}); is the API key that of another account? The batch stays on record, and \
         is given up after eight days",
        open.id, error.message
    );
    ChatError { message, ..error.clone() }
}

#[cfg(test)]
mod tests {
    use super::stated_limit;

    #[test]
    fn the_limit_is_read_from_the_refusal() {
        let told =
            "Enqueued token limit reached for m in organization o. Limit: 90,000 enqueued tokens. Please try again.";
        assert_eq!(stated_limit(told), Some(90_000));
        assert_eq!(stated_limit("Limit: none"), None);
        assert_eq!(stated_limit("Too much"), None);
    }
}
