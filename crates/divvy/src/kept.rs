//! What a run in the store was made of: its plan, its questions, and its recipe as it stood when the run began. Nothing is
//! guessed: a model that is not the one that was measured is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use divvy_core::{
    digest::{Digest, derive_seed},
    plan::Plan,
    question::{Question, QuestionId, Split},
    questions::Questions,
    recipe::{self, Recipe},
};
use divvy_data::questions::aside::Aside;
use divvy_flow::{context::Context, progress::Progress, split::Splits};
use divvy_store::{KeptRecipe, RunRow, Store};

use crate::{
    commands::runs,
    home::Home,
    models::{self, Registry, Resolved},
    output::Usage,
    progress::Terminal,
    session::{Access, Parts, Session, context, numerics, short},
};

/// Runs that a message names.
const NAMED: usize = 10;

/// A session on one run, named by its id or the first digits of its plan's digest, without the recipe's file.
pub(crate) async fn open(home: Home, wanted: &str) -> anyhow::Result<Session> {
    let store = home.open(Access::Look).await?;
    let runs = of_one_plan(&store, wanted, "--run").await?;
    let (run, kept) = newest_kept(&store, &runs).await?;
    let recipe = Recipe::parse(&kept.text, &format!("the recipe of run {}", run.id.0))?;
    let plan = plan(&store, &run.plan).await?;
    let resolved = models::resolve(&recipe, Path::new(&kept.folder), &plan.models_in_use(), false)?;
    check_models(&plan, &resolved)?;
    let questions = questions(&store, &run.plan, &plan, &home.folder).await?;
    check_questions(&plan, &questions)?;
    let (digest, folder, seen_from) = (run.plan.clone(), home.folder, kept.folder.into());
    let (to_keep, budget) = (None, Arc::default());
    Ok(Session::assemble(Parts {
        recipe,
        to_keep,
        plan,
        digest,
        questions,
        resolved,
        store,
        budget,
        folder,
        seen_from,
    }))
}

/// A plan of the store to look at, with what is known of its models.
pub(crate) struct Look {
    pub(crate) context: Context,
    /// Empty where no recipe was kept.
    pub(crate) models: BTreeMap<String, recipe::Model>,
    pub(crate) costs: recipe::Costs,
    pub(crate) numerics: BTreeMap<String, String>,
}

/// Opens a plan to look at; `folder` has room for its questions. Nothing is fetched: a model that is not here any more is merely not described.
pub(crate) async fn look(store: &Store, digest: &Digest, folder: &Path) -> anyhow::Result<Look> {
    let plan = plan(store, digest).await?;
    let questions = questions(store, digest, &plan, folder).await?;
    let runs: Vec<RunRow> = store.runs().await?.into_iter().filter(|run| run.plan == *digest).collect();
    let recipe = match newest_kept(store, &runs).await {
        Ok((_, kept)) => Some((Recipe::parse(&kept.text, "the recipe in the store")?, kept.folder)),
        Err(_) => None,
    };
    let here = |name: String| {
        let (recipe, folder) = recipe.as_ref()?;
        let names = [name].into_iter().filter(|name| recipe.models.contains_key(name)).collect::<Vec<_>>();
        models::resolve(recipe, Path::new(folder), &names, true).ok()
    };
    let resolved: BTreeMap<String, Resolved> = plan.models_in_use().into_iter().filter_map(here).flatten().collect();
    let numerics = numerics(&resolved);
    let progress: Arc<dyn Progress> = Arc::new(Terminal::new());
    let watching = Arc::clone(&progress);
    let registry = Registry::new(store.clone(), resolved, Arc::default(), Arc::default(), watching);
    let context = context(plan, digest.clone(), questions, store.clone(), Arc::new(registry), progress);
    let (models, costs) = recipe.map(|(recipe, _)| (recipe.models, recipe.costs)).unwrap_or_default();
    Ok(Look { context, models, costs, numerics })
}

/// The plan of a run, named by its id or the first digits of its plan's digest; `flag` is where it was named.
pub(crate) async fn plan_of(store: &Store, wanted: &str, flag: &str) -> anyhow::Result<Digest> {
    let runs = of_one_plan(store, wanted, flag).await?;
    Ok(runs.into_iter().next().expect("a plan that is found has a run").plan)
}

