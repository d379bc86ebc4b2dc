//! `divvy submit`: many workers on one run, as a file for the cluster that starts them, or as jobs of a Ray cluster. No key is
//! written.

mod line;
mod ray;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use divvy_core::recipe::{Recipe, is_server};
use divvy_launch::workers::{self, Pod, VOLUME_FOLDER, Workers};

use crate::{
    cli::Place,
    output::{Usage, print, say},
    session::read_recipe,
};

#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// What they work on; stages before it are done first
    #[arg(long, value_enum, default_value_t = Stage::Collect)]
    stage: Stage,
    /// How many
    #[arg(
        long,
        alias = "shards",
        value_name = "N",
        value_parser = count(),
        required_unless_present_any = ["status", "stop", "line"]
    )]
    workers: Option<u32>,
    /// A script for sbatch, with an array of jobs; this folder must lie at the same place on all machines
    #[arg(long, required_unless_present_any = ["kubernetes", "ray"], conflicts_with = "kubernetes")]
    slurm: bool,
    /// For --slurm: a further option of the jobs, as in --option=--partition=cpu; may be given several times
    #[arg(long = "option", value_name = "OPTION", allow_hyphen_values = true, requires = "slurm")]
    options: Vec<String>,
    /// A manifest for kubectl, with a Job of indexed completions
    #[arg(long, requires = "image")]
    kubernetes: bool,
    /// For --kubernetes: an image that has divvy, see deploy/Dockerfile
    #[arg(long, requires = "kubernetes")]
    image: Option<String>,
    /// For --kubernetes: a claim on a volume with the data files, mounted at /work
    #[arg(long, value_name = "CLAIM", requires = "kubernetes")]
    volume: Option<String>,
    /// Where to write it [default: stdout]
    #[arg(long, value_name = "FILE", conflicts_with = "ray")]
    out: Option<PathBuf>,
    #[command(flatten)]
    cluster: ray::OnRay,
    /// Instead of --stage and --workers, what each of them does as it would be typed: -- collect my-task.toml --shards 8
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["stage", "workers", "data"])]
    line: Vec<String>,
}

/// A number of workers.
fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=10_000)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Stage {
    Collect,
    Screen,
    Eval,
}

impl Stage {
    fn command(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Screen => "screen",
            Self::Eval => "eval",
        }
    }
}

pub(crate) async fn run(mut place: Place, mut asked: Asked) -> anyhow::Result<()> {
    line::take(&mut place, &mut asked)?;
    let (place, asked) = (&place, &asked);
    if place.from.is_some() {
        let message = "--from: what was asked of `divvy serve` lies on the machine that served; workers take the recipe's questions";
        return Err(Usage(message.to_owned()).into());
    }
    let (recipe, plan) = read_recipe(place)?;
    let variables = variables(&recipe, place)?;
    if asked.cluster.ray.is_some() {
        return ray::run(&recipe, &plan, variables, place, asked).await;
    }
    if let Some(option) = asked.options.iter().find(|option| !option.starts_with("--") || option.contains('\n')) {
        return Err(
            Usage(format!("--option: `{option}` is no option of sbatch; write --option=--partition=cpu")).into()
        );
    }
    match &asked.image {
        Some(image) => kubernetes(&recipe, variables, place, asked, image),
        None => slurm(&recipe, variables, place, asked),
    }
}

/// Names of the variables that hold what must not be written: keys of the models, and where the store is.
fn variables(recipe: &Recipe, place: &Place) -> Result<Vec<String>, Usage> {
    let models = recipe.models.values();
    let keys = models.flat_map(|model| {
        let further = model.endpoints.iter().filter_map(|endpoint| endpoint.api_key_env.clone());
        model.api_key_env.clone().into_iter().chain(further).collect::<Vec<_>>()
    });
    let mut names: Vec<String> = keys.collect();
    let given = place.store.as_deref().and_then(Path::to_str);
    match (given, recipe.store.as_deref()) {
        // It may hold a password, so the workers are told as this program was.
        (Some(url), _) if is_server(url) => names.push("DIVVY_STORE".to_owned()),
        (None, Some(_)) => {}
        _ => {
            return Err(Usage(
                "workers share a store on a server: write store = \"postgres://USER@HOST/DATABASE\" in the recipe, or set \
                 DIVVY_STORE (docs/several-machines.md)"
                    .to_owned(),
            ));
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn slurm(recipe: &Recipe, variables: Vec<String>, place: &Place, asked: &Asked) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("where this program lies")?;
    let absolute = |path: &Path| anyhow::Ok(std::path::absolute(path)?.to_string_lossy().into_owned());
    let mut words = vec![absolute(&program)?, asked.stage.command().to_owned(), absolute(&place.recipe)?];
    if let Some(data) = &place.data {
        words.extend(["--data".to_owned(), absolute(data)?]);
    }
    let workers = Workers { name: recipe.name.clone(), count: asked.workers.unwrap_or(1), words, variables };
    let folder = absolute(Path::new("."))?;
    write(&workers::slurm(&workers, &folder, &asked.options), asked)?;
    say(&format!("submit it with: sbatch {}", shown(asked)));
    Ok(())
}

fn kubernetes(
    recipe: &Recipe,
    variables: Vec<String>,
    place: &Place,
    asked: &Asked,
    image: &str,
) -> anyhow::Result<()> {
    if recipe.may_hold_secrets() {
        let message = "a URL of the recipe has a user or a query, which may hold a key, and the recipe goes into the manifest; \
                       use api_key_env";
        return Err(Usage(message.to_owned()).into());
    }
    let text = std::fs::read_to_string(&place.recipe).with_context(|| format!("{}", place.recipe.display()))?;
    let name = place.recipe.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let pod = Pod { image: image.to_owned(), recipe: (name, text), volume: asked.volume.clone() };
    let mut words = vec!["divvy".to_owned(), asked.stage.command().to_owned(), pod.recipe_path()];
    if pod.volume.is_some() {
        words.extend(["--data".to_owned(), VOLUME_FOLDER.to_owned()]);
    }
    let workers = Workers { name: recipe.name.clone(), count: asked.workers.unwrap_or(1), words, variables };
    write(&format!("{:#}\n", workers::kubernetes(&workers, &pod)), asked)?;
    if !workers.variables.is_empty() {
        let literals = workers.variables.iter().map(|name| format!(" --from-literal={name}=\"${name}\""));
        let literals: String = literals.collect();
        say(&format!("once: kubectl create secret generic {}{literals}", workers::secret(&workers)));
    }
    say(&format!("submit it with: kubectl apply -f {}", shown(asked)));
    Ok(())
}

fn write(text: &str, asked: &Asked) -> anyhow::Result<()> {
    match &asked.out {
        Some(path) => std::fs::write(path, text).with_context(|| format!("--out: cannot write `{}`", path.display())),
        None => Ok(print(text)?),
    }
}

fn shown(asked: &Asked) -> String {
    asked.out.as_ref().map_or_else(|| "FILE".to_owned(), |path| path.display().to_string())
}
