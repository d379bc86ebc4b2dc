//! The one door to the database: calls, attempts, items, runs, artefacts. SQLite in WAL mode with full fsync and group
//! commit; a write has reached the disk when its future returns. Modules are listed in reading order.
//!
//! This crate knows no HTTP and parses no reply: it keeps what it is given.

mod rows;
mod error;
mod store;
mod lock;
mod migrations;
mod statement;
mod writer;
mod body;
mod codec;
mod call_sql;
mod calls;
mod runs;
mod items;
mod artefacts;

pub use error::StoreError;
pub use rows::{
    ArtefactRow, AttemptRecord, CallFilter, CallRecord, CallTotal, CallUsage, ItemCount, ItemRow, RawReply, RunId,
    RunRow, RunStatus, TestOpening,
};
pub use store::Store;
