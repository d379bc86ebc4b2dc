//! `divvy run` and its single stages: each stage does what is missing and nothing twice.

use std::time::Duration;

use divvy_core::{
    cost::{self, list},
    plan::Plan,
    recipe::Recipe,
    records::Stage,
};
use divvy_flow::{
    collect, context::Context, demonstrations, error::FlowError, estimate, evaluate, screen, shard::Shard,
    split::Splits, timed::timed, train,
};
use divvy_store::{ItemCount, RunId, RunStatus};

use crate::{
    cli::Place,
    clock,
    commands::{batches, report},
    output::{print, say},
    progress::thousands,
    session::{Access, Session, read_recipe, short, stop_on_ctrl_c},
};

const STAGES: [Stage; 4] = [Stage::Collect, Stage::Screen, Stage::Train, Stage::Evaluate];

/// All stages, then the report: Markdown on stdout, the page in the store's folder.
pub(crate) async fn all(place: &Place) -> anyhow::Result<()> {
    let session = stages(place, Stage::Evaluate, None).await?;
    let path = session.folder.join("reports").join(format!("{}.html", report::file_name(&session.context.plan.name)));
    let results = report::write_page(&session, &path).await?;
    print(&divvy_report::markdown(&results))?;
    say(&format!("report: {}", path.display()));
    session.close().await
}

/// The stages up to `last`, for all questions or for a shard of them.
pub(crate) async fn until(place: &Place, last: Stage, shard: Option<Shard>) -> anyhow::Result<()> {
    stages(place, last, shard).await?.close().await
}

async fn stages(place: &Place, last: Stage, shard: Option<Shard>) -> anyhow::Result<Session> {
    let mut session = Session::open(place, Access::Run).await?;
    session.context.shard = shard;
    let context = &session.context;
    let run = begin(&session, last).await?;
    batches::mention_unwaited(&session).await?;
    let outcome = up_to(&session, last).await;
    if outcome.is_err() {
        batches::mention_open(&context.store).await?;
    }
    end(context, run, &outcome).await?;
    if outcome.is_err() {
        session.close().await?;
    }
    outcome?;
    Ok(session)
}

/// Puts everything on record that items refer to.
pub(super) async fn begin(session: &Session, last: Stage) -> anyhow::Result<RunId> {
    let context = &session.context;
    check(context, last).await?;
    stop_on_ctrl_c(session);
    let plan_json = serde_json::to_string(&context.plan)?;
    context.store.put_plan(&context.digest, &plan_json).await?;
    context.store.put_questions(&context.digest, context.questions.texts()).await?;
    let run = context
        .store
        .begin_run(&context.digest, &context.plan.name, env!("CARGO_PKG_VERSION"), clock::now_ms())
        .await?;
    if let Some(recipe) = &session.to_keep {
        context.store.keep_recipe(run, recipe).await?;
    }
    say(&format!("{}: plan {}, store {}", context.plan.name, short(&context.digest), context.store.name()));
    mention_listed_prices(&session.recipe, &context.plan);
    Ok(run)
}

/// What is charged on divvy's word and not the recipe's.
fn mention_listed_prices(recipe: &Recipe, plan: &Plan) {
    for name in plan.models_in_use() {
        let Some(price) = recipe.models.get(&name).and_then(list::listed) else { continue };
        let dollars = |price: &Option<String>| price.clone().unwrap_or_default();
        say(&format!(
            "{name}: ${} in and ${} out for a million tokens by the list in divvy ({}); a `price` in the recipe goes before it",
            dollars(&price.input),
            dollars(&price.output),
            list::origin()
        ));
    }
}

pub(super) async fn end(context: &Context, run: RunId, outcome: &Result<(), FlowError>) -> Result<(), FlowError> {
    Ok(context.store.end_run(run, status_of(outcome), clock::now_ms()).await?)
}

/// What can be known to fail later fails now, before anything is paid for.
async fn check(context: &Context, last: Stage) -> Result<(), FlowError> {
    demonstrations::check_written(&context.plan, &context.questions)?;
    collect::check(context)?;
    if last >= Stage::Screen {
        screen::check(context)?;
    }
    if last >= Stage::Train {
        train::check(context)?;
    }
    if last >= Stage::Evaluate {
        evaluate::check(context)?;
        for name in context.plan.models_in_use() {
            context.models.get(&name).await?; // makes a client, which reads its API key; loads nothing
        }
    }
    Ok(())
}

async fn up_to(session: &Session, last: Stage) -> Result<(), FlowError> {
    for stage in STAGES.into_iter().take_while(|stage| *stage <= last) {
        Box::pin(one(session, &session.context, stage, last)).await?;
    }
    Ok(())
}

/// One of the stages up to `last`.
pub(super) async fn one(session: &Session, context: &Context, stage: Stage, last: Stage) -> Result<(), FlowError> {
    match stage {
        Stage::Collect if last == stage => timed(context, stage, collect::run(context)).await,
        Stage::Collect => timed(context, stage, collect::before_screening(context)).await,
        // It may collect as it goes on, and takes its time itself.
        Stage::Screen => screen::run(context).await,
        Stage::Train => timed(context, stage, train::run(context, &session.trainer)).await,
        Stage::Evaluate | Stage::Judge => {
            session.hosts.watch();
            let outcome = timed(context, stage, evaluate::run(context)).await;
            session.hosts.watched().iter().for_each(|told| context.progress.note(&format!("evaluate: {told}")));
            outcome
        }
    }
}

