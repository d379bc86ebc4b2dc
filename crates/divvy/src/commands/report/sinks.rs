//! Forms that have every row in them, all written in one pass: what can be made of a sheet by itself is made on any thread;
//! here it only goes to its file.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Context as _;
use divvy_core::{
    export::Shape,
    graded::{COLUMNS, Sheet, cells},
    results::Results,
};
use divvy_data::{beside::Beside, table::Table};
use divvy_flow::rows::{Make, OfCalls};
use divvy_report::Chunk;
use serde_json::Value;

use super::{begin, inspect::Logs, make_folder_of, outputs::Outputs, page::Page};
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
        // Only these two show what was said.
        let calls = if page || logs { OfCalls::Everything } else { OfCalls::Figures };
        Make::new(calls, move |sheet: &Sheet| Made {
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
    make_folder_of(path)?;
    Table::create(path, &COLUMNS.map(|(name, kind)| (name, Shape::Plain(kind)))).map_err(anyhow::Error::msg)
}

/// Lines in a file, or on stdout.
struct Csv {
    out: BufWriter<Box<dyn Write>>,
    beside: Option<Beside>,
}

impl Csv {
    fn in_file(path: &Path, head: &str) -> anyhow::Result<Self> {
        let (beside, file) = begin(path)?;
        Self::on(Some(beside), Box::new(file), head)
    }

    fn on_stdout(head: &str) -> anyhow::Result<Self> {
        Self::on(None, Box::new(std::io::stdout()), head)
    }

    fn on(beside: Option<Beside>, out: Box<dyn Write>, head: &str) -> anyhow::Result<Self> {
        let mut csv = Self { out: BufWriter::new(out), beside };
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
        self.beside.map_or(Ok(()), Beside::rename).map_err(anyhow::Error::msg)
    }

    fn told(&self, written: std::io::Result<()>) -> anyhow::Result<()> {
        match (written, &self.beside) {
            // Whoever reads has seen enough.
            (Err(error), None) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            (written, Some(beside)) => written.map_err(|error| anyhow::Error::msg(beside.cannot(&error))),
            (written, None) => written.context("cannot write to stdout"),
        }
    }
}

#[cfg(test)]
mod tests {
    use divvy_testkit::workspace::Workspace;

    use super::*;

    #[test]
    fn a_file_of_rows_has_its_name_when_it_is_whole_and_else_leaves_nothing() {
        let workspace = Workspace::new();
        let path = workspace.file("made/rows.csv");
        let files = || std::fs::read_dir(workspace.file("made")).unwrap().count();
        let begun = Csv::in_file(&path, "head\n").unwrap();
        assert_eq!((files(), path.exists()), (1, false), "under another name");
        drop(begun);
        assert_eq!(files(), 0);
        let mut csv = Csv::in_file(&path, "head\n").unwrap();
        csv.write("row\n").unwrap();
        csv.finish().unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), files()), ("head\nrow\n", 1));
    }
}
