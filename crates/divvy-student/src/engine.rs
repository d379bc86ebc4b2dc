//! Continuous batching: many jobs, one forward pass a step. Decoding sequences bring one token each, new ones a chunk
//! of their prompt; jobs join as slots free, and room for their keys and values. A prompt that begins like another
//! sequence's takes that part of its cache. Deals in token ids and steps; who waits for a reply, and on which thread, is
//! the caller's matter.

mod room;
mod sequence;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divvy_core::chat::{Finish, Sampling, Usage};
use divvy_kernels::Page;
use rayon::prelude::*;

use crate::adapter::Adapter;
use crate::cache::{CacheFormat, Finished, KvCache, Pool, common_prefix, same_adapter};
use crate::error::SubmitError;
use crate::forward::{Scratch, Span};
use crate::grammar::{Grammar, Grammars};
use crate::model::Model;
use sequence::Sequence;

/// A prefix shorter than this is computed again rather than waited for or copied.
const SHORTEST_PREFIX: usize = 8;

#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Sequences in the batch at once.
    pub max_sequences: usize,
    /// Tokens of finished sequences whose keys and values are kept for later prompts.
    pub max_cached_tokens: usize,
    /// Tokens whose keys and values are held at once, those of finished sequences among them: a job waits until all that it may
    /// take has room. Where not said, what fits into half of the memory that is free when the engine is made, and never less
    /// than one sequence of the whole context.
    pub max_held_tokens: Option<usize>,
    /// Most prompt tokens in one step: longer chunks are faster, shorter ones delay running replies less.
    pub prefill_chunk: usize,
    /// In which numbers keys and values are kept.
    pub cache: CacheFormat,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_sequences: 32,
            max_cached_tokens: 16_384,
            max_held_tokens: None,
            prefill_chunk: 256,
            cache: CacheFormat::F32,
        }
    }
}

/// One reply to be written.
#[derive(Clone)]
pub struct Job {
    /// Chosen by the caller, unique among live jobs.
    pub id: u64,
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    pub adapter: Option<Arc<Adapter>>,
    /// Whether the log-probability of every token is wanted.
    pub log_probabilities: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: u64,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// Text that will not change any more.
    Text(String),
    /// The end; `text` is the whole reply, and of each of its tokens, the one that ended it included, comes the natural
    /// logarithm of the model's own probability, where that was wanted. `worked`: how long steps took for this job; a step's time is
    /// shared by the tokens in it.
    Done { finish: Finish, usage: Usage, text: String, log_probabilities: Vec<f32>, worked: Duration },
    /// The end without a reply: the logits are no numbers, as the model's weights are damaged.
    Broken,
}

/// The scheduler. Not shared: one thread calls it, rayon's pool does the work.
pub struct Engine {
    model: Arc<Model>,
    config: EngineConfig,
    waiting: VecDeque<Sequence>,
    /// In order of arrival.
    live: Vec<Sequence>,
    /// Sequences in the last step.
    stepped: usize,
    pool: Pool,
    /// Positions, in whole pages, that live sequences may come to take together with what the pool holds.
    room: usize,
    scratch: Scratch,
    /// Made for the first job that is held to a schema.
    grammars: Option<Grammars>,
}

impl Engine {
    #[must_use]
    pub fn new(model: Arc<Model>, config: EngineConfig) -> Self {
        let pool = Pool::new(config.max_cached_tokens);
        let room = config.max_held_tokens.unwrap_or_else(|| room::of_this_machine(&model.config, config.cache));
        Self {
            model,
            config,
            waiting: VecDeque::new(),
            live: Vec::new(),
            stepped: 0,
            pool,
            room: room.checked_next_multiple_of(Page::POSITIONS).unwrap_or(usize::MAX),
            scratch: Scratch::default(),
            grammars: None,
        }
    }

