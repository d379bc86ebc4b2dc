//! Models that are asked by message: one trait, [`Chat`], for remote, local, recorded and scripted ones alike, and the
//! [`Client`] that stands between a stage and a model. A request passes its layers in this order:
//!
//! cache → single-flight → retry → budget → batch → route → limit → rate → ledger → backend
//!
//! [`Live`] is the same without what remembers, for replies that are heard while they are written.
//!
//! A finished call is free, an identical one in flight is shared, and a raw reply is on disk before it is parsed.
//! Modules are listed in reading order. This crate renders no prompt and reads no answer.

mod attempt;
mod batch;
mod budget;
mod cache;
mod chat;
mod claim;
mod client;
mod clock;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod lanes;
mod layer;
mod ledger;
mod limit;
mod live;
mod meter;
mod rate;
mod recorded;
mod retry;
mod route;
mod scripted;
mod single_flight;

pub use batch::{BatchSettings, Batches, News, Standing, Tell};
pub use budget::{Budget, Caps};
pub use chat::{Chat, Delta, Deltas, Quota, Told, TraceHeaders, collect};
pub use client::{Call, Client, ClientConfig, Endpoint, call_key};
pub use clock::Clock;
pub use error::{ChatError, ErrorKind, may_be_charged_with};
pub use http::{ApiKey, HttpBatches, HttpChat, HttpConfig, Transfer, blocking_client};
pub use lanes::Lanes;
pub use layer::Hear;
pub use ledger::in_batch;
pub use live::{EndpointState, Live};
pub use rate::Rates;
pub use recorded::Recorded;
pub use retry::RetryPolicy;
pub use route::BreakerState;
pub use scripted::{Scripted, Step};
pub use single_flight::Flights;
