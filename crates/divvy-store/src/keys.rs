//! Which reply belongs to which key, in memory: the one process that writes to a store knows all that is in it, and an
//! index of hashes on disk would be written all over with every commit. Forty-four bits of a key are kept, so that "no" is
//! certain and a row that is found must be compared. One that only reads catches up before it looks something up.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use divvy_core::digest::Digest;
use futures::TryStreamExt;
use sqlx::{Row, SqliteConnection};

use crate::codec::undecodable;

/// The first bits of a key say which of so many lists it is in: each is short enough to be kept in order by plain insertion,
/// and none that grows is ever copied whole with all the others.
const LIST_BITS: u32 = 12;

#[derive(Debug, Default)]
pub(crate) struct Keys(RwLock<Inner>);

#[derive(Debug)]
struct Inner {
    /// The next bits of each key and the number of its reply, ascending: eight bytes together.
    lists: Vec<Vec<(u32, u32)>>,
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
    ///
    /// # Panics
    /// At four thousand million replies.
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

impl Default for Inner {
    fn default() -> Self {
        Self { lists: vec![Vec::new(); 1 << LIST_BITS], last: 0, unread: HashMap::new() }
    }
}

impl Inner {
    fn find(&self, key: &Digest) -> impl Iterator<Item = i64> {
        let (list, rest) = place(key.seed());
        let list = &self.lists[list];
        let from = list.partition_point(|entry| entry.0 < rest);
        list[from..].iter().take_while(move |entry| entry.0 == rest).map(|entry| i64::from(entry.1))
    }

    fn insert(&mut self, head: u64, seq: i64) {
        self.last = self.last.max(seq);
        let (list, rest) = place(head);
        let entry = (rest, u32::try_from(seq).expect("fewer than four thousand million replies"));
        let list = &mut self.lists[list];
        if list.len() == list.capacity() {
            // Twice as much, as is usual, would leave up to half of the memory unused.
            list.reserve_exact(list.len() / 8 + 4);
        }
        list.insert(list.partition_point(|earlier| *earlier < entry), entry);
    }
}

/// Its list, and what tells it from others there.
fn place(head: u64) -> (usize, u32) {
    ((head >> (u64::BITS - LIST_BITS)) as usize, (head >> (u64::BITS - LIST_BITS - u32::BITS)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_however_many_there_are() {
        let keys = Keys::default();
        let key = |number: usize| Digest::of_bytes(&number.to_le_bytes());
        const COUNT: usize = 40_000;
        let numbers: Vec<i64> = (0..COUNT).map(|number| keys.append(&key(number))).collect();
        let again = keys.append(&key(5));
        assert_eq!(keys.find(&key(5)), [numbers[5], again]);
        for number in (0..COUNT).filter(|number| *number != 5) {
            assert_eq!(keys.find(&key(number)), [numbers[number]]);
        }
        assert_eq!(keys.find(&key(COUNT)), [] as [i64; 0]);
        let (known, unknown) = ([key(5), key(COUNT / 2)], key(COUNT));
        assert_eq!(keys.find_each(&known), Some(vec![numbers[5], again, numbers[COUNT / 2]]));
        assert_eq!(keys.find_each([&known[0], &unknown]), None);
    }
}
