//! The one door to the database: calls, attempts, items, runs, artefacts. SQLite in WAL mode with full fsync, or a
//! PostgreSQL server that many workers share; group commit in both, and a write has reached the disk when its future
//! returns. Modules are listed in reading order.
//!
//! This crate knows no HTTP and parses no reply: it keeps what it is given.

mod artefacts;
mod batch;
mod batches;
mod body;
mod browse;
mod bulk;
mod call_sql;
mod calls;
mod codec;
mod door;
mod error;
mod filter;
mod items;
mod keys;
mod lock;
mod migrations;
mod postgres;
mod purse;
mod recipes;
mod rows;
mod runs;
mod statement;
mod store;
mod words;
mod writer;

pub use browse::{ArmMark, ItemPage};
pub use bulk::Places;
pub use door::{Store, Walk};
pub use error::StoreError;
pub use postgres::{PostgresStore, Terms, Token};
pub use purse::Purse;
pub use recipes::KeptRecipe;
pub use rows::{
    Amount, ArtefactRow, AttemptRecord, AttemptSum, AttemptTotal, BatchEvent, BatchRow, BatchState, Borrowed,
    CallFilter, CallRecord, CallTotal, CallUsage, Claims, Departure, Exchange, ItemCount, ItemRow, Lent, LentBefore,
    MOST_TOKENS, PutBack, RawReply, RunId, RunRow, RunStatus, Share, Spending, TestOpening, Unit, WorkerRow,
};
pub use store::SqliteStore;
