//! A problem family as its file declares it, read into parts: what is drawn, what must hold, the steps that lead to
//! the answer, and the sentences that tell and ask. The answer of an instance is the value of its last step, so it is
//! right by construction; `check` says it once more in one expression, and a test compares the two.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{expr::Expr, value::Ratio};

/// The paper's three kinds of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// A story with numbers, like GSM8K.
    #[serde(rename = "stories")]
    Arithmetic,
    /// A passage and a question about its numbers, names and dates, like DROP.
    #[serde(rename = "passages")]
    Passage,
    /// Facts of the world that have to be chained, like Bamboogle.
    Facts,
}

/// Which splits a family serves: no family serves both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Train and dev, which share families and no instance.
    Train,
    Test,
}

#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) style: Style,
    pub(super) side: Side,
    pub(super) draws: Vec<Draw>,
    pub(super) needs: Vec<Expr>,
    pub(super) steps: Vec<Step>,
    /// Drawn variables that the steps use.
    pub(super) needed: BTreeSet<String>,
    /// The story or passage; empty where the question stands alone.
    pub(super) tell: Vec<String>,
    pub(super) ask: Vec<String>,
    /// Sentences that may slip in at a `~` of the telling and change nothing.
    pub(super) noise: Vec<String>,
    /// The last step's value once more, from the drawn variables alone.
    #[cfg_attr(not(test), expect(dead_code, reason = "read at start-up, so that it parses; compared by the tests"))]
    pub(super) check: Option<Expr>,
    /// Decimal places that a step's value may have.
    pub(super) places: u32,
}

/// One or several variables that are drawn alike and differ from each other.
#[derive(Debug)]
pub(super) struct Draw {
    pub(super) names: Vec<String>,
    pub(super) from: Pool,
}

#[derive(Debug)]
pub(super) enum Pool {
    /// `low`, `low + by`, … up to `high`.
    Range {
        low: Ratio,
        high: Ratio,
        by: Ratio,
    },
    Words(Vec<String>),
    /// A row of a table; its cells are `name.column`.
    Table(String),
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) value: Expr,
    /// `None` on a last step: it asks the question itself.
    pub(super) subquestion: Option<String>,
}

/// A family as it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    name: String,
    side: Side,
    draw: Vec<String>,
    #[serde(default)]
    need: Vec<String>,
    steps: Vec<String>,
    #[serde(default)]
    tell: Vec<String>,
    ask: Vec<String>,
    #[serde(default)]
    noise: Vec<String>,
    check: Option<String>,
    #[serde(default)]
    places: u32,
}

impl Written {
    /// # Errors
    /// A sentence that names the family and the line that cannot be read.
    pub(super) fn read(self, style: Style) -> Result<Family, String> {
        let read = || -> Result<_, String> {
            let draws = self.draw.iter().map(|line| draw(line)).collect::<Result<_, _>>()?;
            let needs = self.need.iter().map(|line| Expr::parse(line)).collect::<Result<_, _>>()?;
            let steps = self.steps.iter().map(|line| step(line)).collect::<Result<Vec<_>, _>>()?;
            let check = self.check.as_deref().map(Expr::parse).transpose()?;
            Ok((draws, needs, steps, check))
        };
        let (draws, needs, steps, check) = read().map_err(|reason| format!("family {}: {reason}", self.name))?;
        let Self { name, side, tell, ask, noise, places, .. } = self;
        let needed = needed(&steps);
        Ok(Family { name, style, side, draws, needs, steps, needed, tell, ask, noise, check, places })
    }
}

fn needed(steps: &[Step]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    steps.iter().for_each(|step| step.value.vars(&mut |name| _ = names.insert(name.to_owned())));
    names.retain(|name| steps.iter().all(|step| step.name != *name));
    names
}

/// `a, b 3..9`, `price 0.5..4 by 0.25`, `crop in apples|pears`, `n person`.
fn draw(line: &str) -> Result<Draw, String> {
    let broken = || format!("draw `{line}`: write `a, b 3..9 [by 2]`, `x in this|that` or `n table`");
    let (names, from) = match line.split_once(" in ") {
        Some((names, words)) => (names, Pool::Words(words.split('|').map(str::to_owned).collect())),
        None => {
            let (line, by) = line.split_once(" by ").unwrap_or((line, "1"));
            let (names, from) = line.rsplit_once(' ').ok_or_else(broken)?;
            (names, pool(from, by).ok_or_else(broken)?)
        }
    };
    Ok(Draw { names: names.split(',').map(|name| name.trim().to_owned()).collect(), from })
}

fn pool(from: &str, by: &str) -> Option<Pool> {
    match from.split_once("..") {
        Some((low, high)) => {
            Some(Pool::Range { low: Ratio::parse(low)?, high: Ratio::parse(high)?, by: Ratio::parse(by)? })
        }
        None => Some(Pool::Table(from.to_owned())),
    }
}

/// `left = baked - eaten -> How many buns are left?`
fn step(line: &str) -> Result<Step, String> {
    let (rule, subquestion) = match line.split_once(" -> ") {
        Some((rule, text)) => (rule, Some(text.to_owned())),
        None => (line, None),
    };
    let (name, value) = rule.split_once(" = ").ok_or_else(|| format!("step `{line}`: no ` = `"))?;
    Ok(Step { name: name.to_owned(), value: Expr::parse(value)?, subquestion })
}