fn status_of(outcome: &Result<(), FlowError>) -> RunStatus {
    match outcome {
        Ok(()) => RunStatus::Done,
        Err(FlowError::Interrupted) => RunStatus::Interrupted,
        Err(FlowError::Budget(_)) => RunStatus::Stopped,
        Err(_) => RunStatus::Failed,
    }
}

/// The resolved plan, the calls, and an estimate; nothing is asked, fetched or written.
pub(crate) async fn dry(place: &Place) -> anyhow::Result<()> {
    let (recipe, plan) = read_recipe(place)?;
    let questions = crate::questions::load(&recipe, place)?;
    demonstrations::check_written(&plan, &questions)?;
    plan.screen.as_ref().map_or(Ok(()), |screen| screen::check_gold(screen, &questions.train))?;
    train::check_gold(&plan, &questions.train)?;
    plan.evaluate.as_ref().map_or(Ok(()), |evaluate| evaluate::check_gold(evaluate, &questions))?;
    print(&serde_json::to_string_pretty(&plan)?)?;
    grid(&plan, &questions);
    let lines = estimate::estimate(&plan, &questions);
    let cost_of = |line: &estimate::Estimate| -> Option<i64> {
        let model = recipe.models.get(&line.model)?;
        let prices = cost::Prices::of(model).ok()??;
        match prices.machine_hour > 0 {
            // How fast a machine is that is not this one, nobody knows before it was asked.
            true if model.source.starts_with("http") => None,
            true => prices.cost_of_call(&line.usage(), Duration::from_secs(seconds(line))),
            false => prices.cost(&line.usage()),
        }
    };
    let width = lines.iter().map(|line| line.model.chars().count()).max().unwrap_or(0).max(16);
    say(&format!(
        "{:<9} {:<width$} {:>10} {:>13} {:>13}  {:<12} {}",
        "stage", "model", "calls/rows", "tokens in", "tokens out", "price", "as"
    ));
    for line in &lines {
        let price = cost_of(line).map_or_else(|| "–".to_owned(), cost::show_dollars);
        let row = format!(
            "{:<9} {:<width$} {:>10} {:>13} {:>13}  {price:<12} {}",
            line.stage,
            line.model,
            thousands(line.calls),
            thousands(line.tokens_in),
            thousands(line.tokens_out),
            part(line)
        );
        say(row.trim_end());
    }
    mention_listed_prices(&recipe, &plan);
    let local = |line: &&estimate::Estimate| {
        recipe.models.get(&line.model).is_none_or(|model| !model.source.starts_with("http"))
    };
    let seconds: u64 = lines.iter().filter(local).map(seconds).sum();
    if seconds > 0 {
        say(&format!(
            "local models: about {} min on two cores with AVX-512 (rough; what is finished already is free)",
            seconds / 60 + 1
        ));
    }
    say(&finished(place).await);
    Ok(())
}

/// What a model is in which arms.
fn part(line: &estimate::Estimate) -> String {
    const NAMED: usize = 3;
    let Some(part) = line.part else { return String::new() };
    let (first, more) =
        (line.arms.iter().take(NAMED).cloned().collect::<Vec<_>>(), line.arms.len().saturating_sub(NAMED));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} of {}{more}", part.name(), first.join(", "))
}

/// What is asked of whom, and what is asked once for all.
fn grid(plan: &Plan, questions: &Splits) {
    let Some(shape) = estimate::shape(plan, questions) else { return };
    let sets: Vec<String> = shape.sets.iter().map(|(set, rows)| format!("{set} {}", thousands(*rows))).collect();
    let repeats = if shape.repeats > 1 { format!(" × {} repeats", shape.repeats) } else { String::new() };
    let (arms, sets) = (shape.arms, sets.join(" + "));
    say(&format!("grid: {arms} arms{repeats} × {sets} = {} answers", thousands(shape.answers)));
    let saved = shape.decomposing - shape.decompositions;
    if saved > 0 {
        say(&format!(
            "{} of them begin with a decomposition that a model writes; {} are written, each once for all arms that share it",
            thousands(shape.decomposing),
            thousands(shape.decompositions)
        ));
    }
}

/// What the store has of this plan already, or why that cannot be told yet: a model whose content is unknown has no
/// identity.
async fn finished(place: &Place) -> String {
    let counted = async {
        let session = Session::open(place, Access::Look).await?;
        let counts = session.context.store.item_counts(&session.context.digest).await?;
        anyhow::Ok((short(&session.context.digest), counts))
    };
    let (plan, counts) = match counted.await {
        Ok(counted) => counted,
        Err(error) => return format!("finished already: nothing that could be found ({error})"),
    };
    let settled = |stage: Stage| -> u64 {
        let settled = |count: &&ItemCount| count.stage == stage && count.state.is_settled();
        counts.iter().filter(settled).map(|count| count.items).sum()
    };
    let stages = STAGES.into_iter().chain([Stage::Judge]).filter(|stage| settled(*stage) > 0);
    let stages: Vec<String> = stages.map(|stage| format!("{} {}", stage.name(), thousands(settled(stage)))).collect();
    let stages = if stages.is_empty() { "nothing".to_owned() } else { stages.join(", ") };
    format!("finished already, and free (plan {plan}): {stages}")
}

/// What two cores with AVX-512 (bf16, VNNI) took for models of 1.5 billion parameters, tokens in and out together (300 to 650 a
/// second), and for training one of 0.135 billion.
pub(super) fn seconds(line: &estimate::Estimate) -> u64 {
    match line.stage {
        "train" => line.tokens_in / 1000,
        _ => (line.tokens_in + line.tokens_out) / 350,
    }
}
