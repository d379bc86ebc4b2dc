//! `divvy submit --ray`: workers as jobs of a Ray cluster. This very program goes there with the recipe, or a path says
//! where the nodes have it; what is kept of the jobs is kept by the cluster.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use divvy_core::{plan::Plan, recipe::Recipe};
use divvy_flow::error::FlowError;
use divvy_launch::{
    ray::{Content, Crowd, Entry, Package, Ray, Shard, Status, Token, missing, tell},
    workers::Workers,
};

use super::Stage;
use crate::{
    cli::Place,
    output::{Usage, ask, print, say},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(3);
/// How often one that died is submitted again by whoever follows.
const TRIES: u32 = 3;

#[derive(Debug, Args)]
pub(crate) struct OnRay {
    /// Jobs of the Ray cluster with this dashboard, http://HEAD:8265; the same command again submits those that died
    #[arg(long, value_name = "URL", conflicts_with_all = ["slurm", "kubernetes"])]
    pub(super) ray: Option<String>,
    /// For --ray: the variable that holds the cluster's token [default: RAY_AUTH_TOKEN, if it is set]
    #[arg(long, value_name = "NAME", requires = "ray")]
    token_env: Option<String>,
    /// For --ray: where the nodes have divvy; without it this program is sent along
    #[arg(long, value_name = "PATH", requires = "ray")]
    binary: Option<PathBuf>,
    /// For --ray: a file or folder that the recipe names, sent along at the same place beside it; may be given several times
    #[arg(long, value_name = "PATH", requires = "ray")]
    with: Vec<PathBuf>,
    /// For --ray: stay until all have ended, and submit again, three times at most, what dies
    #[arg(long, requires = "ray", conflicts_with_all = ["status", "stop"])]
    follow: bool,
    /// For --ray: tell how they stand
    #[arg(long, requires = "ray")]
    status: bool,
    /// For --ray: stop them all; each gives back what it has in work
    #[arg(long, requires = "ray", conflicts_with = "status")]
    stop: bool,
}

impl OnRay {
    /// Whether nobody is started.
    pub(super) fn only_looks(&self) -> bool {
        self.status || self.stop
    }
}

/// What every look needs.
struct Run {
    ray: Ray,
    name: String,
    workers: Workers,
}

impl Run {
    fn crowd(&self) -> Crowd<'_> {
        Crowd { ray: &self.ray, run: self.name.clone() }
    }
}

pub(super) async fn run(
    recipe: &Recipe,
    plan: &Plan,
    variables: Vec<String>,
    place: &Place,
    asked: &super::Asked,
) -> anyhow::Result<()> {
    let cluster = &asked.cluster;
    let token = Token::find(cluster.token_env.as_deref())?;
    let address = cluster.ray.clone().unwrap_or_default();
    let ray = aside(move || Ok(Ray::connect(&address, token)?)).await?;
    if let Some(warning) = ray.warning() {
        say(&warning);
    }
    let workers = Workers {
        name: recipe.name.clone(),
        count: asked.workers.unwrap_or(1),
        words: words(place, cluster, asked.stage)?,
        variables,
    };
    let name = format!("{}-{}-{}", label(&recipe.name), asked.stage.command(), plan.digest().short());
    let run = Run { ray, name, workers };
    if cluster.stop {
        let stopped = aside(move || Ok(run.crowd().stop()?)).await?;
        say(&format!("{stopped} shards are told to stop"));
        return Ok(());
    }
    if cluster.status {
        let shards = aside(move || Ok(run.crowd().shards()?)).await?;
        return Ok(print(&if shards.is_empty() {
            "no shard of this run and stage is known there\n".to_owned()
        } else {
            tell(&shards)
        })?);
    }
    let entries = entries(recipe, place, cluster)?;
    let (run, package) = aside(move || submit(run, &entries)).await?;
    if cluster.follow { follow(run, package).await } else { Ok(()) }
}

/// On a thread that may wait: the client has a runtime of its own.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("asking the cluster (a bug)")?
}

fn submit(run: Run, entries: &[Entry]) -> anyhow::Result<(Run, String)> {
    let package = Package::of(entries)?;
    let sent = run.ray.bring(&package)?;
    let there = if sent { "sent to" } else { "already at" };
    say(&format!(
        "{:.1} MiB {there} {} (Ray {})",
        package.size() as f64 / f64::from(1 << 20),
        run.ray.address(),
        run.ray.version
    ));
    let wanted = missing(&run.crowd().shards()?, run.workers.count);
    let uri = package.uri();
    run.crowd().submit(&run.workers, &uri, &wanted)?;
    let again = wanted.iter().filter(|(_, tries)| *tries > 1).count();
    say(&format!("{}: {} shards submitted, {again} of them again", run.name, wanted.len()));
    if !run.workers.variables.is_empty() {
        say(&format!("the nodes must have {} in their environment", run.workers.variables.join(", ")));
    }
    Ok((run, uri))
}

/// Until all have ended. Who breaks it off says what becomes of them.
async fn follow(mut run: Run, package: String) -> anyhow::Result<()> {
    let mut before: Vec<Shard> = Vec::new();
    let mut shards;
    (shards, run) = look(run).await?;
    let from: Vec<_> = shards.iter().map(|shard| (shard.number, shard.tries)).collect();
    loop {
        for shard in shards.iter().filter(|shard| !before.contains(shard)) {
            say(tell(std::slice::from_ref(shard)).trim_end());
        }
        let dead = again(&shards, &from);
        if dead.is_empty() && !shards.iter().any(Shard::is_alive) {
            return ended(&run, &shards);
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return leave(run).await,
            () = tokio::time::sleep(PAUSE) => {}
        }
        let uri = package.clone();
        let looked = move || {
            if !dead.is_empty() {
                run.crowd().submit(&run.workers, &uri, &dead)?;
            }
            // A cluster that is away for a moment has not forgotten them.
            let seen = run.crowd().shards().ok();
            Ok((seen, run))
        };
        let (seen, back) = aside(looked).await?;
        run = back;
        before.clone_from(&shards);
        shards = seen.unwrap_or(shards);
    }
}

