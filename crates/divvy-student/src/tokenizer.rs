//! Text to token ids and back: byte-level BPE (GPT-2's alphabet) through the `tokenizers` crate, built from GGUF
//! metadata or from a `tokenizer.json`. Special tokens are *never* matched in plain text: only `encode_template`
//! turns their spelling into their ids, and it is called on a template's own text alone (see `template.rs`).

mod build;
mod gguf;
mod save;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::error::TextError;

pub use stream::Detokeniser;

/// A token that BPE never produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    pub text: String,
    pub id: u32,
    /// Control tokens vanish from decoded text; user-defined ones (`<tool_call>`) are kept.
    pub control: bool,
}

/// The model's tokenizer.
pub struct TextTokenizer {
    /// Knows no special token, so that plain text cannot smuggle one in.
    plain: tokenizers::Tokenizer,
    /// Longest first, so that the longest match wins.
    specials: Vec<SpecialToken>,
    /// What each id decodes to.
    bytes: Vec<Box<[u8]>>,
    /// Ends an assistant turn.
    end: u32,
    /// Every id that ends a reply, `end` among them.
    stops: Vec<u32>,
    pub(crate) bos_text: String,
    pub(crate) eos_text: String,
}

impl TextTokenizer {
    /// Ids of plain text; the spelling of a special token stays plain text.
    ///
    /// # Errors
    /// Only when the tokenizer itself is broken (a text it has no tokens for).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = self.plain.encode_fast(text, false).map_err(|error| TextError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of text in which special tokens are meant as such. `plain` is applied to each stretch between them.
    pub(crate) fn encode_template(&self, text: &str, plain: impl Fn(&str) -> String) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        let (mut rest, mut from) = (text, 0);
        while let Some(step) = rest[from..].chars().next() {
            if let Some(special) = self.special_at(&rest[from..]) {
                ids.extend(self.encode(&plain(&rest[..from]))?);
                ids.push(special.id);
                rest = &rest[from + special.text.len()..];
                from = 0;
            } else {
                from += step.len_utf8();
            }
        }
        ids.extend(self.encode(&plain(rest))?);
        Ok(ids)
    }

    fn special_at(&self, text: &str) -> Option<&SpecialToken> {
        self.specials.iter().find(|special| text.starts_with(&special.text))
    }

    #[must_use]
    pub fn specials(&self) -> &[SpecialToken] {
        &self.specials
    }

    /// The text of a reply: control tokens are left out, bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = Detokeniser::default();
        let mut text = String::new();
        for &id in ids {
            text.push_str(&stream.push(self.token_bytes(id)));
        }
        text.push_str(&stream.finish());
        text
    }

    /// Bytes one id stands for; none for control tokens and ids outside the vocabulary.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], |bytes| bytes)
    }

    #[must_use]
    pub fn end_token(&self) -> u32 {
        self.end
    }

    #[must_use]
    pub fn is_stop(&self, id: u32) -> bool {
        self.stops.contains(&id)
    }

    /// Largest id plus one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// GPT-2's alphabet: printable bytes stand for themselves, the others for characters from U+0100 on
/// (`bytes_to_unicode` in its reference code).
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    let mut alphabet = HashMap::new();
    for byte in 0..=u8::MAX {
        let letter = if printable(byte) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).expect("U+0100 to U+0143 are characters")
        };
        alphabet.insert(letter, byte);
    }
    alphabet
}
