//! The results for programs: `Results` as it is, plus the verdict. A stable surface; keys are sorted.

use divvy_core::results::Results;
use serde_json::{Value, json};

use crate::{sets, verdict::Verdict};

/// `{"arms": [{"arm", "strategy", "decomposer", "solver", "n", "correct", "accuracy", "ci": [low, high], "tokens_in",
/// "tokens_out", …}], "comparisons": […], "collection": …, "screening": …, "training": […], "stages": […], "costs": {"terms", "arms",
/// "students", "distilling"}, "verdict": {"answer", "headline", "summary": [{"label", "text"}], "findings"}, …}`. Of several data sets each has its `arms`, `comparisons` and `verdict` in `by_dataset`, and the
/// answer of the whole is `by-dataset`. A figure that is not a number is `null`. Token counts are totals over the arm's questions.
#[must_use]
pub fn json(results: &Results) -> Value {
    let mut value = serde_json::to_value(results).expect("Results holds only strings, numbers and lists");
    let verdicts = sets::verdicts(results);
    if !results.by_dataset.is_empty() {
        for (at, (_, verdict)) in verdicts.iter().enumerate() {
            value["by_dataset"][at]["verdict"] = told(verdict);
        }
    }
    value["verdict"] = match verdicts.as_slice() {
        [(_, verdict)] => told(verdict),
        several => {
            let headlines: Vec<String> =
                several.iter().map(|(set, verdict)| format!("{set}: {}", verdict.headline)).collect();
            let headline = format!("{} {}", sets::title(several), headlines.join(" "));
            json!({ "answer": "by-dataset", "headline": headline, "summary": [], "findings": [] })
        }
    };
    value
}

fn told(verdict: &Verdict) -> Value {
    let label = |(label, text): &(&str, String)| json!({ "label": label, "text": text });
    let summary: Vec<Value> = verdict.summary.iter().map(label).collect();
    json!({ "answer": verdict.answer.word(), "headline": verdict.headline, "summary": summary, "findings": verdict.findings })
}
