//! A stage from its first item to its last, part by part, so that it may have any number of them. In a file it is known from the
//! start which rows there are to read, eight bytes each; a server finds what comes behind the last one by its index.

use divvy_core::{digest::Digest, records::Stage};

use super::Store;
use crate::{
    error::StoreError,
    postgres::PostgresStore,
    rows::{ItemRow, Unit},
    store::SqliteStore,
};

/// Items in one part.
const AT_ONCE: u16 = 512;

/// See [`Store::walk`] and [`Store::history`].
#[derive(Debug)]
pub struct Walk(Source);

#[derive(Debug)]
enum Source {
    InFile {
        store: SqliteStore,
        rows: std::vec::IntoIter<i64>,
    },
    OnServer {
        store: PostgresStore,
        plan: Digest,
        stage: Stage,
        last: Option<Unit>,
    },
    /// By the time of each outcome and its number.
    HistoryOnServer {
        store: PostgresStore,
        plan: Digest,
        stage: Stage,
        last: (i64, i64),
    },
}

impl Walk {
    pub(super) async fn begin(store: &Store, plan: &Digest, stage: Stage) -> Result<Self, StoreError> {
        Ok(Self(match store {
            Store::Sqlite(store) => {
                Source::InFile { rows: store.newest_rows(plan, stage).await?.into_iter(), store: store.clone() }
            }
            Store::Postgres(store) => Source::OnServer { store: store.clone(), plan: plan.clone(), stage, last: None },
        }))
    }

    pub(super) async fn begin_history(store: &Store, plan: &Digest, stage: Stage) -> Result<Self, StoreError> {
        Ok(Self(match store {
            Store::Sqlite(store) => {
                Source::InFile { rows: store.all_rows(plan, stage).await?.into_iter(), store: store.clone() }
            }
            Store::Postgres(store) => {
                let last = (i64::MIN, i64::MIN);
                Source::HistoryOnServer { store: store.clone(), plan: plan.clone(), stage, last }
            }
        }))
    }

    /// The next items; `None` behind the last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn more(&mut self) -> Result<Option<Vec<ItemRow>>, StoreError> {
        let items = match &mut self.0 {
            Source::InFile { store, rows } => {
                let some: Vec<i64> = rows.take(AT_ONCE.into()).collect();
                if some.is_empty() { Vec::new() } else { store.items_at(&some).await? }
            }
            Source::OnServer { store, plan, stage, last } => {
                let items = Box::pin(store.items_behind(plan, *stage, last.as_ref(), AT_ONCE.into())).await?;
                *last = items.last().map(unit).or(last.take());
                items
            }
            Source::HistoryOnServer { store, plan, stage, last } => {
                let (items, end) = Box::pin(store.outcomes_behind(plan, *stage, *last, AT_ONCE.into())).await?;
                *last = end.unwrap_or(*last);
                items
            }
        };
        Ok(Some(items).filter(|items| !items.is_empty()))
    }
}

fn unit(item: &ItemRow) -> Unit {
    Unit { question: item.question.clone(), sample: item.sample, arm: item.arm.clone() }
}
