//! Results and sheets of rows in, text out: Markdown for a terminal, one self-contained HTML page for people, JSON, CSV, LaTeX
//! and Inspect's logs for programs, a model card for an exported student. No I/O, no clock, no network: the same results give
//! the same bytes. Called by the binary's `report`, `run` and `export` commands.
//!
//! Modules are listed in reading order: what the numbers say, how they are written, where they are put.

mod card;
mod chosen;
mod compare;
mod costs;
mod csv;
mod efficiency;
mod html;
mod inspect;
mod json;
mod latex;
mod markdown;
mod number;
mod outcomes;
mod plot;
mod quality;
mod roles;
mod rows;
mod scoring;
mod seeds;
mod sets;
mod slices;
mod table;
mod tables;
mod verdict;

pub use card::{Card, card};
pub use compare::{compare_json, compare_markdown};
pub use csv::{csv_arms, csv_head, csv_rows};
pub use html::html;
pub use inspect::{INSPECT_END, inspect_head, inspect_name, inspect_samples};
pub use json::json;
pub use latex::latex;
pub use markdown::markdown;
pub use outcomes::{outcomes_head, outcomes_rows};
pub use rows::{Chunk, Rows, RowsFile, chunk};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
