//! How good a decomposer is while it is being trained: the share of the dev questions to which it writes, greedily, something
//! that can be read as a decomposition.

use std::{collections::BTreeSet, sync::Arc};

use divvy_core::{
    chat::{Finish, Message, Sampling},
    prompts::decompose::Style,
    quality,
};
use divvy_flow::train::{Job, Row};
use divvy_student::{
    adapter::Adapter,
    engine::{self, Engine, EngineConfig, EventKind},
    model::Model,
    train::TrainError,
};

/// Most tokens of a decomposition: what `[evaluate] decompose_tokens` is, where nothing is said.
const MOST_TOKENS: u32 = 256;

pub(super) struct Dev {
    model: Arc<Model>,
    style: Style,
    prompts: Vec<Vec<u32>>,
    /// Questions whose prompt the model cannot read: there is no decomposition of them.
    unreadable: usize,
}

impl Dev {
    /// The decomposing rows of dev, each question once.
    pub(super) fn of(model: &Arc<Model>, job: &Job) -> Self {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let rows: Vec<&Row> = job.dev.iter().filter(|row| row.decomposes && seen.insert(&row.id)).collect();
        let read = |prompt: &[Message]| model.encode_chat(prompt).ok();
        let prompts: Vec<Vec<u32>> = rows.iter().filter_map(|row| read(&row.prompt)).collect();
        let unreadable = rows.len() - prompts.len();
        Self { model: Arc::clone(model), style: job.plan.style, prompts, unreadable }
    }

    /// `goes_on` is asked at every step of the generation.
    pub(super) fn quality(&self, adapter: &Adapter, goes_on: &dyn Fn() -> bool) -> Result<f64, TrainError> {
        let mut engine = Engine::new(Arc::clone(&self.model), EngineConfig::default());
        let adapter = Arc::new(adapter.clone());
        let asked = self.prompts.len() + self.unreadable;
        for (id, prompt) in (0..).zip(&self.prompts) {
            let (prompt, adapter) = (prompt.clone(), Some(Arc::clone(&adapter)));
            let sampling = Sampling::greedy(MOST_TOKENS);
            // A prompt that does not fit gets no reply, and counts.
            let _ = engine.submit(engine::Job { id, prompt, sampling, adapter, log_probabilities: false });
        }
        let mut good = 0_usize;
        while !engine.is_idle() {
            if !goes_on() {
                return Err(TrainError::Interrupted { step: 0, checkpoint: None });
            }
            let ended = engine.step().into_iter().filter_map(|event| match event.kind {
                EventKind::Done { finish, text, .. } => Some((text, finish)),
                EventKind::Text(_) => None,
            });
            let readable = |(text, finish): &(String, Finish)| quality::is_well_formed(text, finish, self.style);
            good += ended.filter(readable).count();
        }
        Ok(good as f64 / asked.max(1) as f64)
    }
}
