//! `[data]`: the questions to train and to test on, of one data set or of several.

use serde::{Deserialize, Serialize};

use super::OneOrMany;
use crate::{question::ScorerKind, synth};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// What happens at a row that cannot be read: `stop` (default) or `skip`, which counts and lists them.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// Rows carved from each training set before anything else sees them; everything is tuned on these.
    #[serde(default)]
    pub dev_rows: usize,
    /// `[data.train]`, or `[[data.train]]` once for each of several.
    pub train: OneOrMany<DataSet>,
    /// Every arm is measured on each of them.
    #[serde(default)]
    pub test: OneOrMany<DataSet>,
    /// Refuse when train, dev and test share rows (default), or only warn.
    #[serde(default)]
    pub leaks: OnLeak,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadRow {
    #[default]
    Stop,
    Skip,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLeak {
    #[default]
    Refuse,
    /// Leave the leaking *training* rows out, and say which.
    Drop,
    Warn,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    /// `synth`, `gsm8k`, `drop`, `bamboogle`, `strategyqa`, `musique`, `hotpotqa`, `2wikimultihopqa`, `bbh`, `rows` for any
    /// file with a column mapping, or `traffic` for what was asked of `divvy serve --record`.
    pub dataset: String,
    /// What it is called in ids, reports and `students.NAME.data`; the data set's own name when absent.
    pub name: Option<String>,
    /// For `synth`: `stories`, `passages` or `facts`; a mixture when absent.
    pub style: Option<synth::Style>,
    /// Files, relative to `--data DIR` (default: the recipe's folder); `hf:org/name:file` is fetched from the hub. The
    /// store's own record when absent, for `traffic`.
    #[serde(default)]
    pub files: Vec<String>,
    /// Take this many rows, chosen by the seed; all when absent (`synth` needs it).
    pub rows: Option<usize>,
    /// For a training set: how many rows are carved for dev, where it is not `data.dev_rows`.
    pub dev_rows: Option<usize>,
    /// For a training set: how often a student of several sets learns each of its rows, see [`super::Mix`]. 1 when absent.
    pub weight: Option<f64>,
    /// For `traffic`: only the first so many lines of the record, so that a recipe means the same while it grows.
    pub lines: Option<u64>,
    /// For `rows`: which column holds what.
    pub columns: Option<Columns>,
    /// For `rows`: what its answers are graded by, `numeric`, `drop`, `exact`, `choice` or `yes-no`; told from each row's gold
    /// when absent.
    pub scorer: Option<ScorerKind>,
}

impl DataSet {
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.dataset)
    }
}

impl Data {
    /// Rows that are carved from one training set.
    #[must_use]
    pub fn dev_rows_of(&self, set: &DataSet) -> usize {
        set.dev_rows.unwrap_or(self.dev_rows)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    pub question: String,
    pub answer: Option<String>,
    pub premise: Option<String>,
    /// A list of strings, or one string with a subquestion a line.
    pub decomposition: Option<String>,
    pub id: Option<String>,
    /// Python that checks a program, a text or a list of lines. The answer is then code, which `[evaluate.code]` has to allow.
    pub tests: Option<String>,
}
