//! Measured arms as an OpenAI-compatible service: `/v1/chat/completions`, streamed or not, `/v1/models`, a page to ask
//! and compare on, metrics. What is served goes through the same strategies that were measured; nothing is trained here, and
//! nothing kept unless [`Recorder`] is asked to. Modules are listed in reading order.
//!
//! ```text
//! request → api (read, checked) → admission (key, line) → answering (the arm's strategy) → api (reply or events)
//! ```

pub mod menu;
pub mod settings;

#[doc(hidden)]
pub mod fuzzing;

mod admission;
mod answering;
mod api;
mod desk;
mod error;
mod metrics;
mod page;
mod patient;
mod record;
mod server;
mod splitter;
mod tally;
mod thinking;
mod traces;

pub use admission::keys::{Keys, KeysError, fresh_key};
pub use desk::Desk;
pub use page::{CallsWanted, RowsWanted, Shelf};
pub use record::Recorder;
pub use server::{app, serve};
pub use traces::{Traces, TracesError};
