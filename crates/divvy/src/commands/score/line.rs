//! One line: predictions and golds in, figures out. What else it holds is passed through as it was.

use std::{borrow::Cow, io::Write as _};

use divvy_core::{
    chat::Finish,
    question::Gold,
    scorers::{Scorer, drop},
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Map, Value, json};

use super::Wanted;

/// Exact match and F1 of one line by one scorer, or sums of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) em: f64,
    pub(super) f1: f64,
}

/// One line graded.
pub(super) struct Graded {
    /// By the scorer that was asked for, twice, or by both.
    pub(super) figures: [Figures; 2],
    pub(super) disagree: bool,
}

/// The keys that matter, read where they stand.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    predicted: Vec<Span<'a>>,
    #[serde(borrow)]
    golds: Vec<Vec<Span<'a>>>,
    #[serde(default, deserialize_with = "there")]
    em: bool,
    #[serde(default, deserialize_with = "there")]
    f1: bool,
    #[serde(default, deserialize_with = "there")]
    scores: bool,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Span<'a>(#[serde(borrow)] Cow<'a, str>);

impl AsRef<str> for Span<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// Grades a line, and writes to `out` what is to be shown of it.
pub(super) fn grade(wanted: Wanted, line: &str, out: &mut Vec<u8>) -> Result<Graded, String> {
    let row: Row = serde_json::from_str(line)
        .map_err(|error| format!("{error}; a line is {{\"predicted\": [texts], \"golds\": [[texts], …]}}"))?;
    if row.golds.is_empty() {
        return Err("`golds` is empty, and without gold nothing can be graded; leave the line out".to_owned());
    }
    match wanted {
        Wanted::Figures(scorer) => {
            let figures = figures(scorer, &row);
            let keys = [("em", figures.em.into()), ("f1", figures.f1.into())];
            write_with(out, line, row.em || row.f1, &keys);
            Ok(Graded { figures: [figures; 2], disagree: false })
        }
        Wanted::Disagreements(left, right) => {
            let figures @ [a, b] = [left, right].map(|scorer| figures(scorer, &row));
            let disagree = a.em != b.em;
            if disagree {
                let scores = json!({
                    left.name(): { "em": a.em, "f1": a.f1 },
                    right.name(): { "em": b.em, "f1": b.f1 },
                });
                write_with(out, line, row.scores, &[("scores", scores)]);
            }
            Ok(Graded { figures, disagree })
        }
    }
}

/// The line with these keys at its end, or in the place of those that it has.
fn write_with(out: &mut Vec<u8>, line: &str, has_them: bool, keys: &[(&str, Value)]) {
    const TAKES_ALL: &str = "memory takes everything";
    let text = line.trim_end();
    match text.strip_suffix('}').filter(|_| !has_them) {
        Some(open) => {
            out.extend_from_slice(open.trim_end().as_bytes());
            for (key, value) in keys {
                for part in [", \"", key, "\": "] {
                    out.extend_from_slice(part.as_bytes());
                }
                serde_json::to_writer(&mut *out, value).expect(TAKES_ALL);
            }
            out.extend_from_slice(b"}\n");
        }
        None => {
            let mut row: Map<String, Value> = serde_json::from_str(text).expect("the line was read before");
            row.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
            writeln!(out, "{}", Value::Object(row)).expect(TAKES_ALL);
        }
    }
}

fn figures(scorer: Scorer, row: &Row<'_>) -> Figures {
    if scorer == Scorer::Drop {
        let metrics = drop::best_metrics(&row.predicted, &row.golds);
        return Figures { em: metrics.exact_match, f1: metrics.f1 };
    }
    let owned = |spans: &Vec<Span<'_>>| spans.iter().map(|span| span.0.clone().into_owned()).collect::<Vec<_>>();
    let golds: Vec<Gold> = row.golds.iter().map(|gold| Gold(owned(gold))).collect();
    let grade = scorer.grade(&owned(&row.predicted).join(", "), &Finish::Stop, &golds);
    Figures { em: f64::from(u8::from(grade.correct)), f1: grade.score }
}
