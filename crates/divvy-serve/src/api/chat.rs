//! `POST /v1/chat/completions`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    body::Body,
    extract::{Request as HttpRequest, State},
    http::{HeaderName, HeaderValue, Response, request::Parts},
};
use tokio::time::{Instant as Moment, timeout_at};

use super::{
    events::{self, Streaming},
    reply::{self, Heading, now},
    request::Request,
};
use crate::{
    admission::keys::Key,
    answering::{self, Answering, Heard},
    desk::Desk,
    error::ApiError,
    menu::Served,
    metrics::ByReason,
    server::{body, caller},
    tally::Tally,
};

/// Names of request fields that had no effect.
const IGNORED: HeaderName = HeaderName::from_static("divvy-ignored");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(crate) async fn complete(State(desk): State<Arc<Desk>>, request: HttpRequest) -> Response<Body> {
    let began = Instant::now();
    let (parts, sent) = request.into_parts();
    let admitted = match admit(&desk, &parts, sent).await {
        Ok(admitted) => admitted,
        Err(error) => {
            desk.metrics.refused.get_or_create(&ByReason { reason: error.code }).inc();
            return error.response();
        }
    };
    let id = fresh_id();
    let ignored = admitted.ignored.join(", ");
    let answered = answer(&desk, admitted, id.clone(), began).await;
    let mut response = answered.unwrap_or_else(|error| error.response());
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).expect("an id is ASCII"));
    if let Some(ignored) = HeaderValue::from_str(&ignored).ok().filter(|ignored| !ignored.is_empty()) {
        headers.insert(IGNORED, ignored);
    }
    response
}

/// A request that may stand in line.
struct Admitted {
    request: Request,
    served: Served,
    ignored: Vec<String>,
    key: Option<Arc<Key>>,
}

async fn admit(desk: &Desk, parts: &Parts, sent: Body) -> Result<Admitted, ApiError> {
    let key = caller(desk, &parts.headers)?;
    let bytes = body(desk, sent).await?;
    let request = Request::read(&bytes, desk.settings.max_messages)?;
    let served = desk.menu.find(&request.model).ok_or_else(|| no_model(desk, &request.model))?.clone();
    let ignored = request.ignored(matches!(served, Served::Arm(_)));
    if desk.settings.strict
        && let Some(first) = ignored.first()
    {
        return Err(ApiError::field(first, "unsupported_parameter", format!("`{first}` has no effect here")));
    }
    key.as_ref().map_or(Ok(()), |key| key.begin())?;
    Ok(Admitted { request, served, ignored, key })
}

fn no_model(desk: &Desk, name: &str) -> ApiError {
    let names: Vec<String> = desk.menu.served.iter().map(Served::name).collect();
    ApiError::no_model(name, &names.join(", "))
}

async fn answer(desk: &Arc<Desk>, admitted: Admitted, id: String, began: Instant) -> Result<Response<Body>, ApiError> {
    let Admitted { request, served, key, .. } = admitted;
    let deadline = Moment::from_std(began) + desk.settings.deadline;
    let tally = Tally::new(desk, id.clone(), served.name(), key, began);
    let in_line = Instant::now();
    let turn = timeout_at(deadline, desk.line.turn(&desk.metrics.running, &desk.metrics.waiting)).await;
    tally.waited(in_line.elapsed());
    let turn = turn.unwrap_or_else(|_| Err(ApiError::deadline())).inspect_err(|error| tally.ended(error.status))?;
    let started = start(desk, &served, &request, &tally, deadline).inspect_err(|error| tally.ended(error.status));
    let (heard, answering) = started?;
    let heading = Heading { id, created: now(), model: served.name(), served };
    if !request.stream {
        return reply::whole(&heading, heard, answering, &tally).await;
    }
    let (include_usage, keep_alive) = (request.include_usage, desk.settings.keep_alive);
    events::respond(Streaming { heading, heard, answering, tally, include_usage, keep_alive, turn }).await
}

fn start(
    desk: &Arc<Desk>,
    served: &Served,
    request: &Request,
    tally: &Arc<Tally>,
    deadline: Moment,
) -> Result<(Heard, Answering), ApiError> {
    let (heard, answering) = match served {
        Served::Arm(arm) => {
            let order = request.order(desk.menu.scorer)?;
            answering::by_arm(Arc::clone(desk), arm.clone(), order, Arc::clone(tally), deadline)
        }
        Served::Model(voice) => {
            let (messages, sampling) = request.plain(voice.local)?;
            answering::by_model(voice.clone(), messages, sampling, Arc::clone(tally))
        }
    };
    let in_time = async move { timeout_at(deadline, answering).await.unwrap_or_else(|_| Err(ApiError::deadline())) };
    Ok((heard, Box::pin(in_time)))
}

/// `chatcmpl-` and 24 hex digits, different for every request of this process and, by the clock, of others.
fn fresh_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("chatcmpl-{:08x}{count:016x}", now() as u32)
}
