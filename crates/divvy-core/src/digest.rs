//! Identity of things: BLAKE3 over canonical JSON (RFC 8785) with a schema name and version in front.
//!
//! Stored whole, shown as 12 hex digits. Paths, URLs, prices, keys, concurrency and retries never go in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canonical;

/// 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Digest of a value under a schema such as `call/1`.
    ///
    /// # Panics
    /// If `value` cannot be written as JSON (a map with non-string keys), which no record of ours can be.
    #[must_use]
    pub fn of<T: Serialize>(schema: &str, value: &T) -> Self {
        Self(hash(schema, value).to_hex().to_string())
    }

    /// [`Digest::of`] a list, one value after another: the list need not be anywhere as a whole.
    ///
    /// # Panics
    /// As [`Digest::of`].
    #[must_use]
    pub fn of_list<T: Serialize>(schema: &str, values: impl IntoIterator<Item = T>) -> Self {
        let text = |value| canonical::to_vec(&value).expect("records are plain JSON");
        Self::of_texts(schema, values.into_iter().map(text))
    }

    /// [`Digest::of_list`] where the values are canonical JSON already.
    pub(crate) fn of_texts(schema: &str, texts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut hasher = under(schema);
        hasher.update(b"[");
        for (at, text) in texts.into_iter().enumerate() {
            hasher.update(if at > 0 { &b","[..] } else { &[] });
            hasher.update(text.as_ref());
        }
        hasher.update(b"]");
        Self(hasher.finalize().to_hex().to_string())
    }

    /// Digest of raw bytes, for content-addressed bodies.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }

    /// Takes back a digest that was stored. `None` unless it is 64 hex digits.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        (hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then(|| Self(hex.to_owned()))
    }

    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// The 12 digits shown to people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// First eight bytes as a number, to seed a generator.
    #[must_use]
    pub fn seed(&self) -> u64 {
        u64::from_str_radix(&self.0[..16], 16).expect("hex digits")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// A seed of its own for every item, so that order and parallelism never change a result.
#[must_use]
pub fn derive_seed(seed: u64, item: &str) -> u64 {
    let hash = hash("seed/1", &(seed, item));
    u64::from_be_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

fn hash<T: Serialize>(schema: &str, value: &T) -> blake3::Hash {
    under(schema).update(&canonical::to_vec(value).expect("records are plain JSON")).finalize()
}

fn under(schema: &str) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(schema.as_bytes()).update(&[0]);
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn key_order_does_not_matter_but_schema_does() {
        let a = serde_json::json!({"b": 1, "a": [1.0, 2]});
        let b: BTreeMap<&str, serde_json::Value> =
            [("a", serde_json::json!([1, 2])), ("b", serde_json::json!(1))].into();
        assert_eq!(Digest::of("x/1", &a), Digest::of("x/1", &b));
        assert_ne!(Digest::of("x/1", &a), Digest::of("x/2", &a));
    }

    #[test]
    fn a_list_is_the_same_however_it_is_read() {
        for list in [vec![], vec!["a"], vec!["a", "b\n"]] {
            assert_eq!(Digest::of_list("x/1", &list), Digest::of("x/1", &list));
        }
        assert_eq!(derive_seed(7, "a"), Digest::of("seed/1", &(7, "a")).seed());
    }

    #[test]
    fn hex_round_trip() {
        let d = Digest::of_bytes(b"divvy");
        assert_eq!(Digest::from_hex(d.hex()), Some(d.clone()));
        assert_eq!(Digest::from_hex(&d.hex().to_uppercase()), None);
    }
}
