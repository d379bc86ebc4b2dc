//! What the page shows below its verdict, in order: a section each, in a file of its own. A new one is a file and a line here.

mod accuracy;
mod arms;
mod collection;
mod comparisons;
mod examples;
mod rows;
mod run;
mod scoring;
mod screening;
mod steps;
mod training;

use divvy_core::results::Results;

use crate::rows::Rows;

pub(super) struct Section {
    /// Of the element; a link in the page leads there.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// HTML, escaped.
    pub(super) body: String,
}

/// What sections are made of.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) results: &'a Results,
    pub(super) rows: &'a Rows,
}

const ALL: [fn(Told<'_>) -> Option<Section>; 10] = [
    accuracy::section,
    arms::section,
    comparisons::section,
    scoring::section,
    steps::section,
    rows::section,
    training::section,
    collection::section,
    screening::section,
    run::section,
];

/// Those that there is something to say in.
pub(super) fn all(told: Told<'_>) -> Vec<Section> {
    ALL.into_iter().filter_map(|section| section(told)).collect()
}
