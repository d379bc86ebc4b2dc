//! Which reply belongs to which key. An index of hashes on disk would be written all over with every commit, so the keys of the
//! last replies are in memory, and from time to time they go to the table `key` together, in order. A filter in memory says
//! of nearly every new key that it is not there. Thirty-one bits of a key are kept: "no" is certain, and a row that is found
//! must be compared.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{PoisonError, RwLock, RwLockWriteGuard},
};

use divvy_core::digest::Digest;
use futures::TryStreamExt;
use sqlx::{Row, SqliteConnection};

use crate::{
    call_sql::listed, codec::undecodable, error::StoreError, filter::Filter, statement::Statement, store::SqliteStore,
};

/// So many keys are filed together; where there are very many, a sixteenth of them, since a batch writes to pages all over
/// the table.
const BATCH: usize = 1 << 16;
const SHARE: usize = 16;
/// Of them, so many by one statement: SQLite takes its list apart in memory.
const AT_ONCE: usize = 1 << 12;

#[derive(Debug, Default)]
pub(crate) struct Keys(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Those that are in no batch, see [`entry`].
    recent: BTreeSet<i64>,
    batches: Vec<Filter>,
    /// All replies up to this one are in a batch.
    filed_to: i64,
    filing: bool,
    /// The highest number given or seen.
    last: i64,
    /// Replies that this process has kept and not made a call of yet.
    unread: HashMap<Digest, i64>,
}

/// Keys on their way to the disk.
struct Filing {
    entries: Vec<i64>,
    up_to: i64,
    filter: Filter,
}

impl Keys {
    /// Reads what was added since: batches, and the replies that are in none. At most so many replies as a batch has; `true`: there
    /// may be more.
    async fn read(&self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let filed_to = self.inner().filed_to;
        let mut rows = sqlx::query("SELECT up_to, filter FROM key_batch WHERE up_to > ? ORDER BY up_to")
            .bind(filed_to)
            .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            let (up_to, filter) = (row.try_get("up_to")?, Filter::from_bytes(row.try_get("filter")?));
            self.inner().add(filter, up_to);
        }
        drop(rows);
        let last = self.inner().last;
        let rows = sqlx::query("SELECT seq, key FROM reply WHERE seq > ? ORDER BY seq LIMIT ?");
        let mut rows = rows.bind(last).bind(BATCH as i64).fetch(connection);
        let mut count = 0;
        while let Some(row) = rows.try_next().await? {
            let (seq, key): (i64, &[u8]) = (row.try_get("seq")?, row.try_get("key")?);
            let head = key.first_chunk().ok_or_else(|| undecodable(format!("reply {seq} has no key")))?;
            self.inner().insert(u64::from_be_bytes(*head), seq);
            count += 1;
        }
        Ok(count == BATCH)
    }

    /// All that was added since; `file`: the one process that writes files what earlier ones have not.
    pub(crate) async fn catch_up(&self, connection: &mut SqliteConnection, file: bool) -> Result<(), sqlx::Error> {
        while self.read(connection).await? {
            if file && let Some(filing) = self.due() {
                for statement in filing.statements() {
                    statement.execute(connection).await?;
                }
                self.filed(filing);
            }
        }
        Ok(())
    }

    /// The number of a new reply with this key.
    ///
    /// # Panics
    /// At four thousand million replies.
    pub(crate) fn append(&self, key: &Digest) -> i64 {
        let mut inner = self.inner();
        let seq = inner.last + 1;
        inner.insert(key.seed(), seq);
        seq
    }

    /// Replies that may have this key and are in no batch, ascending, and whether it may be in one.
    fn look(&self, key: &Digest) -> (Vec<i64>, bool) {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let head = head(key.seed());
        let filed = inner.batches.iter().any(|filter| filter.may_have(head));
        (inner.recent.range(entry(head, 0)..=entry(head, u32::MAX)).map(|entry| seq(*entry)).collect(), filed)
    }

    /// A reply is on disk and will be read.
    pub(crate) fn set_unread(&self, key: &Digest, seq: i64) {
        self.inner().unread.insert(key.clone(), seq);
    }

    pub(crate) fn unread(&self, key: &Digest) -> Option<i64> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).unread.get(key).copied()
    }

    /// The reply that is now being read; it becomes a call, or none comes of it.
    pub(crate) fn take_unread(&self, key: &Digest) -> Option<i64> {
        self.inner().unread.remove(key)
    }

    /// The next batch, if there is one and nobody is at it.
    fn due(&self) -> Option<Filing> {
        let mut inner = self.inner();
        let filed = || inner.batches.iter().map(Filter::count).sum::<usize>();
        // The sum last, as this is asked at every reply.
        if inner.filing || inner.recent.len() < BATCH || inner.recent.len() < filed() / SHARE {
            return None;
        }
        inner.filing = true;
        let entries: Vec<i64> = inner.recent.iter().copied().collect();
        let up_to = inner.last;
        drop(inner);
        Some(Filing { filter: Filter::of(entries.iter().map(|entry| (entry >> u32::BITS) as u32)), entries, up_to })
    }

    /// The batch is on the disk.
    fn filed(&self, filing: Filing) {
        let mut inner = self.inner();
        inner.add(filing.filter, filing.up_to);
        inner.filing = false;
    }

    fn inner(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What is in a batch need not be in memory, too.
    fn add(&mut self, filter: Filter, up_to: i64) {
        self.recent.retain(|entry| seq(*entry) > up_to);
        self.batches.push(filter);
        self.filed_to = self.filed_to.max(up_to);
        self.last = self.last.max(up_to);
    }

    fn insert(&mut self, key: u64, seq: i64) {
        self.last = self.last.max(seq);
        let number = u32::try_from(seq).expect("fewer than four thousand million replies");
        self.recent.insert(entry(head(key), number));
    }
}

