//! What is left of a plan and what it will take, told from the rows that are done: calls, tokens, money and time, each
//! with an interval over rows. What the store has is free: a settled row is not asked again, and a call that another plan
//! has paid for, or that two arms share, counts once or not at all.

mod caps;
mod rows;

use std::collections::{BTreeMap, HashSet};

use divvy_core::{arm::Arm, chat::Usage, cost::Prices, digest::Digest, records::Stage, stats::forecast::Forecast};
use divvy_llm::{Rates, in_batch};
use divvy_store::{AttemptSum, CallRecord};

pub use self::caps::{Cap, Verdict, against};
use self::rows::{Part, Row};
use crate::{context::Context, error::FlowError, paid};

/// What is foretold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Calls,
    TokensIn,
    TokensOut,
    /// Nano-dollars.
    Money,
    Seconds,
}

pub const FIGURES: [Figure; 5] = [Figure::Calls, Figure::TokensIn, Figure::TokensOut, Figure::Money, Figure::Seconds];

/// One for each of [`FIGURES`]; `None` where it is unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures(pub [Option<Forecast>; 5]);

impl Default for Figures {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Some(Forecast::default())))
    }
}

impl Figures {
    #[must_use]
    pub fn get(&self, figure: Figure) -> Option<&Forecast> {
        self.0[figure as usize].as_ref()
    }

    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let mut others = other.0.iter();
        Self(self.0.map(|mine| Some(mine?.and(others.next()?.as_ref()?))))
    }
}

/// How a model is paid, and how fast it may be asked.
#[derive(Clone, Debug)]
pub struct Pace {
    /// It runs in this process: what has no price there is free.
    pub local: bool,
    pub prices: Option<Prices>,
    /// Requests that it answers at once.
    pub at_once: usize,
    pub rates: Rates,
}

/// By the name that a model's calls are kept under.
pub type Paces = BTreeMap<String, Pace>;

/// Of one stage and model.
#[derive(Clone, Debug)]
pub struct Line {
    pub stage: Stage,
    pub model: String,
    pub figures: Figures,
}

/// Rows of a stage; in the evaluation, of all arms together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    pub stage: Stage,
    pub total: u64,
    pub left: u64,
    /// Settled ones that the forecast rests on.
    pub seen: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Outlook {
    pub rows: Vec<Rows>,
    pub lines: Vec<Line>,
    /// What no row tells yet, in words.
    pub unseen: Vec<String>,
}

impl Outlook {
    /// Of a stage's models. Those in this process share its time, the others work beside them.
    #[must_use]
    pub fn of_stage(&self, stage: Stage, paces: &Paces) -> Figures {
        let lines: Vec<&Line> = self.lines.iter().filter(|line| line.stage == stage).collect();
        let mut sum = lines.iter().fold(Figures::default(), |sum, line| sum.and(&line.figures));
        let (here, there): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| is_local(paces, &line.model));
        let seconds = |lines: &[&Line]| -> Option<Vec<Forecast>> {
            lines.iter().map(|line| line.figures.get(Figure::Seconds).cloned()).collect()
        };
        sum.0[Figure::Seconds as usize] = seconds(&here).zip(seconds(&there)).map(|(here, there)| {
            let here = here.iter().fold(Forecast::default(), |sum, seconds| sum.and(seconds));
            there.into_iter().fold(here, longer)
        });
        sum
    }

    /// Of all stages, which follow one another.
    #[must_use]
    pub fn of_all(&self, paces: &Paces) -> Figures {
        self.rows.iter().fold(Figures::default(), |sum, rows| sum.and(&self.of_stage(rows.stage, paces)))
    }
}

fn is_local(paces: &Paces, model: &str) -> bool {
    paces.get(model).is_some_and(|pace| pace.local)
}

fn longer(one: Forecast, other: Forecast) -> Forecast {
    if other.sum > one.sum { other } else { one }
}

/// Reads the store; asks nobody. Of each stage at most `most` settled rows are looked at.
///
/// # Errors
/// The store's.
pub async fn read(context: &Context, paces: &Paces, most: usize) -> Result<Outlook, FlowError> {
    let mut books = Books { paid: paid::Books::read(context).await?, counted: HashSet::new() };
    let (parts, mut taken) = (rows::parts(context, most).await?, Vec::new());
    for part in &parts {
        taken.push(take(context, paces, part, &mut books).await?);
    }
    let mut outlook = Outlook::default();
    for (at, part) in parts.iter().enumerate() {
        outlook.note_rows(part);
        if part.left > 0 && part.rows.is_empty() {
            outlook.borrow(context, paces, part, &parts, &taken);
            continue;
        }
        let lines = taken[at].all.iter().map(|(model, took)| (model, figures(took, part, paces.get(model))));
        lines.for_each(|(model, figures)| outlook.add(part.stage, model, &figures));
    }
    Ok(outlook)
}

