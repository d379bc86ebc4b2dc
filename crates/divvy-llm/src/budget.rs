//! Hard caps on what is spent for a plan, by all its commands together. An estimate is reserved before a call and settled
//! after it, so that calls in flight together go past a cap by no more than what their estimates lack; at the cap the caller
//! is told to stop, and what is finished stays finished. One [`Budget`] may be shared by the clients of several models; on a
//! store in a file it is written down as it is spent ([`Purse`]), on a server the workers have it in common (`account`).

mod account;
pub(crate) mod spend;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use divvy_core::{cost::show_dollars, digest::Digest};
use divvy_store::{Amount, Departure, PostgresStore, Purse, Spending};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

pub(crate) use self::account::Account;
use self::account::Answer;
use crate::error::{ChatError, ErrorKind};

/// At the end of a command, what is still in flight is waited for so long: by then it is given up, and takes a commit or two.
const LANDING: Duration = Duration::from_secs(5);

/// `None`: no cap. Calls that the cache answers cost nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    pub calls: Option<u64>,
    /// In and out together.
    pub tokens: Option<u64>,
    pub price_nanos: Option<i64>,
    /// Of this command, from the making of the budget: nothing is sent after it, whoever stands in line by then. What is under way
    /// comes to its end.
    pub time: Option<Duration>,
}

impl Caps {
    /// Calls, tokens and nano-dollars.
    fn columns(&self) -> [Option<i64>; 3] {
        [self.calls.map(signed), self.tokens.map(signed), self.price_nanos]
    }
}

#[derive(Debug, Default)]
struct Books {
    /// By this command.
    settled: Amount,
    reserved: Amount,
    /// Of what is reserved, that which has gone out to an endpoint, and that of which the reply is on disk.
    out: Amount,
    back: Amount,
    /// What the common account has lent and has not heard the end of, where there is one.
    lent: Amount,
    /// Of what is settled, what the common account knows.
    booked: Amount,
    /// What was lent went back while this worker stood still: nothing fits before more is borrowed.
    closed: bool,
}

/// What may be spent, and what was.
#[derive(Debug)]
pub struct Budget {
    caps: Caps,
    began: Instant,
    books: Mutex<Books>,
    settled: Notify,
    /// What earlier commands have spent.
    before: Spending,
    purse: Option<Purse>,
    account: Option<Account>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            caps: Caps::default(),
            began: Instant::now(),
            books: Mutex::default(),
            settled: Notify::new(),
            before: Spending::default(),
            purse: None,
            account: None,
        }
    }
}