    /// Queues a job.
    ///
    /// # Errors
    /// A prompt that is empty, longer than the context or holds foreign ids; more tokens than are ever held at once; an id in
    /// use; an adapter of another shape; a format that is no schema.
    pub fn submit(&mut self, job: Job) -> Result<(), SubmitError> {
        let (prompt, context) = (job.prompt.len(), self.model.config.context_length);
        if prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if prompt >= context {
            return Err(SubmitError::PromptTooLong { prompt, context });
        }
        if self.most_positions(&job) > self.room {
            return Err(SubmitError::NoRoom { tokens: self.most_tokens(&job), room: self.room });
        }
        let vocab = self.model.config.vocab;
        if let Some(&id) = job.prompt.iter().find(|&&id| id as usize >= vocab) {
            return Err(SubmitError::UnknownToken { id, vocab });
        }
        if self.waiting.iter().any(|other| other.job.id == job.id)
            || self.live.iter().any(|other| other.job.id == job.id)
        {
            return Err(SubmitError::DuplicateId { id: job.id });
        }
        if let Some(adapter) = &job.adapter {
            adapter.check(&self.model.config).map_err(|error| SubmitError::Adapter { reason: error.to_string() })?;
        }
        let grammar = self.grammar(&job)?;
        let cache = KvCache::new(&self.model.config, self.config.cache);
        self.waiting.push_back(Sequence::new(job, cache, self.model.tokenizer.detokeniser(), grammar));
        Ok(())
    }

    fn grammar(&mut self, job: &Job) -> Result<Option<Grammar>, SubmitError> {
        let Some(format) = &job.sampling.format else { return Ok(None) };
        let refuse = |reason| SubmitError::Format { reason };
        if self.grammars.is_none() {
            self.grammars = Some(Grammars::new(&self.model.tokenizer, self.model.config.vocab).map_err(refuse)?);
        }
        self.grammars.as_mut().map(|grammars| grammars.compile(&format.schema)).transpose().map_err(refuse)
    }

