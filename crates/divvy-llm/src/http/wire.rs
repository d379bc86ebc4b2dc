//! The JSON of a chat completion, as far as we write and read it. Extra fields are ignored, missing figures unknown.

use divvy_core::chat::{ChatRequest, Finish, Message, Reply, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::refusal::Place;
use crate::error::ChatError;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    temperature: f64,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    /// Some providers refuse a seed, and a greedy reply does not need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// The body to send.
pub(super) fn body(request: &ChatRequest, model: &str, stream: bool) -> Vec<u8> {
    let sampling = &request.sampling;
    let body = Body {
        model,
        messages: &request.messages,
        temperature: sampling.temperature,
        max_tokens: sampling.max_tokens,
        top_p: (sampling.top_p < 1.0).then_some(sampling.top_p),
        // Servers read it as a signed integer.
        seed: (sampling.temperature > 0.0).then_some(sampling.seed & i64::MAX as u64),
        stop: &sampling.stop,
        stream: stream.then_some(true),
        stream_options: stream.then_some(StreamOptions { include_usage: true }),
    };
    serde_json::to_vec(&body).expect("a request is plain JSON")
}

#[derive(Deserialize)]
struct Completion {
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    /// Some gateways answer 200 and put their error in the body.
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    /// Whole replies.
    message: Option<Said>,
    /// Streamed pieces.
    delta: Option<Said>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Said {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

/// One event or one whole reply, in our words.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) text: String,
    /// The model thought, or refused, without saying anything.
    pub(super) thought: bool,
    pub(super) finish: Option<Finish>,
    pub(super) usage: Option<Usage>,
}

/// A whole reply.
pub(super) fn read(bytes: &[u8], place: &Place) -> Result<Reply, ChatError> {
    let piece = piece(bytes, place)?;
    reply(piece, place)
}

/// A reply without text is an error: it would be graded as a wrong answer that the model never gave.
pub(super) fn reply(piece: Piece, place: &Place) -> Result<Reply, ChatError> {
    let finish = piece.finish.unwrap_or(Finish::Stop);
    if piece.text.trim().is_empty() && finish != Finish::Length {
        let detail = if piece.thought { ": the model thought but said nothing; raise `max_tokens`" } else { "" };
        return Err(ChatError { usage: piece.usage.unwrap_or_default(), ..place.empty(detail) });
    }
    Ok(Reply { text: piece.text, finish, usage: piece.usage.unwrap_or_default() })
}

pub(super) fn piece(bytes: &[u8], place: &Place) -> Result<Piece, ChatError> {
    let completion: Completion = serde_json::from_slice(bytes).map_err(|e| place.unreadable(bytes, &e.to_string()))?;
    if let Some(error) = completion.error.filter(|error| !error.is_null()) {
        let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        return Err(place.refused(status.unwrap_or(500), None, bytes, None));
    }
    let choices = completion.choices.ok_or_else(|| place.unreadable(bytes, "it has no `choices`"))?;
    let usage = completion.usage.map(|usage| Usage {
        tokens_in: usage.prompt_tokens,
        tokens_cached: usage.prompt_tokens_details.and_then(|details| details.cached_tokens),
        tokens_out: usage.completion_tokens,
    });
    let Some(choice) = choices.into_iter().next() else { return Ok(Piece { usage, ..Piece::default() }) };
    let said = choice.message.or(choice.delta).unwrap_or_default();
    let refused = said.refusal.is_some_and(|text| !text.is_empty());
    Ok(Piece {
        thought: said.reasoning_content.or(said.reasoning).is_some_and(|text| !text.is_empty()),
        text: said.content.unwrap_or_default(),
        finish: if refused { Some(Finish::Other("refusal".to_owned())) } else { choice.finish_reason.map(finish) },
        usage,
    })
}

fn finish(reason: String) -> Finish {
    match reason.as_str() {
        // `eos_token` and `stop_sequence` are other servers' words for the same.
        "stop" | "eos" | "eos_token" | "stop_sequence" | "end_turn" => Finish::Stop,
        "length" | "max_tokens" => Finish::Length,
        _ => Finish::Other(reason),
    }
}

/// Names in the reply of `GET /v1/models`.
pub(super) fn model_names(bytes: &[u8]) -> Option<Vec<String>> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    let data = json.get("data")?.as_array()?;
    Some(data.iter().filter_map(|model| Some(model.get("id")?.as_str()?.to_owned())).collect())
}
