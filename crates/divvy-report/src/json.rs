//! The results for programs: `Results` as it is, plus the verdict. A stable surface; keys are sorted.

use divvy_core::results::Results;
use serde_json::{Value, json};

use crate::verdict;

/// `{"arms": [{"arm", "strategy", "decomposer", "solver", "n", "correct", "accuracy", "ci": [low, high], "tokens_in",
/// "tokens_out", …}], "comparisons": […], "collection": …, "screening": …, "training": […], "stages": […], "verdict": {"answer",
/// "headline", "findings"}, …}`. A figure that is not a number is `null`. Token counts are totals over the arm's questions.
#[must_use]
pub fn json(results: &Results) -> Value {
    let mut value = serde_json::to_value(results).expect("Results holds only strings, numbers and lists");
    let verdict = verdict::verdict(results);
    value["verdict"] =
        json!({ "answer": verdict.answer.word(), "headline": verdict.headline, "findings": verdict.findings });
    value
}