    /// Drops a job; no event follows. An unknown id is a job that is already over.
    pub fn cancel(&mut self, id: u64) {
        self.waiting.retain(|sequence| sequence.job.id != id);
        if let Some(index) = self.live.iter().position(|sequence| sequence.job.id == id) {
            let sequence = self.live.remove(index);
            self.retire(sequence);
        }
    }

    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.live.is_empty()
    }

    /// Sequences that were in the last step; further ones wait for a place, or for room.
    #[must_use]
    pub fn stepped(&self) -> usize {
        self.stepped
    }

    /// One forward pass for everybody. Returns what became of the jobs, in order of arrival.
    pub fn step(&mut self) -> Vec<Event> {
        // In the pool this thread works on each product itself; outside it would sleep at each and be woken.
        rayon::scope(|_| self.step_here())
    }

    fn step_here(&mut self) -> Vec<Event> {
        let began = Instant::now();
        self.admit();
        self.stepped = self.live.len();
        let plan = self.plan();
        let logits = self.run(&plan);
        let mut events = self.sample(&plan, logits);
        self.charge(&plan, began.elapsed(), &mut events);
        for index in (0..self.live.len()).rev() {
            if self.live[index].over {
                let sequence = self.live.remove(index);
                self.retire(sequence);
            }
        }
        events.retain(|event| !matches!(&event.kind, EventKind::Text(text) if text.is_empty()));
        events
    }

    fn admit(&mut self) {
        while self.live.len() < self.config.max_sequences.max(1) {
            let Some(next) = self.waiting.front() else { break };
            let taken: usize = self.live.iter().chain([next]).map(|sequence| self.most_positions(&sequence.job)).sum();
            // In order of arrival: were a smaller one let past, a large one might wait for ever.
            let Some(left) = self.room.checked_sub(taken) else { break };
            self.pool.shrink(left);
            self.live.extend(self.waiting.pop_front());
        }
    }

    /// Tokens of a job's sequence at its longest.
    fn most_tokens(&self, job: &Job) -> usize {
        let tokens = job.prompt.len().saturating_add(job.sampling.max_tokens as usize);
        tokens.min(self.model.config.context_length)
    }

    /// The same in whole pages.
    fn most_positions(&self, job: &Job) -> usize {
        self.most_tokens(job).next_multiple_of(Page::POSITIONS)
    }

    /// (index of a live sequence, number of its tokens) for this step. Rows with one adapter come together.
    fn plan(&mut self) -> Vec<(usize, usize)> {
        let mut budget = self.config.prefill_chunk.max(1);
        let mut plan = Vec::new();
        for index in 0..self.live.len() {
            if !self.live[index].started && !self.start(index) {
                continue;
            }
            let left = self.live[index].uncomputed();
            let take = if left == 1 { 1 } else { left.min(budget) };
            if left > 1 {
                budget -= take;
            }
            if take > 0 {
                plan.push((index, take));
            }
        }
        plan.sort_by_key(|&(index, _)| self.live[index].job.adapter.as_ref().map(Arc::as_ptr));
        plan
    }

    /// Gives sequence `index` the longest prefix that is at hand. `false`: an earlier sequence is about to compute a
    /// longer one, so it pays to wait a step.
    fn start(&mut self, index: usize) -> bool {
        let job = &self.live[index].job;
        let most = job.prompt.len() - 1; // the last token must run, for its logits
        let shared = |tokens: &[u32], adapter: Option<&Arc<Adapter>>| {
            if same_adapter(adapter, job.adapter.as_ref()) { common_prefix(tokens, &job.prompt).min(most) } else { 0 }
        };
        let live = self.live.iter().enumerate().filter(|&(other, _)| other != index).map(|(other, sequence)| {
            let shared = shared(&sequence.tokens, sequence.job.adapter.as_ref());
            (other, shared, &sequence.cache)
        });
        let live: Vec<_> = live.collect();
        let pooled = self.pool.entries().map(|entry| (shared(&entry.tokens, entry.adapter.as_ref()), &entry.cache));
        let ready = live.iter().map(|&(_, shared, cache)| (shared, cache)).chain(pooled);
        let best = ready.map(|(shared, cache)| (shared.min(cache.len), cache)).max_by_key(|&(len, _)| len);
        let (len, cache) = best.filter(|&(len, _)| len >= SHORTEST_PREFIX).unwrap_or((0, &self.live[index].cache));
        let coming = live.iter().filter(|&&(other, ..)| other < index).map(|&(_, shared, _)| shared).max().unwrap_or(0);
        if coming >= len + SHORTEST_PREFIX {
            return false;
        }
        let begun = cache.prefix(len);
        let sequence = &mut self.live[index];
        sequence.cache = begun;
        sequence.reused = len;
        sequence.started = true;
        true
    }

    /// The forward pass; logits of the planned sequences whose every token has now been through.
    fn run(&mut self, plan: &[(usize, usize)]) -> Vec<f32> {
        let mut slots: Vec<Option<&mut Sequence>> = self.live.iter_mut().map(Some).collect();
        let mut spans = Vec::with_capacity(plan.len());
        for &(index, take) in plan {
            let Sequence { tokens, cache, job, .. } = slots[index].take().expect("planned once");
            let logits = cache.len + take == tokens.len();
            let tokens = &tokens[cache.len..cache.len + take];
            spans.push(Span { tokens, cache, adapter: job.adapter.as_deref(), logits });
        }
        if spans.is_empty() { Vec::new() } else { self.model.network().forward(&mut spans, &mut self.scratch) }
    }

    /// Draws the next token of every sequence that has logits and turns it into events.
    fn sample(&mut self, plan: &[(usize, usize)], mut logits: Vec<f32>) -> Vec<Event> {
        let mut rows = logits.chunks_exact_mut(self.model.config.vocab);
        let mut row_of: Vec<Option<&mut [f32]>> = (0..self.live.len()).map(|_| None).collect();
        for &(index, _) in plan {
            if self.live[index].uncomputed() == 0 {
                row_of[index] = rows.next();
            }
        }
        let model = &self.model;
        let live = self.live.par_iter_mut().with_max_len(1).zip(row_of);
        let events = live
            .flat_map_iter(|(sequence, row)| row.map(|row| sequence.advance(row, model)).unwrap_or_default())
            .collect();
        self.scratch.logits = logits;
        events
    }

    /// Shares a step's time among those whose tokens went through it, and tells those at their end what all steps took.
    fn charge(&mut self, plan: &[(usize, usize)], took: Duration, events: &mut [Event]) {
        let tokens: usize = plan.iter().map(|(_, take)| take).sum();
        for &(index, take) in plan {
            self.live[index].worked += took.mul_f64(take as f64 / tokens as f64);
        }
        for event in events {
            if let EventKind::Done { worked, .. } = &mut event.kind {
                let of = self.live.iter().find(|sequence| sequence.job.id == event.id);
                *worked = of.map_or(Duration::ZERO, |sequence| sequence.worked);
            }
        }
    }

    fn retire(&mut self, sequence: Sequence) {
        let Sequence { mut tokens, cache, job, .. } = sequence;
        tokens.truncate(cache.len);
        if !tokens.is_empty() {
            self.pool.keep(Finished { tokens, cache, adapter: job.adapter });
        }
    }
}
