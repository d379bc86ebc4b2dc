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
