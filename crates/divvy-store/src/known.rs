//! Which calls the store may have, in memory: the one process that writes to a store knows all that is in it. Eight bytes
//! of a key are kept, so that "no" is certain and "yes" means that the database is asked.

use std::{
    collections::HashSet,
    path::Path,
    sync::{PoisonError, RwLock},
};

use divvy_core::digest::Digest;
use sqlx::SqliteConnection;

use crate::{codec::blob, error::StoreError};

#[derive(Debug)]
pub(crate) struct KnownKeys(RwLock<HashSet<u64>>);

impl KnownKeys {
    pub(crate) async fn read(path: &Path, connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let heads: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT substr(key, 1, 8) FROM call UNION ALL SELECT substr(key, 1, 8) FROM raw_reply")
                .fetch_all(connection)
                .await
                .map_err(|e| StoreError::from_sql(path, "read", &e))?;
        Ok(Self(RwLock::new(heads.iter().map(|head| number(head)).collect())))
    }

    pub(crate) fn contains(&self, key: &Digest) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&number(&blob(key)))
    }

    pub(crate) fn add(&self, key: &Digest) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(number(&blob(key)));
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}
