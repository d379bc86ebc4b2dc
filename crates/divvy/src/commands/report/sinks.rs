//! Forms that have every row in them, all written in one pass: what can be made of a sheet by itself is made on any thread;
//! here it only goes to its file.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use divvy_core::{
    export::Shape,
    graded::{COLUMNS, Sheet, cells},
    results::Results,
};
use divvy_data::table::Table;
use divvy_flow::rows::Make;
use divvy_report::Chunk;
use serde_json::Value;

use super::{beside, inspect::Logs, outputs::Outputs, page::Page};
use crate::cli::Format;

/// Of one sheet, what each wanted form needs.
#[derive(Default)]
pub(super) struct Made {
    chunk: Option<Chunk>,
    csv: Option<String>,
    outcomes: Option<String>,
    cells: Option<Vec<Vec<Value>>>,
    samples: Option<Vec<(String, String)>>,
}

#[derive(Default)]
pub(super) struct Sinks {
    page: Option<Page>,
    csv: Option<Csv>,
    outcomes: Option<Csv>,
    table: Option<Table>,
    logs: Option<Logs>,
}

impl Sinks {
    pub(super) fn open(outputs: &Outputs) -> anyhow::Result<Self> {
        let mut sinks = Self {
            page: outputs.path(Format::Html).map(Page::new).transpose()?,
            csv: outputs.path(Format::Csv).map(|path| Csv::in_file(path, &divvy_report::csv_head())).transpose()?,
            outcomes: outputs
                .path(Format::Outcomes)
                .map(|path| Csv::in_file(path, &divvy_report::outcomes_head()))
                .transpose()?,
            table: outputs.path(Format::Parquet).map(parquet).transpose()?,
            logs: outputs.path(Format::Inspect).map(Logs::new).transpose()?,
        };
        match outputs.stdout {
            Some(Format::Csv) => sinks.csv = Some(Csv::on_stdout(&divvy_report::csv_head())?),
            Some(Format::Outcomes) => sinks.outcomes = Some(Csv::on_stdout(&divvy_report::outcomes_head())?),
            _ => {}
        }
        Ok(sinks)
    }

    pub(super) fn make(&self) -> Make<Made> {
        let (page, csv, outcomes) = (self.page.is_some(), self.csv.is_some(), self.outcomes.is_some());
        let (table, logs) = (self.table.is_some(), self.logs.is_some());
        Arc::new(move |sheet: &Sheet| Made {
            chunk: page.then(|| divvy_report::chunk(sheet)),
            csv: csv.then(|| divvy_report::csv_rows(sheet)),
            outcomes: outcomes.then(|| divvy_report::outcomes_rows(sheet)),
            cells: table.then(|| cells(sheet)),
            samples: logs.then(|| divvy_report::inspect_samples(sheet)),
        })
    }

    pub(super) fn take(&mut self, made: Made) -> anyhow::Result<()> {
        if let (Some(page), Some(chunk)) = (&mut self.page, made.chunk) {
            page.add(chunk)?;
        }
        if let (Some(csv), Some(text)) = (&mut self.csv, made.csv) {
            csv.write(&text)?;
        }
        if let (Some(csv), Some(text)) = (&mut self.outcomes, made.outcomes) {
            csv.write(&text)?;
        }
        if let (Some(table), Some(cells)) = (&mut self.table, made.cells) {
            table.add(cells).map_err(anyhow::Error::msg)?;
        }
        if let (Some(logs), Some(samples)) = (&mut self.logs, made.samples) {
            logs.add(&samples)?;
        }
        Ok(())
    }

    /// Everything is whole and has its name.
    pub(super) fn finish(self, results: &Results) -> anyhow::Result<()> {
        self.page.map_or(Ok(()), |page| page.finish(results))?;
        self.csv.map_or(Ok(()), Csv::finish)?;
        self.outcomes.map_or(Ok(()), Csv::finish)?;
        self.table.map_or(Ok(()), Table::finish).map_err(anyhow::Error::msg)?;
        self.logs.map_or(Ok(()), |logs| logs.finish(results))
    }
}

fn parquet(path: &Path) -> anyhow::Result<Table> {
    beside(path)?; // makes the folder
    Table::create(path, &COLUMNS.map(|(name, kind)| (name, Shape::Plain(kind)))).map_err(anyhow::Error::msg)
}

/// Lines in a file, or on stdout.
struct Csv {
    path: Option<PathBuf>,
    out: BufWriter<Box<dyn Write>>,
}

impl Csv {
    fn in_file(path: &Path, head: &str) -> anyhow::Result<Self> {
        let beside = beside(path)?;
        let file = File::create(&beside).with_context(|| format!("cannot write `{}`", beside.display()))?;
        Self::on(Some(path.to_owned()), Box::new(file), head)
    }

    fn on_stdout(head: &str) -> anyhow::Result<Self> {
        Self::on(None, Box::new(std::io::stdout()), head)
    }

    fn on(path: Option<PathBuf>, out: Box<dyn Write>, head: &str) -> anyhow::Result<Self> {
        let mut csv = Self { path, out: BufWriter::new(out) };
        csv.write(head)?;
        Ok(csv)
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        let written = self.out.write_all(text.as_bytes());
        self.told(written)
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let flushed = self.out.flush();
        self.told(flushed)?;
        match &self.path {
            Some(path) => {
                std::fs::rename(beside(path)?, path).with_context(|| format!("cannot write `{}`", path.display()))
            }
            None => Ok(()),
        }
    }

    fn told(&self, written: std::io::Result<()>) -> anyhow::Result<()> {
        match (written, &self.path) {
            // Whoever reads has seen enough.
            (Err(error), None) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            (written, Some(path)) => written.with_context(|| format!("cannot write `{}`", path.display())),
            (written, None) => written.context("cannot write to stdout"),
        }
    }
}