impl Budget {
    #[must_use]
    pub fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self { caps, ..Self::default() })
    }

    /// Caps on what all commands of a plan spend, one after another: those before have spent `before`, and this one writes into
    /// `purse`. The time is each command's own.
    #[must_use]
    pub fn kept(caps: Caps, before: Spending, purse: Purse) -> Arc<Self> {
        Arc::new(Self { caps, before, purse: Some(purse), ..Self::default() })
    }

    /// Caps on what all workers of a plan spend, whenever they run; the time is each command's own.
    #[must_use]
    pub fn common(caps: Caps, store: PostgresStore, plan: Digest) -> Arc<Self> {
        Arc::new(Self { caps, account: Some(Account::new(store, plan)), ..Self::default() })
    }

    /// Calls, tokens and nano-dollars that this command has spent so far, calls in flight not included.
    #[must_use]
    pub fn spent(&self) -> (u64, u64, i64) {
        let books = self.books();
        counts(books.settled)
    }

    /// The same for all commands of the plan, with what may have been charged when one of them died.
    ///
    /// # Errors
    /// When the common account cannot be read.
    pub async fn spent_for_plan(&self) -> Result<(u64, u64, i64), ChatError> {
        let Spending { spent, lost } = match &self.account {
            Some(account) => account.spending().await?,
            None => Spending { spent: self.before.spent.plus(self.books().settled), ..self.before },
        };
        Ok(counts(spent.plus(lost)))
    }

    /// When its time is used up.
    fn ends(&self) -> Option<End> {
        let time = self.caps.time?;
        Some(End { at: self.began.checked_add(time)?, time })
    }

    /// Waits while calls in flight hold what is left: most of them cost less than was reserved for them.
    async fn reserve(self: &Arc<Self>, cost: Amount) -> Result<Reservation, ChatError> {
        self.check_time()?;
        match self.take(cost) {
            Some(reservation) => Ok(reservation),
            // On the heap, as it is rare: every request holds room for what it may wait for.
            None => Box::pin(self.reserve_later(cost)).await,
        }
    }

    /// An error once the time is used up.
    pub(crate) fn check_time(&self) -> Result<(), ChatError> {
        let over = self.caps.time.filter(|time| self.began.elapsed() >= *time);
        over.map_or(Ok(()), |time| Err(out_of_time(time)))
    }

    async fn reserve_later(self: &Arc<Self>, cost: Amount) -> Result<Reservation, ChatError> {
        // One asks the common account for all that wait.
        let mut line = None;
        loop {
            self.check_time()?;
            let changed = self.settled.notified();
            if let Some(reservation) = self.take(cost) {
                return Ok(reservation);
            }
            let in_flight = self.books().reserved.calls > 0;
            let Some(account) = &self.account else {
                if !in_flight {
                    let spent = self.before.spent.plus(self.books().settled);
                    return Err(self.exhausted(spent, self.before.lost));
                }
                changed.await;
                continue;
            };
            if line.is_none() {
                line = Some(account.line.lock().await);
                continue;
            }
            match self.borrow(cost).await? {
                Answer::Lent => {}
                Answer::Refused { others: false, total, lost } if !in_flight => return Err(self.exhausted(total, lost)),
                // Other workers do not tell us when they give something back.
                Answer::Refused { .. } => drop(timeout(account::POLL, changed).await),
            }
        }
    }

    /// Waits until nothing is in flight any more: whoever gives up does not stay to see what had come of a reply put on record.
    async fn all_landed(&self) {
        let landed = async {
            loop {
                let changed = self.settled.notified();
                if self.books().reserved.calls == 0 {
                    return;
                }
                changed.await;
            }
        };
        drop(timeout(LANDING, landed).await);
    }

    /// A reservation, if there is room for it.
    fn take(self: &Arc<Self>, cost: Amount) -> Option<Reservation> {
        let mut books = self.books();
        if !self.fits(&books, cost) {
            return None;
        }
        books.reserved = books.reserved.plus(cost);
        Some(Reservation { budget: self.clone(), cost, settle: None, held: Held::new(cost) })
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, books: &Books, cost: Amount) -> bool {
        let (caps, total) = (self.caps.columns(), books.settled.plus(books.reserved).plus(cost));
        if self.account.is_none() {
            return within(total.plus(self.before.spent).plus(self.before.lost), caps);
        }
        let lent = books.lent.columns();
        !books.closed && within(total.minus(books.booked), std::array::from_fn(|at| caps[at].map(|_| lent[at])))
    }

    fn exhausted(&self, spent: Amount, lost: Amount) -> ChatError {
        let cap = |cap: Option<u64>| cap.map_or("no cap".to_owned(), |cap| format!("of {cap}"));
        let money = self.caps.price_nanos.map_or("no cap".to_owned(), |cap| format!("of {}", show_dollars(cap)));
        let lost = match lost.calls {
            0 => String::new(),
            calls => format!(", and {calls} calls that were in flight when a process died and may have been charged"),
        };
        let message = format!(
            "the budget does not allow another call: {} calls ({}), {} tokens ({}), {} ({money}){lost}; raise [budget] in the \
             recipe and run the same command to go on",
            spent.calls,
            cap(self.caps.calls),
            spent.tokens,
            cap(self.caps.tokens),
            show_dollars(spent.nanos),
        );
        ChatError::new(ErrorKind::BudgetExhausted, message)
    }
}

/// The end of a budget's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) at: Instant,
    /// How long it was.
    pub(crate) time: Duration,
}

impl End {
    pub(crate) fn error(self) -> ChatError {
        out_of_time(self.time)
    }
}

