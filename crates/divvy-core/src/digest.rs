//! Identity of things: BLAKE3 over canonical JSON (RFC 8785) with a schema name and version in front.
//!
//! Stored whole, shown as 12 hex digits. Paths, URLs, prices, keys, concurrency and retries never go in.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::canonical;

/// 32 bytes; in JSON its 64 hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// 64 lower-case hex digits.
#[derive(Debug, PartialEq, Eq)]
pub struct Hex([u8; 64]);

impl Digest {
    /// Digest of a value under a schema such as `call/1`.
    ///
    /// # Panics
    /// If `value` cannot be written as JSON (a map with non-string keys), which no record of ours can be.
    #[must_use]
    pub fn of<T: Serialize>(schema: &str, value: &T) -> Self {
        Self(hash(schema, value).into())
    }

    /// [`Digest::of`], and the canonical JSON that it was taken over.
    ///
    /// # Panics
    /// As [`Digest::of`].
    #[must_use]
    pub fn with_text<T: Serialize>(schema: &str, value: &T) -> (Self, String) {
        let text = canonical::to_vec(value).expect("records are plain JSON");
        let digest = Self(under(schema).update(&text).finalize().into());
        (digest, String::from_utf8(text).expect("JSON is UTF-8"))
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
        Self(hasher.finalize().into())
    }

    /// Digest of raw bytes, for content-addressed bodies.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }

    /// Takes back a digest that was written as [`Digest::hex`]. `None` unless it is 64 lower-case hex digits.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let digit = |letter: u8| match letter {
            b'0'..=b'9' => Some(letter - b'0'),
            b'a'..=b'f' => Some(letter - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }

    /// Takes back a digest that was stored as its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    #[must_use]
    pub fn hex(&self) -> Hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        Hex(digits)
    }

    /// The 12 digits shown to people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()
    }

    /// First eight bytes as a number, to seed a generator.
    #[must_use]
    pub fn seed(&self) -> u64 {
        u64::from_be_bytes(*self.0.first_chunk().expect("a digest has 32 bytes"))
    }
}

/// Its first bytes are as good as all of them, and the key of a call is looked up a dozen times.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.seed());
    }
}

/// What [`Digest::short`] says.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex()[..12])
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Digest").field(&&*self.hex()).finish()
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.hex().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        Self::from_hex(&hex).ok_or_else(|| D::Error::custom(format!("`{hex}` is no digest")))
    }
}

impl Deref for Hex {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).expect("hex digits are ASCII")
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
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
        assert_eq!(Digest::with_text("x/1", &a), (Digest::of("x/1", &b), r#"{"a":[1,2],"b":1}"#.to_owned()));
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
        assert_eq!(*d.hex(), *blake3::hash(b"divvy").to_hex());
        assert_eq!(Digest::from_hex(&d.hex()), Some(d.clone()));
        assert_eq!(Digest::from_bytes(*d.bytes()), d);
        assert_eq!((d.short(), format!("{d:?}")), (d.hex()[..12].to_owned(), format!("Digest(\"{}\")", d.hex())));
        let json = serde_json::to_string(&d).unwrap();
        assert_eq!((json.len(), serde_json::from_str::<Digest>(&json).unwrap()), (66, d.clone()));
        assert!(serde_json::from_str::<Digest>("\"no digest\"").is_err());
        for wrong in [&d.hex().to_uppercase()[..], &d.hex()[1..], &d.hex()[2..], &format!("{}00", d.hex()), ""] {
            assert_eq!(Digest::from_hex(wrong), None, "{wrong}");
        }
    }
}
