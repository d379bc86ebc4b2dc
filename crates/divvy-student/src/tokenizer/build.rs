//! Makes a tokenizer from what a model ships with. Pre-tokenizers are named in GGUF; their definitions are those of the
//! models' own `tokenizer.json` files (SmolLM2: single digits, then GPT-2's pattern; Qwen2: NFC and its own pattern).

use std::path::Path;

use serde_json::Value as Json;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use super::{SpecialToken, TextTokenizer, byte_alphabet};
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
pub(super) const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;
pub(super) const UNUSED: i64 = 5;

/// Special tokens that end a reply in every family that has them.
const ENDINGS: [&str; 4] = ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>"];

impl TextTokenizer {
    /// Builds the tokenizer that a GGUF file describes. `vocab` is the number of embedding rows.
    ///
    /// # Errors
    /// Another tokenizer model than gpt2 BPE, an unknown pre-tokenizer, or lists that do not fit together.
    pub(crate) fn from_gguf(header: &Header, vocab: usize) -> Result<Self, LoadError> {
        let bad = |reason: String| LoadError::Tokenizer { file: header.file.clone(), reason };
        let model = header.text("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(bad(format!("model \"{model}\" is not supported; supported: gpt2 (byte-level BPE)")));
        }
        let tokens = header.texts("tokenizer.ggml.tokens")?;
        let types = header.ints("tokenizer.ggml.token_type")?;
        if tokens.len() != types.len() || tokens.len() > vocab {
            let (tokens, types) = (tokens.len(), types.len());
            return Err(bad(format!("{tokens} tokens with {types} types for {vocab} embedding rows")));
        }
        let merges = header.texts("tokenizer.ggml.merges")?;
        let pre = header.text("tokenizer.ggml.pre")?;
        // Llama 3 takes a word that is a token as it is, whatever merges lead to.
        let bpe = gguf_bpe(tokens, types, merges, pre == "llama-bpe").map_err(bad)?;
        let mut plain = Tokenizer::new(bpe);
        apply_pre_tokenizer(&mut plain, pre).map_err(bad)?;
        let specials =
            tokens.iter().zip(types).zip(0..).filter(|((_, kind), _)| [CONTROL, USER_DEFINED].contains(kind));
        let specials = specials
            .map(|((text, &kind), id)| SpecialToken { text: text.clone(), id, control: kind == CONTROL })
            .collect();
        let ordinary = tokens.iter().zip(types).zip(0..).filter(|((_, kind), _)| **kind == NORMAL);
        let ordinary = ordinary.map(|((text, _), id)| (id, text.as_str()));
        let bytes = token_bytes(ordinary, &specials, tokens.len());
        let named = |key: &str| Ok::<_, LoadError>(header.optional_size(key)?.and_then(|id| tokens.get(id)).cloned());
        let eos = header.size("tokenizer.ggml.eos_token_id")?;
        let end = u32::try_from(eos).ok().filter(|&id| (id as usize) < tokens.len());
        let end = end.ok_or_else(|| bad(format!("end token {eos} is not in the vocabulary")))?;
        Ok(Self {
            plain,
            stops: stops(&specials, &[end]),
            specials: longest_first(specials),
            bytes,
            end,
            bos_text: named("tokenizer.ggml.bos_token_id")?.unwrap_or_default(),
            eos_text: tokens[eos].clone(),
        })
    }

    /// Builds the tokenizer of a Hugging Face directory.
    ///
    /// # Errors
    /// A missing or unreadable file, a tokenizer that is not byte-level BPE, no end token.
    pub(crate) fn from_directory(dir: &Path, vocab: usize) -> Result<Self, LoadError> {
        let path = dir.join("tokenizer.json");
        let bad = |reason: String| LoadError::Tokenizer { file: path.display().to_string(), reason };
        let mut json = read_json(&path)?;
        let specials = added_tokens(&json).map_err(bad)?;
        json["added_tokens"] = Json::Array(Vec::new());
        for unwanted in ["post_processor", "truncation", "padding"] {
            json[unwanted] = Json::Null;
        }
        if json["model"]["type"] != "BPE" || !json["decoder"].to_string().contains("ByteLevel") {
            return Err(bad("not a byte-level BPE tokenizer, the only kind supported".into()));
        }
        let plain = Tokenizer::from_bytes(json.to_string()).map_err(|error| bad(error.to_string()))?;
        let words = plain.get_vocab(false);
        let highest = words.values().copied().chain(specials.iter().map(|special| special.id)).max().unwrap_or(0);
        if highest as usize >= vocab {
            return Err(bad(format!("token {highest} has no embedding; the model has {vocab}")));
        }
        let ordinary = words.iter().map(|(text, &id)| (id, text.as_str()));
        let bytes = token_bytes(ordinary, &specials, highest as usize + 1);
        let config = read_json(&dir.join("tokenizer_config.json")).unwrap_or(Json::Null);
        let eos_text = token_text(&config["eos_token"]).unwrap_or_default();
        let bos_text = token_text(&config["bos_token"]).unwrap_or_default();
        let id_of = |text: &str| specials.iter().find(|special| special.text == text).map(|special| special.id);
        let generation = read_json(&dir.join("generation_config.json")).unwrap_or(Json::Null);
        let mut ends: Vec<u32> = id_of(&eos_text).into_iter().collect();
        ends.extend(numbers(&generation["eos_token_id"]));
        let end = *ends.first().ok_or_else(|| bad("no end token in tokenizer_config.json".into()))?;
        Ok(Self {
            plain,
            stops: stops(&specials, &ends),
            specials: longest_first(specials),
            bytes,
            end,
            bos_text,
            eos_text,
        })
    }
}

