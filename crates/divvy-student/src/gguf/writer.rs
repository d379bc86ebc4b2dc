//! Writes GGUF files, version 3: header, metadata, tensor table, then the tensors, each at the format's default alignment.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::{Value, narrow};
use crate::quant::TensorType;

const ALIGNMENT: usize = 32;

/// One row of the tensor table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: TensorType,
    /// Outermost dimension first.
    pub(crate) shape: Vec<usize>,
}

impl Entry {
    fn bytes(&self) -> io::Result<usize> {
        let bytes = self.dtype.bytes_of(self.shape.iter().product());
        bytes.ok_or_else(|| io::Error::other(format!("{}: {:?} are no whole blocks", self.name, self.shape)))
    }
}

/// Writes a file. `fill(index, out)` writes the bytes of tensor `index`, exactly as many as its entry says.
///
/// # Errors
/// The writer's.
pub(crate) fn write(
    out: &mut dyn Write,
    metadata: &BTreeMap<String, Value>,
    entries: &[Entry],
    mut fill: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.extend((entries.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut header, key);
        put_value(&mut header, value);
    }
    let mut offset = 0;
    for entry in entries {
        put_entry(&mut header, entry, offset);
        offset += entry.bytes()?.next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&header)?;
    for (index, entry) in entries.iter().enumerate() {
        fill(index, out)?;
        let bytes = entry.bytes()?;
        out.write_all(&[0; ALIGNMENT][..bytes.next_multiple_of(ALIGNMENT) - bytes])?;
    }
    Ok(())
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, offset: usize) {
    put_text(out, &entry.name);
    out.extend((entry.shape.len() as u32).to_le_bytes());
    entry.shape.iter().rev().for_each(|&size| out.extend((size as u64).to_le_bytes()));
    out.extend(entry.dtype.number().to_le_bytes());
    out.extend((offset as u64).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Whole numbers are written in the type that readers ask for: u32 where they fit, i32 in lists.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Int(value) => match u32::try_from(*value) {
            Ok(small) => put(out, 4, &small.to_le_bytes()),
            Err(_) => put(out, 11, &value.to_le_bytes()),
        },
        Value::Float(value) => put(out, 6, &(*value as f32).to_le_bytes()),
        Value::Bool(value) => put(out, 7, &[u8::from(*value)]),
        Value::Text(text) => {
            out.extend(8u32.to_le_bytes());
            put_text(out, text);
        }
        Value::Ints(values) => {
            put_list(out, 5, values.len());
            values.iter().for_each(|&value| out.extend((value as i32).to_le_bytes()));
        }
        Value::Floats(values) => {
            put_list(out, 6, values.len());
            values.iter().for_each(|&value| out.extend((value as f32).to_le_bytes()));
        }
        Value::Bools(values) => {
            put_list(out, 7, values.len());
            out.extend(values.iter().map(|&value| u8::from(value)));
        }
        Value::Texts(texts) => {
            put_list(out, 8, texts.len());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Value::Narrow { kind, bytes } => {
            put_list(out, *kind, bytes.len() / narrow(*kind).expect("the reader keeps only such lists so"));
            out.extend(bytes);
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend(bytes);
}

fn put_list(out: &mut Vec<u8>, kind: u32, len: usize) {
    put(out, 9, &kind.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
}
