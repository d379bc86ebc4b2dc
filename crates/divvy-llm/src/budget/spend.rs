//! The layer of the budget: each try reserves what it is estimated to cost, on the high side, and settles what it did.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use divvy_core::{
    chat::{ChatRequest, Usage},
    cost::Prices,
};
use divvy_store::Amount;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use super::{Budget, signed};
use crate::{
    client::Call,
    error::{ChatError, ErrorKind},
    layer::{Job, Layer},
};

pub(crate) struct Spend<L> {
    pub(crate) budget: Arc<Budget>,
    /// At which a try is held.
    pub(crate) prices: Option<Prices>,
    /// Of what comes in a batch, if anything does.
    pub(crate) batch_prices: Option<Prices>,
    /// Of what is asked on its own.
    pub(crate) online_prices: Option<Prices>,
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
        let start = Instant::now();
        // On the heap, as it is rare: every request holds room for what it may wait for.
        let _first = if self.knows_no_cost() { Box::pin(job.in_line(self.alone())).await? } else { None };
        job.waited.since(start);
        let prices = if job.online.load(Relaxed) { self.online_prices } else { self.prices };
        let estimate = self.estimate(job.most_tokens(), prices)?;
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
        let start = Instant::now();
        let reserving = job.cancel.run_until_cancelled(self.budget.reserve(estimate)).await;
        job.waited.since(start);
        let mut reservation = reserving.ok_or_else(ChatError::cancelled)??;
        let online = Arc::clone(&job.online);
        let result = self.inner.call(Job { held: reservation.held.clone(), ends: self.budget.ends(), ..job }).await;
        // As it was asked in the end.
        let prices = if online.load(Relaxed) { self.online_prices } else { self.batch_prices };
        if let Ok(Call { price_nanos: Some(price), .. }) = &result {
            self.dearest.fetch_max(*price, Relaxed);
        }
        reservation.settle = Some(match &result {
            Ok(call) => actual(call, estimate),
            // It was answered, as far as anybody knows, and there was no place for the answer.
            Err(error) if error.kind == ErrorKind::Store && reservation.held.is_out() => estimate,
            Err(error) => of_failure(error, prices, estimate),
        });
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

    /// What it may cost, on the high side; of a machine's time, as much as any call so far.
    fn estimate(&self, (tokens_in, tokens_out): (u64, u64), prices: Option<Prices>) -> Result<Amount, ChatError> {
        let usage = Usage { tokens_in: Some(tokens_in), tokens_cached: None, tokens_out: Some(tokens_out) };
        let time = if self.pays_by_the_hour() { self.dearest.load(Relaxed) } else { 0 };
        let nanos = prices.and_then(|prices| prices.cost(&usage)?.checked_add(time));
        if self.budget.caps.price_nanos.is_some() && nanos.is_none() && !self.local {
            let message = "a cap in money needs the price of every model; give it as `price` in [models.NAME]";
            return Err(ChatError::new(ErrorKind::BudgetExhausted, message));
        }
        Ok(Amount { calls: 1, tokens: signed(tokens_in + tokens_out), nanos: nanos.unwrap_or(0) })
    }
}

/// Tokens in and out of a request, on the high side: out it is what the request allows; in it is an estimate, since only the
/// model's own vocabulary knows. It is half again as much as English takes and more than formulas, programs, keys and other
/// scripts do; a language in Latin letters of which a vocabulary knows little may take a little more.
pub(crate) fn most_tokens(request: &ChatRequest) -> (u64, u64) {
    const AROUND_A_MESSAGE: usize = 4;
    let tokens: usize = request.messages.iter().map(|message| AROUND_A_MESSAGE + tokens_of(&message.content)).sum();
    (tokens as u64, u64::from(request.sampling.max_tokens))
}

