//! The vocabulary and the pure logic of divvy: what a question is, how a prompt is written and its reply read, what
//! counts as right, what is kept for training, how sure a figure is, what it cost.
//!
//! Nothing here does I/O, reads a clock or an environment, or draws from a global random generator: seeds, times and
//! texts come in as arguments. Modules are listed in reading order.

mod canonical;

pub mod answer_kind;
pub mod arm;
pub mod chat;
pub mod cost;
pub mod datasets;
pub mod decomposition;
pub mod digest;
pub mod export;
pub mod extract;
pub mod graded;
pub mod leak;
pub mod model;
pub mod plan;
pub mod prompts;
pub mod quality;
pub mod question;
pub mod questions;
pub mod recipe;
pub mod records;
pub mod regression;
pub mod results;
pub mod scorers;
pub mod screening;
pub mod stats;
pub mod synth;
pub mod thoughts;
