//! Which decompositions are settled, collected or rejected: one bit each, in the order in which they are asked for.

use divvy_core::records::Stage;

use crate::{context::Context, error::FlowError};

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
        let set = |question: &_, sample, _: &str| {
            let position = questions.position_for_students(question).filter(|_| (sample as usize) < samples);
            position.into_iter().for_each(|position| settled.set(position, sample));
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
