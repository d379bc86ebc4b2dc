//! Replies in one piece, and the objects that both kinds of reply share. Reference:
//! <https://platform.openai.com/docs/api-reference/chat/object>.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use divvy_core::chat::Finish;
use divvy_flow::strategy::Answer;
use serde_json::{Value, json};

use crate::{
    answering::{Answering, Heard, Outcome, Said},
    error::ApiError,
    menu::Served,
    tally::{self, Entry, Stage, Tally},
};

/// What every object of one reply repeats.
pub(super) struct Heading {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) served: Arc<Served>,
}

/// All that was said, by what it is.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) content: String,
    reasoning: String,
}

/// Waits for the whole reply.
pub(super) async fn waited(
    mut heard: Heard,
    answering: Answering,
    tally: &Arc<Tally>,
) -> Result<(Outcome, Texts), ApiError> {
    let outcome = answering.await.inspect_err(|error| tally.failed(error))?;
    let mut texts = Texts::default();
    while let Ok(said) = heard.try_recv() {
        match said {
            Said::Content(text) => texts.content.push_str(&text),
            Said::Reasoning(text) => texts.reasoning.push_str(&text),
            Said::Subquestion { number, text } => texts.reasoning.push_str(&line(number, &text)),
            Said::SubAnswer { .. } | Said::Fallback(_) => {}
        }
    }
    tally.answered(finish_reason(&outcome.finish));
    Ok((outcome, texts))
}

pub(super) async fn whole(
    heading: &Heading,
    heard: Heard,
    answering: Answering,
    tally: &Arc<Tally>,
) -> Result<Response<Body>, ApiError> {
    let (outcome, Texts { content, reasoning }) = waited(heard, answering, tally).await?;
    let entries = tally.entries();
    let reasoning = (!reasoning.is_empty()).then_some(reasoning);
    let message = json!({
        "role": "assistant", "content": content, "refusal": null, "annotations": [],
        "reasoning_content": reasoning, "reasoning": reasoning,
    });
    let mut body = json!({
        "id": heading.id, "object": "chat.completion", "created": heading.created, "model": heading.model,
        "choices": [{
            "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(&outcome.finish),
        }],
        "divvy": own(heading, &outcome, &entries),
    });
    if let Some(usage) = usage(&entries, &outcome) {
        body["usage"] = usage;
    }
    Ok(json_response(&body))
}

pub(crate) fn json_response(body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A subquestion as reasoning text.
pub(super) fn line(number: usize, text: &str) -> String {
    format!("{number}. {text}\n")
}

/// One of OpenAI's words.
pub(super) fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Other(reason) if reason == "content_filter" || reason == "refusal" => "content_filter",
        Finish::Stop | Finish::Other(_) => "stop",
    }
}

/// All tokens of the calls that were answered, as the models counted them; `None` where one of them did not. What a client does not see as content is
/// reasoning; of a reply that holds both, the share of its characters.
pub(super) fn usage(entries: &[Entry], outcome: &Outcome) -> Option<Value> {
    let entries: Vec<Entry> = entries.iter().filter(|entry| entry.ok).cloned().collect();
    let prompt = tally::sum(&entries, |usage| usage.tokens_in)?;
    let completion = tally::sum(&entries, |usage| usage.tokens_out)?;
    let cached: u64 = entries.iter().filter_map(|entry| entry.usage.tokens_cached).sum();
    let out = |of: fn(Stage) -> bool| -> u64 {
        entries.iter().filter(|entry| of(entry.stage)).filter_map(|entry| entry.usage.tokens_out).sum()
    };
    let before = out(|stage| matches!(stage, Stage::Decompose | Stage::Subquestion));
    let (reasoned, all) = outcome.reasoned;
    let share = out(|stage| stage == Stage::Solve) as f64 * reasoned as f64 / all.max(1) as f64;
    Some(json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": before + share.round() as u64, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }))
}

/// The object `divvy`: how the answer came about, and what it cost.
pub(super) fn own(heading: &Heading, outcome: &Outcome, entries: &[Entry]) -> Value {
    let usage = tally::as_json(entries);
    let (Served::Arm(served), Some(answer)) = (&*heading.served, &outcome.answer) else {
        return json!({"usage": usage});
    };
    json!({
        "arm": heading.model, "strategy": served.arm.strategy, "decomposer": served.arm.decomposer,
        "solver": served.arm.solver, "subquestions": subquestions(answer),
        "answer": divvy_core::extract::final_answer(&answer.reply).map(|answer| answer.text),
        "fallback": outcome.fallback, "usage": usage,
    })
}

fn subquestions(answer: &Answer) -> Vec<Value> {
    let steps = answer.decomposition.iter().flat_map(|decomposition| decomposition.steps());
    let answered = answer.sub_answers.iter().map(Option::as_deref).chain(std::iter::repeat(None));
    let with_answer = steps.enumerate().zip(answered);
    with_answer.map(|((at, step), answer)| json!({"number": at + 1, "text": step.text, "answer": answer})).collect()
}
