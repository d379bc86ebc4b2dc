//! What the page shows below its verdict, in order: a section each, in a file of its own. A new one is a file and a line here.

mod accuracy;
mod arms;
mod collection;
mod comparisons;
mod costs;
mod efficiency;
mod examples;
mod quality;
mod rows;
mod run;
mod scoring;
mod screening;
mod sets;
mod slices;
mod steps;
mod training;

use divvy_core::results::Results;

use crate::rows::Rows;

pub(super) struct Section {
    /// Of the element; a link in the page leads there.
    pub(super) id: String,
    pub(super) title: String,
    /// HTML, escaped.
    pub(super) body: String,
}

impl Section {
    fn new(id: &str, title: &str, body: String) -> Self {
        Self { id: id.to_owned(), title: title.to_owned(), body }
    }
}

/// What sections are made of.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) results: &'a Results,
    pub(super) rows: &'a Rows,
}

type Make = fn(Told<'_>) -> Option<Section>;

/// What is told of each data set by itself.
const OF_A_SET: [Make; 8] = [
    accuracy::section,
    arms::section,
    costs::section,
    comparisons::section,
    scoring::section,
    steps::section,
    slices::section,
    efficiency::section,
];

/// What is told of the run.
const OF_THE_RUN: [Make; 6] =
    [quality::section, rows::section, training::section, collection::section, screening::section, run::section];

/// Those that there is something to say in.
pub(super) fn all(told: Told<'_>) -> Vec<Section> {
    let mut sections = if told.results.by_dataset.is_empty() { made(&OF_A_SET, told) } else { sets::sections(told) };
    sections.extend(made(&OF_THE_RUN, told));
    sections
}

fn made(makes: &[Make], told: Told<'_>) -> Vec<Section> {
    makes.iter().filter_map(|make| make(told)).collect()
}
