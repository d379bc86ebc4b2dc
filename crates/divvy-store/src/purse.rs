//! What a command spends, so that not even a kill makes it forgotten. Some bytes in a file beside the store are written over
//! before a request goes out and after it is settled: that waits for no disk, and outlives the process. They become a row
//! when the command ends, or else when the next one opens the store. A power cut loses of them what the last second wrote;
//! the replies themselves are on the disk then.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, UNIX_EPOCH},
};

use divvy_core::digest::Digest;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    codec::blob,
    error::StoreError,
    lock::is_locked,
    rows::{Amount, Spending},
    statement::Statement,
    store::SqliteStore,
};

/// A row of `spending`, as the file has it.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// The command's own: an entry that is met twice is one row.
    number: i64,
    plan: Digest,
    spent: Amount,
    in_flight: Amount,
}

/// Where a running command writes down what it spends.
#[derive(Debug)]
pub struct Purse {
    store: SqliteStore,
    number: i64,
    plan: Digest,
    file: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    file: Arc<File>,
    synced: Instant,
    /// It could not be written, and that was said.
    failed: bool,
}

/// The file is flushed to the disk about so often.
const SYNC: Duration = Duration::from_secs(1);

impl SqliteStore {
    /// A purse for a command that is about to spend for `plan`.
    ///
    /// # Errors
    /// When the file beside the store cannot be written.
    pub async fn purse(&self, plan: &Digest) -> Result<Purse, StoreError> {
        let path = purse_path(self.path());
        let last: Option<i64> = sqlx::query_scalar("SELECT max(number) FROM spending")
            .fetch_one(&mut *self.reader().await?)
            .await
            .map_err(|e| self.unreadable(&e))?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let file = Arc::new(file.map_err(|e| StoreError::from_io(&path, "write what is spent", &e))?);
        let file = Mutex::new(Written { file, synced: Instant::now(), failed: false });
        let purse = Purse { store: self.clone(), number: last.unwrap_or(0) + 1, plan: plan.clone(), file };
        purse
            .write(&purse.entry(Spending::default()))
            .map_err(|e| StoreError::from_io(&path, "write what is spent", &e))?;
        Ok(purse)
    }

    /// What all commands of a plan have spent. To the writing process, those that are over; to one that reads, with the one that
    /// runs now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn spending(&self, plan: &Digest) -> Result<Spending, StoreError> {
        let left = if self.is_read_only() { self.left(plan) } else { None };
        // An earlier version believed any figure; of hundreds that are too large there is still a sum.
        let row = sqlx::query(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(min(tokens, 1 << 53)), 0), coalesce(sum(min(nanos, 1 << 53)), 0),
                coalesce(sum(lost_calls), 0), coalesce(sum(min(lost_tokens, 1 << 53)), 0),
                coalesce(sum(min(lost_nanos, 1 << 53)), 0)
             FROM spending WHERE plan = ?1 AND number IS NOT ?2",
        );
        let row = row.bind(blob(plan)).bind(left.as_ref().map(|entry| entry.number));
        let row = row.fetch_one(&mut *self.reader().await?).await;
        let rows = row.and_then(|row| sums(&row)).map_err(|e| self.unreadable(&e))?;
        let Some(Entry { spent, in_flight, .. }) = left else { return Ok(rows) };
        Ok(Spending { spent: rows.spent.plus(spent), lost: rows.lost.plus(in_flight) })
    }

    /// What commands that are over had in flight when they wrote that down for the last time, if that was at `since_ms` or later;
    /// to which endpoints is not on record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn left_in_flight(&self, since_ms: i64) -> Result<Vec<(i64, Amount)>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT left_ms, lost_calls, lost_tokens, lost_nanos FROM spending WHERE left_ms >= ? AND lost_calls > 0",
        );
        let rows = rows.bind(since_ms).fetch_all(&mut *self.reader().await?).await.map_err(|e| self.unreadable(&e))?;
        let amount = |(left_ms, calls, tokens, nanos)| (left_ms, Amount { calls, tokens, nanos });
        Ok(rows.into_iter().map(amount).collect())
    }

    /// What the last command wrote down, if it was for this plan. While it runs, nothing is lost yet.
    fn left(&self, plan: &Digest) -> Option<Entry> {
        let entry = Entry::decode(&std::fs::read(purse_path(self.path())).ok()?).filter(|entry| entry.plan == *plan)?;
        let in_flight = if is_locked(self.path()) { Amount::default() } else { entry.in_flight };
        Some(Entry { in_flight, ..entry })
    }
}

