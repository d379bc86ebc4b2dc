//! A tokenizer as the metadata of a GGUF file.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value as Json;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::BPE;

use super::TextTokenizer;
use super::build::{BYTE, CONTROL, NORMAL, PRE_TOKENIZERS, UNUSED, USER_DEFINED, apply_pre_tokenizer};
use super::directory::merges;
use super::pieces::{self, Prefix};
use crate::gguf::Value;

type Entries = Vec<(&'static str, Value)>;

impl TextTokenizer {
    /// Tokens, their types, merges or scores, and the special ids, for a model with `vocab` embedding rows; rows without a
    /// token get one that is never used.
    ///
    /// # Errors
    /// Why GGUF has no form for it.
    pub(crate) fn gguf_metadata(&self, vocab: usize) -> Result<BTreeMap<String, Value>, String> {
        let json = serde_json::to_value(&self.plain).map_err(|error| error.to_string())?;
        let (tokens, types) = self.tokens(vocab);
        let id_of = |text: &str| tokens.iter().position(|token| token == text).map(|id| Value::Int(id as i64));
        let mut entries = match self.prefix() {
            None => byte_level_entries(&json)?,
            Some(prefix) => piece_entries(prefix, merges(&json)?, &tokens, &types)?,
        };
        if self.pieces.is_some() {
            entries.extend(id_of("<unk>").map(|id| ("unknown_token_id", id)));
        }
        entries.push(("eos_token_id", Value::Int(self.end.into())));
        // The chat template writes the first token where a model has one, in training as at inference.
        entries.push(("add_bos_token", Value::Bool(false)));
        if !self.bos_text.is_empty() {
            entries.extend(id_of(&self.bos_text).map(|id| ("bos_token_id", id)));
        }
        entries.extend([("tokens", Value::Texts(tokens)), ("token_type", Value::Ints(types))]);
        Ok(entries.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect())
    }

    fn prefix(&self) -> Option<Prefix> {
        self.pieces.as_ref().map(|pieces| pieces.prefix)
    }

    fn tokens(&self, vocab: usize) -> (Vec<String>, Vec<i64>) {
        let mut tokens: Vec<String> = (0..vocab).map(|id| format!("[PAD{id}]")).collect();
        let mut types = vec![UNUSED; vocab];
        for (text, id) in self.plain.get_vocab(false) {
            types[id as usize] = if self.pieces.is_some() && pieces::byte(&text).is_some() { BYTE } else { NORMAL };
            tokens[id as usize] = text;
        }
        for special in self.all_specials() {
            let kind = if special.control { CONTROL } else { USER_DEFINED };
            (tokens[special.id as usize], types[special.id as usize]) = (special.text.clone(), kind);
        }
        (tokens, types)
    }
}

fn byte_level_entries(json: &Json) -> Result<Entries, String> {
    let merges = merges(json)?.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
    Ok(vec![
        ("model", Value::Text("gpt2".into())),
        ("pre", Value::Text(pre_tokenizer(json)?.into())),
        ("merges", Value::Texts(merges)),
    ])
}

/// Only normal pieces have merges and scores of their own.
fn piece_entries(
    prefix: Prefix,
    mut merges: Vec<(String, String)>,
    tokens: &[String],
    types: &[i64],
) -> Result<Entries, String> {
    let ordinary = tokens.iter().zip(types).zip(0..).filter(|((_, kind), _)| **kind == NORMAL);
    let ordinary: Vec<(u32, &str)> = ordinary.map(|((text, _), id)| (id, text.as_str())).collect();
    let known: HashSet<&str> = ordinary.iter().map(|(_, text)| *text).collect();
    let normal = |text: &str| known.contains(text);
    merges.retain(|(left, right)| normal(left) && normal(right) && normal(&format!("{left}{right}")));
    let mut scores = vec![0.0; tokens.len()];
    for (&(id, _), score) in ordinary.iter().zip(pieces::scores(&ordinary, &merges)?) {
        scores[id as usize] = f64::from(score);
    }
    Ok(vec![
        ("model", Value::Text("llama".into())),
        ("pre", Value::Text("default".into())),
        ("scores", Value::Floats(scores)),
        ("add_space_prefix", Value::Bool(space_prefix(prefix)?)),
    ])
}

/// llama.cpp puts a space in front of every stretch or of none. A chat begins with a special token, so that a space in
/// front of the whole text alone is none.
fn space_prefix(prefix: Prefix) -> Result<bool, String> {
    match prefix {
        Prefix::Never | Prefix::Missing { every: false } => Ok(false),
        Prefix::Stretch => Ok(true),
        Prefix::Missing { every: true } => {
            Err("llama.cpp has no space in front of only those stretches that lack one".into())
        }
    }
}

/// GGUF names pre-tokenizers instead of describing them.
fn pre_tokenizer(json: &Json) -> Result<&'static str, String> {
    let own = steps(json);
    let named = |name: &&&str| {
        let mut known = Tokenizer::new(BPE::default());
        let applied = apply_pre_tokenizer(&mut known, name);
        applied.is_ok() && serde_json::to_value(&known).is_ok_and(|known| steps(&known) == own)
    };
    let found = PRE_TOKENIZERS.iter().find(named).copied();
    found.ok_or_else(|| format!("its pre-tokenizer is none of {}", PRE_TOKENIZERS.join(", ")))
}

/// Normaliser and pre-tokenizing steps without what changes no token.
fn steps(json: &Json) -> (Json, Vec<Json>) {
    let pre = &json["pre_tokenizer"];
    let mut steps = pre["pretokenizers"].as_array().cloned().unwrap_or_else(|| vec![pre.clone()]);
    for step in steps.iter_mut().filter_map(Json::as_object_mut) {
        step.remove("trim_offsets");
    }
    (json["normalizer"].clone(), steps)
}
