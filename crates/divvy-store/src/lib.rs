//! The one door to the database: calls, attempts, items, runs, artefacts. SQLite in WAL mode with full fsync and group
//! commit; a write has reached the disk when its future returns. Modules are listed in reading order.
//!
//! This crate knows no HTTP and parses no reply: it keeps what it is given.

mod artefacts;
mod body;
mod call_sql;
mod calls;
mod codec;
pub mod error;
mod items;
mod lock;
mod migrations;
pub mod rows;
mod runs;
mod statement;
pub mod store;
mod writer;
