//! A tokenizer as the metadata of a GGUF file.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::BPE;

use super::TextTokenizer;
use super::build::{CONTROL, NORMAL, PRE_TOKENIZERS, UNUSED, USER_DEFINED, apply_pre_tokenizer};
use crate::gguf::Value;

impl TextTokenizer {
    /// Tokens, their types, merges and the special ids, for a model with `vocab` embedding rows; rows without a token
    /// get one that is never used.
    ///
    /// # Errors
    /// Why GGUF has no form for it.
    pub(crate) fn gguf_metadata(&self, vocab: usize) -> Result<BTreeMap<String, Value>, String> {
        let json = serde_json::to_value(&self.plain).map_err(|error| error.to_string())?;
        let (tokens, types) = self.tokens(vocab);
        let id_of = |text: &str| tokens.iter().position(|token| token == text).map(|id| Value::Int(id as i64));
        let mut entries = vec![
            ("model", Value::Text("gpt2".into())),
            ("pre", Value::Text(pre_tokenizer(&json)?.into())),
            ("merges", Value::Texts(merges(&json)?)),
            ("eos_token_id", Value::Int(self.end.into())),
            // The chat template writes the first token where a model has one, in training as at inference.
            ("add_bos_token", Value::Bool(false)),
        ];
        if !self.bos_text.is_empty() {
            entries.extend(id_of(&self.bos_text).map(|id| ("bos_token_id", id)));
        }
        entries.extend([("tokens", Value::Texts(tokens)), ("token_type", Value::Ints(types))]);
        Ok(entries.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect())
    }

    fn tokens(&self, vocab: usize) -> (Vec<String>, Vec<i64>) {
        let mut tokens: Vec<String> = (0..vocab).map(|id| format!("[PAD{id}]")).collect();
        let mut types = vec![UNUSED; vocab];
        for (text, id) in self.plain.get_vocab(false) {
            (tokens[id as usize], types[id as usize]) = (text, NORMAL);
        }
        for special in &self.specials {
            let kind = if special.control { CONTROL } else { USER_DEFINED };
            (tokens[special.id as usize], types[special.id as usize]) = (special.text.clone(), kind);
        }
        (tokens, types)
    }
}

/// Two tokens with a space between, as `tokenizer.json` once had them too.
fn merges(json: &Json) -> Result<Vec<String>, String> {
    let merges = json["model"]["merges"].as_array().ok_or("it has no merges")?;
    let one = |merge: &Json| match merge {
        Json::String(merge) => Some(merge.clone()),
        pair => Some(format!("{} {}", pair[0].as_str()?, pair[1].as_str()?)),
    };
    merges.iter().map(one).collect::<Option<_>>().ok_or_else(|| "a merge is not two tokens".to_owned())
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
