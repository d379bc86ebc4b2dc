//! Files that are written whole or not at all, and the safetensors container for float tensors: adapters, training
//! checkpoints and fine-tuned weights. Writing is byte-for-byte deterministic (names in order), which a hash map of
//! metadata would not be. Format: <https://huggingface.co/docs/safetensors>, "Format".

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

/// Writes `path` through a neighbour that is synced and then renamed, so that a reader sees the old file or the new
/// one, never a part.
pub(crate) fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let written = (|| {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&beside)?);
        fill(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // The write has failed already; a left-over that cannot be removed either does no harm.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Float tensors by name, and a few strings about them.
#[derive(Debug, Default)]
pub(crate) struct TensorFile {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// A tensor that is only looked at, for writing.
pub(crate) struct TensorRef<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: &'a [f32],
}

/// Writes a safetensors stream of f32 tensors, in the order given (callers sort where order is not meaningful).
pub(crate) fn write_tensors(
    out: &mut dyn Write,
    metadata: &BTreeMap<String, String>,
    tensors: &[TensorRef<'_>],
) -> io::Result<()> {
    let entry = |tensor: &TensorRef<'_>| (tensor.name.clone(), "F32", tensor.shape.clone(), 4 * tensor.values.len());
    write_header(out, metadata, tensors.iter().map(entry))?;
    let mut bytes = Vec::new();
    for chunk in tensors.iter().flat_map(|tensor| tensor.values.chunks(1 << 14)) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Writes the header of a safetensors stream: (name, type, shape, bytes) of each tensor, in the order of their bytes.
pub(crate) fn write_header<'a>(
    out: &mut dyn Write,
    metadata: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (String, &'a str, Vec<usize>, usize)>,
) -> io::Result<()> {
    let mut entries = Map::new();
    entries.insert("__metadata__".into(), json!(metadata));
    let mut offset = 0;
    for (name, dtype, shape, bytes) in tensors {
        let end = offset + bytes;
        entries.insert(name, json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}));
        offset = end;
    }
    let mut text = Value::Object(entries).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

/// Reads a whole safetensors file of F32, F16 or BF16 tensors.
///
/// # Errors
/// What is wrong with the bytes, in words that follow "the file is damaged: ".
pub(crate) fn read_tensors(bytes: &[u8]) -> Result<TensorFile, String> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("it is shorter than its header length")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| "its header length is absurd")?;
    let (header, data) = rest.split_at_checked(length).ok_or("it ends inside its header")?;
    let header: Map<String, Value> =
        serde_json::from_slice(header).map_err(|e| format!("its header is not JSON ({e})"))?;
    let (mut file, mut entries) = (TensorFile::default(), BTreeMap::new());
    for (name, entry) in header {
        if name == "__metadata__" {
            file.metadata = serde_json::from_value(entry).map_err(|e| format!("its metadata is malformed ({e})"))?;
        } else {
            let entry: Entry = serde_json::from_value(entry).map_err(|e| format!("tensor {name}: {e}"))?;
            entries.insert(name, entry);
        }
    }
    check_ranges(entries.values().map(|entry| entry.data_offsets).collect(), data.len())?;
    for (name, entry) in entries {
        let tensor = read_tensor(entry, data).map_err(|reason| format!("tensor {name}: {reason}"))?;
        file.tensors.insert(name, tensor);
    }
    Ok(file)
}

/// Each byte belongs to one tensor, as the format demands: what is named ten thousand times would be read as often.
fn check_ranges(mut ranges: Vec<[usize; 2]>, bytes: usize) -> Result<(), String> {
    ranges.sort_unstable();
    let mut end = 0;
    for [begin, next] in ranges {
        if begin != end || next < begin {
            return Err(format!("its tensors overlap, or leave a gap, at byte {} of the data", begin.min(end)));
        }
        end = next;
    }
    if end == bytes { Ok(()) } else { Err(format!("its tensors take {end} bytes, and it has {bytes}")) }
}

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

fn read_tensor(entry: Entry, data: &[u8]) -> Result<Tensor, String> {
    let [begin, end] = entry.data_offsets;
    let bytes = data.get(begin..end).ok_or("its bytes lie outside the file")?;
    let values: Vec<f32> = match entry.dtype.as_str() {
        "F32" => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        "F16" => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        "BF16" => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
        other => return Err(format!("type {other} is not supported; supported are F32, F16, BF16")),
    };
    let width = if entry.dtype == "F32" { 4 } else { 2 };
    let count = entry.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or("its shape is absurd")?;
    if values.len() != count || bytes.len() != count * width {
        return Err(format!("{} bytes do not fill shape {:?}", bytes.len(), entry.shape));
    }
    Ok(Tensor { shape: entry.shape, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let metadata = BTreeMap::from([("step".to_owned(), "3".to_owned())]);
        let values = [1.0, -2.5, f32::MIN_POSITIVE, 0.1];
        let tensor = TensorRef { name: "a".into(), shape: vec![2, 2], values: &values };
        let mut bytes = Vec::new();
        write_tensors(&mut bytes, &metadata, &[tensor]).unwrap();
        bytes
    }

    #[test]
    fn round_trip_is_exact_and_aligned() {
        let bytes = sample();
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
        let file = read_tensors(&bytes).unwrap();
        assert_eq!(file.metadata["step"], "3");
        assert_eq!(file.tensors["a"], Tensor { shape: vec![2, 2], values: vec![1.0, -2.5, f32::MIN_POSITIVE, 0.1] });
    }

    #[test]
    fn bytes_that_belong_to_two_tensors_or_to_none_are_refused() {
        let file = |ranges: &[[usize; 2]]| {
            let entry = |(at, [begin, end]): (usize, &[usize; 2])| {
                let shape = [end.saturating_sub(*begin) / 4];
                (format!("t{at}"), json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}))
            };
            let header = Value::Object(ranges.iter().enumerate().map(entry).collect()).to_string();
            let length = (header.len() as u64).to_le_bytes();
            read_tensors(&[&length[..], header.as_bytes(), &[0; 16]].concat())
        };
        assert_eq!(file(&[[8, 16], [0, 8], [8, 8]]).unwrap().tensors.len(), 3, "in any order, empty ones too");
        let apart: [&[[usize; 2]]; 4] = [&[[0, 16], [0, 16]], &[[0, 8], [4, 16]], &[[0, 4], [8, 16]], &[[4, 16]]];
        for ranges in apart {
            let reason = file(ranges).unwrap_err();
            assert!(reason.contains("overlap, or leave a gap"), "{ranges:?}: {reason}");
        }
        for ranges in [&[[0, 12]], &[[0, 20]]] {
            let reason = file(ranges).unwrap_err();
            assert!(reason.contains("and it has 16"), "{ranges:?}: {reason}");
        }
        assert!(file(&[[0, 16], [16, 8]]).is_err(), "it ends before it begins");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(read_tensors(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let folder = std::env::temp_dir().join(format!("divvy-atomic-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("x");
        write_atomic(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write_atomic(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
