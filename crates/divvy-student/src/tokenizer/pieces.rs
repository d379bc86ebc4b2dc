//! What sets tokenizers of the SentencePiece kind (Llama 2, Mistral, Gemma) apart from byte-level BPE: merges follow from
//! the pieces' scores, a character without a piece is written in bytes, "▁" stands for a space, some models put a space in
//! front of a text, and user-defined tokens are found in any text. Not here: the unigram model of the same library.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::Specials;

/// How pieces spell a space.
pub(super) const SPACE: char = '▁';

/// Bytes; the longest piece of a known model has 48.
const LONGEST_PIECE: usize = 512;

/// Known models have two merges a piece. A made-up vocabulary (all runs of one letter) has as many as letters.
const MERGES_A_PIECE: usize = 16;

/// The part of a tokenizer that only this kind has.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    /// User-defined tokens: any text is split at them, as in training. Spelled with plain spaces.
    pub(super) always: Specials,
    pub(super) prefix: Prefix,
    pub(super) form: Form,
}

/// A space that the text does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Never,
    /// In front of every stretch between special tokens: llama.cpp's way, and that of the normaliser `Prepend`.
    Stretch,
    /// In front of a text, or of every stretch of it, that does not begin with a space: the pre-tokenizer `Metaspace`.
    Missing {
        every: bool,
    },
}

/// What a stretch of text follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    Special,
    /// Text that was tokenised already.
    Text,
}

impl Prefix {
    pub(super) fn applies(self, text: &str, before: Before) -> bool {
        match (self, before) {
            (Self::Never, _) | (_, Before::Text) => false,
            (Self::Stretch, _) => true,
            (Self::Missing { every }, before) => (every || before == Before::Nothing) && !text.starts_with(' '),
        }
    }
}

/// The steps around the model as a `tokenizer.json` has them, written again when the tokenizer is saved.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub(super) normalizer: Json,
    pub(super) pre_tokenizer: Json,
    pub(super) decoder: Json,
}

impl Form {
    /// That of Llama 2's and Gemma's files.
    pub(super) fn new(prefix: bool) -> Self {
        let replace =
            |one: &str, other: &str| json!({ "type": "Replace", "pattern": { "String": one }, "content": other });
        let mut before = vec![replace(" ", "▁")];
        let mut after = vec![replace("▁", " "), json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
        if prefix {
            before.insert(0, json!({ "type": "Prepend", "prepend": SPACE }));
            after.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        Self {
            normalizer: json!({ "type": "Sequence", "normalizers": before }),
            pre_tokenizer: Json::Null,
            decoder: json!({ "type": "Sequence", "decoders": after }),
        }
    }

    pub(super) fn of(file: &Json) -> Self {
        let part = |name: &str| file[name].clone();
        Self { normalizer: part("normalizer"), pre_tokenizer: part("pre_tokenizer"), decoder: part("decoder") }
    }

    pub(super) fn put_into(&self, file: &mut Json) {
        file["normalizer"] = self.normalizer.clone();
        file["pre_tokenizer"] = self.pre_tokenizer.clone();
        file["decoder"] = self.decoder.clone();
    }
}

/// Takes out of a `tokenizer.json` what puts the space in front: it is done where template and text are told apart. Nothing else
/// is put there ([`super::steps`]).
pub(super) fn take_prefix(file: &mut Json) -> Prefix {
    let mut prefix = Prefix::Never;
    for step in steps(&mut file["normalizer"], "normalizers") {
        if step["type"] == "Prepend" {
            prefix = Prefix::Stretch;
            *step = json!({ "type": "Sequence", "normalizers": [] });
        }
    }
    for step in steps(&mut file["pre_tokenizer"], "pretokenizers") {
        if step["type"] == "Metaspace" {
            prefix = match (step["prepend_scheme"].as_str(), step["add_prefix_space"].as_bool()) {
                (Some("never"), _) | (None, Some(false)) => prefix,
                (Some("first"), _) => Prefix::Missing { every: false },
                _ => Prefix::Missing { every: true },
            };
            step["prepend_scheme"] = json!("never");
        }
    }
    prefix
}

/// The steps of a sequence, or the one step there is.
fn steps<'a>(step: &'a mut Json, list: &str) -> &'a mut [Json] {
    if !step[list].is_array() {
        return std::slice::from_mut(step);
    }
    step[list].as_array_mut().expect("looked at above")
}