impl Outlook {
    fn note_rows(&mut self, part: &Part<'_>) {
        let (stage, seen) = (part.stage, part.rows.len() as u64);
        match self.rows.iter_mut().find(|rows| rows.stage == stage) {
            Some(rows) => {
                rows.total += part.total;
                rows.left += part.left;
                rows.seen += seen;
            }
            None => self.rows.push(Rows { stage, total: part.total, left: part.left, seen }),
        }
    }

    fn add(&mut self, stage: Stage, model: &str, figures: &Figures) {
        match self.lines.iter_mut().find(|line| (line.stage, &*line.model) == (stage, model)) {
            Some(line) => line.figures = std::mem::take(&mut line.figures).and(figures),
            None => self.lines.push(Line { stage, model: model.to_owned(), figures: figures.clone() }),
        }
    }

    /// Of an arm that nobody was asked with: its solver does what it does behind another decomposer, and a judge what it does
    /// of another arm.
    fn borrow(&mut self, context: &Context, paces: &Paces, part: &Part<'_>, parts: &[Part<'_>], taken: &[Taken]) {
        let like = |other: &Part<'_>| !other.rows.is_empty() && is_like(part, other);
        let Some(at) = parts.iter().position(like) else {
            self.unseen.push(format!("{}: not counted, since none of its rows is done", part.name()));
            return;
        };
        let slugs = [part.arm, parts[at].arm].map(|arm| arm.map(Arm::slug).unwrap_or_default());
        if part.stage == Stage::Judge {
            let part = Part { rows: Vec::new(), ..*part };
            let lines = taken[at].all.iter();
            lines.for_each(|(model, took)| self.add(part.stage, model, &figures(took, &part, paces.get(model))));
            self.unseen.push(format!("{}: counted as that of {}", part.name(), slugs[1]));
            return;
        }
        let solver = part.arm.map(|arm| context.resolve(&arm.solver).to_owned()).unwrap_or_default();
        if let Some(took) = taken[at].solving.get(&solver) {
            let part = Part { rows: Vec::new(), ..*part };
            self.add(part.stage, &solver, &figures(took, &part, paces.get(&solver)));
        }
        self.unseen.push(format!("{}: its solver counted as in {}, its decomposer not at all", slugs[0], slugs[1]));
    }
}

fn is_like(part: &Part<'_>, other: &Part<'_>) -> bool {
    let (Some(arm), Some(like)) = (part.arm, other.arm) else { return false };
    let solves_alike = arm.decomposer.is_some() && (like.strategy, &like.solver) == (arm.strategy, &arm.solver);
    part.stage == other.stage && (part.stage == Stage::Judge || solves_alike)
}

/// What a model took: a value for each row, `None` where one is unknown.
type Took = [Option<BTreeMap<String, f64>>; 5];

/// What the models of a part took.
#[derive(Default)]
struct Taken {
    all: BTreeMap<String, Took>,
    /// Without what the decomposer of an arm took.
    solving: BTreeMap<String, Took>,
}

/// What is known of calls while rows are read. Tries that came to nothing count against the caps, too.
struct Books {
    paid: paid::Books,
    counted: HashSet<Digest>,
}

impl Books {
    /// What a call takes that is free when another has paid for it.
    fn values(&mut self, call: &CallRecord, pace: Option<&Pace>) -> [Option<f64>; 5] {
        let free = call.created_ms < self.paid.since || !self.counted.insert(call.key.clone());
        if free { [Some(0.0); 5] } else { values(call, self.paid.failed.get(&call.key), pace) }
    }
}

async fn take(context: &Context, paces: &Paces, part: &Part<'_>, books: &mut Books) -> Result<Taken, FlowError> {
    let mut taken = Taken::default();
    for row in &part.rows {
        for (at, key) in row.calls.iter().enumerate() {
            let Some(call) = context.store.call(key).await? else { continue };
            let values = books.values(&call, paces.get(&call.model_name));
            put(&mut taken.all, row, &call.model_name, values);
            if at > 0 || !asks_decomposer(context, part) {
                put(&mut taken.solving, row, &call.model_name, values);
            }
        }
    }
    for took in [&mut taken.all, &mut taken.solving] {
        took.values_mut().flatten().flatten().for_each(|values| fill(values, &part.rows));
    }
    Ok(taken)
}

fn asks_decomposer(context: &Context, part: &Part<'_>) -> bool {
    let answers = part.arm.filter(|_| part.stage == Stage::Evaluate);
    answers.and_then(|arm| arm.decomposer.as_deref()).is_some_and(|name| !context.is_recorded(name))
}

/// A row in which a model was not asked took nothing of it.
fn fill(values: &mut BTreeMap<String, f64>, rows: &[Row]) {
    for row in rows {
        values.entry(row.question.0.clone()).or_default();
    }
}

