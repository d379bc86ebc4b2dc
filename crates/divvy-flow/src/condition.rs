//! Which items are meant, of all that a plan has: those that are put back, or listed.

use divvy_core::records::{Stage, Verdict};
use divvy_store::ItemRow;

/// What an item must be; `None` asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    pub stage: Option<Stage>,
    /// `done`, `failed`, `rejected` or `pending`.
    pub state: Option<String>,
    pub reason: Option<String>,
    pub question: Option<String>,
}

impl Condition {
    #[must_use]
    pub fn holds(&self, row: &ItemRow) -> bool {
        self.stage.is_none_or(|stage| stage == row.stage)
            && self.state.as_deref().is_none_or(|asked| asked == row.state.name())
            && self.reason.as_ref().is_none_or(|asked| reason(row).as_ref() == Some(asked))
            && self.question.as_ref().is_none_or(|asked| *asked == row.question.0)
    }
}

/// Why an item stands as it does: a decomposition is kept for a reason, too.
#[must_use]
pub fn reason(row: &ItemRow) -> Option<String> {
    row.state.reason().map(str::to_owned).or_else(|| verdict(row).map(|verdict| verdict.reason))
}

/// Of a decomposition that was screened.
#[must_use]
pub fn verdict(row: &ItemRow) -> Option<Verdict> {
    (row.stage == Stage::Screen).then(|| serde_json::from_str(&row.payload_json).ok())?
}
