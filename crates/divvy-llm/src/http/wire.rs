//! The JSON of a chat completion, as far as we write and read it. Extra fields are ignored, missing figures unknown.

use std::fmt;

use divvy_core::chat::{ChatRequest, Finish, Message, Reply, ReplyFormat, Usage};
use divvy_store::MOST_TOKENS;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::{Value, json, value::RawValue};

use super::refusal::Place;
use crate::error::ChatError;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    /// Some providers refuse a seed, and a greedy reply does not need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// What an endpoint calls the most tokens of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Words {
    /// Everybody's word.
    #[default]
    MaxTokens,
    /// OpenAI's for models that think, which refuse the other.
    MaxCompletionTokens,
}

/// The body to send, in the endpoint's words.
pub(super) fn body(words: Words, request: &ChatRequest, model: &str, stream: bool) -> Vec<u8> {
    let sampling = &request.sampling;
    let body = Body {
        model,
        messages: &request.messages,
        temperature: sampling.temperature,
        max_tokens: (words == Words::MaxTokens).then_some(sampling.max_tokens),
        max_completion_tokens: (words == Words::MaxCompletionTokens).then_some(sampling.max_tokens),
        top_p: (sampling.top_p < 1.0).then_some(sampling.top_p),
        // Servers read it as a signed integer.
        seed: (sampling.temperature > 0.0).then_some(sampling.seed & i64::MAX as u64),
        stop: &sampling.stop,
        response_format: sampling.format.as_deref().map(by_schema),
        stream: stream.then_some(true),
        stream_options: stream.then_some(StreamOptions { include_usage: true }),
    };
    // Room for what is around the texts, so that they are not moved while they are written.
    let texts: usize =
        request.messages.iter().map(|message| message.content.len() + message.content.len() / 8 + 64).sum();
    let mut json = Vec::with_capacity(texts + 256);
    serde_json::to_writer(&mut json, &body).expect("a request is plain JSON");
    json
}

/// <https://platform.openai.com/docs/guides/structured-outputs>
fn by_schema(format: &ReplyFormat) -> Value {
    let schema = json!({ "name": format.name, "strict": true, "schema": format.schema });
    json!({ "type": "json_schema", "json_schema": schema })
}

#[derive(Deserialize)]
struct Completion<'a> {
    choices: Option<Vec<Choice>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    /// Some gateways answer 200 and put their error in the body.
    #[serde(default)]
    error: Value,
    /// `error` in the older bodies of vLLM, which have the rest beside it.
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Choice {
    /// Whole replies.
    message: Option<Said>,
    /// Streamed pieces.
    delta: Option<Said>,
    #[serde(default)]
    finish_reason: Value,
    /// OpenRouter tells here what its provider said in the middle of a reply.
    #[serde(default)]
    error: Value,
}

#[derive(Default, Deserialize)]
struct Said {
    content: Option<Content>,
    #[serde(default)]
    refusal: Value,
    /// Thoughts, under the names of DeepSeek and of vLLM as it was, of OpenRouter, Ollama and vLLM: text, or a list.
    #[serde(default)]
    reasoning_content: Value,
    #[serde(default)]
    reasoning: Value,
}

enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// By what comes, where serde's own would set everything aside first to try one after the other.
impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text or a list of parts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Content, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(parts)).map(Content::Parts)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
}

impl Content {
    /// The text, and whether there are thoughts beside it.
    fn read(self) -> (String, bool) {
        let parts = match self {
            Self::Text(text) => return (text, false),
            Self::Parts(parts) => parts,
        };
        let is_text = |part: &Part| matches!(part.kind.as_deref(), None | Some("text" | "output_text"));
        let thought = parts.iter().any(|part| !is_text(part));
        (parts.into_iter().filter(is_text).filter_map(|part| part.text).collect(), thought)
    }
}

/// One event or one whole reply, in our words.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) text: String,
    /// The model thought.
    pub(super) thought: bool,
    /// The text says why it does not answer.
    pub(super) refused: bool,
    pub(super) finish: Option<Finish>,
    pub(super) usage: Option<Usage>,
}

/// A whole reply.
pub(super) fn read(bytes: &[u8], place: &Place) -> Result<Reply, ChatError> {
    let piece = piece(bytes, place)?;
    reply(piece, place)
}

