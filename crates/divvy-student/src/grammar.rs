//! Replies held to a JSON schema: at each token only those are left that the schema lets follow. The grammar and its walk over
//! the vocabulary are llguidance's, which vLLM and llama.cpp use for the same.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::tokenizer::TextTokenizer;

/// A trie of the vocabulary takes no longer tokens; a grammar does without them.
const LONGEST_TOKEN: usize = 512;

/// A vocabulary, ready for grammars over it.
pub(crate) struct Grammars {
    factory: ParserFactory,
    /// The schema that was compiled last: one stage asks with one schema.
    last: Option<(Value, Grammar)>,
}

impl Grammars {
    /// # Errors
    /// Why llguidance does not take this vocabulary.
    pub(crate) fn new(tokenizer: &TextTokenizer, vocab: usize) -> Result<Self, String> {
        let bytes =
            |id| Some(tokenizer.token_bytes(id)).filter(|bytes| bytes.len() <= LONGEST_TOKEN).unwrap_or_default();
        let words: Vec<Vec<u8>> = (0..vocab as u32).map(|id| bytes(id).to_vec()).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocab as u32, tokenizer.end_token()), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        // Tokens within strings are precomputed, which is most of a reply.
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices);
        let mut factory = factory.map_err(|error| error.to_string())?;
        factory.quiet();
        Ok(Self { factory, last: None })
    }

    /// # Errors
    /// What is wrong with the schema, or what of it is not supported.
    pub(crate) fn compile(&mut self, schema: &Value) -> Result<Grammar, String> {
        if let Some((known, grammar)) = &self.last
            && known == schema
        {
            return Ok(grammar.fresh());
        }
        let grammar = TopLevelGrammar::from_json_schema(compact(schema));
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        if let Some(error) = matcher.get_error() {
            return Err(error);
        }
        let grammar = Grammar { matcher };
        let fresh = grammar.fresh();
        self.last = Some((schema.clone(), grammar));
        Ok(fresh)
    }
}

/// The schema, and that its JSON stands on one line: a weak model goes on with spaces for ever where it may.
fn compact(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(members) = schema.as_object_mut() {
        let layout = || json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
        members.entry("x-guidance").or_insert_with(layout);
    }
    schema
}

/// Where one reply stands in its grammar.
pub(crate) struct Grammar {
    matcher: Matcher,
}

impl Grammar {
    fn fresh(&self) -> Self {
        Self { matcher: self.matcher.deep_clone() }
    }

    /// Takes from `logits`, one a token, all that may not come next. At the end of the JSON, and where a limit of the grammar's own
    /// was passed, that leaves the token that ends the reply.
    pub(crate) fn mask(&mut self, logits: &mut [f32], end: u32) {
        match self.matcher.compute_mask_or_eos() {
            Ok(allowed) => allowed.iter_unset_entries(|token| {
                if let Some(logit) = logits.get_mut(token) {
                    *logit = f32::NEG_INFINITY;
                }
            }),
            Err(_) => {
                let kept = logits[end as usize];
                logits.fill(f32::NEG_INFINITY);
                logits[end as usize] = kept;
            }
        }
    }

    /// Goes on behind `token`, one that was left.
    pub(crate) fn take(&mut self, token: u32) {
        // A failure is kept, and the next mask ends the reply.
        let _ = self.matcher.consume_token(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Sampler;
    use crate::testing::tiny_model;
    use divvy_core::chat::Sampling;

    /// A reply of random logits, held to `schema`: its text, and whether it ended by itself.
    fn babble(schema: &Value, seed: u64, most: usize) -> (String, bool) {
        let model = tiny_model("tiny-llama");
        let mut grammar = Grammars::new(&model.tokenizer, model.config.vocab).unwrap().compile(schema).unwrap();
        let sampling = Sampling { temperature: 1.0, seed, ..Sampling::greedy(1) };
        let mut sampler = Sampler::new(&sampling);
        let mut ids = Vec::new();
        while ids.len() < most {
            let mut logits = vec![0.0; model.config.vocab];
            grammar.mask(&mut logits, model.tokenizer.end_token());
            let token = sampler.sample(&mut logits).expect("the grammar leaves tokens");
            if model.tokenizer.is_stop(token) {
                return (model.decode(&ids), true);
            }
            grammar.take(token);
            ids.push(token);
        }
        (model.decode(&ids), false)
    }

    #[test]
    fn whatever_the_model_wants_it_writes_the_schema() {
        let schema = json!({
            "type": "object",
            "properties": { "sure": { "type": "boolean" }, "word": { "enum": ["a", "no", "true"] } },
            "required": ["sure", "word"],
            "additionalProperties": false,
        });
        for seed in 0..20 {
            let (text, ended) = babble(&schema, seed, 200);
            let said: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(ended && said["sure"].is_boolean() && said["word"].is_string(), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_schema_that_is_none_is_refused_and_one_that_is_known_starts_afresh() {
        let model = tiny_model("tiny-llama");
        let mut grammars = Grammars::new(&model.tokenizer, model.config.vocab).unwrap();
        assert!(grammars.compile(&json!({ "type": "strnig" })).is_err());
        let schema = json!({ "enum": ["ab"] });
        let mut first = grammars.compile(&schema).unwrap();
        let left = |grammar: &mut Grammar| {
            let mut logits = vec![0.0; model.config.vocab];
            grammar.mask(&mut logits, model.tokenizer.end_token());
            (0..logits.len() as u32).filter(|&id| logits[id as usize] == 0.0).collect::<Vec<_>>()
        };
        let begin = left(&mut first);
        assert!(begin.iter().all(|&id| "\"ab\"".as_bytes().starts_with(model.tokenizer.token_bytes(id))), "{begin:?}");
        first.take(begin[0]);
        assert_ne!(left(&mut first), begin);
        assert_eq!(left(&mut grammars.compile(&schema).unwrap()), begin);
    }
}
