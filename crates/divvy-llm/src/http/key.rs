//! API keys: named in a recipe, read from the environment or a file, and shown to nobody.

use std::{fmt, ops::Range, path::PathBuf};

use crate::error::{ChatError, ErrorKind};

/// Where the key stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

    /// The text without it; `None` where it is not in there.
    pub(super) fn hidden_in(&self, text: &str) -> Option<String> {
        let (mut kept, mut rest) = (String::new(), text);
        while let Some(place) = self.place_in(rest) {
            kept.push_str(&rest[..place.start]);
            kept.push_str(REDACTED);
            rest = &rest[place.end..];
        }
        (rest.len() < text.len()).then(|| kept + rest)
    }

    pub(super) fn hidden_in_body(&self, body: &[u8]) -> Option<Vec<u8>> {
        if self.0.len() < SHORTEST {
            return None;
        }
        self.hidden_in(&String::from_utf8_lossy(body)).map(String::into_bytes)
    }

    /// How much of the text's end may be its beginning: what comes next will tell.
    pub(super) fn begun_in(&self, text: &str) -> usize {
        let most = if self.0.len() < SHORTEST { 0 } else { self.0.len() - 1 };
        (1..=most).rev().find(|length| text.ends_with(&self.0[..*length])).unwrap_or(0)
    }

    fn place_in(&self, text: &str) -> Option<Range<usize>> {
        if !text.contains('\\') {
            return text.find(&self.0).map(|at| at..at + self.0.len());
        }
        let (bytes, first) = (text.as_bytes(), self.0.as_bytes().first().copied());
        // Of backslashes in a row the first: what begins at a later one begins there, and a text may be full of them.
        let begins_row = |at: usize| bytes[at] == b'\\' && (at == 0 || bytes[at - 1] != b'\\');
        let may_begin = |at: &usize| Some(bytes[*at]) == first || begins_row(*at);
        (0..bytes.len()).filter(may_begin).find_map(|at| Some(at..at + self.length_at(&bytes[at..])?))
    }

    /// The length of what stands at the beginning of `text` for it. JSON writes some characters in another way, `\/` and `\u002f`
    /// are a slash, and JSON within JSON with more backslashes.
    fn length_at(&self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        for wanted in self.0.bytes().filter(|byte| *byte != b'\\') {
            let backslashes = text[at..].iter().take_while(|byte| **byte == b'\\').count();
            at += backslashes;
            at += match &text[at..] {
                [b'u', hex @ ..] if backslashes > 0 && by_number(hex) == Some(wanted) => 5,
                [byte, ..] if *byte == wanted => 1,
                _ => return None,
            };
        }
        (at > 0).then_some(at)
    }
}

/// The ASCII character of which JSON writes the number.
fn by_number(hex: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(hex.get(..4)?).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_however_json_writes_it() {
        let secret = Secret::from("sk-a/b\"c-4711");
        for (text, hidden) in [
            (r#"say sk-a/b"c-4711."#, "say [redacted]."),
            (r#"{"a": "sk-a\/b\"c-4711\n"}"#, r#"{"a": "[redacted]\n"}"#),
            (r#"{"a": "\u0073k\u002Da\u002fb\"c-4711"}"#, r#"{"a": "[redacted]"}"#),
            (r#"{"a": "{\"b\": \"sk-a\\/b\\\"c-4711\"}"}"#, r#"{"a": "{\"b\": \"[redacted]\"}"}"#),
            (r#"sk-a/b"c-4711 sk-a\/b"c-4711"#, "[redacted] [redacted]"),
        ] {
            assert_eq!(secret.hidden_in(text).as_deref(), Some(hidden), "{text}");
        }
        for text in ["", "sk-", r#"{"a": "sk-a\/b\"c-471"}"#, r"\u0073k", r"\", "sk-a/b\u{e9}c-4711"] {
            assert_eq!(secret.hidden_in(text), None, "{text}");
        }
        assert_eq!(Secret::from("abc").hidden_in_body(b"abc"), None, "a word is no secret");
        // Looked through once: each for all that follow it would take hours.
        assert_eq!(Secret::from("sk-1234567890").hidden_in_body(&vec![b'\\'; 4 << 20]), None);
    }

    #[test]
    fn the_end_of_a_text_may_be_the_beginning_of_a_secret() {
        let secret = Secret::from("sk-sk-4711");
        for (text, begun) in
            [("", 0), ("so s", 1), ("sk-", 3), ("sk-sk-", 6), ("sk-sk-471", 9), ("sk-x", 0), ("\u{e9}s", 1)]
        {
            assert_eq!(secret.begun_in(text), begun, "{text}");
        }
        assert_eq!(Secret::from("short").begun_in("sho"), 0);
    }
}
