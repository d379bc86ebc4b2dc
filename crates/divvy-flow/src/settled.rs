//! Which items are settled, done or rejected, of any number: decompositions by one bit each, in the order in which they are
//! asked for, and those of any stage by the hashes of their names.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use divvy_core::{question::QuestionId, records::Stage};
use divvy_store::Unit;

use crate::{context::Context, error::FlowError, items::ItemKey};

/// The settled items of a stage, and whether they are done.
pub(crate) struct Marks(HashMap<u64, bool>);

impl Marks {
    /// # Errors
    /// The store's.
    pub(crate) async fn of(context: &Context, stage: Stage) -> Result<Self, FlowError> {
        let mut marks = HashMap::new();
        let mark = |unit: Unit, is_done| _ = marks.insert(hash(&unit.question, unit.sample, &unit.arm), is_done);
        context.store.each_settled(&context.digest, stage, mark).await?;
        Ok(Self(marks))
    }

    /// `None` for one that is not settled.
    pub(crate) fn is_done(&self, item: &ItemKey) -> Option<bool> {
        self.0.get(&hash(&item.question, item.sample, &item.arm)).copied()
    }
}

fn hash(question: &QuestionId, sample: u32, arm: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (question, sample, arm).hash(&mut hasher);
    hasher.finish()
}

pub(crate) struct Settled {
    samples: usize,
    bits: Vec<u64>,
}

impl Settled {
    /// # Errors
    /// The store's.
    pub(crate) async fn of_collection(context: &Context) -> Result<Self, FlowError> {
        let (questions, samples) = (&context.questions, context.plan.collect.samples as usize);
        let items = (questions.train.len() + questions.dev.len()) * samples;
        let mut settled = Self { samples, bits: vec![0; items.div_ceil(64)] };
        let store = &context.store;
        // What is of no question of the plan, or of no sample of it, was not asked for.
        let set = |unit: Unit, _| {
            let position = questions.position_for_students(&unit.question);
            let position = position.filter(|_| (unit.sample as usize) < samples);
            position.into_iter().for_each(|position| settled.set(position, unit.sample));
        };
        store.each_settled(&context.digest, Stage::Collect, set).await?;
        Ok(settled)
    }

    fn set(&mut self, position: usize, sample: u32) {
        let item = position * self.samples + sample as usize;
        self.bits[item / 64] |= 1 << (item % 64);
    }

    pub(crate) fn count(&self) -> u64 {
        self.bits.iter().map(|bits| u64::from(bits.count_ones())).sum()
    }

    /// `position` is that of the question.
    pub(crate) fn has(&self, position: usize, sample: u32) -> bool {
        let item = position * self.samples + sample as usize;
        self.bits[item / 64] >> (item % 64) & 1 == 1
    }
}
