//! `divvy score`: grades anybody's predictions, a JSON line each; no recipe, no store. Lines are graded in parallel and come
//! out in their order, byte for byte as they were but for the figures at their end.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::Context as _;
use divvy_core::{
    chat::Finish,
    question::Gold,
    scorers::{Scorer, drop},
};
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    cli,
    output::{Usage, say},
};

/// Lines that are graded together: enough for every core, few enough to hold.
const BLOCK: usize = 4096;

/// What is wanted of every line.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// The line with its figures.
    Figures(Scorer),
    /// The line, where two scorers disagree.
    Disagreements(Scorer, Scorer),
}

/// Exact match and F1 of one line by one scorer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    em: f64,
    f1: f64,
}

/// One line graded.
struct Graded {
    /// `None`: nothing to show.
    line: Option<String>,
    figures: [Figures; 2],
    disagree: bool,
}

/// Sums over the lines.
#[derive(Default)]
struct Totals {
    lines: u64,
    sums: [Figures; 2],
    disagreeing: u64,
}

/// # Errors
/// [`Usage`] where neither is given, which the command line refuses before.
pub(crate) fn wanted(scorer: Option<cli::Scorer>, compare: Option<&[cli::Scorer]>) -> Result<Wanted, Usage> {
    match (scorer, compare) {
        (Some(scorer), _) => Ok(Wanted::Figures(scorer.into())),
        (None, Some(&[left, right])) => Ok(Wanted::Disagreements(left.into(), right.into())),
        _ => Err(Usage("name one scorer with --scorer, or two with --compare".to_owned())),
    }
}

pub(crate) fn run(wanted: Wanted, file: &Path) -> anyhow::Result<()> {
    let lines =
        File::open(file).map_err(|error| Usage(format!("--predictions: cannot read `{}`: {error}", file.display())))?;
    let mut lines = (1..).zip(BufReader::new(lines).lines());
    let (mut out, mut totals) = (BufWriter::new(std::io::stdout().lock()), Totals::default());
    loop {
        let block: Vec<(u64, std::io::Result<String>)> = lines.by_ref().take(BLOCK).collect();
        if block.is_empty() {
            break;
        }
        let graded: Vec<anyhow::Result<Option<Graded>>> =
            block.into_par_iter().map(|(number, line)| read_and_grade(wanted, file, number, line)).collect();
        for graded in graded {
            let Some(graded) = graded? else { continue };
            totals.add(&graded);
            let Some(line) = graded.line else { continue };
            match writeln!(out, "{line}") {
                // Whoever reads has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
        flushed => flushed?,
    }
    say(&totals.line(wanted));
    Ok(())
}

/// `None` for a blank line.
fn read_and_grade(
    wanted: Wanted,
    file: &Path,
    number: u64,
    line: std::io::Result<String>,
) -> anyhow::Result<Option<Graded>> {
    let line = line.with_context(|| format!("cannot read `{}`", file.display()))?;
    if line.trim().is_empty() {
        return Ok(None);
    }
    let graded = one(wanted, &line).map_err(|reason| Usage(format!("{}:{number}: {reason}", file.display())))?;
    Ok(Some(graded))
}

/// The keys that matter; whatever else a line holds is passed through.
#[derive(Deserialize)]
struct Prediction {
    predicted: Vec<String>,
    golds: Vec<Gold>,
}

fn one(wanted: Wanted, line: &str) -> Result<Graded, String> {
    let row: Prediction = serde_json::from_str(line)
        .map_err(|error| format!("{error}; a line is {{\"predicted\": [texts], \"golds\": [[texts], …]}}"))?;
    let by = |scorer| figures(scorer, &row.predicted, &row.golds);
    match wanted {
        Wanted::Figures(scorer) => {
            let Figures { em, f1 } = by(scorer);
            let line = with_keys(line, &[("em", em.into()), ("f1", f1.into())]);
            Ok(Graded { line: Some(line), figures: [Figures { em, f1 }; 2], disagree: false })
        }
        Wanted::Disagreements(left, right) => {
            let figures @ [a, b] = [by(left), by(right)];
            let scores = json!({
                left.name(): { "em": a.em, "f1": a.f1 },
                right.name(): { "em": b.em, "f1": b.f1 },
            });
            let disagree = a.em != b.em;
            Ok(Graded { line: disagree.then(|| with_keys(line, &[("scores", scores)])), figures, disagree })
        }
    }
}

/// The line with these keys at its end, or in the place of those that it has.
fn with_keys(line: &str, keys: &[(&str, Value)]) -> String {
    let text = line.trim_end();
    let there = |key: &str| text.contains(&format!("\"{key}\""));
    let Some(open) = text.strip_suffix('}').filter(|_| !keys.iter().any(|(key, _)| there(key))) else {
        let mut row: Map<String, Value> = serde_json::from_str(text).expect("the line was read before");
        row.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        return Value::Object(row).to_string();
    };
    let mut longer = open.trim_end().to_owned();
    for (key, value) in keys {
        write!(longer, ", \"{key}\": {value}").expect("a string takes everything");
    }
    longer.push('}');
    longer
}

fn figures(scorer: Scorer, predicted: &[String], golds: &[Gold]) -> Figures {
    if scorer == Scorer::Drop {
        let metrics = drop::best_metrics(predicted, golds);
        return Figures { em: metrics.exact_match, f1: metrics.f1 };
    }
    let grade = scorer.grade(&predicted.join(", "), &Finish::Stop, golds);
    Figures { em: f64::from(u8::from(grade.correct)), f1: grade.score }
}

impl Totals {
    fn add(&mut self, graded: &Graded) {
        self.lines += 1;
        self.disagreeing += u64::from(graded.disagree);
        for (sum, figures) in self.sums.iter_mut().zip(graded.figures) {
            sum.em += figures.em;
            sum.f1 += figures.f1;
        }
    }

    fn line(&self, wanted: Wanted) -> String {
        if self.lines == 0 {
            return "no predictions in the file".to_owned();
        }
        let mean = |sum: f64| 100.0 * sum / self.lines as f64;
        let means = |sum: &Figures| format!("exact match {:.2} %, F1 {:.2} %", mean(sum.em), mean(sum.f1));
        match wanted {
            Wanted::Figures(_) => format!("{} lines, {}", self.lines, means(&self.sums[0])),
            Wanted::Disagreements(left, right) => format!(
                "{} lines; {}: {}; {}: {}; they disagree on {} ({:.2} %)",
                self.lines,
                left.name(),
                means(&self.sums[0]),
                right.name(),
                means(&self.sums[1]),
                self.disagreeing,
                mean(self.disagreeing as f64)
            ),
        }
    }
}
