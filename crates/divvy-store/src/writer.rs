//! The one task that writes. While a transaction is on its way to the disk, further writes queue up and become the next
//! one: many replies, one fsync. A writer is answered after the commit, never before. A write that nobody waits for and
//! that fails, fails every later one.

use std::{path::PathBuf, time::Duration};

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::{batch::Batch, error::StoreError, lock::WriterLock, statement::Statement};

/// Most writes in one transaction: bounds the memory and what a failing transaction repeats.
const MOST: usize = 512;
/// Times that a database which another program holds is waited for, ten seconds each: what waits here was paid for.
const WAITS: u32 = 30;

/// Writes in one transaction from which on more are waited for, and how long.
const BUSY: usize = 8;
const MOMENT: Duration = Duration::from_millis(2);

pub(crate) type Answer = oneshot::Sender<Result<i64, StoreError>>;

#[derive(Debug)]
pub(crate) enum Job {
    Write {
        statements: Vec<Statement>,
        /// `None`: nobody waits for it.
        done: Option<Answer>,
    },
    /// Everything sent before is committed, then the database is closed and the lock given up.
    Close { done: Answer },
}

pub(crate) struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) connection: SqliteConnection,
    /// Held until the last write is through.
    pub(crate) lock: WriterLock,
    /// Why a write failed that nobody waited for: what was written after it must not seem to stand on it.
    pub(crate) broken: Option<StoreError>,
}

/// Where many write at once, those who are a moment late come along: a commit costs as much for one as for fifty. Who
/// writes alone does not wait.
async fn gather(jobs: &mut mpsc::Receiver<Job>, batch: &mut Vec<Job>, last: usize) {
    if last >= BUSY {
        tokio::time::sleep(MOMENT).await;
    }
    while batch.len() < MOST
        && let Ok(job) = jobs.try_recv()
    {
        batch.push(job);
    }
}

impl Writer {
    /// Ends at a `Close`, or when nobody is left who could write.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(MOST);
        let mut last = 0;
        while jobs.recv_many(&mut batch, MOST).await > 0 {
            gather(&mut jobs, &mut batch, last).await;
            last = batch.len();
            let close = self.serve(&mut batch).await;
            if let Some(done) = close {
                jobs.close();
                let path = self.path.clone();
                let closed = self.connection.close().await;
                drop(self.lock);
                let closed = closed.map(|()| 0).map_err(|e| StoreError::from_sql(&path, "close", &e));
                // Whoever asked may have stopped waiting.
                let _ = done.send(self.broken.map_or(closed, Err));
                return;
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(store = %self.path.display(), %error, "closing the store failed");
        }
    }

    /// Commits the writes of a batch and answers them. Returns the `Close` that ends it, if there is one.
    async fn serve(&mut self, batch: &mut Vec<Job>) -> Option<Answer> {
        let (mut writes, mut answers, mut close) = (Vec::new(), Vec::new(), None);
        for job in batch.drain(..) {
            match job {
                Job::Write { statements, done } if close.is_none() => {
                    writes.push(statements);
                    answers.push(done);
                }
                Job::Write { done: Some(done), .. } => {
                    drop(done.send(Err(StoreError::Closed { path: self.path.clone() })));
                }
                Job::Write { done: None, .. } => {}
                Job::Close { done } => close = Some(done),
            }
        }
        let outcomes = self.commit_or_split(&writes).await;
        for (done, outcome) in answers.into_iter().zip(outcomes) {
            match (done, &self.broken, outcome) {
                // A caller that was cancelled no longer listens; its write is committed all the same.
                (Some(done), Some(error), Ok(_)) => drop(done.send(Err(error.clone()))),
                (Some(done), _, outcome) => drop(done.send(outcome)),
                (None, None, Err(error)) => self.broken = Some(error),
                (None, ..) => {}
            }
        }
        close
    }

    /// One transaction for all. If it fails for a reason that one write may be guilty of, each gets its own.
    async fn commit_or_split(&mut self, writes: &[Vec<Statement>]) -> Vec<Result<i64, StoreError>> {
        if let Some(error) = &self.broken {
            return vec![Err(error.clone()); writes.len()];
        }
        match self.commit(writes).await {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(error @ StoreError::Refused { .. }) if writes.len() > 1 => {
                tracing::debug!(%error, writes = writes.len(), "a transaction failed, writing one by one");
                let mut outcomes = Vec::with_capacity(writes.len());
                for write in writes {
                    let outcome = self.commit(std::slice::from_ref(write)).await;
                    outcomes.push(outcome.map(|rows| rows[0]));
                }
                outcomes
            }
            Err(error) => vec![Err(error); writes.len()],
        }
    }

    /// The row id of each write's last insert, where it was not put together with others; after the commit has reached
    /// the disk.
    async fn commit(&mut self, writes: &[Vec<Statement>]) -> Result<Vec<i64>, StoreError> {
        if writes.iter().all(Vec::is_empty) {
            return Ok(vec![0; writes.len()]);
        }
        let mut waits = 0;
        loop {
            let error = match self.transaction(writes).await {
                Ok(rows) => return Ok(rows),
                Err(error) => error,
            };
            // SQLite may have rolled back by itself; then there is nothing to roll back and that is fine.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
            match StoreError::from_sql(&self.path, "write", &error) {
                StoreError::Busy { .. } if waits < WAITS => waits += 1,
                error => return Err(error),
            }
            tracing::warn!(store = %self.path.display(), waits, "another program holds the store");
        }
    }

    async fn transaction(&mut self, writes: &[Vec<Statement>]) -> Result<Vec<i64>, sqlx::Error> {
        if writes.iter().flatten().all(Statement::is_plain_insert) {
            let mut batch = Batch::default();
            writes.iter().flatten().for_each(|statement| batch.add(statement));
            batch.commit(&mut self.connection).await?;
            return Ok(vec![0; writes.len()]);
        }
        sqlx::raw_sql("BEGIN IMMEDIATE; PRAGMA defer_foreign_keys = ON").execute(&mut self.connection).await?;
        let mut rows = Vec::with_capacity(writes.len());
        let mut batch = Batch::default();
        for write in writes {
            let mut row = 0;
            for statement in write {
                if statement.is_plain_insert() {
                    batch.add(statement);
                } else {
                    batch.write(&mut self.connection).await?;
                    row = statement.execute(&mut self.connection).await?;
                }
            }
            rows.push(row);
        }
        batch.write(&mut self.connection).await?;
        sqlx::query("COMMIT").execute(&mut self.connection).await?;
        Ok(rows)
    }
}
