//! Which reply belongs to which key, in memory: the one process that writes to a store knows all that is in it, and an
//! index of hashes on disk would be written all over with every commit. Eight bytes of a key are kept, so that "no" is
//! certain and a row that is found must be compared. One that only reads catches up before it looks something up.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use divvy_core::digest::Digest;
use futures::TryStreamExt;
use sqlx::{Row, SqliteConnection};

use crate::codec::undecodable;

/// Keys that are put in order together: a sorted list takes a third of the room of any set, but no single insert.
const RECENT: usize = 16_384;

#[derive(Debug, Default)]
pub(crate) struct Keys(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sorted: Vec<(u64, i64)>,
    recent: HashMap<u64, Vec<i64>>,
    /// The highest number given or seen.
    last: i64,
    /// Replies that this process has kept and not made a call of yet.
    unread: HashMap<Digest, i64>,
}

impl Keys {
    /// Reads the keys of replies that were added since.
    pub(crate) async fn catch_up(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let last = self.0.read().unwrap_or_else(PoisonError::into_inner).last;
        let mut rows =
            sqlx::query("SELECT seq, key FROM reply WHERE seq > ? ORDER BY seq").bind(last).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let (seq, key): (i64, &[u8]) = (row.try_get("seq")?, row.try_get("key")?);
            let head = key.first_chunk().ok_or_else(|| undecodable(format!("reply {seq} has no key")))?;
            self.inner().insert(u64::from_be_bytes(*head), seq);
        }
        Ok(())
    }

    /// The number of a new reply with this key.
    pub(crate) fn append(&self, key: &Digest) -> i64 {
        let mut inner = self.inner();
        let seq = inner.last + 1;
        inner.insert(key.seed(), seq);
        seq
    }

    /// Replies that may have this key, ascending. Nothing: there is none, for certain.
    pub(crate) fn find(&self, key: &Digest) -> Vec<i64> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).find(key).collect()
    }

    /// Those of all these keys; `None`: one of them has none, for certain.
    pub(crate) fn find_each<'k>(&self, keys: impl IntoIterator<Item = &'k Digest>) -> Option<Vec<i64>> {
        let (inner, mut all) = (self.0.read().unwrap_or_else(PoisonError::into_inner), Vec::new());
        for key in keys {
            let before = all.len();
            all.extend(inner.find(key));
            if all.len() == before {
                return None;
            }
        }
        Some(all)
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

    fn inner(&self) -> std::sync::RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn find(&self, key: &Digest) -> impl Iterator<Item = i64> {
        let head = key.seed();
        let from = self.sorted.partition_point(|entry| entry.0 < head);
        let sorted = self.sorted[from..].iter().take_while(move |entry| entry.0 == head).map(|entry| entry.1);
        sorted.chain(self.recent.get(&head).into_iter().flatten().copied())
    }

    fn insert(&mut self, head: u64, seq: i64) {
        self.last = self.last.max(seq);
        self.recent.entry(head).or_default().push(seq);
        if self.recent.len() >= RECENT {
            let recent = self.recent.drain().flat_map(|(head, seqs)| seqs.into_iter().map(move |seq| (head, seq)));
            self.sorted.extend(recent);
            self.sorted.sort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_however_many_there_are() {
        let keys = Keys::default();
        let key = |number: usize| Digest::of_bytes(&number.to_le_bytes());
        let numbers: Vec<i64> = (0..2 * RECENT + 100).map(|number| keys.append(&key(number))).collect();
        let again = keys.append(&key(5));
        assert_eq!(keys.find(&key(5)), [numbers[5], again]);
        for number in [0, RECENT - 1, RECENT, 2 * RECENT + 99] {
            assert_eq!(keys.find(&key(number)), [numbers[number]]);
        }
        assert_eq!(keys.find(&key(2 * RECENT + 100)), [] as [i64; 0]);
        let (known, unknown) = ([key(5), key(RECENT)], key(2 * RECENT + 100));
        assert_eq!(keys.find_each(&known), Some(vec![numbers[5], again, numbers[RECENT]]));
        assert_eq!(keys.find_each([&known[0], &unknown]), None);
    }
}
