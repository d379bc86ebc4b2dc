//! A session: one recipe with its plan, questions, models and store, ready for the stages.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use divvy_core::{
    cost::Prices,
    digest::Digest,
    model::shown_url,
    plan::Plan,
    recipe::{self, DataSet, OneOrMany, Recipe},
    results::{Results, costs::StatedTerms},
};
use divvy_flow::{
    context::{Context, Models},
    demonstrations::Shown,
    error::FlowError,
    progress::Progress,
    results::{self, Heading},
    rows::Make,
    split::Splits,
    train::{self, Trainer},
};
use divvy_llm::Budget;
use divvy_store::{KeptRecipe, Store};
use divvy_student::{matrix::Numerics, model::Model};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Place, Traffic},
    clock,
    home::Home,
    host::Hosts,
    models::{self, Registry, Resolved},
    output::{Usage, say},
    progress::Terminal,
    questions,
    trainer::Trainers,
};

/// What the session may do to the store, and whether it may fetch models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Writes, fetches.
    Run,
    /// Reads beside a running program, stays offline.
    Look,
    /// Reads beside a running program, fetches.
    Serve,
}

pub(crate) struct Session {
    pub(crate) context: Context,
    pub(crate) trainer: Arc<dyn Trainer>,
    pub(crate) recipe: Recipe,
    pub(crate) folder: PathBuf,
    pub(crate) registry: Arc<Registry>,
    /// The recipe as a run keeps it; `None` where it may hold a secret.
    pub(crate) to_keep: Option<KeptRecipe>,
    pub(crate) hosts: Arc<Hosts>,
    /// Name of a local model → its weights.
    bases: BTreeMap<String, PathBuf>,
    /// Name of a local model → its numerics profile.
    numerics: BTreeMap<String, String>,
}

/// A recipe read and resolved, before any model or store is touched.
pub(crate) fn read_recipe(place: &Place) -> anyhow::Result<(Recipe, Plan)> {
    understand(&read_text(&place.recipe)?, place)
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let told = |error: std::io::Error| {
        let hint =
            if error.kind() == std::io::ErrorKind::NotFound { "; `divvy init` writes one to start from" } else { "" };
        Usage(format!("cannot read the recipe `{}`: {error}{hint}", path.display()))
    };
    Ok(std::fs::read_to_string(path).map_err(told)?)
}

/// `--from` takes the place of the recipe's training questions.
fn understand(text: &str, place: &Place) -> anyhow::Result<(Recipe, Plan)> {
    let origin = place.recipe.display().to_string();
    let mut recipe = Recipe::parse(text, &origin)?;
    if let Some(Traffic { lines }) = place.from {
        let traffic = DataSet { dataset: "traffic".to_owned(), lines, ..DataSet::default() };
        recipe.data.train = OneOrMany::One(traffic);
    }
    let plan = Plan::resolve(&recipe, &origin)?;
    Ok((recipe, plan))
}

/// Everything that a session is made of.
pub(crate) struct Parts {
    pub(crate) recipe: Recipe,
    pub(crate) to_keep: Option<KeptRecipe>,
    pub(crate) plan: Plan,
    pub(crate) digest: Digest,
    pub(crate) questions: Splits,
    pub(crate) resolved: BTreeMap<String, Resolved>,
    pub(crate) store: Store,
    pub(crate) budget: Arc<Budget>,
    /// The store's folder.
    pub(crate) folder: PathBuf,
    /// The recipe's, which its relative paths are seen from.
    pub(crate) seen_from: PathBuf,
}

