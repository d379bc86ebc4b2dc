//! The log of a job in another process, read while it is written: a JSON line a step.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

use divvy_core::records::TrainPoint;
use serde::Deserialize;

use crate::error::{LaunchError, at};

/// A step, and how many there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(crate) struct Line {
    #[serde(flatten)]
    pub(crate) point: TrainPoint,
    pub(crate) total: u64,
}

/// Reads on where it stopped reading. A job that begins anew begins its log anew.
pub(crate) struct Tail {
    path: PathBuf,
    read: u64,
    /// A line that is not ended yet.
    rest: Vec<u8>,
}

impl Tail {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: 0, rest: Vec::new() }
    }

    /// Whole lines that came since the last call.
    pub(crate) fn poll(&mut self) -> Result<Vec<Line>, LaunchError> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(Vec::new()) };
        let length = file.metadata().map_err(at(&self.path))?.len();
        if length < self.read {
            self.read = 0;
            self.rest.clear();
        }
        file.seek(SeekFrom::Start(self.read)).map_err(at(&self.path))?;
        self.read += file.read_to_end(&mut self.rest).map_err(at(&self.path))? as u64;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| self.parse(line)).collect()
    }

    fn parse(&self, line: &[u8]) -> Result<Line, LaunchError> {
        let told = |error| {
            let text = String::from_utf8_lossy(line);
            LaunchError::Failed(format!("{}: `{text}` is no line of a training log: {error}", self.path.display()))
        };
        serde_json::from_slice(line).map_err(told)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(step: u64) -> String {
        format!(
            "{{\"step\": {step}, \"total\": 9, \"loss\": 2.5, \"learning_rate\": 1e-3, \"grad_norm\": 0.1, \"tokens\": 64, \
             \"tokens_per_second\": 10.0, \"dev_loss\": null}}\n"
        )
    }

    fn steps(tail: &mut Tail) -> Vec<u64> {
        tail.poll().unwrap().iter().map(|line| line.point.step).collect()
    }

    #[test]
    fn lines_are_read_once_and_whole_and_again_when_the_log_begins_anew() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        let mut tail = Tail::new(path.clone());
        assert!(steps(&mut tail).is_empty(), "there is no log yet");
        let mut file = File::create(&path).unwrap();
        let (two, third) = (line(1) + &line(2), line(3));
        let (half, other) = third.split_at(20);
        file.write_all((two + half).as_bytes()).unwrap();
        assert_eq!(steps(&mut tail), [1, 2]);
        file.write_all(other.as_bytes()).unwrap();
        assert_eq!(steps(&mut tail), [3]);
        assert!(steps(&mut tail).is_empty());
        std::fs::write(&path, line(1)).unwrap();
        assert_eq!(steps(&mut tail), [1]);
    }

    #[test]
    fn another_text_is_an_error_that_names_the_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        std::fs::write(&path, "Traceback\n").unwrap();
        let error = Tail::new(path).poll().unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl") && error.contains("Traceback"), "{error}");
    }
}
