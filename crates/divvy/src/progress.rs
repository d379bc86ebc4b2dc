//! Progress on the terminal: one bar a stage with items, tokens, rate and time left; plain lines where stderr is no
//! terminal.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    sync::Mutex,
    time::{Duration, Instant},
};

use divvy_core::{
    cost::show_dollars,
    records::{Stage, TrainPoint},
    stats::forecast::Forecast,
};
use divvy_data::models::fetch;
use divvy_flow::progress::{Progress, Tick};
use divvy_llm::Standing;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{clock, output::say};

/// Without a terminal a line is written this often at most.
const QUIET: Duration = Duration::from_secs(15);
/// Counts are put into words this often at most: items may finish by the thousand in a second.
const EYE: Duration = Duration::from_millis(100);

pub(crate) struct Terminal {
    state: Mutex<Option<Bar>>,
}

struct Bar {
    label: String,
    bar: ProgressBar,
    tokens_in: u64,
    tokens_out: u64,
    failed: u64,
    money: Money,
    batches: Standing,
    began: Instant,
    last_line: Instant,
    last_counts: Instant,
    /// Items have been counted that nobody was told of.
    news: bool,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(None) }
    }

    fn with(&self, act: impl FnOnce(&mut Bar)) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bar) = state.as_mut() {
            act(bar);
        }
    }
}

impl Bar {
    fn begin(label: String, total: u64, done: u64) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
        bar.set_length(total);
        bar.set_style(style());
        bar.set_prefix(label.clone());
        bar.set_position(done);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(250));
        let now = Instant::now();
        Self {
            label,
            bar,
            tokens_in: 0,
            tokens_out: 0,
            failed: 0,
            money: Money::default(),
            batches: Standing::default(),
            began: now,
            last_line: now,
            last_counts: now,
            news: false,
        }
    }

    fn show(&mut self, message: String) {
        self.bar.set_message(message);
        if self.bar.is_hidden() && self.last_line.elapsed() >= QUIET {
            self.last_line = Instant::now();
            self.line();
        }
    }

    /// Puts the counts into words, now and then.
    fn tell(&mut self) {
        self.news = self.last_counts.elapsed() < EYE;
        if !self.news {
            self.last_counts = Instant::now();
            self.show(self.counts());
        }
    }

    fn line(&self) {
        let total = self.bar.length().unwrap_or(0);
        say(&format!("{} {}/{total} {}", self.label, self.bar.position(), self.bar.message()));
    }

    fn counts(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = self.tokens_out as f64 / seconds;
        let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        let tokens = format!("{} tokens in, {} out", thousands(self.tokens_in), thousands(self.tokens_out));
        let batches = batches(self.batches, clock::now_ms());
        format!("{tokens}, {rate:.0} out/s{}{failed}{batches}", self.money.shown)
    }

    fn left(&self) -> u64 {
        self.bar.length().unwrap_or(0).saturating_sub(self.bar.position())
    }
}

/// Items of which the cost is kept, to tell what the others will cost.
const MOST_COSTS: usize = 1000;

/// What a stage has cost so far, and what the rest of it will.
#[derive(Default)]
struct Money {
    spent: i64,
    /// By number of the item; the first ones in the seed's order, which is as good as any.
    costs: BTreeMap<String, f64>,
    unknown: bool,
    shown: String,
    shown_at: Option<Instant>,
}

impl Money {
    fn add(&mut self, cost: Option<i64>, left: u64) {
        let Some(cost) = cost else { return self.unknown = true };
        self.spent += cost;
        if self.costs.len() < MOST_COSTS {
            self.costs.insert(self.costs.len().to_string(), cost as f64);
        }
        if self.shown_at.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) || left == 0 {
            self.tell(left);
        }
    }

    fn tell(&mut self, left: u64) {
        self.shown = if self.unknown || self.spent == 0 { String::new() } else { self.words(left) };
        self.shown_at = Some(Instant::now());
    }

    fn words(&self, left: u64) -> String {
        let spent = show_dollars(self.spent);
        match Forecast::of(&self.costs, left).and_then(|left| left.interval()) {
            Some((low, high)) if left > 0 => {
                format!(", {spent}, {}–{} left", show_dollars(low.round() as i64), show_dollars(high.round() as i64))
            }
            _ => format!(", {spent}"),
        }
    }
}

/// Batches that are out, as far as there are any.
fn batches(standing: Standing, now_ms: i64) -> String {
    let Standing { batches, rows, back, deadline_ms } = standing;
    if batches == 0 {
        return String::new();
    }
    let left = deadline_ms.map_or_else(String::new, |at| format!(", {} to the deadline", hours(at - now_ms)));
    let plural = if batches == 1 { "" } else { "es" };
    format!(", {batches} batch{plural} out: {} of {} rows back{left}", thousands(back), thousands(rows))
}

