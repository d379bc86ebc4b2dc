//! The one door to the database: calls, attempts, items, runs, artefacts. SQLite in WAL mode with full fsync and group
//! commit; a write has reached the disk when its future returns. Modules are listed in reading order.
//!
//! This crate knows no HTTP and parses no reply: it keeps what it is given.

mod artefacts;
mod batch;
mod batches;
mod body;
mod browse;
mod call_sql;
mod calls;
mod codec;
mod error;
mod items;
mod keys;
mod lock;
mod migrations;
mod recipes;
mod rows;
mod runs;
mod statement;
mod store;
mod words;
mod writer;

pub use browse::{ArmMark, ItemPage};
pub use error::StoreError;
pub use recipes::KeptRecipe;
pub use rows::{
    ArtefactRow, AttemptRecord, AttemptTotal, BatchEvent, BatchRow, BatchState, CallFilter, CallRecord, CallTotal,
    CallUsage, ItemCount, ItemRow, RawReply, RunId, RunRow, RunStatus, TestOpening,
};
pub use store::Store;