fn sums(row: &SqliteRow) -> Result<Spending, sqlx::Error> {
    let amount = |first: usize| -> Result<Amount, sqlx::Error> {
        Ok(Amount { calls: row.try_get(first)?, tokens: row.try_get(first + 1)?, nanos: row.try_get(first + 2)? })
    };
    Ok(Spending { spent: amount(0)?, lost: amount(3)? })
}

impl Purse {
    /// Everything that this command has spent, and what is in flight now. A file that cannot be written is told of once: the
    /// command's own caps hold all the same.
    pub fn note(&self, spending: Spending) {
        if let Err(error) = self.write(&self.entry(spending)) {
            let mut written = self.written();
            if !std::mem::replace(&mut written.failed, true) {
                tracing::warn!(%error, "what is spent cannot be written beside the store; the next command will not know of it");
            }
        }
    }

    /// Makes a row of what was spent. Whatever is still in flight counts as lost.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn close(&self, spending: Spending) -> Result<(), StoreError> {
        self.note(spending);
        let left_ms = written_ms(&self.written().file);
        self.store.write(vec![insert(&self.entry(spending), left_ms)]).await?;
        let emptied = self.written().file.set_len(0);
        emptied.map_err(|e| StoreError::from_io(&purse_path(self.store.path()), "empty", &e))
    }

    fn entry(&self, Spending { spent, lost }: Spending) -> Entry {
        Entry { number: self.number, plan: self.plan.clone(), spent, in_flight: lost }
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        let mut written = self.written();
        overwrite(&written.file, &entry.encode())?;
        if written.synced.elapsed() >= SYNC
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            written.synced = Instant::now();
            let file = Arc::clone(&written.file);
            runtime.spawn_blocking(move || file.sync_data());
        }
        Ok(())
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In one piece, where the system can: a kill comes before it or after it.
#[cfg(unix)]
fn overwrite(file: &File, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, 0)
}

#[cfg(not(unix))]
fn overwrite(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek, Write};
    file.rewind()?;
    file.write_all(bytes)
}

/// Takes in what a killed command has left.
pub(crate) async fn take_in(store: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let path = purse_path(store);
    let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::from_io(&path, "read what was spent", &error)),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| StoreError::from_io(&path, "read what was spent", &e))?;
    if let Some(entry) = Entry::decode(&bytes) {
        insert(&entry, written_ms(&file))
            .execute(connection)
            .await
            .map_err(|e| StoreError::from_sql(store, "write", &e))?;
    } else if !bytes.is_empty() {
        tracing::warn!(file = %path.display(), "a power cut has spoilt what the last command wrote down of its spending");
    }
    file.set_len(0).map_err(|e| StoreError::from_io(&path, "empty", &e))
}

/// When something was written into it last.
fn written_ms(file: &File) -> Option<i64> {
    let since = file.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

fn insert(entry: &Entry, left_ms: Option<i64>) -> Statement {
    let row = Statement::new(
        "INSERT INTO spending (number, plan, calls, tokens, nanos, lost_calls, lost_tokens, lost_nanos, left_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    );
    let Entry { number, plan, spent, in_flight } = entry;
    let amount = |row: Statement, Amount { calls, tokens, nanos }: Amount| row.int(calls).int(tokens).int(nanos);
    amount(amount(row.int(*number).blob(blob(plan)), *spent), *in_flight).int(left_ms)
}

fn purse_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".spending");
    PathBuf::from(name)
}

const DIGEST: usize = 32;
const FIGURES: usize = 7;
const CHECK: usize = 8;
const LENGTH: usize = DIGEST + 8 * FIGURES + CHECK;

