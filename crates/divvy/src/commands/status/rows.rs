//! `divvy status --rows`: every item that is on record, a line each: how it stands and why, what its calls took, and the first
//! digits of their keys, with which `divvy calls` shows them. There may be millions: they are read and printed part by part, in
//! the order of stages, questions, samples and arms.

use divvy_core::{
    prompts::decompose::Problem,
    records::{Collected, ItemState, Stage, Unusable},
};
use divvy_flow::{
    condition::{Condition, reason, verdict},
    paid::{self, Paid},
};
use divvy_store::ItemRow;
use serde_json::{Value, json};

use crate::{
    cli::Place,
    commands::{
        calls::beginning,
        conditions::{self, Known},
        status::figures,
    },
    output::{print, say},
    session::{Access, Session, short},
};

const KNOWN: Known = Known { stages: &paid::STAGES, states: &["done", "failed", "rejected", "pending"] };

pub(crate) async fn run(place: &Place, conditions: &[String], as_json: bool) -> anyhow::Result<()> {
    let condition = conditions::read(conditions, &KNOWN)?;
    let session = Session::open(place, Access::Look).await?;
    let context = &session.context;
    let (books, mut none) = (paid::Books::read(context).await?, true);
    for stage in asked(&condition) {
        let mut walk = context.store.walk(&context.digest, stage).await?;
        while let Some(mut items) = walk.more().await? {
            items.retain(|item| condition.holds(item));
            if items.is_empty() {
                continue;
            }
            none = false;
            let paid = paid::by_item(context, &books, &items).await?;
            let show = |(item, paid)| if as_json { format!("{}\n", value(item, paid)) } else { line(item, paid) };
            print(&items.iter().zip(&paid).map(show).collect::<String>())?;
        }
    }
    if none {
        let recipe = place.recipe.display();
        say(&format!("no item is like that; `divvy status {recipe}` tells how many stand in which state"));
    }
    Ok(())
}

fn asked(condition: &Condition) -> impl Iterator<Item = Stage> {
    paid::STAGES.into_iter().filter(|stage| condition.stage.is_none_or(|asked| asked == *stage))
}

/// A column each, but for what comes behind the state; a stage without arms has a dash there.
fn line(item: &ItemRow, paid: &Paid) -> String {
    let ItemRow { stage, question, sample, arm, state, .. } = item;
    let arm = if arm.is_empty() { "-" } else { arm };
    let state = match reason(item) {
        Some(reason) => format!("{}: {reason}", state.name()),
        None => state.name().to_owned(),
    };
    let keys = item.calls.iter().map(short);
    let more: Vec<String> = [figures::of_item(paid)].into_iter().chain(why(item)).chain(keys).collect();
    format!("{:<8}  {question}  {sample}  {arm}  {state}  {}\n", stage.name(), more.join("  "))
}

/// What the record says beyond the reason.
fn why(item: &ItemRow) -> Option<String> {
    if let Some(rate) = pass_rate(item) {
        return Some(format!("pass rate {rate:.2}"));
    }
    if let Some(message) = message(item) {
        return Some(beginning(&message));
    }
    let problems = problems(item);
    (!problems.is_empty()).then(|| format!("problems: {}", problems.join(", ")))
}

/// Of the solver's samples, those that were right.
fn pass_rate(item: &ItemRow) -> Option<f64> {
    verdict(item)?.pass_rate
}

/// What the failed call ended with.
fn message(item: &ItemRow) -> Option<String> {
    let failed = matches!(item.state, ItemState::Failed(_));
    failed.then(|| serde_json::from_str(&item.payload_json).ok())?
}

/// What was left out of a teacher's reply, in its order; what comes again is counted.
fn problems(item: &ItemRow) -> Vec<String> {
    let read = |json| match item.state {
        ItemState::Rejected(_) => serde_json::from_str::<Unusable>(json).map(|record| record.problems),
        _ => serde_json::from_str::<Collected>(json).map(|record| record.problems),
    };
    let found = (item.stage == Stage::Collect).then(|| read(&item.payload_json).ok()).flatten().unwrap_or_default();
    let mut counted: Vec<(Problem, usize)> = Vec::new();
    for problem in found {
        match counted.iter_mut().find(|(known, _)| *known == problem) {
            Some((_, times)) => *times += 1,
            None => counted.push((problem, 1)),
        }
    }
    let told = |(problem, times): (Problem, usize)| {
        let name = json!(problem).as_str().unwrap_or_default().to_owned();
        if times == 1 { name } else { format!("{name} ×{times}") }
    };
    counted.into_iter().map(told).collect()
}

fn value(item: &ItemRow, paid: &Paid) -> Value {
    let ItemRow { stage, question, sample, arm, state, calls, .. } = item;
    json!({
        "stage": stage.name(), "question": question, "sample": sample, "arm": arm, "state": state.name(),
        "reason": reason(item), "pass_rate": pass_rate(item), "problems": problems(item), "message": message(item),
        "took": figures::value(paid), "calls": calls.iter().map(|key| key.hex().to_owned()).collect::<Vec<_>>(),
    })
}
