//! A log that Inspect (the evaluation framework `inspect_ai`) opens: one for each arm, in the JSON form, version 2. A log is
//! its head and samples; the head needs the figures, which are known last, so they are made apart and put together.

use std::collections::BTreeMap;

use divvy_core::{
    chat::{ChatRequest, Finish, Message},
    digest::Digest,
    graded::{Asked, GradedRow, RowCall, Said, Sheet, answer_of},
    plan::TEACHER,
    results::{ArmResult, Results, costs::Tokens},
};
use serde_json::{Value, json};

use crate::verdict::is_withheld;

/// What our scorer is called there.
const SCORER: &str = "divvy";

/// The samples of each arm in a sheet, by its name, as JSON texts with a comma between. Answers to a question are its epochs.
#[must_use]
pub fn inspect_samples(sheet: &Sheet) -> Vec<(String, String)> {
    let columns: Vec<(&str, u32)> = sheet.arms.iter().map(|name| answer_of(name)).collect();
    let mut arms: Vec<&str> = columns.iter().map(|(arm, _)| *arm).collect();
    arms.dedup();
    let places: Vec<usize> =
        columns.iter().map(|(arm, _)| arms.iter().position(|one| one == arm).unwrap_or(0)).collect();
    let mut samples: Vec<Vec<String>> = vec![Vec::new(); arms.len()];
    for asked in &sheet.questions {
        for row in &asked.rows {
            let epoch = columns[row.arm].1 + 1;
            samples[places[row.arm]].push(sample(sheet, asked, row, epoch).to_string());
        }
    }
    arms.into_iter().map(str::to_owned).zip(samples.iter().map(|texts| texts.join(",\n"))).collect()
}

fn sample(sheet: &Sheet, asked: &Asked, row: &GradedRow, epoch: u32) -> Value {
    let calls: Vec<&RowCall> = row.calls.iter().filter_map(|place| sheet.calls.get(*place)).collect();
    let said = || calls.iter().filter_map(|call| call.said.as_ref());
    let model = said().next_back().map_or("unknown", |said| said.model.as_str());
    let input = match &asked.premise {
        Some(premise) => format!("{premise}\n\n{}", asked.question),
        None => asked.question.clone(),
    };
    let mut sample = json!({
        "id": asked.id,
        "epoch": epoch,
        "input": input,
        "target": asked.gold,
        "messages": said().flat_map(messages).collect::<Vec<_>>(),
        "output": output(model, row, said().next_back()),
        "scores": {SCORER: {
            "value": if row.correct { "C" } else { "I" },
            "answer": row.answer,
            "explanation": row.reason,
            "metadata": {"score": row.score, "outcome": row.outcome},
        }},
        "metadata": {
            "steps": asked.steps,
            "subquestions": row.subquestions,
            "sub_answers": row.sub_answers,
            "cost_nanos": row.cost_nanos,
            "calls": calls.iter().map(|call| &call.key).collect::<Vec<_>>(),
        },
        "model_usage": usages(&calls),
    });
    if let Some(reason) = &row.reason {
        sample["error"] = json!({"message": reason, "traceback": "", "traceback_ansi": ""});
    }
    sample
}

/// What was said, call after call.
fn messages(said: &Said) -> Vec<Value> {
    let request: Option<ChatRequest> = serde_json::from_str(said.request.get()).ok();
    let asked = request.map(|request| request.messages).unwrap_or_default();
    let message = |message: &Message| json!({"role": message.role, "content": message.content});
    let reply = json!({"role": "assistant", "content": said.reply, "model": said.model, "source": "generate"});
    asked.iter().map(message).chain([reply]).collect()
}

fn output(model: &str, row: &GradedRow, last: Option<&Said>) -> Value {
    let stop = match last.map(|said| &said.finish) {
        Some(Finish::Length) => "max_tokens",
        Some(Finish::Other(reason)) if reason == "content_filter" => "content_filter",
        None | Some(Finish::Other(_)) => "unknown",
        Some(Finish::Stop) => "stop",
    };
    json!({
        "model": model,
        "choices": [{
            "message": {"role": "assistant", "content": row.reply, "model": model, "source": "generate"},
            "stop_reason": stop,
        }],
        "usage": row.tokens.map(|Tokens { input, cached, output }| usage(input, output, Some(cached))),
    })
}

fn usage(tokens_in: u64, tokens_out: u64, cached: Option<u64>) -> Value {
    json!({
        "input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out,
        "input_tokens_cache_read": cached,
    })
}