impl Session {
    pub(crate) async fn open(place: &Place, access: Access) -> anyhow::Result<Self> {
        let text = read_text(&place.recipe)?;
        let (recipe, plan) = understand(&text, place)?;
        let questions = questions::load(&recipe, place)?;
        let names = plan.models_in_use();
        let folder = place.recipe.parent().unwrap_or(Path::new(""));
        let resolved = models::resolve(&recipe, folder, &names, access == Access::Look)?; // may fetch: nothing else is to be done yet
        let ids = resolved.iter().map(|(name, model)| (name.clone(), model.id.0.hex().to_owned())).collect();
        let content = questions
            .content()
            .into_iter()
            .map(|(split, digest)| (split.to_owned(), digest.hex().to_owned()))
            .collect();
        let plan = plan.with_inputs(ids, content);
        let home = Home::new(place.store.as_deref(), recipe.store.as_deref());
        let store = home.open(access).await?;
        let to_keep = (!recipe.may_hold_secrets()).then(|| KeptRecipe { text, folder: absolute(folder) });
        let (digest, seen_from, folder) = (plan.digest(), folder.to_owned(), home.folder);
        let budget = match access {
            Access::Run => models::budget(&recipe.budget, &store, &digest).await?,
            Access::Look | Access::Serve => Arc::default(),
        };
        Ok(Self::assemble(Parts {
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

    pub(crate) fn assemble(parts: Parts) -> Self {
        let Parts { recipe, to_keep, plan, digest, questions, resolved, store, budget, folder, seen_from } = parts;
        let (numerics, bases, hosts) = (numerics(&resolved), bases(&resolved), Arc::new(Hosts::default()));
        let trainer = Trainers {
            hosts: Arc::clone(&hosts),
            folder: folder.clone(),
            bases: bases.clone(),
            sources: recipe.models.iter().map(|(name, model)| (name.clone(), model.source.clone())).collect(),
            train: recipe.train.clone(),
            seen_from,
        };
        let progress: Arc<dyn Progress> = Arc::new(Terminal::new());
        let watching = Arc::clone(&progress);
        let registry = Arc::new(Registry::new(store.clone(), resolved, Arc::clone(&hosts), budget, watching));
        let models = Arc::clone(&registry) as Arc<dyn Models>;
        let context = context(plan, digest, questions, store, models, progress);
        Self { context, trainer: Arc::new(trainer), recipe, folder, registry, to_keep, hosts, bases, numerics }
    }

    /// The command's end: nothing is held that others wait for, and every write is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        self.registry.settle().await?;
        Ok(self.context.store.close().await?)
    }

    /// A local model, loaded, as students are trained from it.
    pub(crate) fn base(&self, name: &str) -> anyhow::Result<Arc<Model>> {
        let path = self.bases.get(name).with_context(|| format!("`{name}` is not a local model"))?;
        self.hosts.model(path, Numerics::Exact).map_err(anyhow::Error::msg)
    }

    /// Loads every local model that can be asked, as it will be asked.
    ///
    /// # Errors
    /// Why one cannot be loaded.
    pub(crate) fn load_models(&self) -> Result<(), String> {
        self.hosts.load_all()
    }

    /// Figures of this plan as they stand in the store.
    pub(crate) async fn results(&self) -> Result<Results, FlowError> {
        figures(&self.context, &self.recipe.models, &self.recipe.costs, self.numerics.clone()).await
    }

    /// [`Session::results`], and something of every sheet of rows on the way, see [`results::read_with`].
    pub(crate) async fn results_with<T: Send + 'static>(
        &self,
        make: Make<T>,
        take: impl FnMut(T) -> Result<(), FlowError>,
    ) -> Result<Results, FlowError> {
        figures_with(&self.context, &self.recipe.models, &self.recipe.costs, self.numerics.clone(), make, take).await
    }

    /// Where a plan is new, its author may look for what was done under an earlier one.
    pub(crate) async fn mention_other_plans(&self) -> Result<(), FlowError> {
        let (own, name) = (&self.context.digest, &self.context.plan.name);
        let runs = self.context.store.runs().await?;
        let others: BTreeSet<String> =
            runs.iter().filter(|run| run.plan != *own && run.name == *name).map(|run| short(&run.plan)).collect();
        if !others.is_empty() {
            let others: Vec<String> = others.into_iter().collect();
            say(&format!(
                "the store holds other plans called `{name}` ({}): the recipe, its data, a model or divvy has changed since",
                others.join(", ")
            ));
        }
        Ok(())
    }

    /// Makes trained students known without training any.
    pub(crate) async fn find_students(&self) -> Result<(), FlowError> {
        for (name, plan) in &self.context.plan.students {
            if let Some(artefact) = train::of_plan(&self.context, name).await? {
                self.context.models.add_student(name, &plan.base, &artefact);
            }
        }
        Ok(())
    }
}

/// Where a relative path of the recipe is seen from, whatever folder a later command is typed in.
fn absolute(folder: &Path) -> String {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).to_string_lossy().into_owned()
}

/// What the stages are given in this program.
pub(crate) fn context(
    plan: Plan,
    digest: Digest,
    questions: Splits,
    store: Store,
    models: Arc<dyn Models>,
    progress: Arc<dyn Progress>,
) -> Context {
    let cancel = CancellationToken::new();
    let shown = Arc::new(Shown::of(&plan, &questions));
    let asking = cancel.child_token();
    Context { plan, digest, questions, shown, store, models, progress, cancel, asking, shard: None, now: clock::now_ms }
}

/// Figures of a plan as they stand in its store; `models` are those of its recipe, as far as they are known.
pub(crate) async fn figures(
    context: &Context,
    models: &BTreeMap<String, recipe::Model>,
    costs: &recipe::Costs,
    numerics: BTreeMap<String, String>,
) -> Result<Results, FlowError> {
    let heading = heading(context, models, costs, numerics).await?;
    results::read(context, heading).await
}

/// [`figures`], and something of every sheet of rows on the way, see [`results::read_with`].
pub(crate) async fn figures_with<T: Send + 'static>(
    context: &Context,
    models: &BTreeMap<String, recipe::Model>,
    costs: &recipe::Costs,
    numerics: BTreeMap<String, String>,
    make: Make<T>,
    take: impl FnMut(T) -> Result<(), FlowError>,
) -> Result<Results, FlowError> {
    let heading = heading(context, models, costs, numerics).await?;
    results::read_with(context, heading, make, take).await
}