/// A reply without text is an error: it would be graded as a wrong answer that the model never gave. What a filter took away
/// it would take away again: that is the reply. One that the endpoint broke off is none, whatever there is of it.
pub(super) fn reply(piece: Piece, place: &Place) -> Result<Reply, ChatError> {
    let usage = piece.usage.unwrap_or_default();
    if let Some(Finish::Other(word)) = piece.finish.as_ref().filter(|finish| is_broken_off(finish)) {
        return Err(ChatError { usage, ..place.broken_off(word) });
    }
    let refusal = piece.refused.then(|| Finish::Other("refusal".to_owned()));
    let finish = refusal.or(piece.finish).unwrap_or(Finish::Stop);
    if piece.text.trim().is_empty() && finish != Finish::Length && !finish.is_refusal() {
        let detail = if piece.thought { ": the model thought but said nothing; raise `max_tokens`" } else { "" };
        return Err(ChatError { usage, ..place.empty(detail) });
    }
    Ok(Reply { text: piece.text, finish, usage })
}

pub(super) fn piece(bytes: &[u8], place: &Place) -> Result<Piece, ChatError> {
    let completion: Completion = serde_json::from_slice(bytes).map_err(|e| place.unreadable(bytes, &e.to_string()))?;
    if !completion.error.is_null() || completion.object == "error" {
        return Err(place.refused_with_200(bytes));
    }
    let choices = completion.choices.ok_or_else(|| place.unreadable(bytes, "it has no `choices`"))?;
    let usage = completion.usage.and_then(usage);
    let Some(choice) = choices.into_iter().next() else { return Ok(Piece { usage, ..Piece::default() }) };
    if !choice.error.is_null() {
        return Err(ChatError {
            usage: usage.unwrap_or_default(),
            ..place.refused_with_200(choice.error.to_string().as_bytes())
        });
    }
    let said = choice.message.or(choice.delta).unwrap_or_default();
    let (content, thoughts) = said.content.map(Content::read).unwrap_or_default();
    let refusal = said.refusal.as_str().unwrap_or_default();
    Ok(Piece {
        thought: thoughts || says_something(&said.reasoning_content) || says_something(&said.reasoning),
        refused: !refusal.is_empty(),
        text: if content.is_empty() { refusal.to_owned() } else { content },
        finish: choice.finish_reason.as_str().map(finish),
        usage,
    })
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(parts) => !parts.is_empty(),
        Value::Object(_) => true,
        _ => false,
    }
}

/// Figures as they stand there, which may be anything.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Figures<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    /// With the thoughts that xAI and Google leave out of `completion_tokens`, and charge for.
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    /// What DeepSeek calls `cached_tokens` among the details.
    #[serde(borrow)]
    prompt_cache_hit_tokens: Option<&'a RawValue>,
    /// Among the details, or beside the others as Together has it.
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
}

/// A figure that cannot be read, or cannot be, is unknown: the reply was paid for all the same.
fn usage(usage: &RawValue) -> Option<Usage> {
    let told = figures(usage)?;
    let cached = told.prompt_tokens_details.and_then(figures).and_then(|details| details.cached_tokens);
    let tokens_in = told.prompt_tokens.and_then(number);
    // A total that cannot be, or is less than its parts, adds nothing.
    let written = told.total_tokens.and_then(number).zip(tokens_in).map(|(total, read)| total.saturating_sub(read));
    Some(Usage {
        tokens_in,
        tokens_cached: cached.or(told.prompt_cache_hit_tokens).or(told.cached_tokens).and_then(number),
        tokens_out: told.completion_tokens.and_then(number).map(|said| said.max(written.unwrap_or(0))),
    })
}

fn figures(object: &RawValue) -> Option<Figures<'_>> {
    object.get().starts_with('{').then(|| serde_json::from_str(object.get()).unwrap_or_default())
}

fn number(figure: &RawValue) -> Option<u64> {
    let double = |text: &str| text.parse().ok().filter(|number| (0.0..=MOST_TOKENS as f64).contains(number));
    let whole = figure.get().parse().ok().or_else(|| double(figure.get()).map(|number| number as u64));
    whole.filter(|tokens| *tokens <= MOST_TOKENS)
}

fn finish(reason: &str) -> Finish {
    match reason {
        // `eos_token` and `stop_sequence` are other servers' words for the same.
        "stop" | "eos" | "eos_token" | "stop_sequence" | "end_turn" => Finish::Stop,
        "length" | "max_tokens" | "model_length" => Finish::Length,
        // Google's words.
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => {
            Finish::Other("content_filter".to_owned())
        }
        _ => Finish::Other(reason.to_owned()),
    }
}

/// What vLLM, SGLang and gateways say of a reply that did not come to its end. A word that nobody knows may be some server's for
/// a reply that did.
fn is_broken_off(finish: &Finish) -> bool {
    const WORDS: [&str; 4] = ["abort", "error", "cancelled", "canceled"];
    matches!(finish, Finish::Other(word) if WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Names in the reply of `GET /v1/models`.
pub(super) fn model_names(bytes: &[u8]) -> Option<Vec<String>> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    let data = json.get("data")?.as_array()?;
    Some(data.iter().filter_map(|model| Some(model.get("id")?.as_str()?.to_owned())).collect())
}
