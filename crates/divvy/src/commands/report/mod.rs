//! `divvy report`: the figures and rows of a recipe or a run in any form, from the store alone; or two runs compared.

mod compare;
mod inspect;
mod outputs;
mod page;
mod sinks;

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use divvy_core::results::Results;
use divvy_data::beside::Beside;
use divvy_flow::{context::Context, error::FlowError};

use crate::{
    cli::{Format, Place},
    home::Home,
    kept::{self, Look},
    output::{Usage, print, say},
    session::{Access, Session, figures, figures_with, short},
};
use outputs::{Output, Outputs};
use sinks::Sinks;

/// What was asked for.
pub(crate) struct Asked {
    /// A run of the store, instead of the recipe.
    pub(crate) run: Option<String>,
    pub(crate) formats: Vec<Format>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) html: Option<PathBuf>,
    pub(crate) compare: Option<Vec<String>>,
    pub(crate) fail_on_regression: bool,
}

pub(crate) async fn run(place: &Place, asked: &Asked) -> anyhow::Result<()> {
    if let Some([before, after]) = asked.compare.as_deref() {
        return compare::run(place, before, after, asked).await;
    }
    if asked.fail_on_regression {
        return usage("--fail-on-regression goes with --compare BEFORE AFTER".to_owned());
    }
    let source = Source::open(place, asked.run.as_deref()).await?;
    let outputs = outputs::wanted(asked, &source.context().plan.name)?;
    let results = source.written(&outputs).await?;
    if results.arms.is_empty() && results.screening.as_ref().is_none_or(|screening| screening.candidates == 0) {
        source.mention_nothing(place).await?;
    }
    for output in outputs.files.iter().filter(|output| output.format.is_of_figures()) {
        write(&output.path, &text(&results, output.format)?)?;
    }
    for output in &outputs.files {
        say(&format!("report: {}", output.path.display()));
    }
    match outputs.stdout {
        Some(format) if format.is_of_figures() => Ok(print(&text(&results, format)?)?),
        _ => Ok(()),
    }
}

/// A recipe's session, or a run of the store to look at.
enum Source {
    Recipe(Box<Session>),
    Run(Box<Look>),
}

impl Source {
    async fn open(place: &Place, run: Option<&str>) -> anyhow::Result<Self> {
        match run {
            Some(run) => Self::open_run(place, run, "--run").await,
            None => Ok(Self::Recipe(Box::new(Session::open(place, Access::Look).await?))),
        }
    }

    /// `flag` is where the run was named.
    async fn open_run(place: &Place, run: &str, flag: &str) -> anyhow::Result<Self> {
        let home = Home::new(place.store.as_deref(), None);
        let store = home.open(Access::Look).await?;
        let digest = kept::plan_of(&store, run, flag).await?;
        Ok(Self::Run(Box::new(kept::look(&store, &digest, &home.folder).await?)))
    }

    fn context(&self) -> &Context {
        match self {
            Self::Recipe(session) => &session.context,
            Self::Run(look) => &look.context,
        }
    }

    /// For people.
    fn label(&self) -> String {
        format!("{}, plan {}", self.context().plan.name, short(&self.context().digest))
    }

    /// The figures; what has rows in it is written on the way.
    async fn written(&self, outputs: &Outputs) -> anyhow::Result<Results> {
        if !outputs.have_rows() {
            return Ok(match self {
                Self::Recipe(session) => session.results().await?,
                Self::Run(look) => figures(&look.context, &look.models, &look.costs, look.numerics.clone()).await?,
            });
        }
        let mut sinks = Sinks::open(outputs)?;
        let (make, take) =
            (sinks.make(), |made| sinks.take(made).map_err(|error| FlowError::Output(format!("{error:#}"))));
        let results = match self {
            Self::Recipe(session) => session.results_with(make, take).await?,
            Self::Run(look) => {
                figures_with(&look.context, &look.models, &look.costs, look.numerics.clone(), make, take).await?
            }
        };
        sinks.finish(&results)?;
        Ok(results)
    }

    async fn mention_nothing(&self, place: &Place) -> anyhow::Result<()> {
        let Self::Recipe(session) = self else {
            say("nothing is recorded yet for this run");
            return Ok(());
        };
        say(&format!(
            "nothing is recorded yet for plan {}; `divvy run {}` does the work",
            short(&session.context.digest),
            place.recipe.display()
        ));
        Ok(session.mention_other_plans().await?)
    }
}

fn text(results: &Results, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(&divvy_report::json(results))?,
        Format::CsvArms => divvy_report::csv_arms(results),
        Format::Latex => divvy_report::latex(results),
        _ => divvy_report::markdown(results),
    })
}

/// The page with every row, as a run leaves it, and the figures.
pub(crate) async fn write_page(session: &Session, path: &Path) -> anyhow::Result<Results> {
    let page = Output { format: Format::Html, path: path.to_owned() };
    let outputs = Outputs { files: vec![page], stdout: None };
    let mut sinks = Sinks::open(&outputs)?;
    let make = sinks.make();
    let take = |made| sinks.take(made).map_err(|error| FlowError::Output(format!("{error:#}")));
    let results = session.results_with(make, take).await?;
    sinks.finish(&results)?;
    Ok(results)
}

/// Written beside and renamed, so that a reader never sees half a file.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let (beside, mut file) = begin(path)?;
    file.write_all(text.as_bytes()).map_err(|error| anyhow::Error::msg(beside.cannot(&error)))?;
    beside.rename().map_err(anyhow::Error::msg)
}

/// A file that has no name yet, see [`Beside`]; its folder is made.
fn begin(path: &Path) -> anyhow::Result<(Beside, File)> {
    make_folder_of(path)?;
    Beside::create(path).with_context(|| format!("cannot write `{}`", path.display()))
}

fn make_folder_of(path: &Path) -> anyhow::Result<()> {
    path.file_name().with_context(|| format!("`{}` names no file", path.display()))?;
    let Some(folder) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))
}

/// A run's name as a file name: letters, digits, `-`, `_` and `.`; anything else becomes `-`.
pub(crate) fn file_name(name: &str) -> String {
    let safe: String = name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    if safe.trim_matches(['.', '-']).is_empty() { "run".to_owned() } else { safe }
}

/// A mistake in the flags.
fn usage<T>(text: String) -> anyhow::Result<T> {
    Err(Usage(text).into())
}
