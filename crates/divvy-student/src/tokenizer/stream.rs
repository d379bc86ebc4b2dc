//! Bytes to text as they come: a character whose bytes are still arriving is held back.

/// Holds at most three bytes of an unfinished character.
#[derive(Clone, Debug, Default)]
pub struct Detokeniser {
    pending: Vec<u8>,
}

impl Detokeniser {
    /// Takes the next bytes and returns the text that is now certain.
    pub fn push(&mut self, bytes: &[u8]) -> String {
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
