//! `divvy redo`: items that the next run asks for anew.

use divvy_core::records::Stage;
use divvy_flow::redo::{self, Condition};

use crate::{
    cli::Place,
    output::{Usage, say},
    session::{Access, Session},
};

pub(crate) async fn run(place: &Place, conditions: &[String]) -> anyhow::Result<()> {
    let condition = condition(conditions)?;
    let session = Session::open(place, Access::Run).await?;
    let put_back = redo::put_back(&session.context, &condition).await?;
    session.context.store.close().await?;
    for (stage, items) in &put_back {
        say(&format!("{}: {items} items put back", stage.name()));
    }
    let recipe = place.recipe.display();
    if put_back.is_empty() {
        say(&format!("nothing is like that; `divvy status {recipe}` lists states and reasons"));
    } else {
        say(&format!("`divvy run {recipe}` asks for them anew; the old replies stay in the store"));
        put_back.iter().filter(|(stage, _)| is_greedy(&session, *stage)).for_each(|(stage, _)| {
            let stage = stage.name();
            say(&format!(
                "note: {stage} asks at temperature 0: a local model repeats itself, and an endpoint may; a higher \
                 `max_tokens` or a temperature in [{stage}] makes it another request"
            ));
        });
    }
    Ok(())
}

fn is_greedy(session: &Session, stage: Stage) -> bool {
    let plan = &session.context.plan;
    match stage {
        Stage::Screen => {
            plan.screen.as_ref().is_some_and(|screen| screen.solver.is_some() && screen.temperature == 0.0)
        }
        _ => plan.collect.temperature == 0.0,
    }
}

fn condition(written: &[String]) -> Result<Condition, Usage> {
    let mut condition = Condition::default();
    for text in written {
        let (key, value) = text.split_once('=').ok_or_else(|| wrong(text, "it is written key=value"))?;
        let given = Some(value.to_owned());
        match key {
            "reason" => condition.reason = given,
            "question" => condition.question = given,
            "state" if ["done", "failed", "rejected"].contains(&value) => condition.state = given,
            "state" => return Err(wrong(text, "a state is done, failed or rejected")),
            "stage" => condition.stage = Some(stage(text, value)?),
            _ => return Err(wrong(text, "known keys are reason, stage, state and question")),
        }
    }
    Ok(condition)
}

fn stage(text: &str, name: &str) -> Result<Stage, Usage> {
    match redo::STAGES.into_iter().find(|stage| stage.name() == name) {
        Some(stage) => Ok(stage),
        None if name == Stage::Evaluate.name() => {
            Err(wrong(text, "an answer that was measured stays: asking until it is right would bend the table"))
        }
        None => Err(wrong(text, "a stage is collect or screen")),
    }
}

fn wrong(text: &str, why: &str) -> Usage {
    Usage(format!("--where {text}: {why}"))
}
