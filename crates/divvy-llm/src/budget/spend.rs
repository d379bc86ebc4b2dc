//! The layer of the budget: each try reserves the most that it can cost, and settles what it did.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use divvy_core::{
    chat::{ChatRequest, Usage},
    cost::Prices,
};
use divvy_store::Amount;
use tokio::sync::{Mutex, MutexGuard};

use super::{Budget, signed};
use crate::{
    client::Call,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
};

pub(crate) struct Spend<L> {
    pub(crate) budget: Arc<Budget>,
    pub(crate) prices: Option<Prices>,
    /// It runs on this machine, where nobody sends a bill.
    pub(crate) local: bool,
    /// What the dearest call so far cost: the best guess where a machine's time is paid, which is known afterwards.
    pub(crate) dearest: AtomicI64,
    /// Held by the first call whose machine's time is to be paid.
    pub(crate) first: Mutex<()>,
    pub(crate) inner: L,
}

impl<L: Layer> Layer for Spend<L> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        // On the heap, as it is rare: every request holds room for what it may wait for.
        let _first = if self.knows_no_cost() { Box::pin(job.in_line(self.alone())).await? } else { None };
        let estimate = self.estimate(&job.request)?;
        // What it was to be paid from went back while this worker stood still: it borrows anew.
        loop {
            let result = self.call_within(estimate, job.clone()).await;
            if !result.as_ref().is_err_and(|error| error.kind == ErrorKind::Unlent) {
                return result;
            }
        }
    }
}

impl<L: Layer> Spend<L> {
    async fn call_within(&self, estimate: Amount, job: Job) -> Result<Call, ChatError> {
        let reserving = job.cancel.run_until_cancelled(self.budget.reserve(estimate)).await;
        let mut reservation = reserving.ok_or_else(ChatError::cancelled)??;
        let result = self.inner.call(Job { held: reservation.held.clone(), ends: self.budget.ends(), ..job }).await;
        if let Ok(Call { price_nanos: Some(price), .. }) = &result {
            self.dearest.fetch_max(*price, Relaxed);
        }
        reservation.settle = match &result {
            Ok(call) => actual(call, estimate),
            // It was answered, as far as anybody knows, and there was no place for the answer. On a server it stands as out.
            Err(error)
                if error.kind == ErrorKind::Store && reservation.held.is_out() && self.budget.account().is_none() =>
            {
                estimate
            }
            Err(error) => of_failure(error, self.prices, estimate),
        };
        result
    }
}

impl<L> Spend<L> {
    fn pays_by_the_hour(&self) -> bool {
        self.prices.is_some_and(|prices| prices.machine_hour > 0)
    }

    /// Of a call whose time is paid, under a cap in money.
    fn knows_no_cost(&self) -> bool {
        self.pays_by_the_hour() && self.budget.caps.price_nanos.is_some() && self.dearest.load(Relaxed) == 0
    }

    /// The first goes alone: those after it know what one costs.
    async fn alone(&self) -> Option<MutexGuard<'_, ()>> {
        Some(self.first.lock().await).filter(|_| self.knows_no_cost())
    }

    /// The most it can cost; of a machine's time, as much as any call so far.
    fn estimate(&self, request: &ChatRequest) -> Result<Amount, ChatError> {
        let (tokens_in, tokens_out) = most_tokens(request);
        let usage = Usage { tokens_in: Some(tokens_in), tokens_cached: None, tokens_out: Some(tokens_out) };
        let time = if self.pays_by_the_hour() { self.dearest.load(Relaxed) } else { 0 };
        let nanos = self.prices.and_then(|prices| prices.cost(&usage)?.checked_add(time));
        if self.budget.caps.price_nanos.is_some() && nanos.is_none() && !self.local {
            let message = "a cap in money needs the price of every model; give it as `price` in [models.NAME]";
            return Err(ChatError::new(ErrorKind::BudgetExhausted, message));
        }
        Ok(Amount { calls: 1, tokens: signed(tokens_in + tokens_out), nanos: nanos.unwrap_or(0) })
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

fn actual(call: &Call, estimate: Amount) -> Amount {
    if call.from_cache { Amount::default() } else { of_reply(&call.reply.usage, call.price_nanos, estimate) }
}

/// What a provider did not report stays as estimated.
pub(crate) fn of_reply(usage: &Usage, price_nanos: Option<i64>, estimate: Amount) -> Amount {
    let tokens = usage.tokens_in.zip(usage.tokens_out).map(|(tokens_in, tokens_out)| signed(tokens_in + tokens_out));
    Amount { calls: 1, tokens: tokens.unwrap_or(estimate.tokens), nanos: price_nanos.unwrap_or(estimate.nanos) }
}

/// What a try cost that brought no reply, as far as the endpoint says.
pub(crate) fn of_failure(error: &ChatError, prices: Option<Prices>, estimate: Amount) -> Amount {
    if !error.may_be_charged() {
        return Amount::default();
    }
    let known = error.usage.tokens_in.zip(error.usage.tokens_out);
    let price = known.and_then(|_| prices?.cost(&error.usage));
    of_reply(&error.usage, price, estimate)
}
