//! Hard caps on what is spent for a plan, by all its commands together. An estimate is reserved before a call and settled
//! after it, so that calls in flight together never exceed a cap; at the cap the caller is told to stop, and what is
//! finished stays finished. One [`Budget`] may be shared by the clients of several models; on a store in a file it is
//! written down as it is spent ([`Purse`]), on a server the workers have it in common (`account`).

mod account;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use divvy_core::{chat::ChatRequest, cost::Prices, cost::show_dollars, digest::Digest};
use divvy_store::{Amount, PostgresStore, Purse, Spending};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use self::account::{Account, Answer};
use crate::{
    client::Call,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
};

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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    calls: u64,
    tokens: u64,
    price_nanos: i64,
}

#[derive(Debug, Default)]
struct Books {
    /// By this command.
    settled: Cost,
    reserved: Cost,
    /// Of what is reserved, that which has gone out to an endpoint.
    out: Cost,
    /// What the common account has lent and has not heard the end of, where there is one.
    lent: Cost,
    /// Of what is settled, what the common account knows.
    booked: Cost,
}

/// What may be spent, and what was.
#[derive(Debug)]
pub struct Budget {
    caps: Caps,
    began: Instant,
    books: Mutex<Books>,
    settled: Notify,
    /// What earlier commands have spent.
    before: Spent,
    purse: Option<Purse>,
    account: Option<Account>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    heard: Cost,
    /// By calls that were in flight when a process died: it may have been charged.
    lost: Cost,
}

impl From<Spending> for Spent {
    fn from(spending: Spending) -> Self {
        Self { heard: of_amount(spending.spent), lost: of_amount(spending.lost) }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            caps: Caps::default(),
            began: Instant::now(),
            books: Mutex::default(),
            settled: Notify::new(),
            before: Spent::default(),
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
        Arc::new(Self { caps, before: before.into(), purse: Some(purse), ..Self::default() })
    }

    /// Caps on what all workers of a plan spend, whenever they run; the time is each command's own.
    #[must_use]
    pub fn common(caps: Caps, store: PostgresStore, plan: Digest) -> Arc<Self> {
        let counts = caps != Caps { time: caps.time, ..Caps::default() };
        Arc::new(Self { caps, account: counts.then(|| Account::new(store, plan)), ..Self::default() })
    }

    /// Calls, tokens and nano-dollars that this command has spent so far, calls in flight not included.
    #[must_use]
    pub fn spent(&self) -> (u64, u64, i64) {
        let books = self.books();
        (books.settled.calls, books.settled.tokens, books.settled.price_nanos)
    }

    /// The same for all commands of the plan, with what may have been charged when one of them died.
    ///
    /// # Errors
    /// When the common account cannot be read.
    pub async fn spent_for_plan(&self) -> Result<(u64, u64, i64), ChatError> {
        let before = match &self.account {
            Some(account) => account.spending().await?,
            None => self.before,
        };
        let books = self.books();
        let own = minus(books.settled, books.booked);
        let all = plus(own, plus(before.heard, before.lost));
        Ok((all.calls, all.tokens, all.price_nanos))
    }

    /// When its time is used up.
    fn ends(&self) -> Option<End> {
        let time = self.caps.time?;
        Some(End { at: self.began.checked_add(time)?, time })
    }