impl Filing {
    fn statements(&self) -> Vec<Statement> {
        let insert = |some: &[i64]| {
            Statement::new("INSERT OR IGNORE INTO key (entry) SELECT value FROM json_each(?)").text(listed(some))
        };
        let batch = Statement::new("INSERT INTO key_batch (up_to, filter) VALUES (?, ?)")
            .int(self.up_to)
            .blob(self.filter.bytes().to_vec());
        self.entries.chunks(AT_ONCE).map(insert).chain([batch]).collect()
    }
}

/// The bits of a key that are kept.
fn head(key: u64) -> u32 {
    (key >> (u64::BITS - 31)) as u32
}

fn entry(head: u32, seq: u32) -> i64 {
    i64::from(head) << u32::BITS | i64::from(seq)
}

fn seq(entry: i64) -> i64 {
    entry & i64::from(u32::MAX)
}

/// `?` is a JSON array of heads.
const FILED: &str = "SELECT key.entry & 4294967295 FROM json_each(?) AS head
    JOIN key ON key.entry BETWEEN head.value << 32 AND (head.value << 32) + 4294967295";

impl SqliteStore {
    /// Replies that may have this key, ascending. Nothing: there is none, for certain.
    pub(crate) async fn find(&self, key: &Digest) -> Result<Vec<i64>, StoreError> {
        if self.is_read_only() {
            Box::pin(self.catch_up()).await?;
        }
        match self.keys().look(key) {
            (recent, false) => Ok(recent),
            // On the heap, as it is rare: every request holds room for what it may wait for.
            (recent, true) => Box::pin(self.with_filed(recent, &[head(key.seed())])).await,
        }
    }

    /// Those that may have one of these keys, ascending.
    pub(crate) async fn find_all(&self, keys: impl IntoIterator<Item = &Digest>) -> Result<Vec<i64>, StoreError> {
        let (mut found, mut filed) = (Vec::new(), Vec::new());
        for key in keys {
            let (recent, may_be_filed) = self.keys().look(key);
            found.extend(recent);
            filed.extend(may_be_filed.then(|| head(key.seed())));
        }
        self.with_filed(found, &filed).await
    }

