//! Results in, text out: Markdown for a terminal, one self-contained HTML page for people, JSON for programs, a model
//! card for an exported student. No I/O, no clock, no network: the same results give the same bytes. Called by the
//! binary's `report`, `run` and `export` commands.
//!
//! Modules are listed in reading order: what the numbers say, how they are written, where they are put.

mod card;
mod costs;
mod efficiency;
mod html;
mod json;
mod markdown;
mod number;
mod plot;
mod quality;
mod roles;
mod scoring;
mod sets;
mod slices;
mod table;
mod tables;
mod verdict;

pub use card::{Card, card};
pub use html::html;
pub use json::json;
pub use markdown::markdown;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
