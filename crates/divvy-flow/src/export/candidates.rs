//! What the store has of training questions, read a few at a time: their decompositions, what became of each in the screening, and
//! where a student repeats it, what the solver said.

use std::{collections::HashMap, ops::Range, sync::Arc};

use divvy_core::{
    decomposition::Decomposition,
    digest::Digest,
    plan::StudentPlan,
    question::{Question, QuestionId},
    recipe::Target,
    records::{Collected, ItemState, Stage, Verdict},
    screening::reason,
};
use divvy_store::{ItemRow, Places};

use crate::{
    context::Context,
    error::FlowError,
    items::{self, ItemKey},
    train::rows,
};

/// Decompositions that are read together, about.
const CANDIDATES_A_PART: usize = 512;

/// A question, with its decompositions in the order of their samples.
pub(super) struct Asking {
    pub(super) question: Arc<Question>,
    pub(super) candidates: Vec<Candidate>,
}

pub(super) struct Candidate {
    pub(super) key: ItemKey,
    pub(super) steps: Decomposition,
    /// The teacher's call.
    pub(super) collected: Option<String>,
    /// Of one that was screened.
    pub(super) verdict: Option<Verdict>,
    /// The solver's first call.
    pub(super) solved: Option<String>,
    /// What it said, where the student repeats that.
    pub(super) reply: Option<String>,
}

impl Candidate {
    /// Rejected, and the solver was right less often with it than with the best. One that is merely not the best was good
    /// enough and is no bad example, nor is one that no solver was asked about.
    pub(super) fn is_worse_than(&self, best: &Self) -> bool {
        let rate = |candidate: &Self| candidate.verdict.as_ref().and_then(|verdict| verdict.pass_rate);
        let is_bad = |verdict: &Verdict| !verdict.keep && verdict.reason != reason::NOT_THE_BEST;
        self.verdict.as_ref().is_some_and(is_bad) && rate(self).zip(rate(best)).is_some_and(|(own, best)| own < best)
    }
}

pub(super) struct Reader<'a> {
    context: &'a Context,
    target: Target,
    /// Positions of the training questions, in the order in which they are read.
    order: Vec<usize>,
    collected: Places,
    screened: Places,
}

/// Screened items, by question and sample.
type Screened = HashMap<(QuestionId, u32), ItemRow>;

impl<'a> Reader<'a> {
    pub(super) async fn open(context: &'a Context, student: &StudentPlan) -> Result<Self, FlowError> {
        let (target, train) = (student.target, &context.questions.train);
        if target == Target::Direct {
            let order = (0..train.len()).collect();
            return Ok(Self { context, target, order, collected: Places::default(), screened: Places::default() });
        }
        // As training has them.
        let mut order: Vec<(QuestionId, usize)> =
            train.iter().enumerate().map(|(at, question)| (question.id.clone(), at)).collect();
        order.sort_unstable();
        order.dedup_by(|later, earlier| later.0 == earlier.0);
        Ok(Self {
            context,
            target,
            order: order.into_iter().map(|(_, at)| at).collect(),
            collected: context.store.places(&context.digest, Stage::Collect).await?,
            screened: context.store.places(&context.digest, Stage::Screen).await?,
        })
    }

    /// Which questions are read together.
    pub(super) fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (samples, all) = (self.context.plan.collect.samples as usize, self.order.len());
        let size = (CANDIDATES_A_PART / samples.max(1)).max(1);
        (0..all).step_by(size).map(move |start| start..all.min(start + size))
    }

    pub(super) async fn read(&self, part: Range<usize>) -> Result<Vec<Asking>, FlowError> {
        let train = &self.context.questions.train;
        let questions: Vec<Arc<Question>> = self.order[part].iter().map(|at| train.at(*at)).collect();
        let ids: Vec<QuestionId> = questions.iter().map(|question| question.id.clone()).collect();
        let mut candidates = match self.target {
            Target::Direct => HashMap::new(),
            _ => self.candidates(&ids).await?,
        };
        let of = |question: Arc<Question>| {
            let candidates = candidates.remove(&question.id).unwrap_or_default();
            Asking { question, candidates }
        };
        Ok(questions.into_iter().map(of).collect())
    }

    async fn candidates(&self, ids: &[QuestionId]) -> Result<HashMap<QuestionId, Vec<Candidate>>, FlowError> {
        let Context { store, digest, .. } = self.context;
        let collected = store.items_of(&self.collected, digest, Stage::Collect, ids).await?;
        let screened = store.items_of(&self.screened, digest, Stage::Screen, ids).await?;
        let settled = screened.into_iter().filter(|row| row.state.is_settled());
        let screened: Screened = settled.map(|row| ((row.question.clone(), row.sample), row)).collect();
        let replies = self.replies(&screened).await?;
        let mut candidates: HashMap<QuestionId, Vec<Candidate>> = HashMap::new();
        for row in collected.into_iter().filter(|row| row.state == ItemState::Done) {
            let screened = screened.get(&(row.question.clone(), row.sample));
            let candidate = candidate(&row, screened, &replies)?;
            candidates.entry(row.question).or_default().push(candidate);
        }
        Ok(candidates)
    }

    /// What the solver said first, by the call's key.
    async fn replies(&self, screened: &Screened) -> Result<HashMap<Digest, String>, FlowError> {
        if !self.target.repeats_replies() {
            return Ok(HashMap::new());
        }
        let first: Vec<Digest> = screened.values().filter_map(|row| row.calls.first()).cloned().collect();
        let calls = self.context.store.calls_of(&first).await?;
        Ok(calls.into_iter().map(|call| (call.key, rows::whole_reply(call.reply))).collect())
    }
}

fn candidate(
    row: &ItemRow,
    screened: Option<&ItemRow>,
    replies: &HashMap<Digest, String>,
) -> Result<Candidate, FlowError> {
    let Collected { decomposition, call, .. } = items::payload(row)?;
    let solved = screened.and_then(|row| row.calls.first());
    Ok(Candidate {
        key: ItemKey { question: row.question.clone(), sample: row.sample, arm: row.arm.clone() },
        steps: decomposition,
        collected: call,
        verdict: screened.map(items::payload).transpose()?,
        solved: solved.map(|key| key.hex().to_owned()),
        reply: solved.and_then(|key| replies.get(key)).cloned(),
    })
}
