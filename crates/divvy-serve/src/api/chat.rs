//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request as HttpRequest, State},
    http::{Response, request::Parts},
};
use tokio::time::Instant;

use super::{
    course::{Admitted, apart, begin, fresh_id, in_line, no_model, refused, span, strictly, with_headers},
    events::{self, Form, Streaming},
    reply,
    request::Request,
};
use crate::{
    answering::{self, Answering, Heard},
    desk::Desk,
    error::ApiError,
    menu::Served,
    server::{body, caller},
    tally::Tally,
    traces::RequestSpan,
};

pub(crate) async fn complete(State(desk): State<Arc<Desk>>, request: HttpRequest) -> Response<Body> {
    let (parts, sent) = request.into_parts();
    let span = span(&desk, &parts.headers, "chat");
    match admit(&desk, &parts, sent).await {
        Err(error) => refused(&desk, span, &error),
        Ok((admitted, request)) => {
            let (id, ignored) = (fresh_id("chatcmpl"), admitted.ignored.clone());
            let answered = answer(&desk, admitted, &request, id.clone(), span).await;
            with_headers(answered, &id, &ignored)
        }
    }
}

async fn admit(desk: &Desk, parts: &Parts, sent: Body) -> Result<(Admitted, Request), ApiError> {
    let key = caller(desk, &parts.headers)?;
    let bytes = body(desk, sent).await?;
    let request = Request::read(&bytes, desk.settings.max_messages)?;
    let served = desk.menu.find(&request.model).ok_or_else(|| no_model(desk, &request.model))?.clone();
    let ignored = request.ignored(matches!(*served, Served::Arm(_)));
    strictly(desk, &ignored)?;
    key.as_ref().map_or(Ok(()), |key| key.begin())?;
    Ok((Admitted { served, ignored, key }, request))
}

async fn answer(
    desk: &Arc<Desk>,
    admitted: Admitted,
    request: &Request,
    id: String,
    span: Option<RequestSpan>,
) -> Result<Response<Body>, ApiError> {
    let (heading, tally, deadline) = begin(desk, admitted, id, span);
    let asked = asked(desk, &heading.served, request, &tally, deadline);
    let asked = asked.inspect_err(|error| tally.failed(error))?;
    let (heard, answering) = in_line(desk, asked, &tally, deadline)?;
    if !request.stream {
        return reply::whole(&heading, heard, answering, &tally).await;
    }
    let (include_usage, keep_alive) = (request.include_usage, desk.settings.keep_alive);
    let (answering, form) = (apart(answering), Form::Chat);
    events::respond(Streaming { heading, heard, answering, tally, include_usage, keep_alive, form }).await
}

fn asked(
    desk: &Arc<Desk>,
    served: &Arc<Served>,
    request: &Request,
    tally: &Arc<Tally>,
    deadline: Instant,
) -> Result<(Heard, Answering), ApiError> {
    Ok(match &**served {
        Served::Arm(_) => {
            let order = request.order(desk.menu.scorer)?;
            answering::by_arm(Arc::clone(desk), Arc::clone(served), order, Arc::clone(tally), deadline)
        }
        Served::Model(voice) => {
            let (messages, sampling) = request.plain()?;
            answering::by_model(voice.clone(), messages, sampling, Arc::clone(tally), deadline)
        }
    })
}