fn put(taken: &mut BTreeMap<String, Took>, row: &Row, model: &str, values: [Option<f64>; 5]) {
    let empty = || std::array::from_fn(|_| Some(BTreeMap::new()));
    let took = taken.entry(model.to_owned()).or_insert_with(empty);
    for (figure, value) in took.iter_mut().zip(values) {
        match (figure.as_mut(), value) {
            (Some(rows), Some(value)) => *rows.entry(row.question.0.clone()).or_default() += value,
            _ => *figure = None,
        }
    }
}

/// In the order of [`FIGURES`], with what came to nothing on the way; seconds as if it were the only call under way. A batch's
/// hours are no call's: how long the rest takes is unknown there.
fn values(call: &CallRecord, failed: Option<&AttemptSum>, pace: Option<&Pace>) -> [Option<f64>; 5] {
    let usage: &Usage = &call.reply.usage;
    let priced = || pace?.prices?.cost(usage);
    let free = || pace.is_some_and(|pace| pace.local && pace.prices.is_none()).then_some(0);
    let nanos = call.price_nanos.or_else(priced).or_else(free);
    let failed = failed.cloned().unwrap_or_default();
    let and = |tokens: Option<u64>, lost: u64| tokens.map(|tokens| (tokens + lost) as f64);
    [
        Some(1.0),
        and(usage.tokens_in, failed.tokens_in),
        and(usage.tokens_out, failed.tokens_out),
        nanos.map(|nanos| nanos.saturating_add(failed.price_nanos.unwrap_or(0)) as f64),
        (!in_batch(call.endpoint.as_deref())).then(|| call.latency_ms as f64 / 1000.0),
    ]
}

fn figures(took: &Took, part: &Part<'_>, pace: Option<&Pace>) -> Figures {
    let mut figures = Figures(took.each_ref().map(|values| Forecast::of(values.as_ref()?, part.left)));
    let calls = took[Figure::Calls as usize].iter().flat_map(BTreeMap::values).sum::<f64>();
    let at_once = pace.map_or(1.0, |pace| match pace.local {
        // A batch that is not full answers sooner: as many as were asked shared the time that was seen.
        true => (pace.at_once as f64).min(calls),
        false => pace.at_once as f64,
    });
    let seconds = figures.0[Figure::Seconds as usize].take().map(|seconds| seconds.times(1.0 / at_once.max(1.0)));
    let rates = pace.map(|pace| pace.rates).unwrap_or_default();
    figures.0[Figure::Seconds as usize] = seconds.map(|seconds| held_back(seconds, &figures, rates));
    figures
}

/// A rate may hold requests back for longer than they take.
fn held_back(seconds: Forecast, figures: &Figures, rates: Rates) -> Forecast {
    let minutes = |forecast: Option<&Forecast>, rate: Option<u64>| Some(forecast?.clone().times(60.0 / rate? as f64));
    let tokens = figures.get(Figure::TokensIn).zip(figures.get(Figure::TokensOut)).map(|(a, b)| a.clone().and(b));
    let by_rate = [minutes(figures.get(Figure::Calls), rates.requests), minutes(tokens.as_ref(), rates.tokens)];
    by_rate.into_iter().flatten().fold(seconds, longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten rows of two calls, 100 tokens and three seconds each; 40 rows are left.
    fn seconds(pace: &Pace) -> f64 {
        let rows = |value: f64| Some((0..10).map(|row| (row.to_string(), value)).collect());
        let took: Took = [rows(2.0), rows(60.0), rows(40.0), None, rows(3.0)];
        let part = Part { stage: Stage::Screen, arm: None, total: 50, done: 10, left: 40, rows: Vec::new() };
        let figures = figures(&took, &part, Some(pace));
        assert_eq!(figures.get(Figure::Calls).map(|calls| calls.sum), Some(80.0));
        assert_eq!(figures.get(Figure::Money), None);
        figures.get(Figure::Seconds).map(|seconds| seconds.sum).unwrap_or_default()
    }

    #[test]
    fn time_is_what_the_calls_take_side_by_side_or_what_the_rates_allow() {
        let pace =
            |local, at_once, requests, tokens| Pace { local, prices: None, at_once, rates: Rates { requests, tokens } };
        assert_eq!(seconds(&pace(false, 8, None, None)), 120.0 / 8.0);
        assert_eq!(seconds(&pace(false, 8, Some(40), None)), 120.0, "80 calls at 40 a minute");
        assert_eq!(seconds(&pace(false, 8, Some(40), Some(1000))), 240.0, "4,000 tokens at 1,000 a minute");
        assert_eq!(
            seconds(&pace(true, 32, None, None)),
            120.0 / 20.0,
            "no more than the 20 calls seen shared the time"
        );
        assert_eq!(seconds(&pace(true, 4, None, None)), 120.0 / 4.0);
    }
}
