//! API keys: named in a recipe, read from the environment or a file, and shown to nobody.

use std::{borrow::Cow, fmt, path::PathBuf};

use crate::error::{ChatError, ErrorKind};

/// Where the key stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiKey {
    #[default]
    None,
    /// An environment variable.
    Env(String),
    /// A file that holds the key and nothing else.
    File(PathBuf),
}

/// In a key's place.
const REDACTED: &str = "[redacted]";
/// A shorter key is a word like `EMPTY` and no secret: replies keep it.
const SHORTEST: usize = 8;

/// The key itself. It cannot be printed by accident.
#[derive(Clone)]
pub(super) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Secret {
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    pub(super) fn hidden_in(&self, text: &str) -> String {
        text.replace(&self.0, REDACTED)
    }

    pub(super) fn hidden_in_body<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        let text = String::from_utf8_lossy(body);
        let is_there = self.0.len() >= SHORTEST && text.contains(&self.0);
        if is_there { self.hidden_in(&text).into_bytes().into() } else { body.into() }
    }
}

impl ApiKey {
    pub(super) fn read(&self) -> Result<Option<Secret>, ChatError> {
        let missing = |message: String| ChatError::new(ErrorKind::Unauthorized, message);
        let text = match self {
            Self::None => return Ok(None),
            Self::Env(name) => std::env::var(name).map_err(|_| {
                missing(format!(
                    "the environment variable {name} that should hold the API key is not set; `export {name}=…`"
                ))
            })?,
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|e| missing(format!("cannot read the API key from {}: {e}", path.display())))?,
        };
        let text = text.trim().to_owned();
        // Anything else cannot stand in a header, and the library's own error would not say why.
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(missing(format!("{} is empty or is no API key", self.place())));
        }
        Ok(Some(Secret(text)))
    }

    /// What to check when an endpoint refuses the key.
    pub(super) fn place(&self) -> String {
        match self {
            Self::None => "the API key".to_owned(),
            Self::Env(name) => format!("the API key in the environment variable {name}"),
            Self::File(path) => format!("the API key in {}", path.display()),
        }
    }
}
