//! One call in the books: what it took and what it cost, however it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use divvy_core::{
    chat::{ChatRequest, Usage},
    cost::Prices,
};
use divvy_llm::{Call, ChatError, TraceHeaders};

use super::{Entry, Stage, Tally};
use crate::{menu::Voice, traces::CallSpan};

/// A call under way. However it ends, and when it is dropped too, it is in the books.
pub(crate) struct Running {
    tally: Arc<Tally>,
    stage: Stage,
    model: String,
    prices: Option<Prices>,
    /// It runs here, and nobody sends a bill.
    free: bool,
    began: Instant,
    prompt_bytes: usize,
    heard_bytes: AtomicUsize,
    entered: AtomicBool,
    span: Option<CallSpan>,
}

impl Running {
    pub(crate) fn heard(&self, piece: &str) {
        self.heard_bytes.fetch_add(piece.len(), Relaxed);
        self.tally.heard();
    }

    /// A try goes out to this endpoint.
    pub(crate) fn trying(&self, endpoint: Option<&str>) -> Option<TraceHeaders> {
        self.span.as_ref().map(|span| span.trying(endpoint))
    }

    /// A try of this call failed, and another follows.
    pub(crate) fn failed_try(&self, error: &ChatError) {
        self.span.iter().for_each(|span| span.failed_try(error));
        if error.may_be_charged() {
            self.enter(error.usage, None, false, Duration::ZERO);
        }
    }

    pub(crate) fn ended(&self, result: &Result<Call, ChatError>) {
        self.entered.store(true, Relaxed);
        let time = self.began.elapsed();
        self.tally.spent_upstream(self.stage, time);
        let cost = result.as_ref().ok().and_then(|call| call.price_nanos.or_else(|| self.cost(&call.reply.usage)));
        self.span.iter().for_each(|span| span.ended(result, cost));
        match result {
            Ok(call) => self.enter(call.reply.usage, cost, true, time),
            Err(error) if error.may_be_charged() || self.heard_bytes.load(Relaxed) > 0 => {
                self.enter(error.usage, None, false, time);
            }
            Err(_) => {}
        }
    }

    fn cost(&self, usage: &Usage) -> Option<i64> {
        self.prices.map_or_else(|| self.free.then_some(0), |prices| prices.cost(usage))
    }

    /// `price` of a finished call covers a machine's time too, which no count of tokens tells.
    fn enter(&self, usage: Usage, price: Option<i64>, ok: bool, time: Duration) {
        // Four bytes a token is usual.
        let tokens = |bytes: usize| Some(bytes.div_ceil(4) as u64);
        let estimate = Usage {
            tokens_in: usage.tokens_in.or(tokens(self.prompt_bytes)),
            tokens_cached: usage.tokens_cached,
            tokens_out: usage.tokens_out.or(tokens(self.heard_bytes.load(Relaxed))),
        };
        self.tally.books().entries.push(Entry {
            stage: self.stage,
            model: self.model.clone(),
            usage,
            cost_nanos: price.or_else(|| self.cost(&usage)),
            estimated_nanos: price.or_else(|| self.cost(&estimate)).unwrap_or(0),
            estimate,
            seconds: time.as_secs_f64(),
            ok,
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.entered.load(Relaxed) {
            let time = self.began.elapsed();
            self.tally.spent_upstream(self.stage, time);
            self.enter(Usage::default(), None, false, time);
        }
    }
}

impl Tally {
    /// A call to a model begins.
    pub(crate) fn begin(self: &Arc<Self>, stage: Stage, voice: &Voice, request: &ChatRequest) -> Arc<Running> {
        Arc::new(Running {
            tally: Arc::clone(self),
            stage,
            model: voice.name.clone(),
            prices: voice.prices,
            free: voice.local && voice.prices.is_none(),
            began: Instant::now(),
            prompt_bytes: request.messages.iter().map(|message| message.content.len()).sum(),
            heard_bytes: AtomicUsize::new(0),
            entered: AtomicBool::new(false),
            span: self.span.as_ref().map(|span| span.call(stage, voice, request)),
        })
    }
}