    async fn with_filed(&self, mut found: Vec<i64>, heads: &[u32]) -> Result<Vec<i64>, StoreError> {
        if !heads.is_empty() {
            let heads: Vec<i64> = heads.iter().map(|head| i64::from(*head)).collect();
            let rows = sqlx::query_scalar(FILED).bind(listed(&heads)).fetch_all(&mut *self.reader().await?).await;
            let filed: Vec<i64> = rows.map_err(|e| self.unreadable(&e))?;
            found.extend(filed);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// For a process that only reads: the keys that the writing one has added.
    pub(crate) async fn catch_up(&self) -> Result<(), StoreError> {
        self.keys().catch_up(&mut *self.reader().await?, false).await.map_err(|e| self.unreadable(&e))
    }

    /// The number of a new reply with this key. Now and then the keys of earlier ones go to the disk behind it.
    pub(crate) fn next_reply(&self, key: &Digest) -> i64 {
        let seq = self.keys().append(key);
        if let Some(filing) = self.keys().due() {
            let store = self.clone();
            tokio::spawn(async move {
                // Should it fail, so does every write.
                if store.write(filing.statements()).await.is_ok() {
                    store.keys().filed(filing);
                }
            });
        }
        seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Digest {
        Digest::of_bytes(&number.to_le_bytes())
    }

    #[test]
    fn keys_are_found_however_many_there_are() {
        let keys = Keys::default();
        const COUNT: usize = 40_000;
        let numbers: Vec<i64> = (0..COUNT).map(|number| keys.append(&key(number))).collect();
        let again = keys.append(&key(5));
        assert_eq!(keys.look(&key(5)), (vec![numbers[5], again], false));
        for number in (0..COUNT).filter(|number| *number != 5) {
            assert!(keys.look(&key(number)).0.contains(&numbers[number]));
        }
        let strange = (COUNT..2 * COUNT).filter(|number| !keys.look(&key(*number)).0.is_empty()).count();
        assert!(strange < 10, "{strange} of {COUNT}");
    }

    async fn opened(path: &std::path::Path) -> SqliteStore {
        SqliteStore::open(path).await.unwrap()
    }

    /// As many replies as make a batch, and some more, written as an earlier version would have: no key of them is filed.
    async fn fill(store: &SqliteStore, count: usize) {
        for some in (0..count).collect::<Vec<_>>().chunks(4096) {
            let rows = some.iter().map(|number| {
                Statement::new("INSERT INTO reply (seq, key, number, received_ms) VALUES (?, ?, 1, 0)")
                    .int(*number as i64 + 1)
                    .blob(key(*number).bytes().to_vec())
            });
            store.write(rows.collect()).await.unwrap();
        }
    }

    async fn batches(store: &SqliteStore) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM key_batch");
        count.fetch_one(&mut *store.reader().await.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn keys_that_are_on_disk_are_found_by_writers_and_readers() {
        const MORE: usize = 100;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let store = opened(&path).await;
        fill(&store, BATCH + MORE).await;
        store.close().await.unwrap();

        let store = opened(&path).await;
        assert_eq!((batches(&store).await, store.keys().inner().recent.len()), (1, MORE));
        let reader = SqliteStore::open_read(&path).await.unwrap();
        for number in [0, 1, 77, BATCH - 1, BATCH, BATCH + MORE - 1] {
            for store in [&store, &reader] {
                assert_eq!(store.find(&key(number)).await.unwrap(), [number as i64 + 1], "{number}");
            }
        }
        let all: Vec<Digest> = (0..BATCH + MORE).rev().step_by(50).map(key).collect();
        assert_eq!(store.find_all(&all).await.unwrap().len(), all.len());
        let strangers = (0..2000).map(|number| key(2 * BATCH + number));
        let mut found = 0;
        for stranger in strangers {
            found += store.find(&stranger).await.unwrap().len();
        }
        assert!(found < 3, "{found}");
        // The next number is new, though nothing of the last batch is in memory.
        assert_eq!(store.next_reply(&key(3)), (BATCH + MORE) as i64 + 1);
        assert_eq!(store.find(&key(3)).await.unwrap(), [4, (BATCH + MORE) as i64 + 1]);
        // One that comes later knows how many are filed, which says how large the next batch is.
        store.close().await.unwrap();
        assert_eq!(opened(&path).await.keys().inner().batches.iter().map(Filter::count).sum::<usize>(), BATCH);
    }

    #[tokio::test]
    async fn a_batch_is_filed_while_replies_come_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let store = opened(&path).await;
        for number in 0..BATCH + 10 {
            store.next_reply(&key(number));
        }
        while store.keys().inner().filing {
            store.write(Vec::new()).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!((batches(&store).await, store.keys().inner().recent.len()), (1, 10));
        assert_eq!(store.find(&key(5)).await.unwrap(), [6]);
        store.close().await.unwrap();
        // Killed before the replies themselves were written: no number is given twice.
        assert_eq!(opened(&path).await.next_reply(&key(1)), BATCH as i64 + 1);
    }
}
