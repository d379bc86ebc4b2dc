//! Long texts, stored once under the digest of their bytes and compressed where that helps.

use std::cell::RefCell;

use divvy_core::digest::Digest;

use crate::{
    codec::{blob, undecodable},
    statement::Statement,
};

/// The fastest: most bodies are short, and a collected row must cost little (LOG.md, "What a collected row costs").
const LEVEL: i32 = 1;

/// What a body that is kept is referred to by.
pub(crate) fn digest_of(bytes: &[u8]) -> Vec<u8> {
    blob(&Digest::of_bytes(bytes))
}

/// The statement that keeps `bytes` (nothing happens when they are there already) and the digest to refer to.
pub(crate) fn keep(bytes: &[u8]) -> (Statement, Vec<u8>) {
    let digest = digest_of(bytes);
    let (encoding, packed) = pack(bytes);
    let statement =
        Statement::new("INSERT INTO body (digest, length, encoding, bytes) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .blob(digest.clone())
            .int(i64::try_from(bytes.len()).expect("a body is shorter than 8 EiB"))
            .text(encoding)
            .blob(packed);
    (statement, digest)
}

thread_local! {
    /// Its tables are larger than most bodies: made once, not for each.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = RefCell::new(zstd::bulk::Compressor::new(LEVEL).ok());
}

fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|compressor| compressor.as_mut()?.compress(bytes).ok())
}

fn pack(bytes: &[u8]) -> (&'static str, Vec<u8>) {
    match compress(bytes) {
        Some(packed) if packed.len() < bytes.len() => ("zstd", packed),
        _ => ("plain", bytes.to_vec()),
    }
}

/// `length` is the stored length before compression.
pub(crate) fn unpack(encoding: &str, length: i64, bytes: Vec<u8>) -> Result<Vec<u8>, sqlx::Error> {
    match encoding {
        "plain" => Ok(bytes),
        "zstd" => {
            let length = usize::try_from(length).map_err(|_| undecodable("a body has a negative length".to_owned()))?;
            zstd::bulk::decompress(&bytes, length).map_err(|e| undecodable(format!("a body does not decompress: {e}")))
        }
        other => Err(undecodable(format!("a body has the unknown encoding `{other}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_whatever_their_size() {
        for bytes in [Vec::new(), b"short".to_vec(), b"the same again ".repeat(1000)] {
            let (encoding, packed) = pack(&bytes);
            assert!(packed.len() <= bytes.len());
            assert_eq!(unpack(encoding, bytes.len() as i64, packed).unwrap(), bytes);
        }
        assert_eq!(pack(&b"the same again ".repeat(1000)).0, "zstd");
    }

    #[test]
    fn a_damaged_body_is_an_error() {
        let (_, mut packed) = pack(&b"the same again ".repeat(1000));
        packed.truncate(packed.len() / 2);
        assert!(unpack("zstd", 15_000, packed).is_err());
        assert!(unpack("brotli", 1, vec![0]).is_err());
    }
}
