//! Traffic kept for the next training set: one JSON object a line, which the data set `rows` reads. Only where an operator
//! asks for it.
//!
//! ```json
//! {"question": "…", "premise": null, "answer": "29", "decomposition": ["…"], "arm": "two-stage/sd-t/qwen", "fallback": null, "at": 1795567059}
//! ```

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use divvy_core::extract;
use serde_json::json;

use crate::answering::{Order, Outcome};

/// Lines that may wait for the disk; more are dropped, and said so: nobody's answer waits for a record.
const WAITING: usize = 4096;

/// Appends to a file on a thread of its own.
pub struct Recorder {
    lines: SyncSender<String>,
}

impl Recorder {
    /// # Errors
    /// A file that cannot be opened for appending.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (lines, inbox) = sync_channel(WAITING);
        std::thread::Builder::new().name("recorder".to_owned()).spawn(move || write(file, &inbox))?;
        Ok(Self { lines })
    }

    pub(crate) fn keep(&self, order: &Order, arm: &str, outcome: &Outcome, at: u64) {
        let Some(answer) = &outcome.answer else { return };
        let steps = answer.decomposition.iter().flat_map(|decomposition| decomposition.steps());
        let line = json!({
            "question": order.question.text, "premise": order.question.premise,
            "answer": extract::final_answer(&answer.reply).map(|answer| answer.text),
            "decomposition": steps.map(|step| &step.text).collect::<Vec<_>>(),
            "arm": arm, "fallback": outcome.fallback, "at": at,
        });
        if let Err(TrySendError::Full(_)) = self.lines.try_send(format!("{line}\n")) {
            tracing::warn!("the disk is too slow for the record of traffic: a question was not kept");
        }
    }
}

fn write(mut file: File, inbox: &Receiver<String>) {
    let mut failed = false;
    for line in inbox {
        // One write a line, in append mode: a line is whole or not there.
        let written = file.write_all(line.as_bytes());
        if let Err(error) = &written
            && !failed
        {
            tracing::warn!(%error, "the record of traffic cannot be written");
        }
        failed = written.is_err();
    }
}