fn gguf_bpe(tokens: &[String], types: &[i64], merges: &[String], whole_words: bool) -> Result<BPE, String> {
    let vocab = tokens.iter().zip(types).zip(0u32..).filter(|((_, kind), _)| ![CONTROL, UNUSED].contains(kind));
    let vocab: Vocab = vocab.map(|((text, _), id)| (text.clone(), id)).collect();
    let merges = merges
        .iter()
        .map(|merge| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or("a merge is not two tokens with a space between")?;
    BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(whole_words).build().map_err(|error| error.to_string())
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

/// What each id decodes to: the alphabet undone for BPE tokens, the spelling itself for kept special tokens.
fn token_bytes<'a>(
    ordinary: impl Iterator<Item = (u32, &'a str)>,
    specials: &Vec<SpecialToken>,
    len: usize,
) -> Vec<Box<[u8]>> {
    let alphabet = byte_alphabet();
    let mut bytes = vec![Box::default(); len];
    for (id, text) in ordinary {
        bytes[id as usize] = text.chars().filter_map(|letter| alphabet.get(&letter).copied()).collect();
    }
    for special in specials {
        bytes[special.id as usize] = if special.control { Box::default() } else { special.text.as_bytes().into() };
    }
    bytes
}

fn longest_first(mut specials: Vec<SpecialToken>) -> Vec<SpecialToken> {
    specials.retain(|special| !special.text.is_empty());
    specials.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then_with(|| a.text.cmp(&b.text)));
    specials
}

fn stops(specials: &[SpecialToken], ends: &[u32]) -> Vec<u32> {
    let known = specials.iter().filter(|special| ENDINGS.contains(&special.text.as_str())).map(|special| special.id);
    let mut stops: Vec<u32> = ends.iter().copied().chain(known).collect();
    stops.sort_unstable();
    stops.dedup();
    stops
}

fn read_json(path: &Path) -> Result<Json, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|error| LoadError::io(path, error))?;
    serde_json::from_str(&text)
        .map_err(|error| LoadError::corrupt(&path.display().to_string(), "JSON", error.to_string()))
}

fn added_tokens(json: &Json) -> Result<Vec<SpecialToken>, String> {
    let list = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .map(|token| {
            let text = token["content"].as_str()?.to_owned();
            let id = u32::try_from(token["id"].as_u64()?).ok()?;
            Some(SpecialToken { text, id, control: token["special"].as_bool().unwrap_or(false) })
        })
        .collect::<Option<_>>()
        .ok_or_else(|| "an added token lacks content or id".into())
}

/// A token is written as a text or as an object with `content`.
fn token_text(json: &Json) -> Option<String> {
    json.as_str().or_else(|| json["content"].as_str()).map(str::to_owned)
}

fn numbers(json: &Json) -> Vec<u32> {
    let one = json.as_u64().into_iter();
    let many = json.as_array().into_iter().flatten().filter_map(Json::as_u64);
    one.chain(many).filter_map(|id| u32::try_from(id).ok()).collect()
}
