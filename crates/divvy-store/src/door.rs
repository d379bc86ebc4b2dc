//! The door: a store in a file or on a server, the same to whoever reads and writes. What each method promises stands here;
//! how it is done, in the two kinds. A file each for calls, items and runs, and one for a stage that is read from end to end.

mod calls;
mod items;
mod runs;
mod walk;

use std::path::Path;

pub use self::walk::Walk;
use crate::{
    error::StoreError,
    postgres::{PostgresStore, Terms},
    store::SqliteStore,
};

/// A clone is another handle to the same store. A write has reached the disk when its future returns.
#[derive(Clone, Debug)]
pub enum Store {
    /// A file; one process writes.
    Sqlite(SqliteStore),
    /// A server; any number of workers write.
    Postgres(PostgresStore),
}

/// The same call, whatever kind it is.
macro_rules! either {
    ($store:expr, $method:ident($($argument:expr),*)) => {
        match $store {
            Self::Sqlite(store) => store.$method($($argument),*).await,
            // On the heap: a trip over the network is large, and most stores never make one.
            Self::Postgres(store) => Box::pin(store.$method($($argument),*)).await,
        }
    };
}
use either;

impl Store {
    /// Opens or creates the store in the file `path`, with its directories, for writing. One process at a time may do so.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process writes; a file that is no store, or one of a newer divvy.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        SqliteStore::open(path).await.map(Self::Sqlite)
    }

    /// Opens an existing store in a file for reading, also while a run writes to it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none; a file that is no store, or of another version.
    pub async fn open_read(path: &Path) -> Result<Self, StoreError> {
        SqliteStore::open_read(path).await.map(Self::Sqlite)
    }

    /// Opens the store on a server for writing, beside others, and makes it where there is none.
    ///
    /// # Errors
    /// A URL that is none; a server that is not there or refuses; tables of a newer divvy.
    pub async fn connect(url: &str, terms: Terms) -> Result<Self, StoreError> {
        PostgresStore::open(url, terms).await.map(Self::Postgres)
    }

    /// Opens an existing store on a server for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when the database holds none; else as [`Store::connect`].
    pub async fn connect_read(url: &str) -> Result<Self, StoreError> {
        PostgresStore::open_read(url).await.map(Self::Postgres)
    }

    /// What workers on several machines need of a store; `None` for one in a file, where nobody else writes.
    #[must_use]
    pub fn shared(&self) -> Option<&PostgresStore> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store),
        }
    }

    /// Where it is, for people; without a password.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(store) => store.path().display().to_string(),
            Self::Postgres(store) => store.name().to_owned(),
        }
    }

    /// Waits for every write sent so far, then closes. Later writes fail with [`StoreError::Closed`]. Dropping the last
    /// handle does the same without waiting.
    ///
    /// # Errors
    /// When closing fails; what was acknowledged before is safe all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        either!(self, close())
    }
}
