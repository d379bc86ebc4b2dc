//! The routes, and the loop that takes connections until it is told to stop, then lets what is under way come to its end.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Response, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};

use crate::{admission::keys::Key, api, desk::Desk, error::ApiError, page, patient::Patient};

/// For the errors that end what did not come to its end in time.
const FAREWELL: Duration = Duration::from_secs(1);

/// All routes.
pub fn app(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(api::chat::complete))
        .route("/v1/completions", post(api::completions::complete))
        .route("/v1/models", get(api::list))
        .route("/v1/models/{*name}", get(api::one))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(page::routes())
        .fallback(async |request: Request| ApiError::no_path(request.uri().path()).response())
        .method_not_allowed_fallback(async || ApiError::method().response())
        .with_state(desk)
}

async fn ready(State(desk): State<Arc<Desk>>) -> impl IntoResponse {
    match desk.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(desk): State<Arc<Desk>>) -> Response<Body> {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], desk.metrics.text()).into_response()
}

/// Who sends a request: no page of another origin, and somebody with a key where keys are needed. Where none is, the name by
/// which we are called must be ours: a page of another site could point a name of its own here (DNS rebinding).
pub(crate) fn caller(desk: &Desk, headers: &HeaderMap) -> Result<Option<Arc<Key>>, ApiError> {
    if desk.closing.is_cancelled() {
        return Err(ApiError::shutting_down());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if desk.keys.is_open() && !is_ours(host, &desk.settings.hosts) {
        return Err(ApiError::unknown_host(host));
    }
    if let Some(origin) = text(header::ORIGIN)
        && origin.split_once("://").is_none_or(|(_, from)| from != host)
    {
        return Err(ApiError::foreign_page());
    }
    desk.keys.owner(text(header::AUTHORIZATION))
}

/// Addresses cannot be pointed elsewhere, names can.
fn is_ours(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || address.parse::<IpAddr>().is_ok() || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// A request's body, within its size and its time.
pub(crate) async fn body(desk: &Desk, body: Body) -> Result<Bytes, ApiError> {
    let most = desk.settings.max_body;
    let reading = axum::body::to_bytes(body, most);
    let read = tokio::time::timeout(desk.settings.read_timeout, reading).await.map_err(|_| ApiError::slow_body())?;
    read.map_err(|error| {
        // The limit's error hides behind axum's own.
        let limit = std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("length limit"));
        if limit { ApiError::too_large(most) } else { ApiError::body("The body broke off") }
    })
}

/// Serves until the desk is closed, then gives what is under way its time.
pub async fn serve(listener: TcpListener, desk: Arc<Desk>, stop: impl Future<Output = ()>) {
    let (app, graceful) = (app(Arc::clone(&desk)), GracefulShutdown::new());
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => connection(stream, peer, &app, &desk, &graceful),
                Err(error) => refused(&error).await,
            },
        }
    }
    desk.closing.cancel();
    // Who comes now is refused by the system, not kept waiting.
    drop(listener);
    let mut drained = std::pin::pin!(graceful.shutdown());
    if tokio::time::timeout(desk.settings.drain, &mut drained).await.is_err() {
        tracing::warn!("some requests did not come to their end in time");
        desk.hurry.cancel();
        let _ = tokio::time::timeout(FAREWELL, drained).await;
    }
    if let Some(traces) = &desk.settings.traces {
        traces.flush().await;
    }
    if let Some(recorder) = &desk.recorder {
        recorder.flush().await;
    }
}

/// Out of file descriptors, most likely: others will be closed soon.
async fn refused(error: &std::io::Error) {
    tracing::warn!(%error, "cannot take a connection");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn connection(stream: TcpStream, peer: SocketAddr, app: &Router, desk: &Desk, graceful: &GracefulShutdown) {
    // Small pieces of text should leave at once.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(app.clone());
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(desk.settings.read_timeout)
        .serve_connection(TokioIo::new(Patient::new(stream, desk.settings.write_timeout)), service);
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            tracing::debug!(%peer, %error, "a connection broke off");
        }
    });
}
