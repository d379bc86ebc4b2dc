//! The files that a batch brings back. Every line is on disk as it came before it is read, and each is an answer of its
//! own: what breaks off in the middle is fetched again, and what was taken in by then is not taken in twice.

use std::{collections::HashSet, time::Duration};

use bytes::{Bytes, BytesMut};
use divvy_core::digest::Digest;
use divvy_store::RawReply;
use futures::{StreamExt, future::join_all};

use super::{Answer, Batches, Open, board};
use crate::{
    attempt::Received,
    error::{ChatError, ErrorKind},
    http::{batch_lines, batches::View},
};

/// Lines in one commit.
pub(super) const AT_ONCE: usize = 256;
/// How often a file is asked for that the endpoint does not have: it may be a moment behind the batch that names it.
const LOOKS: u32 = 3;
/// Longest line that is read; a completion is some kilobytes.
const LONGEST: usize = 64 << 20;

/// What a batch has brought.
pub(super) struct Back {
    /// Rows that have no line yet.
    pub(super) left: HashSet<Digest>,
    pub(super) answered: u64,
    pub(super) failed: u64,
}

impl Back {
    pub(super) fn of(open: &Open) -> Self {
        Self { left: open.keys.iter().cloned().collect(), answered: 0, failed: 0 }
    }
}

/// Lines of one file that mean nothing to us.
#[derive(Default)]
struct Odd {
    seen: HashSet<Digest>,
    unreadable: usize,
    unknown: usize,
    twice: usize,
}

impl Odd {
    fn told(&self, file: &str) -> Option<String> {
        let kinds = [
            (self.unreadable, "that cannot be read"),
            (self.unknown, "that we did not ask for"),
            (self.twice, "that came twice"),
        ];
        let kinds = kinds.into_iter().filter(|(lines, _)| *lines > 0);
        let kinds: Vec<String> = kinds.map(|(lines, what)| format!("{lines} {what}")).collect();
        (!kinds.is_empty()).then(|| format!("{file} has lines to ignore: {}", kinds.join(", ")))
    }
}

impl Batches {
    /// All rows that a batch brings, answers first.
    pub(super) async fn take_in(&self, open: &Open, view: &View) -> Result<Back, ChatError> {
        let mut back = Back::of(open);
        for file in [&view.output_file_id, &view.error_file_id].into_iter().flatten() {
            self.take_in_file(open, file, &mut back).await?;
        }
        Ok(back)
    }

    /// A file that the endpoint does not have is waited for as long as a batch that it does not know: its rows may have answers,
    /// which would be paid for twice.
    async fn take_in_file(&self, open: &Open, file: &str, back: &mut Back) -> Result<(), ChatError> {
        let (mut failures, mut looks) = (0, 0);
        let odd = loop {
            let error = match self.read_file(open, file, back).await {
                Ok(odd) => break odd,
                Err(error) => error,
            };
            let is_gone = error.kind == ErrorKind::NotFound;
            looks += u32::from(is_gone);
            if looks >= LOOKS && self.is_given_up(open.created_ms) {
                self.note(format!("{file} is gone ({})", error.message));
                return Ok(());
            }
            if looks >= LOOKS || !(is_gone || error.is_retryable()) {
                return Err(if is_gone { gone(open, file, &error) } else { error });
            }
            failures += 1;
            tracing::debug!(%error, file, "fetching a file again");
            tokio::time::sleep(self.pause_after(failures, &error)).await;
        };
        odd.told(file).into_iter().for_each(|text| self.note(text));
        Ok(())
    }

    async fn read_file(&self, open: &Open, file: &str, back: &mut Back) -> Result<Odd, ChatError> {
        let (mut chunks, mut lines, mut odd) = (self.api.content(file).await?, Lines::default(), Odd::default());
        while let Some(chunk) = chunks.next().await {
            lines.feed(&chunk?)?;
            while lines.ready.len() >= AT_ONCE {
                let some = lines.ready.drain(..AT_ONCE).collect();
                self.take_in_lines(open, some, back, &mut odd).await?;
            }
        }
        self.take_in_lines(open, lines.rest(), back, &mut odd).await?;
        Ok(odd)
    }

