//! Who works on what. A worker that is heard of holds its items and its requests in flight; one that is not heard of for a
//! lease loses them to whoever asks next. Time is the server's. The token of a lease goes with its outcome: what a worker
//! brings after another has taken over is not put.

use std::{sync::Arc, time::Duration};

use divvy_core::{digest::Digest, records::Stage};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    PostgresStore,
    batch::{Booked, Write},
    line::Line,
};
use crate::{
    codec::blob,
    error::StoreError,
    rows::{Claims, ItemRow, Unit, WorkerRow},
};

/// Given with a lease. Each is larger than those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub(super) i64);

/// This process, as the server knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    pub(super) id: i64,
    lease: Duration,
}

impl Worker {
    pub(super) async fn register(line: &Line, lease: Duration) -> Result<Self, StoreError> {
        let name = format!("process {}", std::process::id());
        let rows = line
            .run("write", || {
                sqlx::query(
                    "INSERT INTO worker (name, lease, expires)
                     VALUES ($1 || coalesce(' at ' || host(inet_client_addr()), ''), $2 * INTERVAL '1 millisecond',
                             now() + $2 * INTERVAL '1 millisecond') RETURNING id",
                )
                .bind(&name)
                .bind(millis(lease))
            })
            .await?;
        let id = rows.first().map_or(Err(sqlx::Error::RowNotFound), |row| row.try_get("id"));
        Ok(Self { id: id.map_err(|e| line.server().error("write", &e))?, lease })
    }

    /// Opens the transaction of this number; `false`: it was committed before. A worker that writes is alive.
    pub(super) async fn begin(self, connection: &mut PgConnection, number: i64) -> Result<bool, sqlx::Error> {
        let begun = sqlx::query("UPDATE worker SET batch = $2, expires = now() + lease WHERE id = $1 AND batch < $2")
            .bind(self.id)
            .bind(number)
            .execute(connection)
            .await?;
        Ok(begun.rows_affected() > 0)
    }

    /// Calls that are on record are no longer on their way, and a try that is booked is back.
    pub(super) async fn land(
        self,
        connection: &mut PgConnection,
        calls: &[&Digest],
        booked: &[&Booked],
    ) -> Result<(), sqlx::Error> {
        let column = |of: fn(&Booked) -> i64| booked.iter().map(|booked| of(booked)).collect::<Vec<i64>>();
        sqlx::query(LAND)
            .bind(self.id)
            .bind(calls.iter().map(|key| blob(key)).collect::<Vec<_>>())
            .bind(booked.iter().map(|booked| blob(&booked.key)).collect::<Vec<_>>())
            .bind(booked.iter().map(|booked| blob(&booked.plan)).collect::<Vec<_>>())
            .bind(column(|booked| booked.cost.calls))
            .bind(column(|booked| booked.cost.tokens))
            .bind(column(|booked| booked.cost.nanos))
            .execute(connection)
            .await
            .map(drop)
    }

    /// Its leases are free at once.
    pub(super) async fn leave(self, line: &Line) -> Result<(), StoreError> {
        line.run("write", || {
            sqlx::query("UPDATE worker SET expires = now() - lease, lease = INTERVAL '0' WHERE id = $1").bind(self.id)
        })
        .await
        .map(drop)
    }
}

/// Tells the server of this worker until the store is closed or nobody holds it any more.
pub(super) fn keep_alive(store: &PostgresStore, worker: Worker) {
    let inner = Arc::downgrade(&store.inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(worker.lease / 3).await;
            let Some(inner) = inner.upgrade() else { return };
            let store = PostgresStore { inner };
            if store.writing().is_ok_and(|(writer, _)| writer.is_closed()) {
                return;
            }
            // A server that says nothing is asked anew before the lease is over.
            let report = tokio::time::timeout(worker.lease / 3, store.report(worker)).await;
            let failed = report.map_or_else(|_| Some("no answer".to_owned()), |told| Some(told.err()?.to_string()));
            if let Some(error) = failed {
                tracing::warn!(%error, "this worker cannot tell that it is alive; others may take over what it has in work");
            }
        }
    });
}

