//! Connections that come back. A server that restarts, or a network that drops us, costs time and nothing else: a statement
//! without an answer is run again on a new connection, until the server was away for too long.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, TryStreamExt};
use sqlx::{
    ConnectOptions, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, timeout},
};

use super::address::Address;
use crate::error::StoreError;

/// A server that takes longer to let us in is away.
const CONNECT: Duration = Duration::from_secs(10);
/// One that is busy may take so long to answer, however short the patience.
const SHORTEST_ANSWER: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Server {
    address: Address,
    patience: Duration,
    /// People are told once that it is away, whatever waits for it.
    away: AtomicBool,
    /// Somebody has waited in vain: nobody else waits as long again.
    given_up: AtomicBool,
}

impl Server {
    pub(super) fn new(address: Address, patience: Duration) -> Self {
        Self { address, patience, away: AtomicBool::new(false), given_up: AtomicBool::new(false) }
    }

    pub(super) fn name(&self) -> &str {
        &self.address.name
    }

    /// A server that says nothing for longer is away: the network may have lost us without a word. Half of the patience, so that
    /// there is time to ask again.
    fn longest_silence(&self) -> Duration {
        (self.patience / 2).max(SHORTEST_ANSWER)
    }

    /// A mistyped address is told at once: nobody waits for a server that never was there.
    pub(super) async fn first(&self) -> Result<PgConnection, StoreError> {
        self.connect(true).await.map_err(|error| self.unreachable(&error, Duration::ZERO))
    }

    async fn connect(&self, durable: bool) -> Result<PgConnection, sqlx::Error> {
        let commit = if durable { "on" } else { "off" };
        let options = self.address.options.clone().options([
            ("synchronous_commit", commit),
            // Of a worker that is stopped in the middle of a transaction: what it has locked is not locked for long.
            ("idle_in_transaction_session_timeout", "10s"),
        ]);
        let connected = timeout(CONNECT, options.connect()).await;
        connected.unwrap_or_else(|_| Err(late("it does not take the connection")))
    }

    pub(super) fn error(&self, action: &'static str, error: &sqlx::Error) -> StoreError {
        StoreError::from_postgres(self.name(), action, error)
    }

    fn unreachable(&self, error: &sqlx::Error, waited: Duration) -> StoreError {
        if !is_away(error) {
            return self.error("open", error);
        }
        let waited = if waited.is_zero() { String::new() } else { format!(", waited {} s", waited.as_secs()) };
        StoreError::Away { store: self.name().to_owned(), detail: format!("{error}{waited}") }
    }

    fn is_back(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            self.given_up.store(false, Ordering::Relaxed);
            tracing::warn!(store = self.name(), "the store answers again");
        }
    }

    fn is_gone(&self, error: &sqlx::Error) {
        if !self.away.swap(true, Ordering::Relaxed) {
            let (store, seconds) = (self.name(), self.patience.as_secs());
            tracing::warn!(store, %error, "the store does not answer; it is tried again for {seconds} s, and nothing is lost meanwhile");
        }
    }
}

fn late(what: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

/// The server went away, and may come back.
pub(super) fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        // Connection failures, shutdowns and starts, too many connections, idle in a transaction.
        _ => code(error).is_some_and(|code| {
            code.starts_with("08") || code.starts_with("57P") || code == "53300" || code == "25P03"
        }),
    }
}

/// Two transactions were in each other's way; one of them is to come again.
fn is_clash(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code == "40001" || code == "40P01")
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// How long something is tried again.
pub(super) struct Patience {
    server: Arc<Server>,
    since: Instant,
    pause: Duration,
}

impl Patience {
    /// Waits before the next try, or says that there is none.
    pub(super) async fn bear(&mut self, action: &'static str, error: &sqlx::Error) -> Result<(), StoreError> {
        if is_clash(error) && self.since.elapsed() < self.server.patience {
            return Ok(());
        }
        if !is_away(error) {
            return Err(self.server.error(action, error));
        }
        let waited = self.since.elapsed();
        if waited >= self.server.patience || self.server.given_up.load(Ordering::Relaxed) {
            self.server.given_up.store(true, Ordering::Relaxed);
            return Err(self.server.unreachable(error, waited));
        }
        self.server.is_gone(error);
        tokio::time::sleep(self.pause).await;
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// One connection, made when it is needed, and again when it was lost.
#[derive(Debug)]
pub(super) struct Line {
    server: Arc<Server>,
    durable: bool,
    place: Mutex<Option<PgConnection>>,
}

/// The connection while it is at work. Whoever is dropped with it closes it: half an answer is no answer to the next question.
pub(super) struct AtWork<'l> {
    place: MutexGuard<'l, Option<PgConnection>>,
    pub(super) connection: PgConnection,
}

impl AtWork<'_> {
    pub(super) fn give_back(mut self) {
        *self.place = Some(self.connection);
    }
}

impl Line {
    /// `durable`: what it commits waits for the disk.
    pub(super) fn new(server: Arc<Server>, durable: bool, connection: Option<PgConnection>) -> Self {
        Self { server, durable, place: Mutex::new(connection) }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { server: self.server.clone(), since: Instant::now(), pause: FIRST_PAUSE }
    }

    pub(super) async fn take(&self) -> Result<AtWork<'_>, sqlx::Error> {
        let mut place = self.place.lock().await;
        let connection = match place.take() {
            Some(connection) => connection,
            None => self.server.connect(self.durable).await?,
        };
        Ok(AtWork { place, connection })
    }

    pub(super) fn is_free(&self) -> bool {
        self.place.try_lock().is_ok()
    }

    /// Says that the connection works.
    pub(super) fn is_well(&self) {
        self.server.is_back();
    }

    /// Waits for an answer for as long as the server may be silent. After that its connection is good for nothing.
    pub(super) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let answered = timeout(self.server.longest_silence(), answer).await;
        answered.unwrap_or_else(|_| Err(late("it does not answer")))
    }

    /// All rows. That a long answer takes long is no silence.
    async fn all(&self, rows: impl Stream<Item = Result<PgRow, sqlx::Error>>) -> Result<Vec<PgRow>, sqlx::Error> {
        let (mut rows, mut all) = (pin!(rows), Vec::new());
        while let Some(row) = self.in_time(rows.try_next()).await? {
            all.push(row);
        }
        Ok(all)
    }

    /// Runs one statement, again where its answer was lost.
    pub(super) async fn run<'q>(
        &self,
        action: &'static str,
        statement: impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut patience = self.patience();
        loop {
            match self.once(&statement).await {
                Ok(rows) => {
                    self.is_well();
                    return Ok(rows);
                }
                Err(error) => patience.bear(action, &error).await?,
            }
        }
    }

    async fn once<'q>(
        &self,
        statement: &impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut taken = self.take().await?;
        let answer = self.all(statement().fetch(&mut taken.connection)).await;
        if !answer.as_ref().is_err_and(is_away) {
            taken.give_back();
        }
        answer
    }
}
