//! Text to token ids and back, through the BPE of the `tokenizers` crate: byte-level (GPT-2's alphabet) or of the
//! SentencePiece kind (`pieces`), built from GGUF metadata or from a `tokenizer.json`. Special tokens are *never* matched in
//! plain text: only `encode_template` turns their spelling into their ids, and it is called on a template's own text alone
//! (see `template.rs`). What SentencePiece calls user-defined (line breaks, runs of spaces) is part of plain text, unless the
//! template spells it.

mod build;
mod directory;
mod gguf;
mod pieces;
mod save;
mod specials;
mod steps;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use tokenizers::{NormalizedString, Normalizer};

use crate::error::TextError;
use pieces::{Before, Pieces, Prefix, SPACE};
use specials::Part;

pub use specials::SpecialToken;
pub(crate) use specials::Specials;
pub use stream::Detokeniser;

/// The model's tokenizer.
pub struct TextTokenizer {
    /// Knows no special token, so that plain text cannot smuggle one in.
    plain: tokenizers::Tokenizer,
    /// Of the SentencePiece kind only.
    pieces: Option<Pieces>,
    /// Matched in a template's own text.
    specials: Specials,
    /// What each id decodes to.
    bytes: Vec<Box<[u8]>>,
    /// Bytes of texts that no token of a byte-level model stands for: BPE would drop them.
    lacking: Vec<u8>,
    /// Ends an assistant turn.
    end: u32,
    /// Every id that ends a reply, `end` among them.
    stops: Vec<u32>,
    /// Whether `bos_text` goes in front of what the template writes.
    pub(crate) adds_bos: bool,
    pub(crate) bos_text: String,
    pub(crate) eos_text: String,
}

impl TextTokenizer {
    /// Ids of plain text; the spelling of a special token stays plain text.
    ///
    /// # Errors
    /// Only when the tokenizer itself is broken (a text it has no tokens for).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_stretch(text, Before::Nothing)
    }

    /// Ids of plain text that goes on behind other text: no space is put in front of it.
    pub(crate) fn encode_behind(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_stretch(text, Before::Text)
    }

    /// Ids of text in which special tokens are meant as such. `plain` is applied to each stretch between them.
    pub(crate) fn encode_template(&self, text: &str, plain: impl Fn(&str) -> String) -> Result<Vec<u32>, TextError> {
        let (mut ids, mut before) = (Vec::new(), Before::Nothing);
        for part in self.specials.split(text) {
            match part {
                Part::Text(text) => ids.extend(self.encode_stretch(&plain(text), before)?),
                Part::Special(id) => ids.push(id),
            }
            before = Before::Special;
        }
        Ok(ids)
    }

    fn encode_stretch(&self, text: &str, before: Before) -> Result<Vec<u32>, TextError> {
        let Some(pieces) = &self.pieces else { return self.bpe(text) };
        let (text, mut ids, mut before) = (text.replace(SPACE, " "), Vec::new(), before);
        for part in pieces.always.split(&text) {
            match part {
                Part::Text(text) if pieces.prefix.applies(text, before) => ids.extend(self.bpe(&format!(" {text}"))?),
                Part::Text(text) => ids.extend(self.bpe(text)?),
                Part::Special(id) => ids.push(id),
            }
            before = Before::Special;
        }
        Ok(ids)
    }

    fn bpe(&self, text: &str) -> Result<Vec<u32>, TextError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let broken = |error: tokenizers::Error| TextError::Tokenizer(error.to_string());
        if !self.lacking.is_empty() {
            let mut normal = NormalizedString::from(text);
            self.plain.get_normalizer().map_or(Ok(()), |steps| steps.normalize(&mut normal)).map_err(broken)?;
            self.check_bytes(normal.get())?;
        }
        Ok(self.plain.encode_fast(text, false).map_err(broken)?.get_ids().to_vec())
    }

    fn check_bytes(&self, text: &str) -> Result<(), TextError> {
        let lost = |bytes: &[u8]| bytes.iter().any(|byte| self.lacking.contains(byte));
        if !lost(text.as_bytes()) {
            return Ok(());
        }
        let letter = text.chars().find(|letter| lost(letter.encode_utf8(&mut [0; 4]).as_bytes())).unwrap_or_default();
        Err(TextError::Tokenizer(format!("the model has no token for {letter:?}, which the text would lose")))
    }

    /// What goes in front of every text, where the model's file asks for it.
    pub(crate) fn first_token(&self) -> Option<u32> {
        self.specials.at(&self.bos_text).filter(|_| self.adds_bos).map(|(_, id)| id)
    }

    /// Makes user-defined tokens that `template` spells its own: one that divides turns must not come out of plain text.
    /// Line breaks and spaces stay text.
    pub(crate) fn reserve(&mut self, template: &str) {
        let Some(pieces) = &mut self.pieces else { return };
        let own = |special: &SpecialToken| {
            let divides = special.text.contains(|letter: char| !letter.is_whitespace());
            divides && (self.stops.contains(&special.id) || template.contains(&special.text))
        };
        let (reserved, always): (Vec<_>, Vec<_>) = pieces.always.list().iter().cloned().partition(own);
        pieces.always = Specials::new(always);
        self.specials = Specials::new(self.specials.list().iter().cloned().chain(reserved).collect());
    }

    /// Whether a space is put in front of texts that have none.
    pub(crate) fn puts_space(&self) -> bool {
        self.pieces.as_ref().is_some_and(|pieces| pieces.prefix != Prefix::Never)
    }

    /// Those that only a template's own text can hold.
    #[must_use]
    pub fn specials(&self) -> &[SpecialToken] {
        self.specials.list()
    }

    /// The same, to look for them in a text.
    pub(crate) fn matcher(&self) -> &Specials {
        &self.specials
    }

    /// Every token that BPE does not produce.
    fn all_specials(&self) -> impl Iterator<Item = &SpecialToken> {
        self.specials.list().iter().chain(self.pieces.iter().flat_map(|pieces| pieces.always.list()))
    }

    /// The text of a reply: control tokens are left out, bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = self.detokeniser();
        let mut text = String::new();
        for &id in ids {
            text.push_str(&stream.push(self.token_bytes(id)));
        }
        text.push_str(&stream.finish());
        text
    }

    /// Reads one reply as it comes.
    #[must_use]
    pub fn detokeniser(&self) -> Detokeniser {
        if self.puts_space() { Detokeniser::without_first_space() } else { Detokeniser::default() }
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
