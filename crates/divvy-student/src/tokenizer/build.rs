//! Makes a tokenizer from GGUF metadata. Pre-tokenizers are named there; their definitions are those of the models' own
//! `tokenizer.json` files (SmolLM2: single digits, then GPT-2's pattern; Qwen2: NFC and its own pattern).

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::pieces::{self, Form, Pieces, Prefix};
use super::{SpecialToken, Specials, TextTokenizer, byte_alphabet};
use crate::error::LoadError;
use crate::gguf::Header;

const QWEN2_PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Llama 3's; digits go by threes.
const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Pre-tokenizers by the names that GGUF files have for them.
pub(super) const PRE_TOKENIZERS: [&str; 4] = ["gpt-2", "smollm", "llama-bpe", "qwen2"];

/// GGUF's token types.
pub(super) const NORMAL: i64 = 1;
pub(super) const UNKNOWN: i64 = 2;
pub(super) const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;
pub(super) const UNUSED: i64 = 5;
pub(super) const BYTE: i64 = 6;

/// Special tokens that end a reply in every family that has them.
const ENDINGS: [&str; 5] = ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>"];

/// The vocabulary of a GGUF file.
struct Listed<'a> {
    tokens: &'a [String],
    types: &'a [i64],
}

impl<'a> Listed<'a> {
    fn of(header: &'a Header, vocab: usize) -> Result<Self, LoadError> {
        let tokens = header.texts("tokenizer.ggml.tokens")?;
        let types = header.ints("tokenizer.ggml.token_type")?;
        if tokens.len() == types.len() && tokens.len() <= vocab {
            return Ok(Self { tokens, types });
        }
        let (tokens, types) = (tokens.len(), types.len());
        let reason = format!("{tokens} tokens with {types} types for {vocab} embedding rows");
        Err(LoadError::Tokenizer { file: header.file.clone(), reason })
    }

    fn with(&self, wanted: impl Fn(i64) -> bool) -> impl Iterator<Item = (u32, &'a str)> {
        let all = self.tokens.iter().zip(self.types).zip(0..);
        all.filter(move |((_, kind), _)| wanted(**kind)).map(|((text, _), id)| (id, text.as_str()))
    }

    fn id(&self, id: usize) -> Option<u32> {
        u32::try_from(id).ok().filter(|_| id < self.tokens.len())
    }

    /// The special tokens of some types.
    fn special(&self, types: &[i64]) -> Vec<SpecialToken> {
        let token = |(id, text): (u32, &str)| {
            let control = self.types[id as usize] != USER_DEFINED;
            SpecialToken { text: text.to_owned(), id, control }
        };
        self.with(|kind| types.contains(&kind)).map(token).collect()
    }
}

impl TextTokenizer {
    /// Builds the tokenizer that a GGUF file describes. `vocab` is the number of embedding rows.
    ///
    /// # Errors
    /// A tokenizer model other than these, an unknown pre-tokenizer, or lists that do not fit together.
    pub(crate) fn from_gguf(header: &Header, vocab: usize) -> Result<Self, LoadError> {
        let bad = |reason: String| LoadError::Tokenizer { file: header.file.clone(), reason };
        let listed = Listed::of(header, vocab)?;
        let (plain, pieces, kinds) = match header.text("tokenizer.ggml.model")? {
            "gpt2" => (gguf_byte_level(header, &listed)?, None, [CONTROL, USER_DEFINED]),
            "llama" => {
                let (plain, pieces) = gguf_pieces(header, &listed)?;
                (plain, Some(pieces), [CONTROL, UNKNOWN])
            }
            other => {
                let supported = "gpt2 (byte-level BPE), llama (SentencePiece's BPE)";
                return Err(bad(format!("model \"{other}\" is not supported; supported: {supported}")));
            }
        };
        let eos = header.size("tokenizer.ggml.eos_token_id")?;
        let end = listed.id(eos).ok_or_else(|| bad(format!("end token {eos} is not in the vocabulary")))?;
        let named = |key: &str| Ok::<_, LoadError>(header.optional_size(key)?.and_then(|id| listed.id(id)));
        let turn = named("tokenizer.ggml.eot_token_id")?;
        let spelled = |id: u32| listed.tokens[id as usize].clone();
        let bos_text = named("tokenizer.ggml.bos_token_id")?.map(spelled).unwrap_or_default();
        let adds_bos = header.optional_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(pieces.is_some());
        let mut tokenizer = Self {
            plain,
            pieces,
            specials: Specials::new(listed.special(&kinds)),
            bytes: Vec::new(),
            lacking: Vec::new(),
            end,
            stops: Vec::new(),
            adds_bos: adds_bos && !bos_text.is_empty(),
            bos_text,
            eos_text: spelled(end),
        };
        tokenizer.complete(listed.tokens.len(), [end].into_iter().chain(turn)).map_err(bad)?;
        Ok(tokenizer)
    }

