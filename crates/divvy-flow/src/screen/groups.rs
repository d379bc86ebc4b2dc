//! Which decompositions are screened next. They have one order, the seed's, in which they are numbered; a group is as many of
//! them as may still be needed, and so depends on what was kept before it, never on what finished first.

use std::ops::Range;

use divvy_core::{plan::ScreenPlan, recipe::Rule, records::Stage};

use super::{kept, screened};
use crate::{
    context::Context,
    error::FlowError,
    items::ItemKey,
    passages,
    settled::{Bits, Settled, place},
};

/// Rows screened together at least, when only some are wanted: enough to keep a batch busy.
const SMALLEST_GROUP: usize = 16;

pub(super) struct Groups<'c> {
    context: &'c Context,
    rule: Rule,
    /// Rows that are wanted; `None`: all.
    until: Option<usize>,
    samples: u32,
    /// Decompositions of the questions that are screened.
    all: usize,
    /// Those of this shard; `None`: every one.
    ours: Option<Bits>,
    collected: Settled,
    screened: Settled,
}

impl<'c> Groups<'c> {
    pub(super) async fn read(context: &'c Context, plan: &ScreenPlan) -> Result<Self, FlowError> {
        let samples = context.plan.collect.samples;
        let all = screened(context, plan) * samples as usize;
        Ok(Self {
            context,
            rule: plan.rule,
            until: plan.until.map(|until| context.shard.map_or(until, |shard| shard.part(until))),
            samples,
            all,
            ours: context.shard.is_some().then(|| ours(context, all)),
            collected: Settled::of(context, Stage::Collect).await?,
            screened: Settled::of(context, Stage::Screen).await?,
        })
    }

    /// What has become of them in the stage that was worked on and, where other workers may have been at the other, there.
    pub(super) async fn read_again(&mut self, worked: Stage) -> Result<(), FlowError> {
        let alone = self.context.store.shared().is_none();
        if worked == Stage::Collect || !alone {
            self.collected = Settled::of(self.context, Stage::Collect).await?;
        }
        if worked == Stage::Screen || !alone {
            self.screened = Settled::of(self.context, Stage::Screen).await?;
        }
        Ok(())
    }

    /// The numbers from `at` on that are next: all of them, or as many as may still be needed. `None`: there are enough, or
    /// no more.
    pub(super) fn next(&self, at: usize) -> Option<Range<usize>> {
        let size = match self.until.map(|until| until.saturating_sub(self.kept(at))) {
            None => usize::MAX,
            Some(0) => return None,
            Some(wanted) => wanted.max(SMALLEST_GROUP),
        };
        // Where all is collected beforehand, what is no decomposition is no candidate. In waves nobody knows that yet, and who
        // comes back to a wave must find it as it was.
        let waves = self.context.plan.collects_in_waves();
        let counts = |number: &usize| self.is_ours(*number) && (waves || !self.collected.is_rejected(*number));
        let last = (at..self.all).filter(counts).take(size).last()?;
        let samples = self.samples as usize;
        // A better sample beyond the end would leave the question without a kept one before it.
        let end = if self.rule == Rule::Best { (last / samples + 1) * samples } else { last + 1 };
        Some(at..end)
    }

    /// Of those before `at`, see [`kept`].
    fn kept(&self, at: usize) -> usize {
        kept(&self.screened, (self.rule, self.samples), (0..at).filter(|number| self.is_ours(*number)))
    }

    fn is_ours(&self, number: usize) -> bool {
        self.ours.as_ref().is_none_or(|ours| ours.has(number))
    }

    /// Those that wait to be collected …
    pub(super) fn to_collect(&self, group: Range<usize>) -> impl Iterator<Item = usize> + Clone + '_ {
        group.filter(|number| self.is_ours(*number) && !self.collected.has(*number))
    }

    /// … and those that are collected, and wait to be screened.
    pub(super) fn to_screen(&self, group: Range<usize>) -> impl Iterator<Item = usize> + Clone + '_ {
        let waits = |number: &usize| self.collected.is_done(*number) && !self.screened.has(*number);
        group.filter(|number| self.is_ours(*number)).filter(waits)
    }

    /// The items of these, in the order in which they are asked.
    pub(super) fn items<'g>(
        &'g self,
        numbers: impl Iterator<Item = usize> + Clone + 'g,
    ) -> impl Iterator<Item = ItemKey> + Clone + 'g {
        let question = |number| self.context.questions.train.at(place(number, self.samples).0);
        passages::side_by_side(numbers, move |number| passages::passage(&question(number))).map(move |number| {
            let (_, sample) = place(number, self.samples);
            ItemKey { question: question(number).id.clone(), sample, arm: String::new() }
        })
    }

    /// How many there are, as far as is known, and how many of them are screened.
    pub(super) fn counts(&self) -> (usize, usize) {
        let candidates = (0..self.all).filter(|number| self.is_ours(*number) && !self.collected.is_rejected(*number));
        candidates.fold((0, 0), |(all, done), number| (all + 1, done + usize::from(self.screened.has(number))))
    }

    /// What may still have to be done: nothing where there are enough.
    pub(super) fn left(&self) -> Left {
        if self.is_over() {
            return Left { settled: self.screened.count(), collect: 0, screen: 0 };
        }
        let all = 0..self.all;
        let screens = |number: &usize| !self.collected.is_rejected(*number) && !self.screened.has(*number);
        Left {
            settled: self.screened.count(),
            collect: self.to_collect(all.clone()).count(),
            screen: all.filter(|number| self.is_ours(*number)).filter(screens).count(),
        }
    }

    fn is_over(&self) -> bool {
        let mut at = 0;
        while let Some(group) = self.next(at) {
            if self.to_collect(group.clone()).next().is_some() || self.to_screen(group.clone()).next().is_some() {
                return false;
            }
            at = group.end;
        }
        true
    }
}

/// Decompositions, at most, by what is to be done with them.
pub(super) struct Left {
    pub(super) settled: usize,
    pub(super) collect: usize,
    pub(super) screen: usize,
}

fn ours(context: &Context, all: usize) -> Bits {
    let (samples, mut ours) = (context.plan.collect.samples as usize, Bits::none(all));
    for (position, question) in context.questions.train.iter().take(all / samples).enumerate() {
        if context.works_on(&question.id) {
            (position * samples..(position + 1) * samples).for_each(|number| ours.set(number));
        }
    }
    ours
}
