//! The books of one request: every call's tokens, money and time. They are settled when the request ends, however it ends.

mod running;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use divvy_core::chat::Usage;
use serde_json::{Value, json};

pub(crate) use running::Running;

use crate::{
    admission::keys::Key,
    desk::Desk,
    error::ApiError,
    metrics::{ByDirection, ByModel, ByOutcome, ByStage, observe},
    traces::{Conclusion, RequestSpan},
};

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Decompose,
    Subquestion,
    Solve,
    /// A plain model's only one.
    Complete,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Decompose => "decompose",
            Self::Subquestion => "subquestion",
            Self::Solve => "solve",
            Self::Complete => "complete",
        }
    }
}

/// One call that was answered, or that may have been charged all the same.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) stage: Stage,
    pub(crate) model: String,
    /// As the model counted.
    pub(crate) usage: Usage,
    /// What a limit counts where the model did not.
    estimate: Usage,
    cost_nanos: Option<i64>,
    estimated_nanos: i64,
    seconds: f64,
    pub(crate) ok: bool,
}

pub(crate) struct Tally {
    desk: Arc<Desk>,
    id: String,
    model: String,
    key: Option<Arc<Key>>,
    began: Instant,
    span: Option<RequestSpan>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    entries: Vec<Entry>,
    in_line: Duration,
    upstream: Duration,
    first_piece: Option<Duration>,
    /// Status and time; `None` until it ends by itself.
    ended: Option<(u16, Duration)>,
    error: Option<&'static str>,
    finish: Option<&'static str>,
    fallback: Option<&'static str>,
}

impl Tally {
    pub(crate) fn new(
        desk: &Arc<Desk>,
        id: String,
        model: String,
        key: Option<Arc<Key>>,
        began: Instant,
        span: Option<RequestSpan>,
    ) -> Arc<Self> {
        Arc::new(Self { desk: Arc::clone(desk), id, model, key, began, span, books: Mutex::default() })
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.books().in_line = time;
    }

    pub(crate) fn heard(&self) {
        let elapsed = self.began.elapsed();
        self.books().first_piece.get_or_insert(elapsed);
    }

    fn spent_upstream(&self, stage: Stage, time: Duration) {
        let labels = ByStage { model: self.model.clone(), stage: stage.name() };
        observe(&self.desk.metrics.stage_seconds, &labels, time);
        self.books().upstream += time;
    }

    /// The solver answers alone.
    pub(crate) fn fell_back(&self, why: &'static str) {
        self.books().fallback = Some(why);
    }

    /// The answer is whole; how fast the client reads is its own matter.
    pub(crate) fn answered(&self, finish: &'static str) {
        let took = self.began.elapsed();
        let mut books = self.books();
        books.ended.get_or_insert((200, took));
        books.finish = Some(finish);
    }

    /// It is known that there will be no answer.
    pub(crate) fn failed(&self, error: &ApiError) {
        let took = self.began.elapsed();
        let mut books = self.books();
        books.ended.get_or_insert((error.status, took));
        books.error.get_or_insert(error.code);
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.books().entries.clone()
    }

    /// For people who read logs: no text of theirs.
    fn log(&self, books: &Books, outcome: &str) {
        let key = self.key.as_ref().map_or("", |key| &key.name);
        tracing::info!(
            id = self.id,
            model = self.model,
            key,
            outcome,
            calls = books.entries.len(),
            ms = self.began.elapsed().as_secs_f64() * 1000.0,
            tokens_in = sum(&books.entries, |usage| usage.tokens_in),
            tokens_out = sum(&books.entries, |usage| usage.tokens_out),
            "answered"
        );
    }
}

impl Books {
    /// As the span of the request tells it.
    fn conclusion<'k>(&self, key: Option<&'k Key>) -> Conclusion<'k> {
        Conclusion {
            status: self.ended.map(|(status, _)| status),
            error: self.error,
            finish: self.finish,
            fallback: self.fallback,
            calls: self.entries.len(),
            usage: Usage {
                tokens_in: sum(&self.entries, |usage| usage.tokens_in),
                tokens_cached: sum(&self.entries, |usage| usage.tokens_cached),
                tokens_out: sum(&self.entries, |usage| usage.tokens_out),
            },
            cost_nanos: cost(&self.entries),
            in_line: self.in_line,
            first_piece: self.first_piece,
            key: key.map(|key| &*key.name),
        }
    }
}

/// `None` where one of them is unknown.
pub(crate) fn sum(entries: &[Entry], of: fn(&Usage) -> Option<u64>) -> Option<u64> {
    entries.iter().map(|entry| of(&entry.usage)).sum()
}

fn cost(entries: &[Entry]) -> Option<i64> {
    entries.iter().map(|entry| entry.cost_nanos).sum()
}

/// All that was paid for, call by call.
pub(crate) fn as_json(entries: &[Entry]) -> Value {
    let calls = entries.iter().map(|entry| {
        json!({
            "stage": entry.stage.name(), "model": entry.model, "ok": entry.ok,
            "prompt_tokens": entry.usage.tokens_in, "cached_tokens": entry.usage.tokens_cached,
            "completion_tokens": entry.usage.tokens_out,
            "cost_dollars": entry.cost_nanos.map(divvy_core::cost::exact_dollars), "seconds": entry.seconds,
        })
    });
    json!({
        "calls": calls.collect::<Vec<_>>(),
        "prompt_tokens": sum(entries, |usage| usage.tokens_in),
        "completion_tokens": sum(entries, |usage| usage.tokens_out),
        "cost_dollars": cost(entries).map(divvy_core::cost::exact_dollars),
    })
}

impl Drop for Tally {
    fn drop(&mut self) {
        let books = std::mem::take(self.books.get_mut().unwrap_or_else(PoisonError::into_inner));
        let metrics = &self.desk.metrics;
        let (outcome, elapsed) = books.ended.map_or_else(
            || ("cancelled".to_owned(), self.began.elapsed()),
            |(status, took)| (status.to_string(), took),
        );
        self.log(&books, &outcome);
        self.span.take().into_iter().for_each(|span| span.end(&books.conclusion(self.key.as_deref())));
        metrics.requests.get_or_create(&ByOutcome { model: self.model.clone(), outcome }).inc();
        let model = ByModel { model: self.model.clone() };
        observe(&metrics.seconds, &model, elapsed);
        observe(&metrics.overhead, &model, elapsed.saturating_sub(books.in_line + books.upstream));
        if let Some(first) = books.first_piece {
            observe(&metrics.first_piece, &model, first);
        }
        for entry in &books.entries {
            entry.usage.tokens_cached.iter().for_each(|tokens| metrics.cached(&entry.model, *tokens));
            let directions = [("in", entry.usage.tokens_in), ("out", entry.usage.tokens_out)];
            for (direction, tokens) in directions {
                let labels = ByDirection { model: self.model.clone(), stage: entry.stage.name(), direction };
                metrics.tokens.get_or_create(&labels).inc_by(tokens.unwrap_or(0));
            }
        }
        let limit = |of: fn(&Usage) -> Option<u64>| -> u64 {
            books.entries.iter().filter_map(|entry| of(&entry.estimate)).sum()
        };
        let tokens = limit(|usage| usage.tokens_in) + limit(|usage| usage.tokens_out);
        let nanos: i64 = books.entries.iter().map(|entry| entry.estimated_nanos).sum();
        metrics.dollars.get_or_create(&model).inc_by(nanos as f64 / 1e9);
        self.key.iter().for_each(|key| key.settle(tokens, nanos));
    }
}
