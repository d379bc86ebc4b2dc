//! Which items are meant, of all that a plan has: those that are put back, or listed.

use divvy_core::records::Stage;
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
            && self.reason.as_deref().is_none_or(|asked| Some(asked) == row.state.reason())
            && self.question.as_ref().is_none_or(|asked| *asked == row.question.0)
    }
}