    /// Fills in what each of `len` ids decodes to, what no token stands for and what ends a reply.
    ///
    /// # Errors
    /// A byte of plain English that no token stands for: it would be lost from every text.
    pub(super) fn complete(&mut self, len: usize, ends: impl Iterator<Item = u32>) -> Result<(), String> {
        let alphabet = byte_alphabet();
        let letters = |text: &str| text.chars().filter_map(|letter| alphabet.get(&letter).copied()).collect();
        let mut bytes = vec![Box::default(); len];
        let vocab = self.plain.get_vocab(false);
        if self.pieces.is_none() {
            let lacking = alphabet.iter().filter(|(letter, _)| !vocab.contains_key(&letter.to_string()));
            self.lacking = lacking.map(|(_, byte)| *byte).filter(|byte| matters(*byte)).collect();
        }
        if let Some(byte) = self.lacking.iter().find(|byte| matches!(byte, b'\n' | b' '..=b'~')) {
            return Err(format!("no token stands for {:?}: every text would lose it", char::from(*byte)));
        }
        for (text, id) in vocab {
            bytes[id as usize] = if self.pieces.is_some() { pieces::piece_bytes(&text) } else { letters(&text) };
        }
        for special in self.all_specials() {
            bytes[special.id as usize] = if special.control { Box::default() } else { special.text.as_bytes().into() };
        }
        self.bytes = bytes;
        let known = self.all_specials().filter(|special| ENDINGS.contains(&special.text.as_str()));
        self.stops = ends.chain(known.map(|special| special.id)).collect();
        self.stops.sort_unstable();
        self.stops.dedup();
        Ok(())
    }
}

/// Whether a text without this byte is another text: not a control character, which SmolLM2 has no tokens for and its own tokenizer
/// leaves out, nor a byte that UTF-8 never has.
fn matters(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..=0xBF | 0xC2..=0xF4)
}

fn gguf_byte_level(header: &Header, listed: &Listed<'_>) -> Result<Tokenizer, LoadError> {
    let bad = |reason: String| LoadError::Tokenizer { file: header.file.clone(), reason };
    let merges = header.texts("tokenizer.ggml.merges")?;
    let pre = header.text("tokenizer.ggml.pre")?;
    // Llama 3 takes a word that is a token as it is, whatever merges lead to.
    let bpe = gguf_bpe(listed, merges, pre == "llama-bpe").map_err(bad)?;
    let mut plain = Tokenizer::new(bpe);
    apply_pre_tokenizer(&mut plain, pre).map_err(bad)?;
    Ok(plain)
}