/// By model; nothing of one of which some call came without its tokens.
fn usages(calls: &[&RowCall]) -> Value {
    let mut sums: BTreeMap<&str, Option<(u64, u64, u64)>> = BTreeMap::new();
    for call in calls {
        let Some(said) = &call.said else { continue };
        let sum = sums.entry(&said.model).or_insert(Some((0, 0, 0)));
        let counted = sum.zip(call.tokens_in.zip(call.tokens_out));
        *sum = counted.map(|((tokens_in, tokens_out, cached), (more_in, more_out))| {
            (tokens_in + more_in, tokens_out + more_out, cached + call.tokens_cached.unwrap_or(0))
        });
    }
    let known = sums.into_iter().filter_map(|(model, sum)| Some((model, sum?)));
    known
        .map(|(model, (tokens_in, tokens_out, cached))| (model.to_owned(), usage(tokens_in, tokens_out, Some(cached))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The log of an arm up to its samples; [`INSPECT_END`] comes after them.
#[must_use]
pub fn inspect_head(results: &Results, arm: &ArmResult) -> String {
    let head = json!({
        "version": 2,
        "status": status(arm),
        "eval": spec(results, arm),
        "plan": {"name": arm.strategy, "steps": [], "config": {}},
        "results": {
            "total_samples": arm.n,
            "completed_samples": arm.n.saturating_sub(arm.errors + arm.pending),
            "scores": [{"name": SCORER, "scorer": SCORER, "params": {}, "metrics": {
                "accuracy": {"name": "accuracy", "value": arm.accuracy, "params": {}},
                "ci_low": {"name": "ci_low", "value": arm.ci.0, "params": {}},
                "ci_high": {"name": "ci_high", "value": arm.ci.1, "params": {}},
                "score": {"name": "score", "value": arm.score, "params": {}},
            }}],
        },
        "stats": {
            "started_at": results.created, "completed_at": results.created,
            "model_usage": model_usage(results, arm),
        },
    });
    let text = head.to_string();
    let open = text.strip_suffix('}').expect("an object ends in a brace");
    format!("{open},\"samples\":[\n")
}

fn status(arm: &ArmResult) -> &'static str {
    match is_withheld(arm) {
        true if arm.pending > 0 => "started",
        true => "error",
        false => "success",
    }
}

/// By model; a data set's own decompositions are no model's. Nothing where the tokens are not known: Inspect has no word for that.
fn model_usage(results: &Results, arm: &ArmResult) -> Value {
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let teacher = results.collection.as_ref().map(|collection| collection.teacher.as_str());
    let model = |name| if name == TEACHER { teacher.unwrap_or(name) } else { name };
    let decomposer = arm.decomposer.as_deref().map(model);
    let decomposer = decomposer.map(|name| (name, arm.decompose_tokens_in, arm.decompose_tokens_out));
    for (model, tokens_in, tokens_out) in
        decomposer.into_iter().chain([(arm.solver.as_str(), arm.solve_tokens_in, arm.solve_tokens_out)])
    {
        let Some((tokens_in, tokens_out)) = tokens_in.zip(tokens_out) else { return json!({}) };
        let sum = sums.entry(model).or_default();
        *sum = (sum.0 + tokens_in, sum.1 + tokens_out);
    }
    let asked = sums.into_iter().filter(|(_, (tokens_in, tokens_out))| tokens_in + tokens_out > 0);
    asked
        .map(|(model, (tokens_in, tokens_out))| (model.to_owned(), usage(tokens_in, tokens_out, None)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// What ends a log.
pub const INSPECT_END: &str = "\n]}\n";

/// A name as Inspect gives its own logs: when, what, which. Of arms and seeds that would have one name, which not every file system
/// tells by upper and lower case, each has some digits of its own.
#[must_use]
pub fn inspect_name(results: &Results, arm: &ArmResult) -> String {
    let id: String = results.plan.chars().take(12).collect();
    let name = safe(&arm.arm);
    let mut others = results.arms.iter().chain(&results.seeds).filter(|other| other.arm != arm.arm);
    let alike = others.any(|other| safe(&other.arm).eq_ignore_ascii_case(&name));
    let own = if alike { format!("-{:.8}", Digest::of_bytes(arm.arm.as_bytes()).hex()) } else { String::new() };
    format!("{}_{}_{name}{own}-{}.json", safe(&results.created), safe(&results.name), safe(&id))
}

fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

fn spec(results: &Results, arm: &ArmResult) -> Value {
    let datasets: Vec<&str> = results
        .datasets
        .iter()
        .filter(|used| used.split == results.split.name())
        .map(|used| used.dataset.as_str())
        .collect();
    let id: String = results.plan.chars().take(22).collect();
    json!({
        "eval_id": format!("{id}/{}", arm.arm),
        "run_id": id,
        "task_id": format!("{id}/{}", arm.arm),
        "created": results.created,
        "task": results.name,
        "task_version": 0,
        "solver": arm.arm,
        "model": arm.solver,
        "dataset": {"name": datasets.join(", "), "samples": arm.questions(), "shuffled": false},
        "config": {"epochs": arm.each},
        "packages": {"divvy": results.divvy_version},
        "metadata": {"arm": arm.arm, "plan": results.plan, "decomposer": arm.decomposer},
        "scorers": [{"name": SCORER}],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::{COT, DISTILLED, results, sheet};

    #[test]
    fn a_head_says_how_often_it_was_asked_whether_it_failed_and_what_it_took() {
        let mut results = results();
        let head = |arm: &ArmResult, results: &Results| -> Value {
            serde_json::from_str(&format!("{}{INSPECT_END}", inspect_head(results, arm))).unwrap()
        };
        let at = results.arms.iter().position(|arm| arm.arm == DISTILLED).unwrap();
        let arm = &mut results.arms[at];
        (arm.n, arm.each, arm.errors) = (900, 3, 9);
        let log = head(&results.arms[at], &results);
        assert_eq!((&log["eval"]["config"]["epochs"], &log["eval"]["dataset"]["samples"]), (&json!(3), &json!(300)));
        assert_eq!(log["status"], "success", "1 % is tolerated");
        let usage = |model: &str| log["stats"]["model_usage"][model]["input_tokens"].clone();
        assert_eq!((usage("student:sd-r"), usage("big")), (json!(30_000), json!(60_000)), "to each its own");
        results.arms[at].errors = 10;
        results.arms[at].forget_tokens();
        let log = head(&results.arms[at], &results);
        assert_eq!((&log["status"], &log["stats"]["model_usage"]), (&json!("error"), &json!({})));
    }

    #[test]
    fn tokens_that_nobody_counted_are_not_said_to_be_none() {
        let mut sheet = sheet();
        sheet.calls[0].tokens_in = None;
        sheet.questions[0].rows[0].tokens = None;
        let (_, text) = &inspect_samples(&sheet)[0];
        let list: Value = serde_json::from_str(&format!("[{text}]")).unwrap();
        assert!(list[0]["output"]["usage"].is_null(), "{list}");
        assert_eq!(list[0]["model_usage"], json!({}));
    }

    #[test]
    fn every_arm_has_a_log_of_its_own() {
        let mut results = results();
        let slugs = ["two-stage/a-b/c", "two-stage/a/b-c", "two-stage/A/b-c", "direct/big"];
        results.arms.truncate(slugs.len());
        results.arms.iter_mut().zip(slugs).for_each(|(arm, slug)| arm.arm = slug.to_owned());
        let seed = |slug: &str| ArmResult { arm: slug.to_owned(), ..results.arms[0].clone() };
        results.seeds = ["cot/s#1", "cot/s-1", "direct/s#1", "direct#big"].map(seed).into();
        let all = || results.arms.iter().chain(&results.seeds);
        let names: BTreeSet<String> = all().map(|arm| inspect_name(&results, arm).to_ascii_lowercase()).collect();
        assert_eq!(names.len(), all().count(), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with("_direct-s-1-abababababab.json")), "{names:?}");
    }

    #[test]
    fn head_and_samples_make_a_log() {
        let (results, sheet) = (results(), sheet());
        let samples = inspect_samples(&sheet);
        let arm = results.arms.iter().position(|arm| arm.arm == COT).unwrap();
        let text = format!("{}{}{INSPECT_END}", inspect_head(&results, &results.arms[arm]), samples[0].1);
        let log: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&log["version"], &log["status"]), (&json!(2), &json!("success")));
        for key in ["created", "task", "dataset", "model", "config"] {
            assert!(!log["eval"][key].is_null(), "eval.{key} is required");
        }
        let list = log["samples"].as_array().unwrap();
        assert_eq!(list.len(), 2);
        for sample in list {
            for key in ["id", "epoch", "input", "target"] {
                assert!(!sample[key].is_null(), "samples[].{key} is required");
            }
        }
        assert_eq!(list[0]["scores"][SCORER]["value"], "C");
        assert_eq!(
            list[0]["messages"][1],
            json!({"role": "assistant", "content": "The answer is: 12", "model": "big", "source": "generate"})
        );
        assert_eq!(list[1]["error"]["message"], "bad-request");
        assert_eq!(
            inspect_name(&results, &results.arms[arm]),
            "2026-01-01T00-00-00Z_quickstart_cot-big-abababababab.json"
        );
    }
}
