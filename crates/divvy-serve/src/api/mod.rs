//! The HTTP face: routes, requests in, replies and events out.

pub(crate) mod chat;
pub(crate) mod completions;
mod course;
mod events;
mod fields;
mod models;
mod reply;
mod request;

pub(crate) use models::{list, one};
pub(crate) use reply::json_response;

use crate::error::ApiError;

/// Why a body is no request of each kind that there is, where it is none.
pub(crate) fn refusals(body: &[u8]) -> Vec<ApiError> {
    [request::refusal(body), completions::refusal(body)].into_iter().flatten().collect()
}
