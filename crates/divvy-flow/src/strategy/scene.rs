//! One question before one arm: how its solver and its decomposer are asked.

use divvy_core::{
    chat::{Message, Sampling},
    decomposition::Decomposition,
    digest::derive_seed,
    plan::EvaluatePlan,
    prompts::decompose,
    question::Question,
};
use divvy_llm::{Call, ChatError};

use super::{Answer, Opened};
use crate::context::{Context, Ready};

pub(super) struct Scene<'a> {
    pub(super) context: &'a Context,
    pub(super) plan: &'a EvaluatePlan,
    pub(super) opened: &'a Opened<'a>,
    pub(super) question: &'a Question,
}

impl Scene<'_> {
    pub(super) async fn solve(&self, messages: Vec<Message>, max_tokens: u32) -> Result<Call, ChatError> {
        self.context.ask(&self.opened.solver, messages, self.greedy(max_tokens), 0).await
    }

    pub(super) async fn decompose(&self, decomposer: &Ready, messages: Vec<Message>) -> Result<Call, ChatError> {
        let penalty = self.plan.repetition_penalty;
        let sampling = Sampling { repetition_penalty: penalty, ..self.greedy(self.plan.decompose_tokens) };
        self.context.ask(decomposer, messages, sampling, 0).await
    }

    /// The whole decomposition, written at once or recorded; the answer has none where it cannot be read.
    pub(super) async fn decomposed(&self) -> Result<Answer, ChatError> {
        let Some(decomposer) = &self.opened.decomposer else {
            return Ok(self.with(self.question.recorded.clone(), None));
        };
        let style = self.context.plan.style(self.opened.arm.decomposer.as_deref().unwrap_or_default());
        let call = self.decompose(decomposer, decompose::messages(self.question, style)).await?;
        let parsed = decompose::parse(&call.reply.text, &call.reply.finish, self.plan.max_subquestions);
        Ok(self.with(parsed.decomposition, Some(call)))
    }

    fn with(&self, decomposition: Option<Decomposition>, call: Option<Call>) -> Answer {
        Answer {
            decomposer_text: call.as_ref().map(|call| call.reply.text.clone()),
            malformed: decomposition.is_none(),
            decomposition,
            decompose_calls: call.into_iter().collect(),
            ..Answer::default()
        }
    }

    fn greedy(&self, max_tokens: u32) -> Sampling {
        Sampling {
            seed: derive_seed(self.context.plan.seed, &format!("evaluate/{}", self.question.id)),
            ..Sampling::greedy(max_tokens)
        }
    }
}
