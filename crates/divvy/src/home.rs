//! Where records are kept: in a folder, or on a PostgreSQL server, where several machines work on them; what is a file (a
//! student, a report) then still lies in a folder here.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use divvy_core::recipe::is_server;
use divvy_store::{Store, Terms};

use crate::{output::Usage, session::Access};

const FOLDER: &str = "runs";
/// Seconds for which a worker may be silent before others take over what it has in work.
const LEASE: &str = "DIVVY_LEASE_SECONDS";
const LONGEST_LEASE: u64 = 86_400;

#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) folder: PathBuf,
    /// Of the server; may hold a password.
    server: Option<String>,
}

impl Home {
    /// `--store` or DIVVY_STORE, else what the recipe says.
    pub(crate) fn new(given: Option<&Path>, recipe: Option<&str>) -> Self {
        let server = |url: &str| Self { folder: FOLDER.into(), server: Some(url.to_owned()) };
        match (given, recipe) {
            (Some(given), _) => match given.to_str().filter(|given| is_server(given)) {
                Some(url) => server(url),
                None => Self { folder: given.to_owned(), server: None },
            },
            (None, Some(url)) => server(url),
            (None, None) => Self { folder: FOLDER.into(), server: None },
        }
    }

    pub(crate) async fn open(&self, access: Access) -> anyhow::Result<Store> {
        match &self.server {
            Some(url) => on_a_server(url, access).await,
            None => in_a_folder(&self.folder, access).await,
        }
    }
}

async fn on_a_server(url: &str, access: Access) -> anyhow::Result<Store> {
    match access {
        Access::Run => Ok(Store::connect(url, terms()?).await?),
        Access::Look => Store::connect_read(url).await.context("opening the store to read"),
        // Models that need no training can be served before anything was run.
        Access::Serve => match Store::connect_read(url).await {
            Err(divvy_store::StoreError::Missing { .. }) => {
                Store::connect(url, terms()?).await?.close().await?;
                Store::connect_read(url).await.context("opening the new store to read")
            }
            opened => opened.context("opening the store to read"),
        },
    }
}

fn terms() -> Result<Terms, Usage> {
    let Ok(text) = std::env::var(LEASE) else { return Ok(Terms::default()) };
    let seconds = text.parse().ok().filter(|seconds| (1..=LONGEST_LEASE).contains(seconds));
    let wrong = || Usage(format!("{LEASE} is `{text}`; it is a number of seconds from 1 to {LONGEST_LEASE}"));
    Ok(Terms { lease: Duration::from_secs(seconds.ok_or_else(wrong)?), ..Terms::default() })
}

async fn in_a_folder(folder: &Path, access: Access) -> anyhow::Result<Store> {
    let path = folder.join("divvy.db");
    match access {
        Access::Run => Ok(Store::open(&path).await?),
        Access::Look if !path.exists() => {
            anyhow::bail!(
                "there is no store at `{}` yet; `divvy run` makes one, or name another with --store",
                path.display()
            )
        }
        // Models that need no training can be served before anything was run.
        Access::Serve if !path.exists() => {
            Store::open(&path).await?.close().await?;
            Store::open_read(&path).await.context("opening the new store to read")
        }
        Access::Look | Access::Serve => Store::open_read(&path).await.context("opening the store to read"),
    }
}