async fn look(run: Run) -> anyhow::Result<(Vec<Shard>, Run)> {
    aside(move || {
        let shards = run.crowd().shards()?;
        Ok((shards, run))
    })
    .await
}

/// Those that died, each so many times since it is followed.
fn again(shards: &[Shard], from: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let first = |number: u32| from.iter().find(|(of, _)| *of == number).map_or(1, |(_, tries)| *tries);
    let dead = shards.iter().filter(|shard| shard.is_dead() && shard.tries < first(shard.number) + TRIES);
    dead.map(|shard| (shard.number, shard.tries + 1)).collect()
}

async fn leave(run: Run) -> anyhow::Result<()> {
    if !ask("the shards go on without this program. Stop them, too? [y/N] ") {
        say("the shards go on; --status tells how they stand, --stop stops them");
        return Err(FlowError::Interrupted.into());
    }
    let stopped = aside(move || Ok(run.crowd().stop()?)).await?;
    say(&format!("{stopped} shards are told to stop"));
    Err(FlowError::Interrupted.into())
}

/// All have ended: well, at their budget, or with a last word.
fn ended(run: &Run, shards: &[Shard]) -> anyhow::Result<()> {
    let done = shards.iter().filter(|shard| shard.job.status == Status::Succeeded).count();
    say(&format!("{}: {done} of {} shards are done", run.name, shards.len()));
    let Some(failed) = shards.iter().find(|shard| shard.job.status != Status::Succeeded) else { return Ok(()) };
    let message = failed.job.message.clone().unwrap_or_default();
    let lines: Vec<&str> = message.lines().filter(|line| !line.trim().is_empty()).collect();
    let last: String = lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("\n  | {line}")).collect();
    let told = format!("shard {} is {}; its last lines:{last}", failed.number, failed.job.status.name());
    if failed.is_at_its_budget() {
        let way_out = "raise the caps under [budget], and the same command goes on";
        return Err(FlowError::Budget(format!("{told}\n{way_out}")).into());
    }
    anyhow::bail!("{told}\nwhat is finished is kept; the same command submits again what did not end well")
}

/// The command on a node: the program and the recipe lie in its working directory.
fn words(place: &Place, cluster: &OnRay, stage: Stage) -> anyhow::Result<Vec<String>> {
    let binary = cluster.binary.as_ref().map_or_else(|| "./divvy".to_owned(), |path| path.display().to_string());
    let recipe = place.recipe.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut words = vec![binary, stage.command().to_owned(), recipe];
    if let Some(data) = &place.data {
        words.extend(["--data".to_owned(), std::path::absolute(data)?.to_string_lossy().into_owned()]);
    }
    Ok(words)
}

/// What is sent: the recipe, what it is to have beside it, and this program.
fn entries(recipe: &Recipe, place: &Place, cluster: &OnRay) -> anyhow::Result<Vec<Entry>> {
    if recipe.may_hold_secrets() {
        let message = "a URL of the recipe has a user or a query, which may hold a key, and the recipe is sent to the cluster; use \
                       api_key_env";
        return Err(Usage(message.to_owned()).into());
    }
    let name = place.recipe.file_name().unwrap_or_default().to_string_lossy();
    let mut entries = vec![Entry::file(&name, place.recipe.clone())];
    let recipe = std::path::absolute(&place.recipe)?;
    let folder = recipe.parent().unwrap_or(&recipe);
    for path in &cluster.with {
        along(folder, &std::path::absolute(path)?, &mut entries)?;
    }
    if cluster.binary.is_none() {
        let content = Content::Text(stripped()?);
        entries.push(Entry { name: "divvy".to_owned(), content, program: true });
    }
    Ok(entries)
}

/// Names in the archive are those that the recipe uses.
fn along(folder: &Path, path: &Path, entries: &mut Vec<Entry>) -> anyhow::Result<()> {
    let inside = path.strip_prefix(folder).map_err(|_| {
        Usage(format!(
            "--with: `{}` is not beside the recipe, in {}; put it there, or use --data",
            path.display(),
            folder.display()
        ))
    })?;
    if !path.is_dir() {
        std::fs::metadata(path).with_context(|| format!("--with: cannot read `{}`", path.display()))?;
        entries.push(Entry::file(&inside.to_string_lossy(), path.to_owned()));
        return Ok(());
    }
    let mut below: Vec<_> = std::fs::read_dir(path)?.collect::<Result<_, _>>()?;
    below.sort_by_key(std::fs::DirEntry::file_name);
    below.iter().try_for_each(|entry| along(folder, &entry.path(), entries))
}

/// This program without what only a debugger reads: a sixth of it. As it is, where there is no `strip`.
fn stripped() -> anyhow::Result<Vec<u8>> {
    let program = std::env::current_exe().context("where this program lies")?;
    let out = std::env::temp_dir().join(format!("divvy-stripped-{}", std::process::id()));
    let stripped = Command::new("strip").arg("-o").arg(&out).arg(&program).output();
    let made = stripped.is_ok_and(|output| output.status.success());
    let read = std::fs::read(if made { &out } else { &program }).context("reading this program");
    let _ = std::fs::remove_file(&out);
    read
}

/// Letters that a job's id may have.
fn label(name: &str) -> String {
    let kept = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    format!("divvy-{}", name.chars().take(40).map(kept).collect::<String>())
}
