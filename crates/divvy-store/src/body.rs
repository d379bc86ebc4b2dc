//! Long texts as they stand in a row: compressed where that helps.

use std::{cell::RefCell, io};

use crate::codec::undecodable;

/// The fastest: most bodies are short, and a collected row must cost little (LOG.md, "What a collected row costs").
const LEVEL: i32 = 1;
/// Below this, a compressor takes longer than the disk.
const WORTH_IT: usize = 1024;

thread_local! {
    /// Its tables are larger than most bodies: made once, not for each.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = RefCell::new(zstd::bulk::Compressor::new(LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = RefCell::new(zstd::bulk::Decompressor::new().ok());
}

fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(bytes).ok())
}

fn decompress(bytes: &[u8], length: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| match decompressor {
        Some(decompressor) => decompressor.decompress(bytes, length),
        None => zstd::bulk::decompress(bytes, length),
    })
}

/// What to keep, and how long it was if it is compressed.
pub(crate) fn pack(bytes: &[u8]) -> (Option<i64>, Vec<u8>) {
    let packed = if bytes.len() < WORTH_IT { None } else { compress(bytes) };
    match packed {
        Some(packed) if packed.len() < bytes.len() => (i64::try_from(bytes.len()).ok(), packed),
        _ => (None, bytes.to_vec()),
    }
}

/// `length` is the one before compression; `None` where nothing was compressed.
pub(crate) fn unpack(length: Option<i64>, bytes: Vec<u8>) -> Result<Vec<u8>, sqlx::Error> {
    let Some(length) = length else { return Ok(bytes) };
    let length = usize::try_from(length).map_err(|_| undecodable("a body has a negative length".to_owned()))?;
    decompress(&bytes, length).map_err(|e| undecodable(format!("a body does not decompress: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_whatever_their_size() {
        for bytes in [Vec::new(), b"short".to_vec(), b"the same again ".repeat(1000)] {
            let (length, packed) = pack(&bytes);
            assert!(packed.len() <= bytes.len());
            assert_eq!(unpack(length, packed).unwrap(), bytes);
        }
        assert_eq!(pack(&b"the same again ".repeat(1000)).0, Some(15_000));
    }

    #[test]
    fn a_damaged_body_is_an_error() {
        let (_, mut packed) = pack(&b"the same again ".repeat(1000));
        packed.truncate(packed.len() / 2);
        assert!(unpack(Some(15_000), packed).is_err());
        assert!(unpack(Some(-1), vec![0]).is_err());
    }
}