fn gguf_bpe(listed: &Listed<'_>, merges: &[String], whole_words: bool) -> Result<BPE, String> {
    let vocab = listed.with(|kind| ![CONTROL, UNUSED].contains(&kind));
    let vocab: Vocab = vocab.map(|(id, text)| (text.to_owned(), id)).collect();
    let merges = merges
        .iter()
        .map(|merge| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or("a merge is not two tokens with a space between")?;
    check_merges(&merges, |text| vocab.contains_key(text))?;
    BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(whole_words).build().map_err(|error| error.to_string())
}

/// The `tokenizers` crate takes it for granted that what a merge makes is no longer than the longest token.
pub(super) fn check_merges(merges: &[(String, String)], has: impl Fn(&str) -> bool) -> Result<(), String> {
    let stray = merges.iter().find(|(left, right)| !has(&format!("{left}{right}")));
    stray.map_or(Ok(()), |(left, right)| Err(format!("the merge of {left:?} and {right:?} makes no token")))
}

fn gguf_pieces(header: &Header, listed: &Listed<'_>) -> Result<(Tokenizer, Pieces), LoadError> {
    let bad = |reason: String| LoadError::Tokenizer { file: header.file.clone(), reason };
    let scores = header.floats("tokenizer.ggml.scores")?;
    if scores.len() != listed.tokens.len() {
        return Err(bad(format!("{} tokens with {} scores", listed.tokens.len(), scores.len())));
    }
    let plain = gguf_piece_bpe(listed, scores).map_err(bad)?;
    let prefix = header.optional_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let always = Specials::new(listed.special(&[USER_DEFINED]));
    let form = Form::new(prefix);
    let prefix = if prefix { Prefix::Stretch } else { Prefix::Never };
    Ok((plain, Pieces { always, prefix, form }))
}

/// Only normal pieces are merged; bytes are for what has no piece.
fn gguf_piece_bpe(listed: &Listed<'_>, scores: &[f64]) -> Result<Tokenizer, String> {
    let mut vocab = Vocab::new();
    for (id, text) in listed.with(|kind| [NORMAL, BYTE].contains(&kind)).filter(|(_, text)| !text.is_empty()) {
        if let Some(other) = vocab.insert(text.to_owned(), id) {
            return Err(format!("tokens {other} and {id} are both {text:?}"));
        }
    }
    pieces::check_bytes(|text| vocab.contains_key(text))?;
    let scored = listed.with(|kind| kind == NORMAL).map(|(id, text)| (id, text, scores[id as usize] as f32));
    let scored: Vec<_> = scored.collect();
    if let Some((id, _, score)) = scored.iter().find(|(_, _, score)| !score.is_finite()) {
        return Err(format!("token {id} has the score {score}, which is no number"));
    }
    let merges = pieces::merges(&scored)?;
    let bpe = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(true).fuse_unk(true).build();
    let mut plain = Tokenizer::new(bpe.map_err(|error| error.to_string())?);
    let spaces = Replace::new(" ", "▁").map_err(|error| error.to_string())?;
    plain.with_normalizer(Some(spaces)).map_err(|error| error.to_string())?;
    Ok(plain)
}

pub(super) fn apply_pre_tokenizer(tokenizer: &mut Tokenizer, name: &str) -> Result<(), String> {
    let alphabet = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, false, use_regex));
    let split = |pattern: &str| {
        let pattern = SplitPattern::Regex(pattern.into());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        split.map(PreTokenizerWrapper::from).map_err(|error| error.to_string())
    };
    let steps = match name {
        "gpt-2" | "gpt2" => vec![alphabet(true)],
        "smollm" => vec![PreTokenizerWrapper::from(Digits::new(true)), alphabet(true)],
        "qwen2" => {
            tokenizer.with_normalizer(Some(NFC)).map_err(|error| error.to_string())?;
            vec![split(QWEN2_PATTERN)?, alphabet(false)]
        }
        "llama-bpe" => vec![split(LLAMA3_PATTERN)?, alphabet(false)],
        other => {
            let supported = PRE_TOKENIZERS.join(", ");
            return Err(format!("pre-tokenizer \"{other}\" is not supported; supported: {supported}"));
        }
    };
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    Ok(())
}
