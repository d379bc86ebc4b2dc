//! One job under way: its tokens, its cache, and the text that is certain so far.

use std::time::Duration;

use divvy_core::chat::{Finish, Usage};

use super::{Event, EventKind, Job};
use crate::cache::KvCache;
use crate::grammar::Grammar;
use crate::model::Model;
use crate::sampler::{Sampler, log_probability};
use crate::tokenizer::Detokeniser;

pub(super) struct Sequence {
    pub(super) job: Job,
    /// Prompt and reply.
    pub(super) tokens: Vec<u32>,
    pub(super) cache: KvCache,
    /// Prompt tokens whose cache was taken from another.
    pub(super) reused: usize,
    /// Whether its prefix has been looked for.
    pub(super) started: bool,
    pub(super) over: bool,
    /// Its share of the steps so far.
    pub(super) worked: Duration,
    sampler: Sampler,
    grammar: Option<Grammar>,
    detokeniser: Detokeniser,
    text: String,
    /// Bytes of `text` already handed out.
    told: usize,
    written: u32,
    log_probabilities: Vec<f32>,
}

impl Sequence {
    pub(super) fn new(job: Job, cache: KvCache, detokeniser: Detokeniser, grammar: Option<Grammar>) -> Self {
        Self {
            tokens: job.prompt.clone(),
            cache,
            reused: 0,
            started: false,
            over: false,
            worked: Duration::ZERO,
            sampler: Sampler::new(&job.sampling),
            grammar,
            detokeniser,
            text: String::new(),
            told: 0,
            written: 0,
            log_probabilities: Vec::new(),
            job,
        }
    }

    /// Tokens that have not been through the model.
    pub(super) fn uncomputed(&self) -> usize {
        self.tokens.len() - self.cache.len
    }

    /// Draws one token from `logits` and says what is new.
    pub(super) fn advance(&mut self, logits: &mut [f32], model: &Model) -> Vec<Event> {
        if self.job.sampling.max_tokens == 0 {
            return self.end(Finish::Length);
        }
        let Some(token) = self.draw(logits, model) else {
            self.over = true;
            return vec![Event { id: self.job.id, kind: EventKind::Broken }];
        };
        self.written += 1;
        if model.tokenizer.is_stop(token) {
            self.text.push_str(&self.detokeniser.finish());
            let cut = self.stop_at().unwrap_or(self.text.len());
            self.text.truncate(cut);
            return self.end(Finish::Stop);
        }
        self.tokens.push(token);
        self.text.push_str(&self.detokeniser.push(model.tokenizer.token_bytes(token)));
        if let Some(cut) = self.stop_at() {
            self.text.truncate(cut);
            return self.end(Finish::Stop);
        }
        if self.written == self.job.sampling.max_tokens || self.tokens.len() >= model.config.context_length {
            self.text.push_str(&self.detokeniser.finish());
            return self.end(Finish::Length);
        }
        let certain = self.certain();
        vec![self.tell(certain)]
    }

    fn draw(&mut self, logits: &mut [f32], model: &Model) -> Option<u32> {
        let own = self.job.log_probabilities.then(|| logits.to_vec());
        if let Some(grammar) = &mut self.grammar {
            grammar.mask(logits, model.tokenizer.end_token());
        }
        let token = self.sampler.sample(logits)?;
        if let Some(grammar) = &mut self.grammar {
            grammar.take(token);
        }
        self.log_probabilities.extend(own.map(|own| log_probability(&own, token)));
        Some(token)
    }

    /// Where the earliest stop string begins. All text is searched: a stop string may span many tokens.
    fn stop_at(&self) -> Option<usize> {
        let stops = self.job.sampling.stop.iter().filter(|stop| !stop.is_empty());
        let longest = stops.clone().map(String::len).max()?;
        let mut from = self.told.saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        stops.filter_map(|stop| self.text[from..].find(stop.as_str())).min().map(|at| from + at)
    }

    /// Length of the text that cannot become part of a stop string any more.
    fn certain(&self) -> usize {
        let begins = |stop: &String| {
            let most = stop.len().min(self.text.len());
            (1..=most).rev().find(|&n| stop.is_char_boundary(n) && self.text.ends_with(&stop[..n])).unwrap_or(0)
        };
        self.text.len() - self.job.sampling.stop.iter().map(begins).max().unwrap_or(0)
    }

    fn tell(&mut self, upto: usize) -> Event {
        let upto = upto.max(self.told);
        let delta = self.text[self.told..upto].to_owned();
        self.told = upto;
        Event { id: self.job.id, kind: EventKind::Text(delta) }
    }

    fn end(&mut self, finish: Finish) -> Vec<Event> {
        let rest = self.tell(self.text.len());
        let usage = Usage {
            tokens_in: Some(self.job.prompt.len() as u64),
            tokens_cached: Some(self.reused as u64),
            tokens_out: Some(self.written.into()),
        };
        self.over = true;
        let log_probabilities = std::mem::take(&mut self.log_probabilities);
        // Known when the step is over.
        let worked = Duration::ZERO;
        let done = EventKind::Done { finish, usage, text: self.text.clone(), log_probabilities, worked };
        vec![rest, Event { id: self.job.id, kind: done }]
    }
}
