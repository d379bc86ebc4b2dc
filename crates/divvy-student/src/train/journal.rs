//! What a run writes down while it goes: `metrics.jsonl`, a line a step, `samples.jsonl`, what the student wrote at each look at
//! dev, and an event file for TensorBoard (TFRecords of
//! `Event` messages; the few fields that are needed are encoded here). A run that is resumed goes on in the same
//! lines and begins an event file of its own, which TensorBoard joins to the others.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::run::StepRecord;

const LINES: &str = "metrics.jsonl";
const SAMPLES: &str = "samples.jsonl";

/// An open journal.
pub struct Journal {
    lines: File,
    samples: File,
    events: File,
}

impl Journal {
    /// Opens the journal in `folder`, which is made; lines of steps after `resumed_at` are of a run that was cut and go.
    /// `seconds` is now, since 1970.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(folder: &Path, resumed_at: u64, seconds: f64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let [lines, samples] = [LINES, SAMPLES].map(|name| continued(&folder.join(name), resumed_at));
        let name = format!("events.out.tfevents.{:.0}.divvy.{resumed_at}", seconds.floor());
        let mut events = File::create(folder.join(name))?;
        events.write_all(&framed(&event(seconds, 0, &field(3, b"brain.Event:2"))))?;
        Ok(Self { lines: lines?, samples: samples?, events })
    }

    /// Adds what the student wrote to a question after a step.
    ///
    /// # Errors
    /// What the system said.
    pub fn sample(&mut self, step: u64, id: &str, text: &str) -> io::Result<()> {
        let line = serde_json::json!({"step": step, "id": id, "text": text});
        self.samples.write_all(format!("{line}\n").as_bytes())
    }

    /// Adds a step to both files.
    ///
    /// # Errors
    /// What the system said.
    pub fn step(&mut self, record: &StepRecord, seconds: f64) -> io::Result<()> {
        let line = serde_json::to_string(record)?;
        self.lines.write_all(format!("{line}\n").as_bytes())?;
        let dev = record.dev_loss.map(|loss| ("dev/loss", loss));
        let scalars = [
            ("train/loss", record.loss),
            ("train/learning_rate", record.learning_rate),
            ("train/grad_norm", record.grad_norm),
            ("train/tokens_per_second", record.tokens_per_second),
        ];
        let quality = record.dev_quality.map(|share| ("dev/quality", share));
        let summary: Vec<u8> =
            scalars.into_iter().chain(dev).chain(quality).flat_map(|(tag, value)| scalar(tag, value)).collect();
        self.events.write_all(&framed(&event(seconds, record.step, &field(5, &summary))))
    }
}

/// The file without the lines of later steps, to be added to. A line that a full disk cut goes; the others stay.
fn continued(path: &Path, resumed_at: u64) -> io::Result<File> {
    let old = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let old = String::from_utf8_lossy(&old);
    let kept = old.lines().filter(|line| step_of(line).is_some_and(|step| step <= resumed_at));
    let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
    fs::write(path, kept)?;
    File::options().append(true).open(path)
}

fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64()
}

/// `Event { wall_time = 1: double, step = 2: int64, what }`
fn event(seconds: f64, step: u64, what: &[u8]) -> Vec<u8> {
    let mut out = vec![0x09];
    out.extend(seconds.to_le_bytes());
    out.push(0x10);
    varint(step, &mut out);
    out.extend(what);
    out
}

/// `Summary { value = 1: Value { tag = 1: string, simple_value = 2: float } }`
fn scalar(tag: &str, value: f64) -> Vec<u8> {
    let mut out = field(1, tag.as_bytes());
    out.push(0x15);
    out.extend((value as f32).to_le_bytes());
    field(1, &out)
}

/// A field of bytes, a text or a message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A TFRecord: length and content, each with its masked checksum.
fn framed(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), content, &masked(content)].concat()
}

fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// The checksum of Castagnoli, bit by bit: a step has some hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| shift(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64) -> StepRecord {
        StepRecord {
            step,
            epoch: 0,
            loss: 1.5,
            learning_rate: 1e-3,
            grad_norm: 0.5,
            tokens: 10,
            target_tokens: 5,
            correct: 2,
            tokens_per_second: 100.0,
            dev_loss: (step == 2).then_some(2.5),
            dev_quality: None,
        }
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn lines_of_a_cut_run_go_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), 0, 1.0).unwrap();
        (1..=3).for_each(|step| journal.step(&record(step), 2.0).unwrap());
        [2, 3].into_iter().for_each(|step| journal.sample(step, "q", &format!("{step}. How\nmany?")).unwrap());
        // A disk that was full cut a line within a character.
        let path = folder.path().join(SAMPLES);
        fs::write(&path, [&fs::read(&path).unwrap()[..], b"{\"step\":2,\"id\":\"\xe4\xb8"].concat()).unwrap();
        let mut journal = Journal::open(folder.path(), 2, 9.0).unwrap();
        journal.step(&StepRecord { loss: 7.0, ..record(3) }, 10.0).unwrap();
        let text = fs::read_to_string(folder.path().join(LINES)).unwrap();
        let records: Vec<StepRecord> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records, [record(1), record(2), StepRecord { loss: 7.0, ..record(3) }]);
        let samples = fs::read_to_string(folder.path().join(SAMPLES)).unwrap();
        let sample: serde_json::Value = serde_json::from_str(&samples).unwrap();
        assert_eq!(sample, serde_json::json!({"step": 2, "id": "q", "text": "2. How\nmany?"}));
        let events = fs::read_dir(folder.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("tfevents"));
        assert_eq!(events.count(), 2);
    }

    #[test]
    fn events_are_records_that_hold_every_scalar() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), 0, 1.0).unwrap();
        journal.step(&record(2), 2.0).unwrap();
        let bytes = fs::read(folder.path().join("events.out.tfevents.1.divvy.0")).unwrap();
        let mut records = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let content = &rest[12..12 + length];
            assert_eq!(rest[8..12], masked(&rest[..8]));
            assert_eq!(rest[12 + length..16 + length], masked(content));
            records.push(content);
            rest = &rest[16 + length..];
        }
        assert_eq!(records.len(), 2);
        assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        let holds = |part: &[u8]| records[1].windows(part.len()).any(|window| window == part);
        for (tag, value) in [("train/loss", 1.5f32), ("train/grad_norm", 0.5), ("dev/loss", 2.5)] {
            assert!(holds(&[tag.as_bytes(), &[0x15], &value.to_le_bytes()].concat()), "{tag}");
        }
    }
}
