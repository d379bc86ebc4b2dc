//! The course that every request for a reply takes, whatever it asks for: admitted, its books opened, its turn in the line,
//! its headers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response},
};
use tokio::time::{Instant as Moment, timeout_at};

use super::reply::Heading;
use crate::{
    admission::keys::Key,
    answering::{Answering, Heard, Outcome, now},
    desk::Desk,
    error::ApiError,
    menu::Served,
    metrics::ByReason,
    tally::Tally,
    traces::RequestSpan,
};

const A_MOMENT: Duration = Duration::from_millis(100);
/// Names of request fields that had no effect.
const IGNORED: HeaderName = HeaderName::from_static("divvy-ignored");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The request's span, where there are traces: it begins with the head.
pub(super) fn span(desk: &Desk, headers: &HeaderMap, operation: &'static str) -> Option<RequestSpan> {
    desk.settings.traces.as_ref().map(|traces| traces.request(headers, operation))
}

/// The answer, or its error, with what is told in headers.
pub(super) fn with_headers(answered: Result<Response<Body>, ApiError>, id: &str, ignored: &[String]) -> Response<Body> {
    let mut response = answered.unwrap_or_else(|error| error.response());
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(id).expect("an id is ASCII"));
    headers.extend(header_list(ignored).map(|ignored| (IGNORED, ignored)));
    response
}

pub(super) fn refused(desk: &Desk, span: Option<RequestSpan>, error: &ApiError) -> Response<Body> {
    span.into_iter().for_each(|span| span.refused(error.status, error.code));
    desk.metrics.refused.get_or_create(&ByReason { reason: error.code }).inc();
    error.response()
}

/// Names as a header: those that can stand in one, and not too many.
fn header_list(names: &[String]) -> Option<HeaderValue> {
    const MOST: usize = 20;
    let plain = |name: &&String| name.len() < 64 && name.bytes().all(|byte| byte.is_ascii_graphic());
    let mut shown: Vec<&str> = names.iter().filter(plain).take(MOST).map(String::as_str).collect();
    if shown.len() < names.len() {
        shown.push("...");
    }
    (!names.is_empty()).then(|| HeaderValue::from_str(&shown.join(", ")).expect("graphic ASCII"))
}

/// A request that may stand in line.
pub(super) struct Admitted {
    pub(super) served: Arc<Served>,
    pub(super) ignored: Vec<String>,
    pub(super) key: Option<Arc<Key>>,
}

pub(super) fn strictly(desk: &Desk, ignored: &[String]) -> Result<(), ApiError> {
    match ignored.first().filter(|_| desk.settings.strict) {
        Some(first) => Err(ApiError::field(first, "unsupported_parameter", format!("`{first}` has no effect here"))),
        None => Ok(()),
    }
}

pub(super) fn no_model(desk: &Desk, name: &str) -> ApiError {
    let names: Vec<String> = desk.menu.served.iter().map(|served| served.name()).collect();
    ApiError::no_model(name, &names.join(", "))
}

/// The books of a request are opened, its time begins.
pub(super) fn begin(
    desk: &Arc<Desk>,
    admitted: Admitted,
    id: String,
    mut span: Option<RequestSpan>,
) -> (Heading, Arc<Tally>, Moment) {
    let Admitted { served, key, .. } = admitted;
    let began = Instant::now();
    span.iter_mut().for_each(|span| span.answered_by(&served, &id));
    let tally = Tally::new(desk, id.clone(), served.name(), key, began, span);
    let heading = Heading { id, created: now(), model: served.name(), served };
    (heading, tally, Moment::from_std(began) + desk.settings.deadline)
}

/// Answers as fast as the models do, however slowly the client reads: a place in the line, and a deadline, are no matter
/// of its connection. Dropping it stops the work.
pub(super) fn apart(answering: Answering) -> Answering {
    let mut task = Task(tokio::spawn(answering));
    Box::pin(async move { (&mut task.0).await.unwrap_or_else(|_| Err(ApiError::internal())) })
}

struct Task(tokio::task::JoinHandle<Result<Outcome, ApiError>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What will be heard, and the answer: its turn in the line, its deadline and the server's end included.
pub(super) fn in_line(
    desk: &Arc<Desk>,
    (heard, answering): (Heard, Answering),
    tally: &Arc<Tally>,
    deadline: Moment,
) -> Result<(Heard, Answering), ApiError> {
    let entered = desk.line.enter(&desk.metrics.running, &desk.metrics.waiting);
    let ticket = entered.inspect_err(|error| {
        tally.failed(error);
        desk.metrics.refused.get_or_create(&ByReason { reason: error.code }).inc();
    })?;
    let (tally, hurry) = (Arc::clone(tally), desk.hurry.clone());
    let in_turn = async move {
        let in_line = Instant::now();
        let turn = timeout_at(deadline, ticket.turn()).await.map_err(|_| ApiError::deadline())?;
        tally.waited(in_line.elapsed());
        // Models end by themselves at the deadline; a moment more, and they are in the books.
        let late = deadline + A_MOMENT;
        let answered = timeout_at(late, answering).await.unwrap_or_else(|_| Err(ApiError::deadline()));
        drop(turn);
        answered
    };
    let in_time =
        async move { hurry.run_until_cancelled(in_turn).await.unwrap_or_else(|| Err(ApiError::shutting_down())) };
    Ok((heard, Box::pin(in_time)))
}

/// The kind of object and 24 hex digits, different for every request of this process and, by the clock, of others.
pub(super) fn fresh_id(kind: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{kind}-{:08x}{count:016x}", now() as u32)
}
