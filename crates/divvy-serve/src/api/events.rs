//! Streamed replies: server-sent events without names (named ones break real clients), comments while nothing is said, an
//! error as an event, `[DONE]` at every end. Reference: <https://platform.openai.com/docs/api-reference/chat/streaming>.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, header},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::reply::{Heading, finish_reason, line, own, usage};
use crate::{
    answering::{Answering, Heard, Outcome, Said},
    error::ApiError,
    tally::Tally,
};

/// A failure within this time is told by its status; after it the head is out, and a failure is an event.
const HEAD_WAITS: Duration = Duration::from_secs(2);

/// Which kind of object a stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    /// Of `/v1/completions`: text alone.
    Completion,
}

pub(super) struct Streaming {
    pub(super) form: Form,
    pub(super) heading: Heading,
    pub(super) heard: Heard,
    pub(super) answering: Answering,
    pub(super) tally: Arc<Tally>,
    pub(super) include_usage: bool,
    pub(super) keep_alive: Duration,
}

struct Speaking {
    streaming: Streaming,
    out: VecDeque<Bytes>,
    ended: bool,
}

/// The response, once something is said, or something failed, or enough time has passed.
pub(super) async fn respond(streaming: Streaming) -> Result<Response<Body>, ApiError> {
    let mut speaking = Speaking { streaming, out: VecDeque::new(), ended: false };
    if speaking.streaming.form == Form::Chat {
        speaking.push(&json!({"role": "assistant", "content": "", "refusal": null}), None, None);
    }
    if let Ok(Err(error)) = tokio::time::timeout(HEAD_WAITS, speaking.listen()).await {
        return Err(error);
    }
    let events = stream::unfold(speaking, |mut speaking| async move {
        let event = speaking.next().await?;
        Some((Ok::<_, Infallible>(event), speaking))
    });
    let mut response = Response::new(Body::from_stream(events.boxed()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies of nginx's kind would hold the events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

impl Speaking {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match tokio::time::timeout(self.streaming.keep_alive, self.listen()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.fail(&error),
                Err(_) => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
    }

    /// Waits until something is said or the answer is whole. Nothing is lost when this is dropped.
    async fn listen(&mut self) -> Result<(), ApiError> {
        tokio::select! {
            biased;
            Some(said) = self.streaming.heard.recv() => self.say(said),
            outcome = &mut self.streaming.answering => {
                self.ended = true;
                let outcome = outcome.inspect_err(|error| self.streaming.tally.failed(error));
                while let Ok(said) = self.streaming.heard.try_recv() {
                    self.say(said);
                }
                self.conclude(&outcome?);
            }
        }
        Ok(())
    }

    fn say(&mut self, said: Said) {
        let reasoning = |text: String| json!({"reasoning_content": text, "reasoning": text});
        match said {
            Said::Content(text) => self.push(&json!({"content": text}), None, None),
            Said::Reasoning(text) => self.push(&reasoning(text), None, None),
            Said::Subquestion { number, text } => {
                let event = json!({"event": "subquestion", "number": number, "text": text});
                self.push(&reasoning(line(number, &text)), None, Some(&event));
            }
            Said::SubAnswer { number, text } => {
                let event = json!({"event": "sub_answer", "number": number, "text": text});
                self.push(&json!({}), None, Some(&event));
            }
            Said::Fallback(why) => self.push(&json!({}), None, Some(&json!({"event": "fallback", "reason": why}))),
        }
    }

    fn conclude(&mut self, outcome: &Outcome) {
        let entries = self.streaming.tally.entries();
        let own = own(&self.streaming.heading, outcome, &entries);
        self.push(&json!({}), Some(finish_reason(&outcome.finish)), Some(&own));
        if self.streaming.include_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = usage(&entries, outcome).unwrap_or(Value::Null);
            self.event(&chunk);
        }
        self.out.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        self.streaming.tally.answered(finish_reason(&outcome.finish));
    }

    /// Never a bare end of the stream, nor one that looks like a whole reply.
    fn fail(&mut self, error: &ApiError) {
        self.event(&error.json());
        self.out.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        self.ended = true;
    }

    fn push(&mut self, delta: &Value, finish: Option<&str>, own: Option<&Value>) {
        let choice = match self.streaming.form {
            Form::Chat => json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}),
            Form::Completion => {
                let text = delta["content"].as_str().unwrap_or_default();
                json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish})
            }
        };
        let mut chunk = self.chunk(json!([choice]));
        if let Some(own) = own.filter(|_| self.streaming.form == Form::Chat) {
            chunk["divvy"] = own.clone();
        }
        if self.streaming.include_usage {
            chunk["usage"] = Value::Null;
        }
        self.event(&chunk);
    }

    fn chunk(&self, choices: Value) -> Value {
        let heading = &self.streaming.heading;
        let object = match self.streaming.form {
            Form::Chat => "chat.completion.chunk",
            Form::Completion => "text_completion",
        };
        json!({
            "id": heading.id, "object": object, "created": heading.created, "model": heading.model,
            "choices": choices,
        })
    }

    fn event(&mut self, json: &Value) {
        self.out.push_back(Bytes::from(format!("data: {json}\n\n")));
    }
}