impl PostgresStore {
    async fn report(&self, worker: Worker) -> Result<(), StoreError> {
        let report = || {
            sqlx::query("UPDATE worker SET expires = now() + lease WHERE id = $1 AND lease > INTERVAL '0'")
                .bind(worker.id)
        };
        self.read(report).await.map(drop)
    }

    /// Who is at work now, in the order in which they came.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        self.workers_but(None).await
    }

    /// [`Self::workers`] beside this one.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], or when the store cannot be read.
    pub async fn other_workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        self.workers_but(Some(self.worker()?.id)).await
    }

    async fn workers_but(&self, one: Option<i64>) -> Result<Vec<WorkerRow>, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query(
                    "SELECT worker.name, count(item.worker) AS items
                     FROM worker LEFT JOIN item ON item.worker = worker.id
                     WHERE alive(worker.id) AND worker.id IS DISTINCT FROM $1
                     GROUP BY worker.id ORDER BY worker.id",
                )
                .bind(one)
            })
            .await?;
        let read = |row: &PgRow| {
            Ok(WorkerRow { name: row.try_get("name")?, items: row.try_get::<i64, _>("items")?.unsigned_abs() })
        };
        rows.iter().map(|row| read(row).map_err(|e: sqlx::Error| self.unreadable(&e))).collect()
    }

    /// How long this worker may be silent.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`].
    pub fn lease(&self) -> Result<Duration, StoreError> {
        Ok(self.worker()?.lease)
    }

    /// Where the history of a stage stands: an item that fails later was tried by somebody since.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn moment(&self, plan: &Digest, stage: Stage) -> Result<i64, StoreError> {
        let rows = self
            .read(|| {
                sqlx::query("SELECT coalesce(max(seq), 0) AS seq FROM item WHERE plan = $1 AND stage = $2")
                    .bind(blob(plan))
                    .bind(stage.name())
            })
            .await?;
        rows.first().map_or(Ok(0), |row| row.try_get("seq")).map_err(|e| self.unreadable(&e))
    }

    /// Takes the first `most` of these items that are open and in nobody's work. Items that are settled, or failed after
    /// `since`, are over and in neither list. The plan must have been put before. Whoever asks leaves out what it has in work: what
    /// is this worker's already was claimed with an answer that was lost, and comes under the token of that time.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn claim(
        &self,
        plan: &Digest,
        stage: Stage,
        units: &[Unit],
        most: usize,
        since: i64,
    ) -> Result<Claims, StoreError> {
        let worker = self.worker()?;
        let rows = self
            .read(|| {
                sqlx::query(CLAIM)
                    .bind(blob(plan))
                    .bind(stage.name())
                    .bind(units.iter().map(|unit| &unit.question.0[..]).collect::<Vec<_>>())
                    .bind(units.iter().map(|unit| i64::from(unit.sample)).collect::<Vec<_>>())
                    .bind(units.iter().map(|unit| &unit.arm[..]).collect::<Vec<_>>())
                    .bind(since)
                    .bind(i64::try_from(most).unwrap_or(i64::MAX))
                    .bind(worker.id)
            })
            .await?;
        let mut claims = Claims::default();
        for row in rows {
            let read =
                || Ok((row.try_get::<i64, _>("place")?, row.try_get::<Option<i64>, _>("token")?, row.try_get("free")?));
            let (place, token, free): (_, _, bool) = read().map_err(|e: sqlx::Error| self.unreadable(&e))?;
            claims.busy += usize::from(!free);
            let place = usize::try_from(place - 1).unwrap_or_default();
            match token {
                Some(token) => claims.mine.push((place, Token(token))),
                None => claims.open.push(place),
            }
        }
        Ok(claims)
    }

    /// Puts outcomes of items that were claimed; says of each whether this worker still held it. On disk when this returns.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn settle(&self, items: Vec<(ItemRow, Token)>) -> Result<Vec<bool>, StoreError> {
        let items = items.into_iter().map(|(item, token)| (item, Some(token))).collect();
        self.write(Write { items, ..Write::default() }).await
    }

    /// Gives back the items of a stage that were claimed and not settled.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn give_back(&self, plan: &Digest, stage: Stage) -> Result<(), StoreError> {
        let worker = self.worker()?;
        self.read(|| {
            sqlx::query("UPDATE item SET worker = NULL, token = NULL WHERE worker = $1 AND plan = $2 AND stage = $3")
                .bind(worker.id)
                .bind(blob(plan))
                .bind(stage.name())
        })
        .await
        .map(drop)
    }

    /// Takes the request of this key; `false`: it is on its way at another worker, who is alive.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn claim_call(&self, key: &Digest) -> Result<bool, StoreError> {
        let worker = self.worker()?;
        let rows = self
            .read(|| {
                sqlx::query(
                    "INSERT INTO flight (key, worker) VALUES ($1, $2)
                     ON CONFLICT (key) DO UPDATE SET worker = excluded.worker
                         WHERE flight.worker = excluded.worker OR NOT alive(flight.worker)
                     RETURNING worker",
                )
                .bind(blob(key))
                .bind(worker.id)
            })
            .await?;
        Ok(!rows.is_empty())
    }

    /// A request that was claimed and brought no reply is free for others.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn give_up_call(&self, key: &Digest) -> Result<(), StoreError> {
        let worker = self.worker()?;
        self.read(|| sqlx::query("DELETE FROM flight WHERE key = $1 AND worker = $2").bind(blob(key)).bind(worker.id))
            .await
            .map(drop)
    }
}

