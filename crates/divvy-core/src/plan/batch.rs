//! The keys of a model that is asked in batches.

use super::names::Names;
use crate::{
    cost::Prices,
    recipe::{Batch, BatchFallback, Mode, Model, RecipeError},
};

/// A longer wait is a slip of the pen: no endpoint keeps a batch for a year.
const MOST_HOURS: f64 = 24.0 * 365.0;

impl Names<'_> {
    pub(super) fn batch(&self, name: &str, model: &Model) -> Result<(), RecipeError> {
        if let Some(price) = &model.price
            && let (Ok(_), Err(error)) = (Prices::parse(price), Prices::parse_batch(price))
        {
            return self.fail(&format!("models.{name}.price.batch_discount"), error);
        }
        let Some(batch) = &model.batch else { return Ok(()) };
        if model.mode == Mode::Online {
            return self.fail(&format!("models.{name}.batch"), "nothing is asked in batches without mode = \"batch\"");
        }
        match mistake(batch) {
            Some((key, message)) => self.fail(&format!("models.{name}.batch.{key}"), message),
            None => Ok(()),
        }
    }
}

fn mistake(batch: &Batch) -> Option<(&'static str, &'static str)> {
    let counts = [
        ("rows", batch.rows.map(|rows| rows as u64)),
        ("bytes", batch.bytes),
        ("enqueued_tokens", batch.enqueued_tokens),
        ("at_once", batch.at_once.map(|rows| rows as u64)),
    ];
    let spans = [
        ("deadline_hours", batch.deadline_hours),
        ("poll_seconds", batch.poll_seconds.map(|seconds| seconds / 3600.0)),
        ("gather_seconds", batch.gather_seconds.map(|seconds| seconds / 3600.0)),
    ];
    let fits = |hours: f64| 0.0 < hours && hours <= MOST_HOURS;
    if let Some((key, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
        return Some((key, "no batch could ever be handed in; leave the line out for the default"));
    }
    if let Some((key, _)) = spans.iter().find(|(_, hours)| hours.is_some_and(|hours| !fits(hours))) {
        return Some((key, "must be above 0, and at most a year"));
    }
    if batch.fallback == BatchFallback::Resubmit && batch.deadline_hours.is_none() {
        return Some(("fallback", "it says what happens at the deadline: write deadline_hours = 24 too"));
    }
    None
}
