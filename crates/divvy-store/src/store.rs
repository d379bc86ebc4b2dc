//! Opening and closing: one writing connection behind the lock, a few reading ones beside it. Everything else of
//! [`Store`] stands in the file of its table: `calls`, `runs`, `items`, `artefacts`.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use divvy_core::digest::Digest;
use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use crate::{
    error::StoreError,
    known::KnownKeys,
    lock::lock_writer,
    migrations,
    statement::Statement,
    writer::{Job, Writer},
};

/// Writes that may wait for the writer before callers are held back.
const QUEUE: usize = 4096;
const READERS: usize = 4;
/// How long SQLite itself waits for a lock, for example while another process copies the file.
const BUSY: Duration = Duration::from_secs(10);

/// The store; a clone is another handle to the same one. Writes of a dropped caller are still committed.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Plain connections, not a pool: a pool's timeouts follow tokio's clock, which tests pause.
    readers: Vec<Mutex<SqliteConnection>>,
    next_reader: AtomicUsize,
    /// `None`: open for reading only.
    writer: Option<mpsc::Sender<Job>>,
    /// `None`: another process may write.
    known: Option<KnownKeys>,
}

impl Store {
    /// Opens or creates the store at `path`, with its directories, for writing. One process at a time may do so.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process writes; a file that is no store, or one of a newer divvy.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| StoreError::from_io(parent, "create the directory", &e))?;
        }
        let lock = lock_writer(path).await?;
        let mut connection = connect(path, &writing(path)).await?;
        migrations::migrate(path, &mut connection).await?;
        let known = KnownKeys::read(path, &mut connection).await?;
        let readers = connect_readers(path).await?;
        let (sender, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(Writer { path: path.to_owned(), connection, lock }.run(jobs));
        Ok(Self::from_parts(path, readers, Some((sender, known))))
    }

    /// Opens an existing store for reading, also while a run writes to it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none; a file that is no store, or of another version.
    pub async fn open_read(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let mut readers = connect_readers(path).await?;
        migrations::check(path, readers[0].get_mut()).await?;
        Ok(Self::from_parts(path, readers, None))
    }

    fn from_parts(
        path: &Path,
        readers: Vec<Mutex<SqliteConnection>>,
        writing: Option<(mpsc::Sender<Job>, KnownKeys)>,
    ) -> Self {
        let (writer, known) = writing.unzip();
        Self { inner: Arc::new(Inner { path: path.to_owned(), readers, next_reader: 0.into(), writer, known }) }
    }

    /// `false`: there is no call and no raw reply of this key, for certain. Most keys are new, and asking the database
    /// costs more than the answer is worth.
    pub(crate) fn may_have(&self, key: &Digest) -> bool {
        self.inner.known.as_ref().is_none_or(|known| known.contains(key))
    }

    /// Something of this key is about to be written.
    pub(crate) fn note(&self, key: &Digest) {
        self.inner.known.iter().for_each(|known| known.add(key));
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Waits for every write sent so far, then closes and gives up the lock. Later writes fail with
    /// [`StoreError::Closed`]. Dropping the last handle does the same without waiting.
    ///
    /// # Errors
    /// When closing fails; what was acknowledged before is safe all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        match &self.inner.writer {
            None => Ok(()),
            Some(writer) => self.submit(writer, |done| Job::Close { done }).await.map(|_| ()),
        }
    }

    /// Runs the statements in one transaction; returns, when that is on disk, the last inserted row's id.
    pub(crate) async fn write(&self, statements: Vec<Statement>) -> Result<i64, StoreError> {
        let writer = self.inner.writer.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.path().to_owned() })?;
        self.submit(writer, |done| Job::Write { statements, done }).await
    }

    async fn submit(
        &self,
        writer: &mpsc::Sender<Job>,
        job: impl FnOnce(oneshot::Sender<Result<i64, StoreError>>) -> Job,
    ) -> Result<i64, StoreError> {
        let closed = || StoreError::Closed { path: self.path().to_owned() };
        let (done, answer) = oneshot::channel();
        writer.send(job(done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    pub(crate) async fn reader(&self) -> MutexGuard<'_, SqliteConnection> {
        let turn = self.inner.next_reader.fetch_add(1, Ordering::Relaxed);
        self.inner.readers[turn % READERS].lock().await
    }

    /// A failed read, as an error of this store.
    pub(crate) fn unreadable(&self, error: &sqlx::Error) -> StoreError {
        StoreError::from_sql(self.path(), "read", error)
    }
}

fn writing(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL: in WAL mode every commit is fsynced, so an acknowledged call survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        // Keys are hashes, so that every commit touches pages all over the file: a longer log and a larger cache write and
        // read the same page less often. Pages of 4 KiB, and KiB.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("cache_size", "-16000")
        .foreign_keys(true)
        .busy_timeout(BUSY)
}

async fn connect(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    options.connect().await.map_err(|e| StoreError::from_sql(path, "open", &e))
}

async fn connect_readers(path: &Path) -> Result<Vec<Mutex<SqliteConnection>>, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
    let mut readers = Vec::with_capacity(READERS);
    for _ in 0..READERS {
        readers.push(Mutex::new(connect(path, &options).await?));
    }
    Ok(readers)
}