/// In one trip, since every commit makes it.
const LAND: &str = "WITH landed AS (DELETE FROM flight WHERE worker = $1 AND key = ANY($2::bytea[])),
        back AS (DELETE FROM outstanding WHERE worker = $1 AND key = ANY($3::bytea[]))
    INSERT INTO slice (plan, worker, unbooked_calls, unbooked_tokens, unbooked_nanos)
    SELECT plan, $1, sum(calls), sum(tokens), sum(nanos)
    FROM unnest($4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[]) AS b (plan, calls, tokens, nanos) GROUP BY plan
    ON CONFLICT (plan, worker) DO UPDATE
        SET unbooked_calls = slice.unbooked_calls + excluded.unbooked_calls,
            unbooked_tokens = slice.unbooked_tokens + excluded.unbooked_tokens,
            unbooked_nanos = slice.unbooked_nanos + excluded.unbooked_nanos";

/// What is open is found, the first of it that is free is taken, and the rest is told. A statement that is run twice, in any order,
/// leaves one token with an item.
const CLAIM: &str = "WITH asked AS (
        SELECT * FROM unnest($3::text[], $4::bigint[], $5::text[]) WITH ORDINALITY AS u (question, sample, arm, place)
    ), open AS (
        SELECT asked.*, item.worker IS NULL OR item.worker = $8 OR NOT alive(item.worker) AS free
        FROM asked LEFT JOIN item ON item.plan = $1 AND item.stage = $2 AND item.question = asked.question
            AND item.sample = asked.sample AND item.arm = asked.arm
        WHERE item.state IS NULL OR item.state = 'pending' OR (item.state = 'failed' AND item.seq <= $6)
    ), wanted AS (
        SELECT question, sample, arm FROM open WHERE free ORDER BY place LIMIT $7
    ), claimed AS (
        INSERT INTO item (plan, stage, question, sample, arm, worker, token)
        SELECT $1, $2, question, sample, arm, $8, nextval('item_token') FROM wanted
        ORDER BY question COLLATE \"C\", sample, arm COLLATE \"C\"
        ON CONFLICT (plan, stage, question, sample, arm) DO UPDATE SET worker = excluded.worker,
                token = CASE WHEN item.worker = excluded.worker THEN item.token ELSE excluded.token END
            WHERE (item.worker IS NULL OR item.worker = excluded.worker OR NOT alive(item.worker))
                AND (item.state IS NULL OR item.state = 'pending' OR (item.state = 'failed' AND item.seq <= $6))
        RETURNING question, sample, arm, token
    )
    SELECT open.place, open.free, claimed.token FROM open LEFT JOIN claimed USING (question, sample, arm) ORDER BY open.place";

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
