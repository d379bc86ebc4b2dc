//! `divvy serve`: the arms of a recipe behind an OpenAI-compatible endpoint.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use divvy_core::{
    arm::Arm,
    prompts::decompose::Style,
    question::ScorerKind,
    recipe::{self, nearest},
    results::{ArmResult, Results},
};
use divvy_flow::{demonstrations, evaluate, structured};
use divvy_serve::{
    Desk, Keys, Recorder, Traces, fresh_key,
    menu::{Measured, Menu, Served, ServedArm},
    settings::Settings,
};
use tokio::net::TcpListener;

use super::shelf::Records;
use crate::{
    cli::Place,
    clock,
    home::Home,
    kept,
    output::{Usage, print, say},
    questions,
    session::{Access, Session},
};

/// Holds one key, for those who need no file.
const KEY_VARIABLE: &str = "DIVVY_SERVE_KEY";

pub(crate) struct Asked {
    /// A run of the store, instead of a recipe.
    pub(crate) run: Option<String>,
    /// Instead of the recipe's own choice.
    pub(crate) arms: Vec<String>,
    pub(crate) listen: SocketAddr,
    pub(crate) keys: Option<PathBuf>,
    /// Where traffic is recorded, if it is; in the store's folder where no file is named.
    pub(crate) record: Option<Option<PathBuf>>,
    pub(crate) strict: bool,
    pub(crate) hosts: Vec<String>,
}

pub(crate) async fn run(place: Place, asked: Asked) -> anyhow::Result<()> {
    let keys = keys(asked.keys.as_deref())?;
    let traces = Traces::from_env().map_err(|error| Usage(error.to_string()))?;
    let session = Arc::new(match &asked.run {
        Some(run) => kept::open(Home::new(place.store.as_deref(), None), run).await?,
        None => Session::open(&place, Access::Serve).await?,
    });
    session.find_students().await?;
    let menu = menu(&session, &asked.arms).await?;
    let record = asked.record.map(|file| file.unwrap_or_else(|| questions::traffic(place.store.as_deref())));
    let recorder = record.as_deref().map(recorder).transpose()?;
    let listener = TcpListener::bind(asked.listen)
        .await
        .with_context(|| format!("cannot listen at {}; --listen 127.0.0.1:0 takes a free port", asked.listen))?;
    let address = listener.local_addr()?;
    greet(&menu, address, &keys);
    record.iter().for_each(|file| say(&format!("what is asked is kept in {}", file.display())));
    warn_of_free_models(&menu, &keys);
    let settings = Settings { hosts: asked.hosts, traces, ..settings(&session.recipe.serve, asked.strict) };
    let desk = Desk::new(menu, settings, keys, Some(Arc::new(Records::new(Arc::clone(&session)))), recorder);
    let (loading, loaded) = (Arc::clone(&session), Arc::clone(&desk));
    tokio::task::spawn_blocking(move || {
        let ready = loading.load_models();
        loaded.set_ready(ready.is_ok());
        ready.err().into_iter().for_each(|reason| say(&format!("error: {reason}")));
    });
    divvy_serve::serve(listener, desk, stopped()).await;
    session.context.store.close().await?;
    Ok(())
}

/// Ctrl-C or SIGTERM.
async fn stopped() {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("signals can be heard inside a runtime");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    say("stopping; requests under way come to their end (again to stop at once)");
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
}

fn keys(file: Option<&std::path::Path>) -> anyhow::Result<Keys> {
    let keys = file.map_or_else(|| Ok(Keys::default()), Keys::read).map_err(|error| Usage(error.to_string()))?;
    match std::env::var(KEY_VARIABLE) {
        Ok(key) if key.trim().len() < 16 => {
            Err(Usage(format!("{KEY_VARIABLE} is too short to be a key; `divvy serve --new-key NAME` makes one"))
                .into())
        }
        Ok(key) => Ok(keys.with(KEY_VARIABLE, key.trim())),
        Err(std::env::VarError::NotPresent) => Ok(keys),
        Err(error) => Err(Usage(format!("{KEY_VARIABLE}: {error}")).into()),
    }
}

fn recorder(path: &std::path::Path) -> anyhow::Result<Recorder> {
    let cannot = |error| Usage(format!("--record: cannot append to `{}`: {error}", path.display()));
    Ok(Recorder::open(path).map_err(cannot)?)
}

pub(crate) fn new_key(name: &str) -> anyhow::Result<()> {
    let (key, hash) = fresh_key();
    say("the key, which is shown only now:");
    print(&key)?;
    let name = serde_json::to_string(name)?;
    say(&format!(
        "\nits lines in the keys file:\n\n[[keys]]\nname = {name}\nblake3 = \"{hash}\"\n# requests_per_minute = 60\n# tokens_per_minute = 50000\n# dollars_per_day = \"5.00\""
    ));
    Ok(())
}

fn settings(serve: &recipe::Serve, strict: bool) -> Settings {
    let usual = Settings::default();
    Settings {
        concurrency: serve.concurrency.unwrap_or(usual.concurrency),
        queue: serve.queue.unwrap_or(usual.queue),
        deadline: serve.deadline_seconds.map_or(usual.deadline, Duration::from_secs),
        falls_back: serve.fallback == recipe::Fallback::Solve,
        strict,
        ..usual
    }
}

