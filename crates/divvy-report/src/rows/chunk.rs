//! One sheet as the browser gets it: the rows in one piece, their calls in another, which is decoded when a row is opened.

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use divvy_core::graded::Sheet;
use flate2::{Compression, write::ZlibEncoder};
use serde::Serialize;

use super::{state, states};

/// Compressed and encoded; made on any thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    pub(super) arms: Vec<String>,
    pub(super) questions: usize,
    /// By question, then arm.
    pub(super) states: Vec<u8>,
    pub(super) rows: String,
    pub(super) calls: String,
}

/// The same sheet gives the same chunk.
#[must_use]
pub fn chunk(sheet: &Sheet) -> Chunk {
    let mut states = vec![states::NONE; sheet.questions.len() * sheet.arms.len()];
    for (at, asked) in sheet.questions.iter().enumerate() {
        for row in &asked.rows {
            states[at * sheet.arms.len() + row.arm] = state(row.correct, row.outcome);
        }
    }
    Chunk {
        arms: sheet.arms.to_vec(),
        questions: sheet.questions.len(),
        states,
        rows: packed(&sheet.questions),
        calls: packed(&sheet.calls),
    }
}

fn packed<T: Serialize>(value: &T) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(std::io::BufWriter::with_capacity(1 << 16, &mut encoder), value)
        .expect("rows are plain JSON, and memory takes all of it");
    STANDARD.encode(encoder.finish().expect("memory takes all of it"))
}

/// Bytes as the browser inflates them.
pub(super) fn packed_bytes(bytes: &[u8]) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes all of it");
    STANDARD.encode(encoder.finish().expect("memory takes all of it"))
}