/// What a try holds of the budget, on its way down to the endpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Hold>);

#[derive(Debug, Default)]
struct Hold {
    cost: Amount,
    /// It has gone out.
    out: AtomicBool,
    /// Its reply is on disk.
    back: AtomicBool,
}

impl Held {
    fn new(cost: Amount) -> Self {
        Self(Arc::new(Hold { cost, ..Hold::default() }))
    }

    fn is_out(&self) -> bool {
        self.0.out.load(Relaxed)
    }

    fn is_back(&self) -> bool {
        self.0.back.load(Relaxed)
    }

    /// The most that it may cost.
    pub(crate) fn cost(&self) -> Amount {
        self.0.cost
    }
}

impl Budget {
    /// The account that workers have in common.
    pub(crate) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// The try goes out now: if nobody lives to hear what comes of it, it counts as lost. `false`: a reply to its request is
    /// there that nobody has read, which only a common account looks for.
    pub(crate) async fn goes_out(&self, key: &Digest, held: &Held, unless_replied: bool) -> Result<bool, ChatError> {
        if let Some(account) = &self.account {
            // On the heap: a trip over the network is large, and most stores never make one.
            match Box::pin(account.go_out(key, held.cost(), unless_replied)).await? {
                Departure::Out => {}
                Departure::Replied => return Ok(false),
                Departure::Unlent => {
                    self.books().closed = true;
                    return Err(ChatError::new(ErrorKind::Unlent, "what was lent for it went back meanwhile"));
                }
                Departure::Taken => return Err(ChatError::new(ErrorKind::Taken, "another worker has taken it over")),
            }
        }
        if !held.0.out.swap(true, Relaxed) {
            let mut books = self.books();
            books.out = books.out.plus(held.0.cost);
            self.write_down(&books);
        }
        Ok(true)
    }

    /// Its reply is on disk: should nobody live to record it, it is spent all the same. While others are out, the next of them to
    /// go or to be settled writes that down.
    pub(crate) fn came_back(&self, held: &Held) {
        if held.is_out() && !held.0.back.swap(true, Relaxed) {
            let mut books = self.books();
            books.out = books.out.minus(held.0.cost);
            books.back = books.back.plus(held.0.cost);
            if books.out == Amount::default() {
                self.write_down(&books);
            }
        }
    }

    fn write_down(&self, books: &Books) {
        if let Some(purse) = &self.purse {
            purse.note(books.spending());
        }
    }
}

impl Books {
    fn spending(&self) -> Spending {
        Spending { spent: self.settled.plus(self.back), lost: self.out }
    }
}

fn out_of_time(time: Duration) -> ChatError {
    let message = format!(
        "the budget of {} minutes is used up; raise [budget] minutes in the recipe, or run the same command to go on",
        time.as_secs_f64() / 60.0
    );
    ChatError::new(ErrorKind::BudgetExhausted, message)
}

fn within(amount: Amount, caps: [Option<i64>; 3]) -> bool {
    amount.columns().into_iter().zip(caps).all(|(amount, cap)| cap.is_none_or(|cap| amount <= cap))
}

fn counts(amount: Amount) -> (u64, u64, i64) {
    (amount.calls.unsigned_abs(), amount.tokens.unsigned_abs(), amount.nanos)
}

pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Given back when dropped, less what was settled.
struct Reservation {
    budget: Arc<Budget>,
    cost: Amount,
    /// `None`: nobody heard what came of it.
    settle: Option<Amount>,
    held: Held,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut books = self.budget.books();
        books.reserved = books.reserved.minus(self.cost);
        // Dropped while it was out, as at the end of a program that cannot wait: it may have been charged.
        let unheard = if self.held.is_out() { self.cost } else { Amount::default() };
        books.settled = books.settled.plus(self.settle.unwrap_or(unheard));
        if self.held.is_back() {
            books.back = books.back.minus(self.cost);
        } else if self.held.is_out() {
            books.out = books.out.minus(self.cost);
        }
        self.budget.write_down(&books);
        drop(books);
        self.budget.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
