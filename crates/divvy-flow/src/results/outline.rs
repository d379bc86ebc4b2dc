//! What figures need of the questions themselves, read once for all of them: a question lies packed, with its passage.

use std::{collections::BTreeMap, sync::Arc};

use divvy_core::{
    answer_kind::{self, AnswerKind},
    digest::Digest,
    question::{Question, QuestionId, ScorerKind},
    questions::Questions,
};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

/// Some questions, in their order.
pub(super) struct Outlines<'q> {
    pub(super) questions: &'q Questions,
    pub(super) each: Vec<Outline>,
}

pub(super) struct Outline {
    pub(super) id: QuestionId,
    pub(super) scorer: ScorerKind,
    pub(super) steps: Option<u32>,
    pub(super) answer: Option<AnswerKind>,
    /// What its data set says that it has in common with others, else its passage by some digits of its digest.
    pub(super) cluster: Option<String>,
    /// Of the passage's text.
    pub(super) premise: Option<Digest>,
}

impl<'q> Outlines<'q> {
    pub(super) fn of(questions: &'q Questions) -> Self {
        let outline = |at| Outline::of(&questions.at(at));
        Self { questions, each: (0..questions.len()).into_par_iter().map(outline).collect() }
    }

    /// The places of those that take so many reasoning steps, where that is known.
    pub(super) fn by_steps(&self) -> BTreeMap<u32, Vec<usize>> {
        let mut places: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (place, question) in self.each.iter().enumerate() {
            question.steps.into_iter().for_each(|steps| places.entry(steps).or_default().push(place));
        }
        places
    }

    /// Whether any of them has it.
    pub(super) fn have_partial_credit(&self) -> bool {
        self.each.iter().any(|question| question.scorer.has_partial_credit())
    }

    /// The whole question with this number.
    pub(super) fn full(&self, at: usize) -> Arc<Question> {
        self.questions.at(at)
    }
}

impl Outline {
    fn of(question: &Question) -> Self {
        let premise = passage(question);
        let unnamed = || premise.as_ref().map(Digest::short);
        Self {
            id: question.id.clone(),
            scorer: question.scorer,
            steps: question.steps,
            answer: answer_kind::of(question),
            cluster: question.cluster.clone().or_else(unnamed),
            premise,
        }
    }
}

/// What questions about one passage have in common.
pub(super) fn passage(question: &Question) -> Option<Digest> {
    question.premise.as_ref().map(|premise| Digest::of("passage/1", premise))
}