/// Arms that can be served, and the models behind them.
async fn menu(session: &Session, arms: &[String]) -> anyhow::Result<Menu> {
    let context = &session.context;
    let plan = context.plan.evaluate.clone();
    let plan = plan.ok_or_else(|| Usage("the recipe has no [evaluate], so it has no arms to serve".to_owned()))?;
    let (key, wanted) = if arms.is_empty() { ("serve.arms", &*session.recipe.serve.arms) } else { ("--arm", arms) };
    check(key, wanted, &plan.arms)?;
    let results = session.results().await?;
    let (mut served, mut left_out) = (Vec::new(), Vec::new());
    for arm in plan.arms.iter().filter(|arm| wanted.is_empty() || wanted.contains(&arm.slug())) {
        match open(session, arm, &results).await {
            Ok(arm) => served.push(Served::Arm(Box::new(arm))),
            Err(reason) if wanted.is_empty() => left_out.push(format!("{arm} is not served: {reason}")),
            Err(reason) => anyhow::bail!("{key}: {arm} cannot be served: {reason}"),
        }
    }
    left_out.iter().for_each(|line| say(line));
    if served.is_empty() {
        anyhow::bail!("no arm of the recipe can be served");
    }
    served.extend(plain(session, &served));
    Ok(Menu {
        served: served.into_iter().map(Arc::new).collect(),
        seed: context.plan.seed,
        scorer: evaluate::questions(context, &plan).first().map_or(ScorerKind::Exact, |first| first.scorer),
        plan,
        recipe: context.plan.name.clone(),
        created: clock::now_ms().unsigned_abs() / 1000,
    })
}

fn check(key: &str, wanted: &[String], arms: &[Arm]) -> anyhow::Result<()> {
    let slugs: Vec<String> = arms.iter().map(Arm::slug).collect();
    let Some(unknown) = wanted.iter().find(|wanted| !slugs.contains(wanted)) else { return Ok(()) };
    let near = nearest(unknown, slugs.iter().map(String::as_str));
    let near = near.map_or_else(|| ".".to_owned(), |near| format!("; did you mean `{near}`?"));
    Err(Usage(format!("{key}: there is no `{unknown}`{near} The recipe has {}", slugs.join(", "))).into())
}

async fn open(session: &Session, arm: &Arm, results: &Results) -> Result<ServedArm, String> {
    let context = &session.context;
    let voice = |name: &str| session.registry.live(context.resolve(name)).map_err(|error| error.to_string());
    let decomposer = match &arm.decomposer {
        Some(name) if context.is_recorded(name) => return Err("a recorded teacher knows its own questions only".into()),
        Some(name) => Some(voice(name)?),
        None => None,
    };
    // As it was measured: a model that was found to keep to a schema is held to it.
    let style = match (&arm.decomposer, &decomposer) {
        (Some(name), Some(voice)) => {
            structured::style(context, name, &voice.id).await.map_err(|error| error.to_string())?
        }
        _ => Style::default(),
    };
    Ok(ServedArm {
        style,
        most: context.plan.told_most(arm),
        prompts: context.plan.wording(arm).into_owned(),
        shots: demonstrations::of_arm(context, arm).await.map_err(|error| error.to_string())?,
        solving: demonstrations::of_solver(&context.plan, &context.shown, arm),
        decomposer,
        solver: voice(&arm.solver)?,
        measured: results
            .arms
            .iter()
            .find(|result| result.arm == arm.slug())
            .and_then(|result| measured(session, result)),
        arm: arm.clone(),
    })
}

fn measured(session: &Session, result: &ArmResult) -> Option<Measured> {
    let split = session.context.plan.evaluate.as_ref().map(|plan| plan.split)?;
    let ArmResult { accuracy, ci, n, .. } = *result;
    (n > 0).then(|| Measured { accuracy, ci, n, split: split.name().to_owned() })
}

/// Every model of the served arms by itself.
fn plain(session: &Session, arms: &[Served]) -> Vec<Served> {
    let mut names = BTreeSet::new();
    for served in arms {
        if let Served::Arm(served) = served {
            names.extend(served.decomposer.iter().chain([&served.solver]).map(|voice| voice.name.clone()));
        }
    }
    names.iter().filter_map(|name| session.registry.live(name).ok()).map(Served::Model).collect()
}

/// A limit in money does not hold for what has no price.
fn warn_of_free_models(menu: &Menu, keys: &Keys) {
    let free = menu.served.iter().filter_map(|served| match &**served {
        Served::Model(voice) if !voice.local && voice.prices.is_none() => Some(&*voice.name),
        _ => None,
    });
    let free: Vec<&str> = free.collect();
    if keys.limits_money() && !free.is_empty() {
        let free = free.join(", ");
        say(&format!("warning: dollars_per_day does not count {free}, which has no `price` under [models]"));
    }
}

fn greet(menu: &Menu, address: SocketAddr, keys: &Keys) {
    say(&format!("serving `{}` at http://{address}/v1 (page: http://{address}/)", menu.recipe));
    menu.served.iter().for_each(|served| say(&format!("  {}", served.name())));
    if keys.is_open() && !address.ip().is_loopback() {
        say("warning: everybody who can reach this address may ask; --keys FILE or DIVVY_SERVE_KEY asks for a key");
    }
}
