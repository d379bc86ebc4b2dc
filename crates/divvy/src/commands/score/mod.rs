//! `divvy score`: grades anybody's predictions, a JSON line each; no recipe, no store. Lines are graded in parallel and come
//! out in their order, byte for byte as they were but for the figures at their end.

mod line;
mod pieces;

use std::{fs::File, path::Path};

use divvy_core::scorers::Scorer;
use line::{Figures, Graded};
use pieces::Piece;

use crate::{
    cli,
    output::{Usage, say},
};

/// What is wanted of every line.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// The line with its figures.
    Figures(Scorer),
    /// The line, where two scorers disagree.
    Disagreements(Scorer, Scorer),
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

pub(crate) fn run(wanted: Wanted, path: &Path) -> anyhow::Result<()> {
    let file =
        File::open(path).map_err(|error| Usage(format!("--predictions: cannot read `{}`: {error}", path.display())))?;
    let mut totals = Totals::default();
    let (threads, work) = (pieces::threads(&file), |piece: &Piece, out: &mut Vec<u8>| grade(wanted, path, piece, out));
    if pieces::each(file, threads, work, |more: Totals| totals.append(&more))? {
        say(&totals.line(wanted));
    }
    Ok(())
}

/// Every line of a piece that is not blank.
fn grade(wanted: Wanted, path: &Path, piece: &Piece, out: &mut Vec<u8>) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    for (number, line) in (piece.line..).zip(piece.text.split(|byte| *byte == b'\n')) {
        let wrong = |reason: String| Usage(format!("{}:{number}: {reason}", path.display()));
        // Some editors begin a UTF-8 file with a byte order mark.
        let line = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let line = str::from_utf8(line).map_err(|error| wrong(format!("{error}; write the file in UTF-8")))?;
        if !line.trim_end().is_empty() {
            totals.add(&line::grade(wanted, line, out).map_err(wrong)?);
        }
    }
    Ok(totals)
}

impl Totals {
    fn add(&mut self, graded: &Graded) {
        self.lines += 1;
        self.disagreeing += u64::from(graded.disagree);
        add(&mut self.sums, graded.figures);
    }

    fn append(&mut self, more: &Self) {
        self.lines += more.lines;
        self.disagreeing += more.disagreeing;
        add(&mut self.sums, more.sums);
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

fn add(sums: &mut [Figures; 2], figures: [Figures; 2]) {
    for (sum, figures) in sums.iter_mut().zip(figures) {
        sum.em += figures.em;
        sum.f1 += figures.f1;
    }
}