    /// Waits while calls in flight hold what is left: most of them cost less than was reserved for them.
    async fn reserve(self: &Arc<Self>, cost: Cost) -> Result<Reservation, ChatError> {
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

    async fn reserve_later(self: &Arc<Self>, cost: Cost) -> Result<Reservation, ChatError> {
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
                    let heard = plus(self.before.heard, self.books().settled);
                    return Err(self.exhausted(heard, self.before.lost));
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

    /// A reservation, if there is room for it.
    fn take(self: &Arc<Self>, cost: Cost) -> Option<Reservation> {
        let mut books = self.books();
        if !self.fits(&books, cost) {
            return None;
        }
        books.reserved = plus(books.reserved, cost);
        Some(Reservation { budget: self.clone(), cost, settle: Cost::default(), held: Held::new(cost) })
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, books: &Books, cost: Cost) -> bool {
        let total = plus(plus(books.settled, books.reserved), cost);
        let Some(_) = &self.account else {
            let total = plus(total, plus(self.before.heard, self.before.lost));
            return self.caps.calls.is_none_or(|cap| total.calls <= cap)
                && self.caps.tokens.is_none_or(|cap| total.tokens <= cap)
                && self.caps.price_nanos.is_none_or(|cap| total.price_nanos <= cap);
        };
        let (total, lent) = (minus(total, books.booked), books.lent);
        self.caps.calls.is_none_or(|_| total.calls <= lent.calls)
            && self.caps.tokens.is_none_or(|_| total.tokens <= lent.tokens)
            && self.caps.price_nanos.is_none_or(|_| total.price_nanos <= lent.price_nanos)
    }

    fn exhausted(&self, spent: Cost, lost: Cost) -> ChatError {
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
            show_dollars(spent.price_nanos),
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
    cost: Cost,
    /// It has gone out.
    out: AtomicBool,
}

impl Held {
    fn new(cost: Cost) -> Self {
        Self(Arc::new(Hold { cost, out: AtomicBool::new(false) }))
    }

    fn is_out(&self) -> bool {
        self.0.out.load(Relaxed)
    }
}

impl Budget {
    /// The try goes out now: if nobody lives to hear what comes of it, it counts as lost.
    pub(crate) fn goes_out(&self, held: &Held) {
        if !held.0.out.swap(true, Relaxed) {
            let mut books = self.books();
            books.out = plus(books.out, held.0.cost);
            self.write_down(&books);
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
        Spending { spent: amount(self.settled), lost: amount(self.out) }
    }
}

fn out_of_time(time: Duration) -> ChatError {
    let message = format!(
        "the budget of {} minutes is used up; raise [budget] minutes in the recipe, or run the same command to go on",
        time.as_secs_f64() / 60.0
    );
    ChatError::new(ErrorKind::BudgetExhausted, message)
}

fn amount(cost: Cost) -> Amount {
    Amount { calls: signed(cost.calls), tokens: signed(cost.tokens), nanos: cost.price_nanos }
}

fn of_amount(amount: Amount) -> Cost {
    Cost { calls: amount.calls.unsigned_abs(), tokens: amount.tokens.unsigned_abs(), price_nanos: amount.nanos }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn plus(a: Cost, b: Cost) -> Cost {
    Cost {
        calls: a.calls + b.calls,
        tokens: a.tokens + b.tokens,
        price_nanos: a.price_nanos.saturating_add(b.price_nanos),
    }
}

fn minus(a: Cost, b: Cost) -> Cost {
    Cost { calls: a.calls - b.calls, tokens: a.tokens - b.tokens, price_nanos: a.price_nanos - b.price_nanos }
}

/// Given back when dropped, less what was settled.
struct Reservation {
    budget: Arc<Budget>,
    cost: Cost,
    settle: Cost,
    held: Held,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut books = self.budget.books();
        books.reserved = minus(books.reserved, self.cost);
        books.settled = plus(books.settled, self.settle);
        if self.held.is_out() {
            books.out = minus(books.out, self.cost);
        }
        self.budget.write_down(&books);
        drop(books);
        self.budget.settled.notify_waiters();
    }
}

pub(crate) struct Spend<L> {
    pub(crate) budget: Arc<Budget>,
    pub(crate) prices: Option<Prices>,
    /// It runs on this machine, where nobody sends a bill.
    pub(crate) local: bool,
    /// What the dearest call so far cost: the best guess where a machine's time is paid, which is known afterwards.
    pub(crate) dearest: AtomicI64,
    pub(crate) inner: L,
}

impl<L: Layer> Layer for Spend<L> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let estimate = self.estimate(&job.request)?;
        let reserving = job.cancel.run_until_cancelled(self.budget.reserve(estimate)).await;
        let mut reservation = reserving.ok_or_else(ChatError::cancelled)??;
        let job = Job { held: reservation.held.clone(), ends: self.budget.ends(), ..job };
        let result = self.inner.call(job).await;
        if let Ok(Call { price_nanos: Some(price), .. }) = &result {
            self.dearest.fetch_max(*price, Relaxed);
        }
        reservation.settle = match &result {
            Ok(call) => actual(call, estimate),
            Err(error) if error.may_be_charged() => self.charged(error, estimate),
            // It was answered, as far as anybody knows, and there was no place for the answer.
            Err(error) if error.kind == ErrorKind::Store && reservation.held.is_out() => estimate,
            Err(_) => Cost::default(),
        };
        result
    }
}

impl<L> Spend<L> {
    /// The most it can cost; of a machine's time, as much as any call so far.
    fn estimate(&self, request: &ChatRequest) -> Result<Cost, ChatError> {
        let (tokens_in, tokens_out) = most_tokens(request);
        let usage =
            divvy_core::chat::Usage { tokens_in: Some(tokens_in), tokens_cached: None, tokens_out: Some(tokens_out) };
        let by_the_hour = self.prices.is_some_and(|prices| prices.machine_hour > 0);
        let time = if by_the_hour { self.dearest.load(Relaxed) } else { 0 };
        let price_nanos = self.prices.and_then(|prices| prices.cost(&usage)?.checked_add(time));
        if self.budget.caps.price_nanos.is_some() && price_nanos.is_none() && !self.local {
            let message = "a cap in money needs the price of every model; give it as `price` in [models.NAME]";
            return Err(ChatError::new(ErrorKind::BudgetExhausted, message));
        }
        Ok(Cost { calls: 1, tokens: tokens_in + tokens_out, price_nanos: price_nanos.unwrap_or(0) })
    }

    /// What a try cost that brought no reply, as far as the endpoint says.
    fn charged(&self, error: &ChatError, estimate: Cost) -> Cost {
        let Some(tokens) = error.usage.tokens_in.zip(error.usage.tokens_out) else { return estimate };
        let price_nanos = self.prices.and_then(|prices| prices.cost(&error.usage));
        Cost { calls: 1, tokens: tokens.0 + tokens.1, price_nanos: price_nanos.unwrap_or(estimate.price_nanos) }
    }
}

/// Tokens in and out of a request, at most. English takes a token for four bytes, so that one for three is enough; digits may
/// be a token each, and so may the bytes of a script that the model's vocabulary hardly knows.
pub(crate) fn most_tokens(request: &ChatRequest) -> (u64, u64) {
    let bytes: usize = request.messages.iter().map(|message| message.content.len() + 12).sum();
    let dear: usize = request.messages.iter().map(|message| dear_bytes(&message.content)).sum();
    ((dear + (bytes - dear).div_ceil(3)) as u64, u64::from(request.sampling.max_tokens))
}

fn dear_bytes(text: &str) -> usize {
    text.bytes().filter(|byte| byte.is_ascii_digit() || !byte.is_ascii()).count()
}

/// What a provider did not report stays as estimated.
fn actual(call: &Call, estimate: Cost) -> Cost {
    if call.from_cache {
        return Cost::default();
    }
    let usage = call.reply.usage;
    let tokens = usage.tokens_in.zip(usage.tokens_out).map(|(tokens_in, tokens_out)| tokens_in + tokens_out);
    Cost {
        calls: 1,
        tokens: tokens.unwrap_or(estimate.tokens),
        price_nanos: call.price_nanos.unwrap_or(estimate.price_nanos),
    }
}
