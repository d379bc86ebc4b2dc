//! The results for programs: `Results` as it is, plus the verdict. A stable surface; keys are sorted.

use divvy_core::results::Results;
use serde_json::{Value, json};

use crate::verdict;

/// `{"arms": [{"arm", "strategy", "decomposer", "solver", "n", "correct", "accuracy", "ci": [low, high], "tokens_in",
/// "tokens_out", …}], "comparisons": […], "collection": …, "screening": …, "training": […], "stages": […], "costs": {"terms", "arms", "students",
/// "distilling"}, "verdict": {"answer", "headline", "summary": [{"label", "text"}], "findings"}, …}`. A figure that is not a number is `null`. Token counts are totals over the arm's questions.
#[must_use]
pub fn json(results: &Results) -> Value {
    let mut value = serde_json::to_value(results).expect("Results holds only strings, numbers and lists");
    let verdict = verdict::verdict(results);
    let label = |(label, text): &(&str, String)| json!({ "label": label, "text": text });
    let summary: Vec<Value> = verdict.summary.iter().map(label).collect();
    value["verdict"] = json!({ "answer": verdict.answer.word(), "headline": verdict.headline, "summary": summary, "findings": verdict.findings });
    value
}
