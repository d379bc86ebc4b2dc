//! What a student writes while it is being trained, greedily, to dev questions: to a few of them for whoever reads the log, or, a
//! decomposer, to all, and then the share that can be read as a decomposition tells how good it is.

use std::{collections::BTreeSet, sync::Arc};

use divvy_core::{
    chat::{Finish, Message, Sampling},
    prompts::decompose::Style,
    quality,
};
use divvy_flow::train::{Job, Row};
use divvy_student::{
    engine::{self, Engine, EngineConfig, EventKind},
    model::Model,
    train::{Learnt, TrainError},
};

/// Most tokens of a reply: what `[evaluate] decompose_tokens` is, where nothing is said.
const MOST_TOKENS: u32 = 256;
/// Questions whose replies are written down.
const SAMPLES: usize = 3;

pub(super) struct Dev {
    model: Arc<Model>,
    style: Style,
    /// Question ids and prompts.
    prompts: Vec<(String, Vec<u32>)>,
    /// Questions whose prompt the model cannot read: there is no reply to them.
    unreadable: usize,
}

impl Dev {
    /// The rows of dev, each question once: of a student that decomposes and solves, those that ask for a decomposition.
    pub(super) fn of(model: &Arc<Model>, job: &Job) -> Self {
        let (decomposes, mut seen) = (job.plan.target.decomposes(), BTreeSet::<&str>::new());
        let asks = |row: &Row| row.decomposes == decomposes;
        let rows: Vec<&Row> = job.dev.iter().filter(|row| asks(row) && seen.insert(&row.id)).collect();
        let read = |prompt: &[Message]| model.encode_chat(prompt).ok();
        let prompts: Vec<(String, Vec<u32>)> =
            rows.iter().filter_map(|row| Some((row.id.clone(), read(&row.prompt)?))).collect();
        let unreadable = rows.len() - prompts.len();
        Self { model: Arc::clone(model), style: job.plan.style, prompts, unreadable }
    }

    /// What the student writes to the first few questions.
    pub(super) fn samples(&self, learnt: Learnt<'_>, goes_on: &dyn Fn() -> bool) -> Result<Vec<Sample>, TrainError> {
        let replies = self.replies(SAMPLES, learnt, goes_on)?;
        Ok(replies.into_iter().map(|(sample, _)| sample).collect())
    }

    /// The share of all that is well-formed, and the samples among them.
    pub(super) fn quality(
        &self,
        learnt: Learnt<'_>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(f64, Vec<Sample>), TrainError> {
        let mut replies = self.replies(usize::MAX, learnt, goes_on)?;
        let asked = self.prompts.len() + self.unreadable;
        let readable = |(sample, finish): &&(Sample, Finish)| quality::is_well_formed(&sample.text, finish, self.style);
        let good = replies.iter().filter(readable).count();
        replies.truncate(SAMPLES);
        Ok((good as f64 / asked.max(1) as f64, replies.into_iter().map(|(sample, _)| sample).collect()))
    }

    /// Replies to the first `most` questions, in their order. `goes_on` is asked at every step of the generation.
    fn replies(
        &self,
        most: usize,
        learnt: Learnt<'_>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Vec<(Sample, Finish)>, TrainError> {
        let (model, adapter) = match learnt {
            Learnt::Adapter(adapter) => (Arc::clone(&self.model), Some(Arc::new(adapter))),
            Learnt::Whole(weights) => (Arc::new(self.model.with_weights(weights.clone())), None),
        };
        let mut engine = Engine::new(model, EngineConfig::default());
        for (id, (_, prompt)) in (0..).zip(self.prompts.iter().take(most)) {
            let (prompt, adapter) = (prompt.clone(), adapter.clone());
            let sampling = Sampling::greedy(MOST_TOKENS);
            // A prompt that does not fit gets no reply, and counts.
            let _ = engine.submit(engine::Job { id, prompt, sampling, adapter, log_probabilities: false });
        }
        let mut replies = Vec::new();
        while !engine.is_idle() {
            if !goes_on() {
                return Err(TrainError::Interrupted { step: 0, checkpoint: None });
            }
            replies.extend(engine.step().into_iter().filter_map(|event| match event.kind {
                EventKind::Done { finish, text, .. } => Some((event.id, text, finish)),
                EventKind::Text(_) | EventKind::Broken => None,
            }));
        }
        replies.sort_by_key(|(id, ..)| *id);
        let sample = |(id, text, finish): (u64, String, Finish)| {
            (Sample { id: self.prompts[id as usize].0.clone(), text }, finish)
        };
        Ok(replies.into_iter().map(sample).collect())
    }
}

/// What the student wrote to a question.
pub(super) struct Sample {
    pub(super) id: String,
    pub(super) text: String,
}
