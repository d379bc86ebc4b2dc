//! The store on a PostgreSQL server, which workers on several machines share: the same tables as the embedded one, and
//! leases, money and rates besides. Whatever is sent again because its answer was lost has the effect of one.
//!
//! Modules in reading order: `address` (the URL), `line` (connections that come back), `writer`, `batch` and `body` (group
//! commit), `calls`, `items`, `runs`, `artefacts` and `decode` (the tables), `leases`, `limits` and `batches` (what workers share).

mod address;
mod artefacts;
mod batch;
mod batches;
mod body;
mod browse;
mod bulk;
mod calls;
mod decode;
mod items;
mod leases;
mod limits;
mod line;
mod migrations;
mod recipes;
mod runs;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::sync::{mpsc, oneshot};

pub use self::leases::Token;
use self::{
    batch::Write,
    leases::Worker,
    line::{Line, Server},
    writer::{Job, Writer},
};
use crate::error::StoreError;

/// Writes that may wait for the writer before callers are held back.
const QUEUE: usize = 4096;
/// Connections for reads and leases. With the writer's and one for what is rare, a worker has five.
const LINES: usize = 3;

/// How a worker uses the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A worker that is not heard of for so long loses what it has in work.
    pub lease: Duration,
    /// How long a server that is away is waited for, once it was there.
    pub patience: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { lease: Duration::from_secs(30), patience: Duration::from_mins(5) }
    }
}

/// The store on a server; a clone is another handle to the same one. Writes of a dropped caller are still committed.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    server: Arc<Server>,
    /// A lease that a crash of the server forgets is claimed again: these do not wait for the disk.
    lines: Vec<Line>,
    next: AtomicUsize,
    /// What this one acknowledges has reached the disk.
    sure: Line,
    /// `None`: open for reading only.
    writing: Option<(mpsc::Sender<Job>, Worker)>,
}

impl PostgresStore {
    /// Opens the store at `url` for writing, beside any number of others; makes its tables where there are none.
    ///
    /// # Errors
    /// A URL that is none; a server that is not there or refuses; tables of a newer divvy.
    pub async fn open(url: &str, terms: Terms) -> Result<Self, StoreError> {
        let server = Arc::new(Server::new(address::parse(url)?, terms.patience));
        let mut connection = server.first().await?;
        migrations::migrate(&server, &mut connection).await?;
        let sure = Line::new(server.clone(), true, Some(connection));
        let worker = Worker::register(&sure, terms.lease).await?;
        let (sender, jobs) = mpsc::channel(QUEUE);
        let writer = Writer { line: Line::new(server.clone(), true, None), worker };
        tokio::spawn(writer.run(jobs));
        let store = Self::from_parts(server, sure, Some((sender, worker)));
        leases::keep_alive(&store, worker);
        Ok(store)
    }

    /// Opens an existing store for reading, also while workers write to it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when the database holds no store; else as [`PostgresStore::open`].
    pub async fn open_read(url: &str) -> Result<Self, StoreError> {
        let server = Arc::new(Server::new(address::parse(url)?, Terms::default().patience));
        let mut connection = server.first().await?;
        migrations::check(&server, &mut connection).await?;
        let sure = Line::new(server.clone(), true, Some(connection));
        Ok(Self::from_parts(server, sure, None))
    }

    fn from_parts(server: Arc<Server>, sure: Line, writing: Option<(mpsc::Sender<Job>, Worker)>) -> Self {
        let lines = (0..LINES).map(|_| Line::new(server.clone(), false, None)).collect();
        Self { inner: Arc::new(Inner { server, lines, next: 0.into(), sure, writing }) }
    }

    /// Where it is, without the password.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.server.name()
    }

    /// Waits for every write sent so far, then gives up all leases and takes no more writes.
    ///
    /// # Errors
    /// When the server is away for too long; what was acknowledged before is safe all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        match &self.inner.writing {
            None => Ok(()),
            Some((writer, _)) => self.submit(writer, |done| Job::Close { done }).await.map(drop),
        }
    }

    /// Puts the rows into one transaction; returns, when that is on disk, which of its items were put.
    async fn write(&self, write: Write) -> Result<Vec<bool>, StoreError> {
        let (writer, _) = self.writing()?;
        self.submit(writer, |done| Job::Write { write, done }).await
    }

    async fn submit(
        &self,
        writer: &mpsc::Sender<Job>,
        job: impl FnOnce(oneshot::Sender<Result<Vec<bool>, StoreError>>) -> Job,
    ) -> Result<Vec<bool>, StoreError> {
        let closed = || StoreError::Closed { path: self.name().into() };
        let (done, answer) = oneshot::channel();
        writer.send(job(done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    fn writing(&self) -> Result<&(mpsc::Sender<Job>, Worker), StoreError> {
        self.inner.writing.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.name().into() })
    }

    fn worker(&self) -> Result<Worker, StoreError> {
        self.writing().map(|(_, worker)| *worker)
    }

    /// Runs a statement that reads, or that may be forgotten.
    async fn read<'q>(
        &self,
        statement: impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.line().run("read", statement).await
    }

    /// One that is free, so that no heartbeat waits behind a long answer; else each in its turn.
    fn line(&self) -> &Line {
        let turn = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let from_turn = || (0..LINES).map(|step| &self.inner.lines[(turn + step) % LINES]);
        from_turn().find(|line| line.is_free()).unwrap_or(&self.inner.lines[turn % LINES])
    }

    /// Runs a statement that writes, on disk when this returns. It must bear to be run twice.
    async fn sure<'q>(
        &self,
        statement: impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.writing()?;
        self.inner.sure.run("write", statement).await
    }

    /// A failed read, as an error of this store.
    fn unreadable(&self, error: &sqlx::Error) -> StoreError {
        self.inner.server.error("read", error)
    }
}
