//! Results in, text out: Markdown for a terminal, one self-contained HTML page for people, JSON for programs. No I/O, no
//! clock, no network: the same results give the same bytes. Called by the binary's `report` and `run` commands.
//!
//! Modules are listed in reading order: what the numbers say, how they are written, where they are put.

mod costs;
mod html;
mod json;
mod markdown;
mod number;
mod plot;
mod quality;
mod roles;
mod scoring;
mod table;
mod tables;
mod verdict;

pub use html::html;
pub use json::json;
pub use markdown::markdown;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
