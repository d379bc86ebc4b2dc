//! The embedded store, opened and closed: one writing connection behind the lock, a few reading ones beside it. Everything else of
//! [`SqliteStore`] stands in the file of its table: `calls`, `runs`, `items`, `artefacts`.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use crate::{
    error::StoreError,
    keys::Keys,
    lock::lock_writer,
    migrations, purse,
    statement::Statement,
    words::Words,
    writer::{Answer, Job, Writer},
};

/// Writes that may wait for the writer before callers are held back.
const QUEUE: usize = 4096;
const READERS: usize = 4;
const STATEMENTS: usize = 400;
/// How long SQLite itself waits for a lock, for example while another process copies the file.
const BUSY: Duration = if cfg!(test) { Duration::from_millis(40) } else { Duration::from_secs(10) };

/// The store; a clone is another handle to the same one. Writes of a dropped caller are still committed.
#[derive(Clone, Debug)]
pub struct SqliteStore {
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
    keys: Keys,
    words: Words,
    /// Writes that nobody waited for, and how many of them are known to be through.
    sent: AtomicU64,
    settled: AtomicU64,
}

impl SqliteStore {
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
        purse::take_in(path, &mut connection).await?;
        let keys = Keys::default();
        keys.catch_up(&mut connection, true).await.map_err(|e| StoreError::from_sql(path, "read", &e))?;
        let words = Words::read(&mut connection).await.map_err(|e| StoreError::from_sql(path, "read", &e))?;
        let readers = connect_readers(path, LOOKING_UP).await?;
        let (sender, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(Writer { path: path.to_owned(), connection, lock, broken: None }.run(jobs));
        Ok(Self::from_parts(path, readers, Some(sender), keys, words))
    }

    /// Opens an existing store for reading, also while a run writes to it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none; a file that is no store, or of another version.
    pub async fn open_read(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing { path: path.to_owned() });
        }
        let mut readers = connect_readers(path, READING).await?;
        migrations::check(path, readers[0].get_mut()).await?;
        Ok(Self::from_parts(path, readers, None, Keys::default(), Words::default()))
    }

    fn from_parts(
        path: &Path,
        readers: Vec<Mutex<SqliteConnection>>,
        writer: Option<mpsc::Sender<Job>>,
        keys: Keys,
        words: Words,
    ) -> Self {
        let (path, next_reader, sent, settled) = (path.to_owned(), 0.into(), 0.into(), 0.into());
        Self { inner: Arc::new(Inner { path, readers, next_reader, writer, keys, words, sent, settled }) }
    }

    /// Where the keys are of all replies that the writing process has sent, or that a reading one has seen.
    pub(crate) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    pub(crate) fn words(&self) -> &Words {
        &self.inner.words
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
        self.submit(self.writer()?, |done| Job::Write { statements, done: Some(done) }).await
    }

    /// Sends the statements on their way: they are on disk before anything that is written after them. Should that fail,
    /// every later write does, and closing.
    pub(crate) async fn write_later(&self, statements: Vec<Statement>) -> Result<(), StoreError> {
        let writer = self.writer()?;
        self.inner.sent.fetch_add(1, Ordering::SeqCst);
        writer.send(Job::Write { statements, done: None }).await.map_err(|_| self.closed())
    }

    /// Others may write to it.
    pub(crate) fn is_read_only(&self) -> bool {
        self.inner.writer.is_none()
    }

    fn writer(&self) -> Result<&mpsc::Sender<Job>, StoreError> {
        self.inner.writer.as_ref().ok_or_else(|| StoreError::ReadOnly { path: self.path().to_owned() })
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed { path: self.path().to_owned() }
    }

    async fn submit(&self, writer: &mpsc::Sender<Job>, job: impl FnOnce(Answer) -> Job) -> Result<i64, StoreError> {
        let (done, answer) = oneshot::channel();
        writer.send(job(done)).await.map_err(|_| self.closed())?;
        answer.await.map_err(|_| self.closed())?
    }

    /// A connection that sees everything that this handle was told to write.
    pub(crate) async fn reader(&self) -> Result<MutexGuard<'_, SqliteConnection>, StoreError> {
        let sent = self.inner.sent.load(Ordering::SeqCst);
        if self.inner.settled.load(Ordering::SeqCst) < sent {
            self.write(Vec::new()).await?;
            self.inner.settled.fetch_max(sent, Ordering::SeqCst);
        }
        let turn = self.inner.next_reader.fetch_add(1, Ordering::Relaxed);
        Ok(self.inner.readers[turn % READERS].lock().await)
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
        // For a new store: a call is some kilobytes, and a page of the log takes two system calls whatever its size.
        .page_size(8192)
        // Every commit writes the last page of each table again: a longer log copies fewer of them. Pages, and KiB.
        .pragma("wal_autocheckpoint", "2000")
        .pragma("cache_size", "-8000")
        // One for each number of rows that go into a table together, see `batch`.
        .statement_cache_capacity(STATEMENTS)
        .foreign_keys(true)
        .busy_timeout(BUSY)
}

async fn connect(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    options.connect().await.map_err(|e| StoreError::from_sql(path, "open", &e))
}

/// Rows that a reader's thread may be ahead of who reads them: with fewer than a part of a report has, the two wait for each
/// other at every row.
const ROWS_AHEAD: usize = 1024;

/// KiB of pages that a connection keeps: of a process that reads, and of one that writes and looks single rows up.
const READING: &str = "-2000";
const LOOKING_UP: &str = "-256";

async fn connect_readers(path: &Path, pages: &'static str) -> Result<Vec<Mutex<SqliteConnection>>, StoreError> {
    let options =
        SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY).pragma("cache_size", pages);
    // Whoever reads a whole stage reads for more than a second: nothing to be warned of.
    let options = options.disable_statement_logging().row_buffer_size(ROWS_AHEAD);
    let mut readers = Vec::with_capacity(READERS);
    for _ in 0..READERS {
        readers.push(Mutex::new(connect(path, &options).await?));
    }
    Ok(readers)
}

#[cfg(test)]
mod tests;