/// The runs of the plan that is meant, newest first; the one that was named by its id comes before them.
async fn of_one_plan(store: &Store, wanted: &str, flag: &str) -> anyhow::Result<Vec<RunRow>> {
    let all = store.runs().await?;
    let by_id = all.iter().find(|run| wanted == run.id.0.to_string());
    let begins_so = |run: &&RunRow| run.plan.hex().starts_with(&wanted.to_lowercase());
    let plans: BTreeSet<&Digest> = match by_id {
        Some(run) => BTreeSet::from([&run.plan]),
        None => all.iter().filter(begins_so).map(|run| &run.plan).collect(),
    };
    let candidates = |runs: Vec<&RunRow>| {
        let lines: Vec<String> = runs.into_iter().take(NAMED).map(|run| format!("\n  {}", runs::line(run))).collect();
        lines.concat()
    };
    let mut plans = plans.into_iter();
    match (plans.next(), plans.next()) {
        (Some(plan), None) => {
            let others = all.iter().filter(|run| run.plan == *plan && by_id.is_none_or(|named| named.id != run.id));
            Ok(by_id.into_iter().chain(others).cloned().collect())
        }
        (Some(_), Some(_)) => {
            let several = candidates(all.iter().filter(begins_so).collect());
            Err(Usage(format!(
                "{flag}: several plans begin with `{wanted}`; give more digits, or a run's id:{several}"
            ))
            .into())
        }
        (None, _) if all.is_empty() => {
            Err(Usage(format!("{flag}: the store has no runs; `divvy run` makes one")).into())
        }
        (None, _) => {
            let newest = candidates(all.iter().collect());
            Err(Usage(format!("{flag}: no run's id is `{wanted}`, and no plan begins so; the newest are:{newest}"))
                .into())
        }
    }
}

async fn newest_kept(store: &Store, runs: &[RunRow]) -> anyhow::Result<(RunRow, KeptRecipe)> {
    for run in runs {
        if let Some(kept) = store.kept_recipe(run.id).await? {
            return Ok((run.clone(), kept));
        }
    }
    let (name, plan) = runs.first().map_or(("", String::new()), |run| (&*run.name, short(&run.plan)));
    anyhow::bail!(
        "the recipe `{name}` of plan {plan} is not in the store: an earlier divvy ran it, or a URL in it has a query or a \
         user's name, which may be a secret; serve the recipe itself, or run it once more, which repeats no call"
    )
}

pub(crate) async fn plan(store: &Store, digest: &Digest) -> anyhow::Result<Plan> {
    let json = store.plan(digest).await?;
    let json = json.ok_or_else(|| anyhow::anyhow!("the store has no plan {}", short(digest)))?;
    serde_json::from_str(&json)
        .map_err(|error| anyhow::anyhow!("plan {} was written by another version of divvy: {error}", short(digest)))
}

/// What is served is what was measured.
fn check_models(plan: &Plan, resolved: &BTreeMap<String, Resolved>) -> anyhow::Result<()> {
    for (name, model) in resolved {
        let (now, then) = (model.id.0.hex(), plan.models.get(name).map_or("", String::as_str));
        if *now != *then {
            anyhow::bail!(
                "models.{name}: `{}` is not the model that was measured (its identity is {now:.12}, it was {then:.12}); put \
                 that one back, or run the recipe anew",
                model.source
            );
        }
    }
    Ok(())
}

/// The questions of a plan, split and ordered as they were when it was made.
pub(crate) async fn questions(store: &Store, digest: &Digest, plan: &Plan, folder: &Path) -> anyhow::Result<Splits> {
    let kept = || Questions::kept_in(Arc::new(Aside::new(folder)));
    let (mut splits, mut room) = (Splits { train: kept(), dev: kept(), test: kept() }, Ok(()));
    let push = |question: Question| {
        let split = match question.split {
            Split::Train => &mut splits.train,
            Split::Dev => &mut splits.dev,
            Split::Test => &mut splits.test,
        };
        if room.is_ok() {
            room = split.push(&question);
        }
    };
    store.each_question(digest, push).await?;
    room?;
    let by_seed =
        |questions: &Questions| questions.choose(questions.order_by(|id| derive_seed(plan.seed, &id.0))).laid_out();
    let test = splits.test.order_by(|id| (row(id), id.clone()));
    Ok(Splits { train: by_seed(&splits.train)?, dev: by_seed(&splits.dev)?, test: splits.test.choose(test) })
}

/// A question's row in its file.
fn row(id: &QuestionId) -> u64 {
    id.0.rsplit('/').next().and_then(|row| row.parse().ok()).unwrap_or(u64::MAX)
}

/// A student is found by what it learnt from.
fn check_questions(plan: &Plan, questions: &Splits) -> anyhow::Result<()> {
    let now = questions.content().into_iter().find(|(split, _)| *split == "train").map(|(_, digest)| digest);
    let then = plan.data.content.get("train");
    if now.as_ref().map(Digest::hex).as_deref() != then.map(String::as_str) {
        anyhow::bail!(
            "the store does not have this plan's training questions; run the recipe once more, which repeats no call"
        )
    }
    Ok(())
}
