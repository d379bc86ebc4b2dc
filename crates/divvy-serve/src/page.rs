//! The page at `/` and what it reads besides the API: the report, the stages' status, the calls.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, Response, header},
    response::IntoResponse,
    routing::get,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{api::json_response, desk::Desk, error::ApiError, server::caller};

/// What the store has to show. The program fills it.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// The report's page.
    async fn report(&self) -> Result<String, String>;
    /// As `divvy status --json`.
    async fn status(&self) -> Result<Value, String>;
    /// Answered questions: `{"arms": […], "total": n, "rows": […]}`.
    async fn rows(&self, wanted: RowsWanted) -> Result<Value, String>;
    /// The last calls, as `divvy calls --json`; or the one whose key begins so, whole.
    async fn calls(&self, key: Option<&str>, last: u32) -> Result<Value, String>;
}

/// Nothing from elsewhere, nothing inline, no frame around it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                           frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// The report is one file, so its styles and scripts are inline; it reads nothing.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                             frame-ancestors 'self'; base-uri 'none'; form-action 'none'";

pub(crate) fn routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/", get(async || page(include_str!("page/index.html").to_owned(), PAGE_POLICY)))
        .route("/page.css", get(async || ([(header::CONTENT_TYPE, "text/css")], include_str!("page/page.css"))))
        .route("/page.js", get(async || ([(header::CONTENT_TYPE, "text/javascript")], include_str!("page/page.js"))))
        .route("/api/report", get(report))
        .route("/api/rows", get(rows))
        .route("/api/status", get(status))
        .route("/api/calls", get(calls))
}

fn page(html: String, policy: &'static str) -> Response<Body> {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy)], html)
        .into_response()
}

fn shelf(desk: &Desk, headers: &HeaderMap) -> Result<Arc<dyn Shelf>, ApiError> {
    caller(desk, headers)?;
    desk.shelf.clone().ok_or_else(|| ApiError::no_path("/api: there is no store"))
}

/// Looks into the store on another thread, one look at a time: figures take time, and answers should not wait for them.
async fn look<T: Send + 'static, F>(
    desk: &Desk,
    headers: &HeaderMap,
    at: impl FnOnce(Arc<dyn Shelf>) -> F,
    show: impl Fn(T) -> Response<Body>,
) -> Response<Body>
where
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let shelf = match shelf(desk, headers) {
        Ok(shelf) => shelf,
        Err(error) => return error.response(),
    };
    let _one = desk.looking.lock().await;
    let (runtime, work) = (tokio::runtime::Handle::current(), at(shelf));
    let looked = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
    match looked {
        Ok(Ok(found)) => show(found),
        Ok(Err(error)) => ApiError::shelf(&error).response(),
        Err(_) => ApiError::internal().response(),
    }
}

async fn report(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response<Body> {
    let at = |shelf: Arc<dyn Shelf>| async move { shelf.report().await };
    look(&desk, &headers, at, |html| page(html, REPORT_POLICY)).await
}

async fn status(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response<Body> {
    let at = |shelf: Arc<dyn Shelf>| async move { shelf.status().await };
    look(&desk, &headers, at, |status| json_response(&status)).await
}

/// Which rows are looked at.
#[derive(Clone, Debug, Deserialize)]
pub struct RowsWanted {
    /// An arm's name; the first that has rows when it is empty.
    #[serde(default)]
    pub arm: String,
    /// Only those that were answered wrongly.
    #[serde(default)]
    pub wrong: bool,
    #[serde(default)]
    pub from: usize,
    #[serde(default)]
    pub count: usize,
}

const MOST_ROWS: usize = 200;

async fn rows(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    wanted: Result<Query<RowsWanted>, QueryRejection>,
) -> Response<Body> {
    let wanted = match wanted {
        Ok(Query(wanted)) => RowsWanted { count: wanted.count.min(MOST_ROWS), ..wanted },
        Err(error) => return ApiError::query(error).response(),
    };
    let at = |shelf: Arc<dyn Shelf>| async move { shelf.rows(wanted).await };
    look(&desk, &headers, at, |rows| json_response(&rows)).await
}

#[derive(Deserialize)]
struct Wanted {
    key: Option<String>,
    #[serde(default = "twenty")]
    last: u32,
}

fn twenty() -> u32 {
    20
}

async fn calls(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response<Body> {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(error) => return ApiError::query(error).response(),
    };
    let at = |shelf: Arc<dyn Shelf>| async move { shelf.calls(wanted.key.as_deref(), wanted.last.min(1000)).await };
    look(&desk, &headers, at, |calls| json_response(&calls)).await
}