impl Entry {
    /// The plan, the number, what was spent and what is in flight, eight bytes each with the lowest first, and the first
    /// bytes of a digest of all that.
    fn encode(&self) -> [u8; LENGTH] {
        let (spent, out) = (self.spent, self.in_flight);
        let figures = [self.number, spent.calls, spent.tokens, spent.nanos, out.calls, out.tokens, out.nanos];
        let mut bytes = [0; LENGTH];
        bytes[..DIGEST].copy_from_slice(&blob(&self.plan));
        for (place, figure) in bytes[DIGEST..LENGTH - CHECK].chunks_exact_mut(8).zip(figures) {
            place.copy_from_slice(&figure.to_le_bytes());
        }
        let (said, check) = bytes.split_at_mut(LENGTH - CHECK);
        check.copy_from_slice(&Digest::of_bytes(said).seed().to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (said, check) = bytes.split_at_checked(LENGTH - CHECK)?;
        if check != Digest::of_bytes(said).seed().to_le_bytes() {
            return None;
        }
        let (plan, figures) = said.split_at(DIGEST);
        let mut figures =
            figures.chunks_exact(8).map(|figure| i64::from_le_bytes(figure.try_into().unwrap_or_default()));
        let mut next = || figures.next().unwrap_or_default();
        let number = next();
        let mut amount = || Amount { calls: next(), tokens: next(), nanos: next() };
        Some(Self { number, plan: crate::codec::digest(plan).ok()?, spent: amount(), in_flight: amount() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spending(calls: i64, lost: i64) -> Spending {
        let amount = |calls| Amount { calls, tokens: 100 * calls, nanos: -7 * calls };
        Spending { spent: amount(calls), lost: amount(lost) }
    }

    #[tokio::test]
    async fn what_a_killed_command_spent_is_taken_in_once() {
        let directory = tempfile::tempdir().unwrap();
        let (path, plan) = (directory.path().join("store.db"), Digest::of_bytes(b"plan"));
        let store = SqliteStore::open(&path).await.unwrap();
        let purse = store.purse(&plan).await.unwrap();
        purse.note(spending(5, 2));
        let left = std::fs::read(purse_path(&path)).unwrap();
        // Killed: nobody closes the purse. Nobody was near it for an hour.
        let hour_ago = std::time::SystemTime::now() - Duration::from_hours(1);
        purse.written().file.set_modified(hour_ago).unwrap();
        let hour_ago = written_ms(&purse.written().file).unwrap();
        drop(purse);
        store.close().await.unwrap();
        for _ in 0..2 {
            // The second time as if the row had been written and the file not been emptied.
            if std::fs::read(purse_path(&path)).unwrap() != left {
                std::fs::write(purse_path(&path), &left).unwrap();
            }
            let next = SqliteStore::open(&path).await.unwrap();
            assert_eq!(next.spending(&plan).await.unwrap(), spending(5, 2));
            assert_eq!(std::fs::read(purse_path(&path)).unwrap(), b"");
            next.close().await.unwrap();
        }
        let next = SqliteStore::open(&path).await.unwrap();
        let purse = next.purse(&plan).await.unwrap();
        purse.note(spending(1, 1));
        purse.close(spending(3, 0)).await.unwrap();
        assert_eq!(next.spending(&plan).await.unwrap(), spending(8, 2));
        assert_eq!(next.spending(&Digest::of_bytes(b"other")).await.unwrap(), Spending::default());
        let in_flight = |since_ms| next.left_in_flight(since_ms);
        assert_eq!(
            in_flight(hour_ago).await.unwrap(),
            [(hour_ago, spending(2, 0).spent)],
            "whose last word is its own"
        );
        assert_eq!(in_flight(hour_ago + 1).await.unwrap(), []);
    }

    /// As earlier versions wrote down what an endpoint said.
    #[tokio::test]
    async fn commands_that_spent_more_than_there_is_have_a_sum() {
        let directory = tempfile::tempdir().unwrap();
        let (store, plan) = (directory.path().join("store.db"), Digest::of_bytes(b"plan"));
        let store = SqliteStore::open(&store).await.unwrap();
        let most = Amount { calls: 1, tokens: i64::MAX, nanos: i64::MAX };
        for _ in 0..3 {
            store.purse(&plan).await.unwrap().close(Spending { spent: most, lost: most }).await.unwrap();
        }
        let told = store.spending(&plan).await.unwrap();
        assert!(told.spent.calls == 3 && told.spent.tokens > 1 << 53 && told.lost.nanos > 1 << 53, "{told:?}");
    }

    #[test]
    fn half_an_entry_is_none() {
        let entry = Entry {
            number: 3,
            plan: Digest::of_bytes(b"plan"),
            spent: spending(4, 0).spent,
            in_flight: spending(2, 0).spent,
        };
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes), Some(entry));
        assert_eq!((Entry::decode(&bytes[..40]), Entry::decode(b"")), (None, None));
        let mut spoilt = bytes;
        spoilt[40] ^= 1;
        assert_eq!(Entry::decode(&spoilt), None);
    }
}
