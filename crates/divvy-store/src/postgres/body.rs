//! Long texts on the server: once each, under the digest of their bytes, compressed where that helps. How they are packed is
//! [`crate::body`]'s.

use divvy_core::digest::Digest;

use crate::{body, codec::blob};

/// A row of the table `body`.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) digest: Vec<u8>,
    /// Before compression.
    pub(super) length: i64,
    pub(super) encoding: &'static str,
    pub(super) bytes: Vec<u8>,
}

impl Body {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let (packed_from, packed) = body::pack(bytes);
        let encoding = if packed_from.is_some() { "zstd" } else { "plain" };
        let length = i64::try_from(bytes.len()).expect("a body is shorter than 8 EiB");
        Self { digest: digest_of(bytes), length, encoding, bytes: packed }
    }
}

/// What a body that is kept is referred to by.
pub(super) fn digest_of(bytes: &[u8]) -> Vec<u8> {
    blob(&Digest::of_bytes(bytes))
}

pub(super) fn unpack(encoding: &str, length: i64, bytes: Vec<u8>) -> Result<Vec<u8>, sqlx::Error> {
    body::unpack((encoding == "zstd").then_some(length), bytes)
}