/// A token for two and a half letters of a word, and none for the blank before it. Digits, punctuation and the bytes of other
/// scripts may be a token each, and so may letters that spell no word.
fn tokens_of(text: &str) -> usize {
    let (bytes, mut tokens) = (text.as_bytes(), 0);
    let (mut run, mut is_word) = (0, true);
    for (at, byte) in bytes.iter().enumerate() {
        if byte.is_ascii_alphanumeric() {
            is_word &= byte.is_ascii_lowercase() || (run == 0 && byte.is_ascii_uppercase());
            run += 1;
            continue;
        }
        let is_free = *byte == b' ' && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic);
        tokens += tokens_of_run(run, is_word) + usize::from(!is_free);
        (run, is_word) = (0, true);
    }
    tokens + tokens_of_run(run, is_word)
}

fn tokens_of_run(run: usize, is_word: bool) -> usize {
    const LONGEST: usize = 24;
    if is_word && run <= LONGEST { (2 * run).div_ceil(5) } else { run }
}

fn actual(call: &Call, estimate: Amount) -> Amount {
    if call.from_cache { Amount::default() } else { of_reply(&call.reply.usage, call.price_nanos, estimate) }
}

/// What a provider did not report stays as estimated.
pub(crate) fn of_reply(usage: &Usage, price_nanos: Option<i64>, estimate: Amount) -> Amount {
    let tokens = usage
        .tokens_in
        .zip(usage.tokens_out)
        .map(|(tokens_in, tokens_out)| signed(tokens_in.saturating_add(tokens_out)));
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

#[cfg(test)]
mod tests {
    use super::tokens_of;

    /// How many tokens Qwen2.5 and SmolLM2 take, by the vocabularies in their GGUF files.
    #[test]
    fn what_a_text_takes_is_not_underestimated() {
        for (text, qwen, smol) in [
            (r"$$\begin{aligned}x&=\frac{-b\pm\sqrt{b^2-4ac}}{2a}\\y&=\log_{10}(z)\end{aligned}$$", 43, 45),
            (r"\sum_{i=1}^{n} x_i \cdot \left( \alpha_{j} - \beta^{k} \right) \leq \int_0^\infty e^{-x^2}\,dx", 49, 50),
            ("8f14e45fceea167a5a36dedd4bea2543c81e728d9d4c2f636f067f89cc14862c", 57, 58),
            ("JYaMkPz/kmW4hRrfuBJw3Yt8oIQv9dL2xUeGsHnA7+ZcX0bTfKqV1EiNp6g5mSDlOQ==", 60, 62),
            ("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", 24, 24),
            ("Die Zusammenarbeit zwischen den Universitäten wurde durch Rechtsstreitigkeiten beeinträchtigt.", 21, 37),
            ("Kaikki ihmiset syntyvat vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.", 29, 31),
            ("人人生而自由，在尊严和权利上一律平等。", 12, 29),
            ("सभी मनुष्यों को गौरव और अधिकारों के मामले में समानता प्राप्त है।", 57, 69),
            (
                "let late = job.until.is_some_and(|until| Instant::now() >= until);\n        if !error.is_retryable() {",
                27,
                35,
            ),
            (r#"{"subquestions": [{"id": 1, "text": "How many?"}, {"id": 2, "text": "x"}]}"#, 31, 32),
            ("Mstislav Rostropovich and Krzysztof Penderecki met Nguyen Phuc Anh near Llanfairpwll.", 30, 33),
            ("|a|b|c|\n|--|--|--|\n|1|2|3|\n", 18, 24),
            ("I don't know; it's A, b or (c)...", 14, 15),
            (ENGLISH, 39, 39),
        ] {
            let tokens = tokens_of(text);
            assert!(tokens >= usize::max(qwen, smol), "{tokens} for {qwen} and {smol}: {text}");
        }
    }

    #[test]
    fn english_is_not_overestimated_by_far() {
        assert!(tokens_of(ENGLISH) <= 39 * 7 / 4, "{}", tokens_of(ENGLISH));
    }

    const ENGLISH: &str = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many \
                           clips did Natalia sell altogether in April and May?";
}