/// A time in the unit that people would take.
pub(crate) fn hours(ms: i64) -> String {
    let minutes = ms.max(0) / 60_000;
    if minutes < 120 { format!("{minutes} min") } else { format!("{} h", minutes / 60) }
}

fn style() -> ProgressStyle {
    const TEMPLATE: &str = "{prefix} {wide_bar} {pos}/{len}  {msg}  {elapsed} gone, {eta} left";
    ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed")
}

impl Progress for Terminal {
    fn start(&self, stage: Stage, label: &str, total: u64, done: u64) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bar = Bar::begin(format!("{:<8} {label}", stage.name()), total, done);
        if total > 0 && done == total {
            bar.bar.set_message("all done before");
        }
        *state = Some(bar);
    }

    fn tick(&self, tick: Tick) {
        self.with(|bar| {
            bar.tokens_in += tick.tokens_in;
            bar.tokens_out += tick.tokens_out;
            bar.failed += u64::from(tick.failed);
            bar.bar.inc(1);
            bar.money.add(tick.cost_nanos, bar.left());
            bar.tell();
        });
    }

    fn train_step(&self, point: &TrainPoint, total: u64) {
        self.with(|bar| {
            if bar.bar.length() != Some(total) {
                bar.bar.set_length(total);
                bar.bar.set_position(point.step.saturating_sub(1));
                bar.bar.reset_eta();
            }
            bar.bar.set_position(point.step);
            let dev = point.dev_loss.map_or_else(String::new, |loss| format!(", dev {loss:.3}"));
            bar.show(format!("loss {:.3}{dev}, {:.0} tokens/s", point.loss, point.tokens_per_second));
        });
    }

    fn batches(&self, standing: Standing) {
        self.with(|bar| {
            bar.batches = standing;
            bar.show(bar.counts());
        });
    }

    fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(mut bar) = state.take() {
            // The money is put into words more rarely than the counts.
            if bar.news || bar.money.shown_at.is_some() {
                bar.money.tell(bar.left());
                bar.bar.set_message(bar.counts());
            }
            if bar.bar.is_hidden() {
                bar.line();
            }
            bar.bar.abandon();
        }
    }

    fn note(&self, text: &str) {
        say(text);
    }
}

/// A model on its way into the cache: one line that moves on a terminal, one line a package elsewhere.
#[derive(Default)]
pub(crate) struct FetchBar {
    state: Mutex<Option<(String, ProgressBar)>>,
}

impl FetchBar {
    pub(crate) fn show(&self, progress: &fetch::Progress) {
        let label = format!("{:?} {}", progress.phase, progress.what).to_lowercase();
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.as_ref().is_none_or(|(shown, _)| *shown != label) {
            if let Some((_, bar)) = state.take() {
                bar.finish_and_clear();
            }
            *state = Some((label.clone(), fetch_bar(&label, progress)));
        }
        if let Some((_, bar)) = state.as_ref() {
            bar.set_position(progress.done);
        }
    }

    pub(crate) fn finish(&self) {
        if let Some((_, bar)) = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

/// Hashing a file that is already here is too quick to be worth a line.
fn fetch_bar(label: &str, progress: &fetch::Progress) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        if progress.phase == fetch::Phase::Downloading {
            say(label);
        }
        return ProgressBar::hidden();
    }
    let bar = progress.total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template =
        if progress.total.is_some() { "{msg} {wide_bar} {bytes}/{total_bytes}" } else { "{spinner} {msg} {bytes}" };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
    bar.set_message(label.to_owned());
    bar
}

/// `12,345`
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let mut groups: Vec<&str> = if head > 0 { vec![&digits[..head]] } else { Vec::new() };
    groups.extend((head..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_tells_what_is_left() {
        let mut money = Money::default();
        (0..10).for_each(|item| money.add(Some(1_000_000_000 + item), 100));
        assert!(money.shown.starts_with(", $1.00"), "told a moment ago");
        money.add(Some(1_000_000_000), 100);
        money.tell(100);
        assert_eq!(money.shown, ", $11.00, $100.00–$100.00 left");
        money.add(Some(0), 0);
        assert_eq!(money.shown, ", $11.00");
        money.add(None, 0);
        money.add(Some(1), 0);
        assert_eq!(money.shown, "", "nothing is said of a sum that is not whole");
    }

    #[test]
    fn batches_that_are_out_are_told_and_none_is_nothing() {
        let out = Standing { batches: 2, rows: 1200, back: 300, deadline_ms: Some(5 * 3_600_000) };
        assert_eq!(batches(out, 3_600_000), ", 2 batches out: 300 of 1,200 rows back, 4 h to the deadline");
        let one = Standing { batches: 1, rows: 5, back: 0, deadline_ms: None };
        assert_eq!(batches(one, 0), ", 1 batch out: 0 of 5 rows back");
        assert_eq!(batches(Standing::default(), 0), "");
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
