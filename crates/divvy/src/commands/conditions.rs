//! `--where KEY=VALUE`: which items a command is about. All that are given must hold.

use divvy_core::records::Stage;
use divvy_flow::condition::Condition;

use crate::output::Usage;

/// What a command has items of.
pub(super) struct Known {
    pub(super) stages: &'static [Stage],
    pub(super) states: &'static [&'static str],
}

pub(super) fn read(written: &[String], known: &Known) -> Result<Condition, Usage> {
    let mut condition = Condition::default();
    for text in written {
        let (key, value) = text.split_once('=').ok_or_else(|| wrong(text, "it is written key=value"))?;
        let given = Some(value.to_owned());
        match key {
            "reason" => condition.reason = given,
            "question" => condition.question = given,
            "state" if known.states.contains(&value) => condition.state = given,
            "state" => return Err(wrong(text, &format!("a state is {}", either(known.states)))),
            "stage" => condition.stage = Some(stage(text, value, known)?),
            _ => return Err(wrong(text, "known keys are reason, stage, state and question")),
        }
    }
    Ok(condition)
}

fn stage(text: &str, name: &str, known: &Known) -> Result<Stage, Usage> {
    match known.stages.iter().find(|stage| stage.name() == name) {
        Some(stage) => Ok(*stage),
        // Only a command that puts items back does not know this stage.
        None if name == Stage::Evaluate.name() => {
            Err(wrong(text, "an answer that was measured stays: asking until it is right would bend the table"))
        }
        None => {
            let names: Vec<&str> = known.stages.iter().map(|stage| stage.name()).collect();
            Err(wrong(text, &format!("a stage is {}", either(&names))))
        }
    }
}

/// `done, failed or rejected`
fn either(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

fn wrong(text: &str, why: &str) -> Usage {
    Usage(format!("--where {text}: {why}"))
}
