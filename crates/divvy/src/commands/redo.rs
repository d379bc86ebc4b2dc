//! `divvy redo`: items that the next run asks for anew.

use anyhow::bail;
use divvy_core::records::Stage;
use divvy_flow::redo;
use divvy_store::{Store, StoreError};

use crate::{
    cli::Place,
    commands::conditions::{self, Known},
    output::say,
    session::{Access, Session},
};

const KNOWN: Known = Known { stages: &redo::STAGES, states: &["done", "failed", "rejected"] };

pub(crate) async fn run(place: &Place, conditions: &[String], max_tokens: Option<u32>) -> anyhow::Result<()> {
    let condition = conditions::read(conditions, &KNOWN)?;
    let session = Session::open(place, Access::Run).await?;
    let others = others_at_work(&session.context.store).await?;
    if !others.is_empty() {
        // Else this one would be told of as at work by the next.
        session.close().await?;
        bail!(
            "others are at work on this store: {others}. They know only what was put back before their stage began, and would \
             answer with the old replies. Wait for them or stop them, and run the same command again (one that was killed is \
             listed until its lease is over)"
        );
    }
    let put_back = redo::put_back(&session.context, &condition, max_tokens).await?;
    session.close().await?;
    for (stage, items) in &put_back {
        say(&format!("{}: {items} items put back", stage.name()));
    }
    let recipe = place.recipe.display();
    if put_back.is_empty() {
        say(&format!("nothing is like that; `divvy status {recipe}` lists states and reasons"));
    } else {
        say(&format!(
            "`divvy run {recipe}` asks for them anew; the old replies stay in the store, for any other plan too"
        ));
        let repeats = |stage: Stage| max_tokens.is_none() && is_greedy(&session, stage);
        put_back.iter().filter(|(stage, _)| repeats(*stage)).for_each(|(stage, _)| {
            let stage = stage.name();
            say(&format!(
                "note: {stage} asks at temperature 0: a local model repeats itself, and an endpoint may; for what was cut off, \
                 `divvy redo … --max-tokens N` gives these items more room; another max_tokens or temperature in [{stage}] is \
                 another plan, which asks every row anew"
            ));
        });
    }
    Ok(())
}

/// Workers beside this one, on a store that several share: for which plan, nobody knows.
async fn others_at_work(store: &Store) -> Result<String, StoreError> {
    let Some(shared) = store.shared() else { return Ok(String::new()) };
    let names: Vec<String> = shared.other_workers().await?.into_iter().map(|worker| worker.name).collect();
    Ok(names.join(", "))
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
