//! Traffic kept for the next training set: one JSON object a line, which the data set `traffic` reads. Only where an
//! operator asks for it.
//!
//! ```json
//! {"question": "…", "premise": null, "scorer": "numeric", "answer": "29", "decomposition": ["…"], "arm": "two-stage/sd-t/qwen", "fallback": null, "at": 1795567059}
//! ```

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use divvy_core::extract;
use serde_json::json;
use tokio::sync::oneshot;

use crate::answering::{Order, Outcome};

/// Lines that may wait for the disk; more are dropped, and said so: nobody's answer waits for a record.
const WAITING: usize = 4096;

/// Appends to a file on a thread of its own.
pub struct Recorder {
    inbox: SyncSender<Job>,
}

enum Job {
    Line(String),
    /// Everything before it is on the disk when this is answered.
    Flush(oneshot::Sender<()>),
}

impl Recorder {
    /// # Errors
    /// A file that cannot be opened for appending.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        end_line(&mut file)?;
        let (inbox, jobs) = sync_channel(WAITING);
        std::thread::Builder::new().name("recorder".to_owned()).spawn(move || write(file, &jobs))?;
        Ok(Self { inbox })
    }

    pub(crate) fn keep(&self, order: &Order, arm: &str, outcome: &Outcome, at: u64) {
        let Some(answer) = &outcome.answer else { return };
        let steps = answer.decomposition.iter().flat_map(|decomposition| decomposition.steps());
        let line = json!({
            "question": order.question.text, "premise": order.question.premise, "scorer": order.question.scorer,
            "answer": extract::final_answer(&answer.reply).map(|answer| answer.text),
            "decomposition": steps.map(|step| &step.text).collect::<Vec<_>>(),
            "arm": arm, "fallback": outcome.fallback, "at": at,
        });
        if let Err(TrySendError::Full(_)) = self.inbox.try_send(Job::Line(format!("{line}\n"))) {
            tracing::warn!("the disk is too slow for the record of traffic: a question was not kept");
        }
    }

    /// Waits until what was kept so far is on the disk.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        // A full line is worth a moment's waiting: the server has ended.
        if self.inbox.send(Job::Flush(done)).is_ok() {
            let _ = written.await;
        }
    }
}

/// A line that a crash or a full disk cut off stays one bad line: the next one does not go on with it.
fn end_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// What waits is written line by line, then brought to the disk together.
fn write(mut file: File, jobs: &Receiver<Job>) {
    let mut failed = false;
    while let Ok(first) = jobs.recv() {
        let (mut written, mut flushed) = (Ok(()), Vec::new());
        for job in std::iter::once(first).chain(jobs.try_iter()).take(WAITING) {
            match job {
                Job::Line(line) => written = written.and(append(&mut file, &line, failed)),
                Job::Flush(done) => flushed.push(done),
            }
        }
        let written = written.and_then(|()| file.sync_data());
        if let Err(error) = &written
            && !failed
        {
            tracing::warn!(%error, "the record of traffic cannot be written");
        }
        failed = written.is_err();
        for done in flushed {
            // Nobody may wait for it any more.
            let _ = done.send(());
        }
    }
}

/// One write a line, in append mode, so that several servers may share a file.
fn append(file: &mut File, line: &str, after_failure: bool) -> io::Result<()> {
    if after_failure {
        end_line(file)?;
    }
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traffic.jsonl");
        std::fs::write(&path, "{\"question\": \"How ma").unwrap();
        for _ in 0..2 {
            let recorder = Recorder::open(&path).unwrap();
            recorder.inbox.send(Job::Line("{}\n".to_owned())).unwrap();
            let (done, written) = oneshot::channel();
            recorder.inbox.send(Job::Flush(done)).unwrap();
            written.blocking_recv().unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"question\": \"How ma\n{}\n{}\n");
    }
}
