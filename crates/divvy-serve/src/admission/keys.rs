//! API keys. Only their BLAKE3 hashes are kept (a fresh key has 256 random bits, so that a plain hash cannot be reversed),
//! and they are compared in constant time.
//!
//! ```toml
//! [[keys]]
//! name = "team-a"
//! blake3 = "…"                # 64 hex digits, from `divvy serve --new-key team-a`
//! requests_per_minute = 60    # these three are optional
//! tokens_per_minute = 50000
//! dollars_per_day = "5.00"
//! ```

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde::Deserialize;

use super::quota::{Limits, Used, today};
use crate::error::ApiError;

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("cannot read the keys file `{path}`: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path}: {message}")]
    Bad { path: String, message: String },
}

/// All keys; without any, everybody may ask.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<Arc<Key>>,
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    hash: blake3::Hash,
    limits: Limits,
    used: Mutex<Used>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    blake3: String,
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
    dollars_per_day: Option<String>,
}

impl Keys {
    /// # Errors
    /// A file that cannot be read or is not as described above, naming the key.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| KeysError::Io { path: shown.clone(), source })?;
        let bad = |message: String| KeysError::Bad { path: shown.clone(), message };
        let file: File = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let keys = file.keys.into_iter().map(|entry| entry.key().map(Arc::new).map_err(bad));
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(bad("it holds no [[keys]]".to_owned()));
        }
        Ok(Self { keys })
    }

    /// Adds a key that is known itself, without limits.
    #[must_use]
    pub fn with(mut self, name: &str, key: &str) -> Self {
        let hash = blake3::hash(key.as_bytes());
        self.keys.push(Arc::new(Key {
            name: name.to_owned(),
            hash,
            limits: Limits::default(),
            used: Mutex::default(),
        }));
        self
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// Some key has a limit in money.
    #[must_use]
    pub fn limits_money(&self) -> bool {
        self.keys.iter().any(|key| key.limits.nanos_per_day.is_some())
    }

    /// Whose request this is; `None` where nobody needs a key.
    ///
    /// # Errors
    /// 401.
    pub(crate) fn owner(&self, authorization: Option<&str>) -> Result<Option<Arc<Key>>, ApiError> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let token = authorization
            .and_then(|header| header.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) =
            token.ok_or_else(|| ApiError::unauthorized("An API key is needed: Authorization: Bearer KEY"))?;
        let hash = blake3::hash(token.trim().as_bytes());
        // `blake3::Hash` compares in constant time; all keys are looked at.
        let mut found = None;
        for key in &self.keys {
            if key.hash == hash {
                found = Some(Arc::clone(key));
            }
        }
        found.map(Some).ok_or_else(|| ApiError::unauthorized("Incorrect API key provided"))
    }
}

impl Key {
    pub(crate) fn begin(&self) -> Result<(), ApiError> {
        self.used().begin(&self.limits, Instant::now(), today())
    }

    pub(crate) fn settle(&self, tokens: u64, nanos: i64) {
        self.used().settle(&self.limits, Instant::now(), today(), tokens, nanos);
    }

    fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn key(self) -> Result<Key, String> {
        let name = self.name;
        let hash = blake3::Hash::from_hex(self.blake3.trim()).map_err(|_| {
            format!("keys `{name}`: blake3 is not 64 hex digits; `divvy serve --new-key {name}` makes one")
        })?;
        let nanos_per_day = self.dollars_per_day.as_deref().map(divvy_core::cost::parse_dollars).transpose();
        let nanos_per_day = nanos_per_day.map_err(|error| format!("keys `{name}`: dollars_per_day: {error}"))?;
        let (requests_per_minute, tokens_per_minute) = (self.requests_per_minute, self.tokens_per_minute);
        let limits = Limits { requests_per_minute, tokens_per_minute, nanos_per_day };
        Ok(Key { name, hash, limits, used: Mutex::default() })
    }
}

/// A fresh key, and its hash in hex.
///
/// # Panics
/// When the system gives no random bytes.
#[must_use]
pub fn fresh_key() -> (String, String) {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    let key = format!("divvy-{}", blake3::Hash::from_bytes(bytes).to_hex());
    let hash = blake3::hash(key.as_bytes()).to_hex().to_string();
    (key, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Keys, KeysError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        std::fs::write(&path, text).unwrap();
        Keys::read(&path)
    }

    #[test]
    fn a_key_opens_and_another_does_not() {
        let (key, hash) = fresh_key();
        let keys = keys(&format!("[[keys]]\nname = \"a\"\nblake3 = \"{hash}\"\nrequests_per_minute = 1\n")).unwrap();
        let owner = keys.owner(Some(&format!("Bearer {key}"))).unwrap().unwrap();
        assert_eq!(owner.name, "a");
        assert!(owner.begin().is_ok());
        assert_eq!(owner.begin().unwrap_err().status, 429);
        for wrong in [None, Some("Bearer x"), Some(""), Some("Basic x"), Some(&*format!("Bearer {hash}"))] {
            assert_eq!(keys.owner(wrong).unwrap_err().status, 401, "{wrong:?}");
        }
        assert!(Keys::default().owner(None).unwrap().is_none());
    }

    #[test]
    fn a_bad_file_is_told_with_its_key() {
        for (text, message) in [
            ("[[keys]]\nname = \"a\"\nblake3 = \"12\"\n", "keys `a`: blake3 is not 64 hex digits"),
            ("keys = []\n", "no [[keys]]"),
            ("[[keys]]\nname = \"a\"\nkey = \"x\"\n", "unknown field `key`"),
            (
                &*format!("[[keys]]\nname = \"a\"\nblake3 = \"{}\"\ndollars_per_day = \"x\"\n", "0".repeat(64)),
                "dollars_per_day",
            ),
        ] {
            let error = keys(text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
