//! Where a command finds what it works on: the same flags for every command that has a recipe.

use std::path::PathBuf;

use clap::Args;

/// The recipe where none is named.
pub(crate) const RECIPE: &str = "divvy.toml";

/// Where a recipe, its data and its records lie.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The recipe
    #[arg(default_value = RECIPE)]
    pub recipe: PathBuf,
    /// Folder that the recipe's data files are relative to [default: the recipe's own]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of the store, the trained students and the reports; or a PostgreSQL server that several machines share,
    /// postgres://USER@HOST/DATABASE (docs/several-machines.md) [default: the recipe's `store`, else the folder `runs`]
    #[arg(long, value_name = "DIR|URL", env = "DIVVY_STORE", hide_env_values = true)]
    pub store: Option<PathBuf>,
    /// Take the training questions from what was asked of `divvy serve --record`, not from the recipe; with a number, from
    /// its first lines
    #[arg(long, value_name = "traffic[:LINES]")]
    pub from: Option<Traffic>,
}

impl Place {
    /// What the data files' names are relative to.
    pub(crate) fn data_folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| self.recipe.parent().map(PathBuf::from).unwrap_or_default())
    }
}

/// Training questions from the record of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub lines: Option<u64>,
}

impl std::str::FromStr for Traffic {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write traffic, or traffic:180 for its first 180 lines";
        match text.split_once(':') {
            None if text == "traffic" => Ok(Self { lines: None }),
            Some(("traffic", lines)) => match lines.parse() {
                Ok(lines) if lines > 0 => Ok(Self { lines: Some(lines) }),
                _ => Err(wrong),
            },
            _ => Err(wrong),
        }
    }
}
