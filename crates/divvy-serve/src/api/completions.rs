//! `POST /v1/completions`: a local model goes on with a text, without a chat template. Reference:
//! <https://platform.openai.com/docs/api-reference/completions/create>.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request as HttpRequest, State},
    http::{Response, request::Parts},
};
use divvy_core::chat::{Message, Sampling};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    course::{Admitted, apart, begin, fresh_id, in_line, no_model, refused, span, strictly, with_headers},
    events::{self, Form, Streaming},
    fields::Fields,
    reply::{self, Heading, finish_reason},
    request::{Wanted, is_label},
};
use crate::{
    answering::{self, Outcome},
    desk::Desk,
    error::ApiError,
    menu::{Served, Voice},
    server::{body, caller},
    tally::Entry,
    traces::{RequestSpan, TEXT_COMPLETION},
};

/// OpenAI's default.
const TOKENS: u32 = 16;

struct Request {
    model: String,
    prompt: String,
    sampling: Sampling,
    stream: bool,
    include_usage: bool,
    ignored: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Texts(Vec<String>),
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl Request {
    fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::read(bytes)?;
        let model = fields.required("model")?;
        let prompt = match fields.required("prompt")? {
            Prompt::Text(text) => text,
            Prompt::Texts(texts) if texts.len() == 1 => texts.into_iter().next().unwrap_or_default(),
            Prompt::Texts(_) => return Err(ApiError::field("prompt", "unsupported_value", "`prompt`: one text")),
        };
        if prompt.is_empty() {
            return Err(ApiError::field("prompt", "empty_prompt", "`prompt` is empty"));
        }
        if fields.take::<u64>("n")?.is_some_and(|n| n != 1) {
            return Err(ApiError::field("n", "unsupported_value", "`n`: one choice is all there is"));
        }
        let most = fields.take("max_tokens")?.unwrap_or(TOKENS);
        let sampling = Wanted::take(&mut fields)?.of(most)?;
        let options: StreamOptions = fields.take("stream_options")?.unwrap_or_default();
        let stream = fields.take("stream")?.unwrap_or(false);
        let ignored = fields.left().into_iter().filter(|name| !is_label(name)).collect();
        Ok(Self { model, prompt, sampling, stream, include_usage: options.include_usage, ignored })
    }
}

/// Why a body is no request to go on with a text.
pub(super) fn refusal(body: &[u8]) -> Option<ApiError> {
    Request::read(body).err()
}

pub(crate) async fn complete(State(desk): State<Arc<Desk>>, request: HttpRequest) -> Response<Body> {
    let (parts, sent) = request.into_parts();
    let span = span(&desk, &parts.headers, TEXT_COMPLETION);
    match admit(&desk, &parts, sent).await {
        Err(error) => refused(&desk, span, &error),
        Ok((admitted, request, voice)) => {
            let (id, ignored) = (fresh_id("cmpl"), admitted.ignored.clone());
            let answered = answer(&desk, admitted, request, (voice, span), id.clone()).await;
            with_headers(answered, &id, &ignored)
        }
    }
}

async fn admit(desk: &Desk, parts: &Parts, sent: Body) -> Result<(Admitted, Request, Voice), ApiError> {
    let key = caller(desk, &parts.headers)?;
    let request = Request::read(&body(desk, sent).await?)?;
    let served = desk.menu.find(&request.model).ok_or_else(|| no_model(desk, &request.model))?;
    let voice = match &**served {
        Served::Model(voice) if voice.raw.is_some() => voice.clone(),
        _ => {
            let message = format!("`{}` takes messages: /v1/chat/completions", request.model);
            return Err(ApiError::field("model", "unsupported_model", message));
        }
    };
    strictly(desk, &request.ignored)?;
    key.as_ref().map_or(Ok(()), |key| key.begin())?;
    Ok((Admitted { served: Arc::clone(served), ignored: request.ignored.clone(), key }, request, voice))
}

async fn answer(
    desk: &Arc<Desk>,
    admitted: Admitted,
    request: Request,
    (voice, span): (Voice, Option<RequestSpan>),
    id: String,
) -> Result<Response<Body>, ApiError> {
    let (heading, tally, deadline) = begin(desk, admitted, id, span);
    let live = voice.raw.clone().ok_or_else(ApiError::internal)?;
    let voice = Voice { live, ..voice };
    let messages = vec![Message::user(request.prompt)];
    let asked = answering::by_model(voice, messages, request.sampling, Arc::clone(&tally), deadline);
    let (heard, answering) = in_line(desk, asked, &tally, deadline)?;
    if !request.stream {
        let (outcome, said) = reply::waited(heard, answering, &tally).await?;
        return Ok(reply::json_response(&whole(&heading, &outcome, &said.content, &tally.entries())));
    }
    let (include_usage, keep_alive) = (request.include_usage, desk.settings.keep_alive);
    let answering = apart(answering);
    let form = Form::Completion;
    events::respond(Streaming { heading, heard, answering, tally, include_usage, keep_alive, form }).await
}

fn whole(heading: &Heading, outcome: &Outcome, text: &str, entries: &[Entry]) -> Value {
    let finish = finish_reason(&outcome.finish);
    let mut body = json!({
        "id": heading.id, "object": "text_completion", "created": heading.created, "model": heading.model,
        "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}],
    });
    if let Some(usage) = reply::usage(entries, outcome) {
        body["usage"] = usage;
    }
    body
}
