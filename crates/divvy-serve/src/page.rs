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
use divvy_core::records::Stage;
use serde::Deserialize;
use serde_json::Value;

use crate::{api::json_response, desk::Desk, error::ApiError, server::caller};

/// What the store has to show; the program fills it. A plan is named by its whole digest; without one, what is served is
/// meant.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// `{"served": plan, "runs": [as divvy runs --json], "plans": {plan: {"split", "questions", "arms": […]}}}`.
    async fn runs(&self) -> Result<Value, String>;
    /// The report's page.
    async fn report(&self, plan: Option<&str>) -> Result<String, String>;
    /// As `divvy status --json`, with the plan's newest `run` and the one that is `running` now, if any. Without a plan the
    /// newest run's is shown.
    async fn status(&self, plan: Option<&str>) -> Result<Value, String>;
    /// Settled items of a stage: `{"arms": […], "total": n, "rows": […]}`.
    async fn rows(&self, wanted: RowsWanted) -> Result<Value, String>;
    /// Calls as `divvy calls --json`.
    async fn calls(&self, wanted: CallsWanted) -> Result<Value, String>;
}

/// Nothing from elsewhere, nothing inline, no frame around it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                           frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// The report is one file, so its styles and scripts are inline; it reads nothing.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                             frame-ancestors 'self'; base-uri 'none'; form-action 'none'";

/// Scripts of the page: modules, so that each is one thing.
const SCRIPTS: [(&str, &str); 8] = [
    ("/page.js", include_str!("page/page.js")),
    ("/page/dom.js", include_str!("page/dom.js")),
    ("/page/server.js", include_str!("page/server.js")),
    ("/page/ask.js", include_str!("page/ask.js")),
    ("/page/runs.js", include_str!("page/runs.js")),
    ("/page/rows.js", include_str!("page/rows.js")),
    ("/page/calls.js", include_str!("page/calls.js")),
    ("/page/progress.js", include_str!("page/progress.js")),
];

pub(crate) fn routes() -> Router<Arc<Desk>> {
    let pages = Router::new()
        .route("/", get(async || page(include_str!("page/index.html").to_owned(), PAGE_POLICY)))
        .route("/page.css", get(async || ([(header::CONTENT_TYPE, "text/css")], include_str!("page/page.css"))))
        .route("/api/report", get(report))
        .route("/api/runs", get(runs))
        .route("/api/rows", get(rows))
        .route("/api/status", get(status))
        .route("/api/calls", get(calls));
    SCRIPTS.into_iter().fold(pages, |pages, (path, text)| {
        pages.route(path, get(async move || ([(header::CONTENT_TYPE, "text/javascript")], text)))
    })
}

fn page(html: String, policy: &'static str) -> Response<Body> {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy)], html)
        .into_response()
}

fn shelf(desk: &Desk, headers: &HeaderMap) -> Result<Arc<dyn Shelf>, ApiError> {
    caller(desk, headers)?;
    desk.shelf.clone().ok_or_else(|| ApiError::no_path("/api: there is no store"))
}

type Asked<W> = Result<Query<W>, QueryRejection>;

/// Looks into the store on another thread, one look at a time: figures take time, and answers should not wait for them.
async fn look<W, T: Send + 'static, F>(
    desk: &Desk,
    headers: &HeaderMap,
    wanted: Asked<W>,
    at: impl FnOnce(Arc<dyn Shelf>, W) -> F,
    show: impl Fn(T) -> Response<Body>,
) -> Response<Body>
where
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let shelf = match shelf(desk, headers) {
        Ok(shelf) => shelf,
        Err(error) => return error.response(),
    };
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(error) => return ApiError::query(error).response(),
    };
    let _one = desk.looking.lock().await;
    let (runtime, work) = (tokio::runtime::Handle::current(), at(shelf, wanted));
    let looked = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
    match looked {
        Ok(Ok(found)) => show(found),
        Ok(Err(error)) => ApiError::shelf(&error).response(),
        Err(_) => ApiError::internal().response(),
    }
}

async fn runs(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response<Body> {
    let at = |shelf: Arc<dyn Shelf>, ()| async move { shelf.runs().await };
    look(&desk, &headers, Ok(Query(())), at, |runs| json_response(&runs)).await
}

#[derive(Deserialize)]
struct PlanWanted {
    plan: Option<String>,
}

async fn report(State(desk): State<Arc<Desk>>, headers: HeaderMap, wanted: Asked<PlanWanted>) -> Response<Body> {
    let at = |shelf: Arc<dyn Shelf>, wanted: PlanWanted| async move { shelf.report(wanted.plan.as_deref()).await };
    look(&desk, &headers, wanted, at, |html| page(html, REPORT_POLICY)).await
}

async fn status(State(desk): State<Arc<Desk>>, headers: HeaderMap, wanted: Asked<PlanWanted>) -> Response<Body> {
    let at = |shelf: Arc<dyn Shelf>, wanted: PlanWanted| async move { shelf.status(wanted.plan.as_deref()).await };
    look(&desk, &headers, wanted, at, |status| json_response(&status)).await
}

/// Which rows are looked at.
#[derive(Clone, Debug, Deserialize)]
pub struct RowsWanted {
    pub plan: Option<String>,
    /// `evaluate` when none is named.
    pub stage: Option<Stage>,
    /// An arm's name; the first that has rows when it is empty.
    #[serde(default)]
    pub arm: String,
    /// Only those that were answered wrongly, or not kept.
    #[serde(default)]
    pub wrong: bool,
    #[serde(default)]
    pub from: u32,
    #[serde(default)]
    pub count: u32,
}

const MOST_ROWS: u32 = 200;

async fn rows(State(desk): State<Arc<Desk>>, headers: HeaderMap, wanted: Asked<RowsWanted>) -> Response<Body> {
    let at = |shelf: Arc<dyn Shelf>, wanted: RowsWanted| async move {
        shelf.rows(RowsWanted { count: wanted.count.min(MOST_ROWS), ..wanted }).await
    };
    look(&desk, &headers, wanted, at, |rows| json_response(&rows)).await
}

/// Which calls are looked at: the last of the store, those behind the last items of a plan, or the one whose key begins so.
#[derive(Clone, Debug, Deserialize)]
pub struct CallsWanted {
    pub key: Option<String>,
    pub plan: Option<String>,
    /// Of a plan, so many items are passed over.
    #[serde(default)]
    pub from: u32,
    /// Calls, or items of a plan.
    #[serde(default = "twenty")]
    pub last: u32,
}

fn twenty() -> u32 {
    20
}

async fn calls(State(desk): State<Arc<Desk>>, headers: HeaderMap, wanted: Asked<CallsWanted>) -> Response<Body> {
    let at = |shelf: Arc<dyn Shelf>, wanted: CallsWanted| async move {
        shelf.calls(CallsWanted { last: wanted.last.min(MOST_ROWS), ..wanted }).await
    };
    look(&desk, &headers, wanted, at, |calls| json_response(&calls)).await
}
