//! The stages of a run (collect, screen, train, evaluate) and the strategies that answer a question.
//!
//! Every stage works on items and is idempotent: what is done is in the store and is not done again. Models are reached
//! through [`context::Models`], which the binary fills; training through [`train::Trainer`]. Nothing here knows HTTP,
//! kernels or a terminal.

mod claims;
pub mod collect;
pub mod condition;
pub mod context;
pub mod demonstrations;
pub mod error;
pub mod estimate;
pub mod evaluate;
pub mod export;
pub mod forecast;
pub mod graders;
pub mod grid;
pub mod items;
pub mod paid;
mod passages;
pub mod progress;
pub mod redo;
pub mod results;
pub mod rows;
pub mod sample;
pub mod screen;
mod settled;
pub mod shard;
pub mod split;
pub mod strategy;
pub mod structured;
pub mod timed;
pub mod train;
