//! Refusals and failures in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, with the status that its
//! clients act on. What an upstream said stays in the log: it may hold what the caller should not see.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Response, StatusCode, header},
};
use divvy_llm::{ChatError, ErrorKind};
use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    kind: &'static str,
    pub(crate) code: &'static str,
    message: String,
    param: Option<String>,
    retry_after: Option<Duration>,
}

impl ApiError {
    fn new(status: u16, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code, message: message.into(), param: None, retry_after: None }
    }

    /// 400 at a field of the request.
    pub(crate) fn field(param: &str, code: &'static str, message: impl Into<String>) -> Self {
        let error = Self::new(400, "invalid_request_error", code, message);
        Self { param: Some(param.to_owned()), ..error }
    }

    pub(crate) fn body(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", "invalid_body", message)
    }

    pub(crate) fn no_model(name: &str, known: &str) -> Self {
        let message = format!("The model `{name}` does not exist. There is {known}");
        let error = Self::new(404, "invalid_request_error", "model_not_found", message);
        Self { param: Some("model".to_owned()), ..error }
    }

    pub(crate) fn no_path(path: &str) -> Self {
        Self::new(404, "invalid_request_error", "unknown_url", format!("There is nothing at {path}"))
    }

    pub(crate) fn method() -> Self {
        Self::new(405, "invalid_request_error", "method_not_allowed", "That method is not allowed here")
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(401, "invalid_request_error", "invalid_api_key", message)
    }

    pub(crate) fn foreign_page() -> Self {
        Self::new(403, "invalid_request_error", "cross_origin", "Pages of other origins may not send requests here")
    }

    pub(crate) fn too_large(most: usize) -> Self {
        Self::new(413, "invalid_request_error", "request_too_large", format!("The body is larger than {most} bytes"))
    }

    pub(crate) fn slow_body() -> Self {
        Self::new(408, "invalid_request_error", "request_timeout", "The body did not arrive in time")
    }

    pub(crate) fn limited(code: &'static str, message: impl Into<String>, retry_after: Duration) -> Self {
        let error = Self::new(429, "rate_limit_error", code, message);
        Self { retry_after: Some(retry_after), ..error }
    }

    pub(crate) fn shutting_down() -> Self {
        let error = Self::new(503, "server_error", "shutting_down", "The server is shutting down");
        Self { retry_after: Some(Duration::from_secs(5)), ..error }
    }

    pub(crate) fn deadline() -> Self {
        Self::new(504, "server_error", "deadline_exceeded", "The deadline for one request has passed")
    }

    /// The store cannot be shown.
    pub(crate) fn shelf(error: &str) -> Self {
        tracing::warn!(error, "the store cannot be shown");
        Self::new(500, "server_error", "store", "The store cannot be shown; the server's log says why")
    }

    /// A task that died.
    pub(crate) fn internal() -> Self {
        Self::new(500, "server_error", "internal_error", "The server failed while it answered (a bug)")
    }

    /// What cannot be read of a URL.
    pub(crate) fn query(message: impl std::fmt::Display) -> Self {
        Self::new(400, "invalid_request_error", "invalid_query", message.to_string())
    }

    pub(crate) fn unknown_host(host: &str) -> Self {
        let message = format!("This server is not called `{host}`; `divvy serve --allow-host` names what it is called");
        Self::new(403, "invalid_request_error", "unknown_host", message)
    }

    pub(crate) fn malformed_decomposition() -> Self {
        Self::new(502, "server_error", "malformed_decomposition", "The decomposer wrote nothing that can be used")
    }

    /// What a model's failure is to the caller.
    pub(crate) fn upstream(who: &str, error: &ChatError) -> Self {
        use ErrorKind::{
            BadRequest, BudgetExhausted, ContextTooLong, OutOfTime, RateLimited, Stalled, TimedOut, Unreachable,
        };
        // An endpoint's own words may repeat the request.
        tracing::warn!(model = who, reason = error.reason(), status = error.status, "a model failed");
        tracing::debug!(model = who, %error, "what it said");
        let failed = |what: &str| format!("The model `{who}` {what}");
        let code = error.reason();
        let made = match error.kind {
            ContextTooLong => Self::new(
                400,
                "invalid_request_error",
                "context_length_exceeded",
                failed("cannot take a text and a reply so long"),
            ),
            BadRequest => Self::new(400, "invalid_request_error", "upstream_refused", failed("refused the request")),
            RateLimited => {
                Self::new(429, "rate_limit_error", "upstream_rate_limited", failed("has reached its rate limit"))
            }
            TimedOut | Stalled | OutOfTime => {
                Self::new(504, "server_error", "upstream_timeout", failed("did not answer in time"))
            }
            Unreachable => Self::new(503, "server_error", "upstream_unreachable", failed("cannot be reached")),
            BudgetExhausted => {
                Self::new(429, "insufficient_quota", "budget_exhausted", "The server's budget is used up")
            }
            _ => Self::new(502, "server_error", code, failed("failed")),
        };
        Self { retry_after: error.retry_after, ..made }
    }

    pub(crate) fn json(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).expect("statuses here are valid");
        let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
        if let Some(wait) = self.retry_after {
            response = response.header(header::RETRY_AFTER, wait.as_secs_f64().ceil().max(1.0) as u64);
        }
        if self.status == 401 {
            response = response.header(header::WWW_AUTHENTICATE, "Bearer");
        }
        response.body(Body::from(self.json().to_string())).expect("status and headers are valid")
    }
}
