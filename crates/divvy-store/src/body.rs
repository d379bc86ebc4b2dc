//! Long texts, stored once under the digest of their bytes and compressed where that helps.

use divvy_core::digest::Digest;

use crate::{
    codec::{blob, undecodable},
    statement::Statement,
};

/// Zstandard's own default: higher levels gain a few percent on short JSON and cost ten times the time.
const LEVEL: i32 = 3;

/// The statement that keeps `bytes` (nothing happens when they are there already) and the digest to refer to.
pub(crate) fn keep(bytes: &[u8]) -> (Statement, Vec<u8>) {
    let digest = blob(&Digest::of_bytes(bytes));
    let (encoding, packed) = pack(bytes);
    let statement =
        Statement::new("INSERT INTO body (digest, length, encoding, bytes) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .blob(digest.clone())
            .int(i64::try_from(bytes.len()).expect("a body is shorter than 8 EiB"))
            .text(encoding)
            .blob(packed);
    (statement, digest)
}

fn pack(bytes: &[u8]) -> (&'static str, Vec<u8>) {
    match zstd::bulk::compress(bytes, LEVEL) {
        Ok(packed) if packed.len() < bytes.len() => ("zstd", packed),
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
