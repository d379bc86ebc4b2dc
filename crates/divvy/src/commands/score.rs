//! `divvy score`: grades anybody's predictions, a JSON line each; no recipe, no store.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use anyhow::Context as _;
use divvy_core::{
    chat::Finish,
    question::{Gold, ScorerKind},
    scorers::{self, drop},
};
use serde_json::{Map, Value};

use crate::{
    cli::Scorer,
    output::{Usage, say},
};

/// Sums over the lines.
#[derive(Default)]
struct Totals {
    lines: u64,
    em: f64,
    f1: f64,
}

pub(crate) fn run(scorer: Scorer, file: &Path) -> anyhow::Result<()> {
    let lines =
        File::open(file).map_err(|error| Usage(format!("--predictions: cannot read `{}`: {error}", file.display())))?;
    let (mut out, mut totals) = (std::io::stdout().lock(), Totals::default());
    for (number, line) in (1..).zip(BufReader::new(lines).lines()) {
        let line = line.with_context(|| format!("cannot read `{}`", file.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let scored = one(scorer, &line, &mut totals);
        let scored = scored.map_err(|reason| Usage(format!("{}:{number}: {reason}", file.display())))?;
        match writeln!(out, "{scored}") {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    say(&totals.line());
    Ok(())
}

/// The line with `em` and `f1`.
fn one(scorer: Scorer, line: &str, totals: &mut Totals) -> Result<Value, String> {
    let fail = |error: &dyn std::fmt::Display| {
        format!("{error}; a line is {{\"predicted\": [texts], \"golds\": [[texts], …]}}")
    };
    let mut row: Map<String, Value> = serde_json::from_str(line).map_err(|error| fail(&error))?;
    let part = |key: &str| row.get(key).cloned().unwrap_or_default();
    let predicted: Vec<String> =
        serde_json::from_value(part("predicted")).map_err(|error| fail(&format!("`predicted`: {error}")))?;
    let golds: Vec<Vec<String>> =
        serde_json::from_value(part("golds")).map_err(|error| fail(&format!("`golds`: {error}")))?;
    let golds: Vec<Gold> = golds.into_iter().map(Gold).collect();
    let (em, f1) = grade(scorer, &predicted, &golds);
    row.insert("em".to_owned(), em.into());
    row.insert("f1".to_owned(), f1.into());
    (totals.lines, totals.em, totals.f1) = (totals.lines + 1, totals.em + em, totals.f1 + f1);
    Ok(Value::Object(row))
}

fn grade(scorer: Scorer, predicted: &[String], golds: &[Gold]) -> (f64, f64) {
    let kind = match scorer {
        Scorer::Drop => {
            let metrics = drop::best_metrics(predicted, golds);
            return (metrics.exact_match, metrics.f1);
        }
        Scorer::Numeric => ScorerKind::Numeric,
        Scorer::Exact => ScorerKind::Exact,
    };
    let grade = scorers::grade(kind, &predicted.join(", "), &Finish::Stop, golds);
    (f64::from(u8::from(grade.correct)), grade.score)
}

impl Totals {
    fn line(&self) -> String {
        if self.lines == 0 {
            return "no predictions in the file".to_owned();
        }
        let mean = |sum: f64| 100.0 * sum / self.lines as f64;
        format!("{} lines, exact match {:.2} %, F1 {:.2} %", self.lines, mean(self.em), mean(self.f1))
    }
}
