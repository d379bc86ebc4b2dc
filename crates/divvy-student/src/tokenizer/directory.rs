//! Makes a tokenizer from a Hugging Face directory: `tokenizer.json`, with what `tokenizer_config.json` and
//! `generation_config.json` say about the first and last tokens.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value as Json, json};
use tokenizers::Tokenizer;

use super::build::check_merges;
use super::pieces::{self, Form, Pieces, SPACE};
use super::{SpecialToken, Specials, TextTokenizer, steps};
use crate::error::LoadError;

impl TextTokenizer {
    /// Builds the tokenizer of a Hugging Face directory.
    ///
    /// # Errors
    /// A missing or unreadable file, a tokenizer of another kind than these two, no end token.
    pub(crate) fn from_directory(dir: &Path, vocab: usize) -> Result<Self, LoadError> {
        let path = dir.join("tokenizer.json");
        let bad = |reason: String| LoadError::Tokenizer { file: path.display().to_string(), reason };
        if !path.exists() && dir.join("tokenizer.model").exists() {
            return Err(bad(ONLY_A_MODEL.into()));
        }
        let mut json = read_json(&path)?;
        let specials = prepare(&mut json).map_err(bad)?;
        let (pieces, specials) = split_kinds(&mut json, specials).map_err(bad)?;
        let plain = Tokenizer::from_bytes(json.to_string()).map_err(|error| bad(error.to_string()))?;
        let config = read_json(&dir.join("tokenizer_config.json")).unwrap_or(Json::Null);
        let mut tokenizer = Self {
            plain,
            pieces,
            specials: Specials::new(specials),
            bytes: Vec::new(),
            lacking: Vec::new(),
            end: 0,
            stops: Vec::new(),
            // What a chat begins with is the template's to say.
            adds_bos: false,
            bos_text: token_text(&config["bos_token"]).unwrap_or_default(),
            eos_text: token_text(&config["eos_token"]).unwrap_or_default(),
        };
        let highest = tokenizer.highest();
        if highest as usize >= vocab {
            return Err(bad(format!("token {highest} has no embedding; the model has {vocab}")));
        }
        let eos = tokenizer.all_specials().find(|special| special.text == tokenizer.eos_text).map(|special| special.id);
        let generation = read_json(&dir.join("generation_config.json")).unwrap_or(Json::Null);
        let ends: Vec<u32> = eos.into_iter().chain(numbers(&generation["eos_token_id"])).collect();
        if let Some(end) = ends.iter().find(|end| **end as usize >= vocab) {
            return Err(bad(format!(
                "end token {end} of generation_config.json beside it has no embedding; the model has {vocab}"
            )));
        }
        tokenizer.end = *ends.first().ok_or_else(|| bad("no end token in tokenizer_config.json".into()))?;
        tokenizer.complete(highest as usize + 1, ends.into_iter()).map_err(bad)?;
        Ok(tokenizer)
    }

    fn highest(&self) -> u32 {
        let words = self.plain.get_vocab(false).into_values();
        words.chain(self.all_specials().map(|special| special.id)).max().unwrap_or(0)
    }
}

const ONLY_A_MODEL: &str = "not found; tokenizer.model alone is not read. Write the other beside it with transformers \
    (AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)), or take the model as a GGUF file";

/// Takes out what is done elsewhere, special tokens first, and refuses what the `tokenizers` crate would stumble over.
fn prepare(json: &mut Json) -> Result<Vec<SpecialToken>, String> {
    if !json.is_object() {
        return Err("it is not a JSON object".into());
    }
    let specials = added_tokens(json)?;
    json["added_tokens"] = Json::Array(Vec::new());
    for unwanted in ["post_processor", "truncation", "padding"] {
        json[unwanted] = Json::Null;
    }
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(format!("its model is {}; supported: BPE", model["type"]));
    }
    if model["continuing_subword_prefix"].as_str().is_some_and(|prefix| !prefix.is_empty()) {
        return Err("its pieces have a continuing_subword_prefix, which no supported model has".into());
    }
    check_merges(&merges(json)?, |text| model["vocab"].get(text).is_some())?;
    steps::check(json)?;
    Ok(specials)
}

/// Tells the two kinds of tokenizer apart. Of special tokens, those that plain text cannot hold come back.
fn split_kinds(json: &mut Json, specials: Vec<SpecialToken>) -> Result<(Option<Pieces>, Vec<SpecialToken>), String> {
    if json["decoder"].to_string().contains("ByteLevel") {
        return Ok((None, specials));
    }
    if json["model"]["byte_fallback"] != true {
        return Err("neither a byte-level BPE tokenizer nor SentencePiece's BPE with bytes to fall back on".into());
    }
    pieces::check_bytes(|text| json["model"]["vocab"].get(text).is_some())?;
    let form = Form::of(json);
    let prefix = pieces::take_prefix(json);
    let (control, user): (Vec<_>, Vec<_>) = specials.into_iter().partition(|special| special.control);
    let hidden: HashSet<&str> = control.iter().map(|special| special.text.as_str()).collect();
    let mut kept = merges(json)?;
    kept.retain(|(left, right)| !hidden.contains(format!("{left}{right}").as_str()));
    json["model"]["merges"] = json!(kept);
    let plain = |special: SpecialToken| SpecialToken { text: special.text.replace(SPACE, " "), ..special };
    let always = Specials::new(user.into_iter().map(plain).collect());
    Ok((Some(Pieces { always, prefix, form }), control))
}

/// The merges of a `tokenizer.json`: pairs, or as older ones have them, two tokens with a space between.
pub(super) fn merges(json: &Json) -> Result<Vec<(String, String)>, String> {
    let merges = json["model"]["merges"].as_array().ok_or("it has no merges")?;
    let owned = |(left, right): (&str, &str)| (left.to_owned(), right.to_owned());
    let one = |merge: &Json| match merge {
        Json::String(merge) => merge.split_once(' ').map(owned),
        pair => Some(owned((pair[0].as_str()?, pair[1].as_str()?))),
    };
    merges.iter().map(one).collect::<Option<_>>().ok_or_else(|| "a merge is not two tokens".to_owned())
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