/// The byte that a piece like `<0x0A>` stands for.
pub(super) fn byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// What a piece decodes to.
pub(super) fn piece_bytes(piece: &str) -> Box<[u8]> {
    byte(piece).map_or_else(|| piece.replace(SPACE, " ").into_bytes().into(), |byte| [byte].into())
}

/// Whether every text has tokens: each byte by itself, or as a character's piece.
///
/// # Errors
/// The first byte that cannot be written.
pub(super) fn check_bytes(has: impl Fn(&str) -> bool) -> Result<(), String> {
    let written = |byte: u8| has(&format!("<0x{byte:02X}>")) || byte.is_ascii() && has(&char::from(byte).to_string());
    (0..=u8::MAX).find(|&byte| !written(byte)).map_or(Ok(()), |byte| {
        Err(format!("it has no piece <0x{byte:02X}>: texts with characters it does not know could not be written"))
    })
}

/// One way to make a piece out of two.
struct Merge {
    score: f32,
    /// Characters of the left part and of the right one.
    lengths: (usize, usize),
    whole: u32,
    parts: (u32, u32),
    texts: (usize, usize),
}

impl Merge {
    /// The best score first. SentencePiece takes the leftmost of equal ones, which a rank cannot say: here, as in Hugging
    /// Face's converter, the longer left part comes first, then the smaller ids.
    fn order(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        by_score.then(other.lengths.cmp(&self.lengths)).then((self.whole, self.parts).cmp(&(other.whole, other.parts)))
    }
}

/// Every split of a piece into two pieces, in the order in which they are to be merged. `pieces`: id, text, score.
///
/// # Errors
/// A vocabulary that no one trained: pieces without end, or more merges than any has.
pub(super) fn merges(pieces: &[(u32, &str, f32)]) -> Result<Vec<(String, String)>, String> {
    let ids: HashMap<&str, u32> = pieces.iter().map(|&(id, text, _)| (text, id)).collect();
    let mut found = Vec::new();
    for (index, &(whole, text, score)) in pieces.iter().enumerate() {
        if text.len() > LONGEST_PIECE {
            return Err(format!("token {whole} has {} bytes; at most {LONGEST_PIECE} make sense", text.len()));
        }
        let letters = text.chars().count();
        for (left, (at, _)) in text.char_indices().enumerate().skip(1) {
            let parts = ids.get(&text[..at]).and_then(|&one| Some((one, *ids.get(&text[at..])?)));
            let lengths = (left, letters - left);
            // Adding zero makes one of the two zeros.
            found.extend(parts.map(|parts| Merge { score: score + 0.0, lengths, whole, parts, texts: (index, at) }));
        }
        if found.len() > MERGES_A_PIECE * pieces.len() {
            let most = MERGES_A_PIECE * pieces.len();
            return Err(format!("{} pieces have more than {most} merges: nobody trained them", pieces.len()));
        }
    }
    found.sort_by(Merge::order);
    let halves = |merge: &Merge| pieces[merge.texts.0].1.split_at(merge.texts.1);
    Ok(found.iter().map(halves).map(|(left, right)| (left.to_owned(), right.to_owned())).collect())
}

/// Scores that these merges follow from: what is made first has the highest, what no merge makes comes behind. In the
/// order of `pieces` (id, text).
///
/// # Errors
/// Merges that follow from no scores.
pub(super) fn scores(pieces: &[(u32, &str)], given: &[(String, String)]) -> Result<Vec<f32>, String> {
    let no_scores = || "its merges do not follow from scores of pieces".to_owned();
    let mut made: HashMap<String, usize> = HashMap::new();
    let mut last = String::new();
    for (left, right) in given {
        let whole = format!("{left}{right}");
        if whole != last {
            let rank = made.len();
            made.insert(whole.clone(), rank).map_or(Ok(()), |_| Err(no_scores()))?;
            last = whole;
        }
    }
    let mut next = made.len();
    let mut rank_of = |text: &str| {
        made.get(text).copied().unwrap_or_else(|| {
            next += 1;
            next - 1
        })
    };
    let scores: Vec<f32> = pieces.iter().map(|(_, text)| -(rank_of(text) as f32)).collect();
    let scored: Vec<_> = pieces.iter().zip(&scores).map(|(&(id, text), &score)| (id, text, score)).collect();
    if merges(&scored)?.len() == given.len() { Ok(scores) } else { Err(no_scores()) }
}
