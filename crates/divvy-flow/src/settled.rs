//! Which items are settled, and which of these are done, of any number: decompositions by two bits each, in the order in which
//! they are asked for, and those of any stage by the hashes of their names. That order numbers decompositions: the first
//! question's samples, the second's, and so on.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
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

/// The number of a decomposition: of which question it is, by its position, and which sample.
pub(crate) fn place(number: usize, samples: u32) -> (usize, u32) {
    let samples = samples as usize;
    (number / samples, (number % samples) as u32)
}

pub(crate) struct Settled {
    settled: Bits,
    done: Bits,
}

impl Settled {
    /// # Errors
    /// The store's.
    pub(crate) async fn of(context: &Context, stage: Stage) -> Result<Self, FlowError> {
        let (questions, samples) = (&context.questions, context.plan.collect.samples as usize);
        let items = (questions.train.len() + questions.dev.len()) * samples;
        let mut settled = Self { settled: Bits::none(items), done: Bits::none(items) };
        // What is of no question of the plan, or of no sample of it, was not asked for.
        let set = |unit: Unit, is_done| {
            let position = questions.position_for_students(&unit.question);
            let position = position.filter(|_| (unit.sample as usize) < samples);
            let Some(number) = position.map(|position| position * samples + unit.sample as usize) else { return };
            settled.settled.set(number);
            if is_done {
                settled.done.set(number);
            }
        };
        context.store.each_settled(&context.digest, stage, set).await?;
        Ok(settled)
    }

    pub(crate) fn count(&self) -> usize {
        self.settled.count()
    }

    pub(crate) fn has(&self, number: usize) -> bool {
        self.settled.has(number)
    }

    pub(crate) fn is_done(&self, number: usize) -> bool {
        self.done.has(number)
    }

    pub(crate) fn is_rejected(&self, number: usize) -> bool {
        self.has(number) && !self.is_done(number)
    }

    /// How many of these are not settled.
    pub(crate) fn missing(&self, numbers: Range<usize>) -> usize {
        numbers.filter(|number| !self.has(*number)).count()
    }
}

pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn none(bits: usize) -> Self {
        Self(vec![0; bits.div_ceil(64)])
    }

    pub(crate) fn set(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    pub(crate) fn has(&self, bit: usize) -> bool {
        self.0[bit / 64] >> (bit % 64) & 1 == 1
    }

    fn count(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }
}
