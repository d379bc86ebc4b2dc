//! The one task of a worker that writes what comes in numbers: while a transaction is on its way to the server, further
//! writes queue up and become the next one. Its number goes with it: when the connection is lost before the answer, the
//! server knows whether it was committed.

use sqlx::{Executor, PgConnection};
use tokio::sync::{mpsc, oneshot};

use super::{
    batch::{Batch, Write},
    leases::Worker,
    line::{self, Line},
};
use crate::error::StoreError;

/// Most writes in one transaction: bounds the memory and what a failing transaction repeats.
const MOST: usize = 512;

type Done = oneshot::Sender<Result<Vec<bool>, StoreError>>;

#[derive(Debug)]
pub(super) enum Job {
    Write {
        write: Write,
        /// Told which items of the write were put.
        done: Done,
    },
    /// Everything sent before is committed, then the leases are given up.
    Close { done: Done },
}

pub(super) struct Writer {
    pub(super) line: Line,
    pub(super) worker: Worker,
}

impl Writer {
    /// Ends at a `Close`, or when nobody is left who could write.
    pub(super) async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let (mut batch, mut number) = (Vec::with_capacity(MOST), 0);
        while jobs.recv_many(&mut batch, MOST).await > 0 {
            let close = self.serve(&mut batch, &mut number).await;
            if let Some(done) = close {
                jobs.close();
                // Whoever asked may have stopped waiting.
                let _ = done.send(self.worker.leave(&self.line).await.map(|()| Vec::new()));
                return;
            }
        }
        if let Err(error) = self.worker.leave(&self.line).await {
            tracing::warn!(%error, "closing the store failed");
        }
    }

    /// Commits the writes of a batch and answers them. Returns the `Close` that ends it, if there is one.
    async fn serve(&self, batch: &mut Vec<Job>, number: &mut i64) -> Option<Done> {
        let (mut writes, mut answers, mut close) = (Vec::new(), Vec::new(), None);
        for job in batch.drain(..) {
            match job {
                Job::Write { write, done } if close.is_none() => {
                    writes.push(write);
                    answers.push(done);
                }
                Job::Write { done, .. } => {
                    let path = self.line.server().name().into();
                    drop(done.send(Err(StoreError::Closed { path })));
                }
                Job::Close { done } => close = Some(done),
            }
        }
        let outcomes = self.commit_or_split(&writes, number).await;
        for (done, outcome) in answers.into_iter().zip(outcomes) {
            // A caller that was cancelled no longer listens; its write is committed all the same.
            let _ = done.send(outcome);
        }
        close
    }

    /// One transaction for all. If it fails for a reason that one write may be guilty of, each gets its own.
    async fn commit_or_split(&self, writes: &[Write], number: &mut i64) -> Vec<Result<Vec<bool>, StoreError>> {
        match self.commit(writes, number).await {
            Ok(put) => put.into_iter().map(Ok).collect(),
            Err(error @ StoreError::Refused { .. }) if writes.len() > 1 => {
                tracing::debug!(%error, writes = writes.len(), "a transaction failed, writing one by one");
                let mut outcomes = Vec::with_capacity(writes.len());
                for write in writes {
                    let outcome = self.commit(std::slice::from_ref(write), number).await;
                    outcomes.push(outcome.map(|mut put| put.remove(0)));
                }
                outcomes
            }
            Err(error) => vec![Err(error); writes.len()],
        }
    }

    /// Until it is on the server's disk, or the server was away for too long.
    async fn commit(&self, writes: &[Write], number: &mut i64) -> Result<Vec<Vec<bool>>, StoreError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        *number += 1;
        let batch = Batch::of(writes);
        let mut patience = self.line.patience();
        loop {
            match self.once(&batch, *number).await {
                Ok(put) => {
                    self.line.is_well();
                    return Ok(put);
                }
                Err(error) => patience.bear("write", &error).await?,
            }
        }
    }

    async fn once(&self, batch: &Batch<'_>, number: i64) -> Result<Vec<Vec<bool>>, sqlx::Error> {
        let mut taken = self.line.take().await?;
        let outcome = self.transaction(&mut taken.connection, batch, number).await;
        if let Err(error) = &outcome
            && (line::is_away(error) || self.line.in_time(taken.connection.execute("ROLLBACK")).await.is_err())
        {
            return outcome;
        }
        taken.give_back();
        outcome
    }

    async fn transaction(
        &self,
        connection: &mut PgConnection,
        batch: &Batch<'_>,
        number: i64,
    ) -> Result<Vec<Vec<bool>>, sqlx::Error> {
        let line = &self.line;
        line.in_time(connection.execute("BEGIN")).await?;
        // Waits for the transaction of this number, if the server is still at it.
        let is_new = line.in_time(self.worker.begin(connection, number)).await?;
        let put = if is_new { line.in_time(batch.write(connection, self.worker)).await? } else { batch.all_put() };
        line.in_time(connection.execute("COMMIT")).await?;
        Ok(put)
    }
}