async fn heading(
    context: &Context,
    models: &BTreeMap<String, recipe::Model>,
    costs: &recipe::Costs,
    numerics: BTreeMap<String, String>,
) -> Result<Heading, FlowError> {
    let sources = models.iter().map(|(name, model)| (name.clone(), shown_url(&model.source))).collect();
    let runs = context.store.runs().await?;
    let created = runs.iter().filter(|run| run.plan == context.digest).map(|run| run.started_ms).min().unwrap_or(0);
    let price = |(name, model): (&String, &recipe::Model)| Some((name.clone(), Prices::of(model).ok()??));
    Ok(Heading {
        created: clock::rfc3339(created),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sources,
        numerics,
        prices: models.iter().filter_map(price).collect(),
        // A recipe that was read is a recipe that was checked.
        terms: StatedTerms::of(costs).unwrap_or_default(),
    })
}

pub(crate) fn numerics(resolved: &BTreeMap<String, Resolved>) -> BTreeMap<String, String> {
    let local = resolved.iter().filter(|(_, model)| model.weights.is_some());
    local.map(|(name, model)| (name.clone(), model.recipe.profile())).collect()
}

fn bases(resolved: &BTreeMap<String, Resolved>) -> BTreeMap<String, PathBuf> {
    resolved.iter().filter_map(|(name, model)| Some((name.clone(), model.path.clone()?))).collect()
}

/// Ctrl-C once: stop cleanly, keep everything, also what endpoints have under way. Twice: give that up; with nothing under way, and
/// three times: stop now, what is committed is safe anyway.
pub(crate) fn stop_on_ctrl_c(session: &Session) {
    let (cancel, asking) = (session.context.cancel.clone(), session.context.asking.clone());
    let (registry, progress) = (Arc::clone(&session.registry), Arc::clone(&session.context.progress));
    tokio::spawn(async move {
        let pressed = async || tokio::signal::ctrl_c().await.is_ok();
        if !pressed().await {
            return;
        }
        // A stage that failed waits for what is under way already.
        let waits = asking.is_cancelled();
        cancel.cancel();
        if !waits {
            progress.note("stopping; what is finished is kept, and replies that endpoints have under way are waited for (Ctrl-C again gives them up)");
            if !pressed().await {
                return;
            }
        }
        if registry.has_flights() {
            progress.note("giving up the replies that are under way (Ctrl-C again to stop at once)");
            registry.hurry();
            if !pressed().await {
                return;
            }
        }
        std::process::exit(130);
    });
}

/// A plan's digest as people see it.
pub(crate) fn short(digest: &Digest) -> String {
    digest.short()
}