    async fn take_in_lines(
        &self,
        open: &Open,
        lines: Vec<Bytes>,
        back: &mut Back,
        odd: &mut Odd,
    ) -> Result<(), ChatError> {
        let mut row = |line: Bytes| Some((sort(&line, open, back, odd)?, self.api.without_key(line)));
        let rows: Vec<(Digest, Bytes)> = lines.into_iter().filter_map(&mut row).collect();
        let raw: Vec<RawReply> = rows.iter().map(|(key, line)| self.raw(open, key, line)).collect();
        let kept = join_all(raw.iter().map(|raw| self.store.record_raw(raw))).await;
        kept.into_iter().collect::<Result<(), _>>()?;
        let settled = join_all(rows.iter().map(|(key, line)| self.settle(open, key, line))).await;
        for ((key, _), answered) in rows.iter().zip(settled) {
            let count = if answered? { &mut back.answered } else { &mut back.failed };
            *count += 1;
            back.left.remove(key);
        }
        Ok(())
    }

    /// Reads a row and answers those who wait for it; whether it is an answer. Without anybody, it stays as it came, and is
    /// read when somebody asks.
    async fn settle(&self, open: &Open, key: &Digest, line: &Bytes) -> Result<bool, ChatError> {
        let reply = self.api.read(line);
        let waiters = self.board.take(key);
        let Some(first) = waiters.first() else {
            // Read again it comes to nothing, too: it is no reply that somebody will have for nothing.
            if let Err(error) = &reply {
                self.ledger.came_to_nothing(key, error, open.created_ms).await?;
            }
            return Ok(reply.is_ok());
        };
        let reply = self.ledger.attempt.taken(&first.job, reply);
        let answered = reply.is_ok();
        let received = reply.map(|reply| Received { raw: line.clone(), reply, worked: Duration::ZERO });
        let received = received.map_err(|error| self.reworded(open, &first.job, error));
        let said = self.ledger.settle(&first.job, received, open.created_ms).await;
        let broken = said.as_ref().err().filter(|error| error.kind == ErrorKind::Store).cloned();
        board::answer(waiters, said.map(Answer::Call));
        broken.map_or(Ok(answered), Err)
    }

    fn raw(&self, open: &Open, key: &Digest, line: &Bytes) -> RawReply {
        let received_ms = self.clock.now_ms();
        RawReply {
            key: key.clone(),
            number: 1,
            bytes: line.to_vec(),
            endpoint: self.ledger.attempt.endpoint.clone(),
            received_ms,
            latency_ms: Some(received_ms - open.created_ms),
        }
    }
}

/// The batch stays open: with the right key, or later, the file may be there.
fn gone(open: &Open, file: &str, error: &ChatError) -> ChatError {
    let message = format!(
        "the endpoint does not have {file}, in which the answers of batch {} are ({}); is the API key that of another account? The \
         batch stays on record, the same command asks for the file again, and it is given up after eight days",
        open.id, error.message
    );
    ChatError { message, ..error.clone() }
}

/// The row of this batch that a line answers, if it is the first to do so.
fn sort(line: &Bytes, open: &Open, back: &Back, odd: &mut Odd) -> Option<Digest> {
    let Some(key) = batch_lines::key(line) else {
        odd.unreadable += 1;
        return None;
    };
    if !odd.seen.insert(key.clone()) {
        odd.twice += 1;
        return None;
    }
    if back.left.contains(&key) {
        return (!batch_lines::is_left_over(line)).then_some(key);
    }
    // A row that came before, in a download that broke off or in the other file, is none of ours only if it never was.
    odd.unknown += usize::from(!open.keys.contains(&key));
    None
}

/// Cuts what comes down into lines.
#[derive(Default)]
struct Lines {
    ready: Vec<Bytes>,
    part: BytesMut,
}

impl Lines {
    fn feed(&mut self, chunk: &[u8]) -> Result<(), ChatError> {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.part.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            self.end_line();
        }
        self.part.extend_from_slice(rest);
        if self.part.len() > LONGEST {
            return Err(ChatError::new(ErrorKind::BatchFailed, "a line of a batch's file does not end"));
        }
        Ok(())
    }

    fn end_line(&mut self) {
        let line = self.part.split().freeze();
        if !line.trim_ascii().is_empty() {
            self.ready.push(line);
        }
    }

    /// What is left at the end of the file, which need not end with a line's end.
    fn rest(mut self) -> Vec<Bytes> {
        self.end_line();
        self.ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let text = b"one\n\ntwo\r\n  \nthree";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            text.chunks(size).for_each(|chunk| lines.feed(chunk).unwrap());
            let lines: Vec<Bytes> = lines.rest();
            assert_eq!(lines, [&b"one"[..], b"two\r", b"three"], "{size}");
        }
    }
}
