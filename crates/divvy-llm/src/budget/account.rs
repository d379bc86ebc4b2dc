//! The account that all workers of a plan have in common, on the server. A worker borrows for some calls at a time, spends
//! that here, and tells what became of it when it borrows again; what it does not need it gives back. No round trip for
//! most calls, and together the workers never spend more than the caps. What goes out, and what comes of it, is told with trips
//! that are made anyway: of a worker that dies, the account knows what it spent and what it lost, with caps or without.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use divvy_core::digest::Digest;
use divvy_store::{
    Amount, AttemptRecord, Borrowed, CallRecord, Departure, Exchange, PostgresStore, Spending, StoreError,
};

use super::Budget;
use crate::error::ChatError;

/// How often a worker that was refused asks again, and one that spends nothing gives back what it holds.
pub(super) const POLL: Duration = Duration::from_millis(500);
/// Calls to borrow for at once, where there is plenty.
const AHEAD: i64 = 16;

#[derive(Debug)]
pub(crate) struct Account {
    store: PostgresStore,
    plan: Digest,
    /// First come, first served: only who holds it borrows.
    pub(super) line: tokio::sync::Mutex<()>,
    /// One exchange at a time.
    turn: tokio::sync::Mutex<Turn>,
    /// Somebody gives back what is not used.
    tended: AtomicBool,
    /// Something was borrowed since that somebody looked last.
    busy: AtomicBool,
}

#[derive(Debug, Default)]
struct Turn {
    /// Of the last exchange.
    number: i64,
    /// The last one, as long as nobody has heard what came of it: what it tells was taken out of the books here. It goes again
    /// before any other, and is booked once.
    unheard: Option<Exchange>,
}

pub(super) enum Answer {
    Lent,
    Refused {
        /// Other workers hold something that they may give back.
        others: bool,
        /// What all workers have spent.
        total: Amount,
        /// What those had out that are no longer heard of.
        lost: Amount,
    },
}

impl Account {
    pub(super) fn new(store: PostgresStore, plan: Digest) -> Self {
        let (line, turn) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        Self { store, plan, line, turn, tended: AtomicBool::new(false), busy: AtomicBool::new(false) }
    }

    pub(super) async fn spending(&self) -> Result<Spending, StoreError> {
        self.store.spending(&self.plan).await
    }

    pub(super) async fn go_out(
        &self,
        key: &Digest,
        most: Amount,
        unless_replied: bool,
    ) -> Result<Departure, StoreError> {
        self.store.go_out(&self.plan, key, most, unless_replied).await
    }

    /// Keeps what a request came to, with what that cost.
    pub(crate) async fn book(
        &self,
        key: &Digest,
        cost: Amount,
        call: Option<&CallRecord>,
        attempt: Option<&AttemptRecord>,
    ) -> Result<(), StoreError> {
        self.store.book(&self.plan, key, cost, call, attempt).await
    }
}

impl Budget {
    /// Borrows for a call that has no room here.
    pub(super) async fn borrow(self: &Arc<Self>, cost: Amount) -> Result<Answer, ChatError> {
        self.tend();
        let more =
            Amount { calls: AHEAD * cost.calls, tokens: AHEAD * cost.tokens, nanos: cost.nanos.saturating_mul(AHEAD) };
        let Some(answer) = self.exchange(cost, more).await? else { return Ok(Answer::Lent) };
        Ok(match answer.granted {
            true => Answer::Lent,
            false => Answer::Refused { others: answer.others, total: answer.total, lost: answer.lost },
        })
    }

    /// Has everything booked that was spent, and gives back what is lent and not reserved. For the end of a command: calls that
    /// were given up are put on record first.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn settle(self: &Arc<Self>) -> Result<(), ChatError> {
        self.all_landed().await;
        if self.account.as_ref().is_some_and(|account| account.tended.load(Ordering::Relaxed)) {
            self.exchange(Amount::default(), Amount::default()).await?;
        }
        if let Some(purse) = &self.purse {
            let spending = self.books().spending();
            purse.close(spending).await?;
        }
        Ok(())
    }

    /// One exchange at a time; it comes to its end whether or not its caller waits. `None`: another has made room meanwhile.
    async fn exchange(self: &Arc<Self>, need: Amount, more: Amount) -> Result<Option<Borrowed>, StoreError> {
        let this = Arc::clone(self);
        let exchanged = tokio::spawn(async move { this.exchange_now(need, more).await });
        exchanged.await.unwrap_or_else(|error| {
            Err(StoreError::Away { store: "the common account".to_owned(), detail: error.to_string() })
        })
    }

    async fn exchange_now(&self, need: Amount, more: Amount) -> Result<Option<Borrowed>, StoreError> {
        let Some(account) = &self.account else { return Ok(None) };
        let mut turn = account.turn.lock().await;
        self.hear(account, &mut turn).await?;
        let (spent, keep) = {
            let mut books = self.books();
            if need.calls > 0 && self.fits(&books, need) {
                return Ok(None);
            }
            // From now on nothing is free here until the answer comes: what was lent and is not reserved goes back.
            let spent = books.settled.minus(books.booked);
            (books.booked, books.lent) = (books.settled, books.reserved);
            (spent, books.reserved)
        };
        turn.number += 1;
        turn.unheard = Some(Exchange { turn: turn.number, spent, keep, need, more, caps: self.caps.columns() });
        self.hear(account, &mut turn).await
    }

    /// What came of the last exchange, if nobody has heard it yet.
    async fn hear(&self, account: &Account, turn: &mut Turn) -> Result<Option<Borrowed>, StoreError> {
        let Some(exchange) = &turn.unheard else { return Ok(None) };
        let answer = account.store.borrow(&account.plan, exchange).await?;
        if answer.granted {
            let mut books = self.books();
            books.lent = books.lent.plus(answer.holds.minus(exchange.keep));
            books.closed = false;
            drop(books);
            account.busy.store(true, Ordering::Relaxed);
            self.settled.notify_waiters();
        }
        turn.unheard = None;
        Ok(Some(answer))
    }

    /// A worker that waits for something else must not sit on what others wait for.
    fn tend(self: &Arc<Self>) {
        let Some(account) = &self.account else { return };
        if account.tended.swap(true, Ordering::Relaxed) {
            return;
        }
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(POLL).await;
                let Some(budget) = this.upgrade() else { return };
                let Some(account) = &budget.account else { return };
                let idle = !account.busy.swap(false, Ordering::Relaxed);
                if idle
                    && budget.holds_what_it_does_not_need()
                    && let Err(error) = budget.exchange(Amount::default(), Amount::default()).await
                {
                    tracing::debug!(%error, "what is lent is given back later");
                }
            }
        });
    }

    fn holds_what_it_does_not_need(&self) -> bool {
        let books = self.books();
        books.lent != books.reserved || books.settled != books.booked
    }
}
