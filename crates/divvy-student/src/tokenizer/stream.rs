//! Bytes to text as they come: a character whose bytes are still arriving is held back.

/// Holds at most three bytes of an unfinished character.
#[derive(Clone, Debug, Default)]
pub struct Detokeniser {
    pending: Vec<u8>,
    /// The first byte is still to come and goes if it is a space.
    drop_space: bool,
}

impl Detokeniser {
    /// For tokenizers that put a space in front of a text: the first one is not the text's own.
    #[must_use]
    pub fn without_first_space() -> Self {
        Self { drop_space: true, ..Self::default() }
    }

    /// Takes the next bytes and returns the text that is now certain.
    pub fn push(&mut self, mut bytes: &[u8]) -> String {
        if self.drop_space && !bytes.is_empty() {
            self.drop_space = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut used = 0;
        loop {
            match std::str::from_utf8(&self.pending[used..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    used = self.pending.len();
                    break;
                }
                Err(error) => {
                    let valid = &self.pending[used..used + error.valid_up_to()];
                    text.push_str(&String::from_utf8_lossy(valid));
                    used += error.valid_up_to();
                    let Some(bad) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    used += bad;
                }
            }
        }
        self.pending.drain(..used);
        text
    }

    /// The end: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }
}
