//! One question before one arm: how its solver and its decomposer are asked.

use divvy_core::{
    chat::{Message, Sampling},
    decomposition::Decomposition,
    digest::derive_seed,
    plan::PartSampling,
    prompts::decompose,
    question::Question,
};
use divvy_llm::{Call, ChatError};

use super::{Answer, Ask, News, Setting, Turn};
use crate::structured::Request;

pub(super) struct Scene<'a> {
    pub(super) setting: &'a Setting<'a>,
    pub(super) ask: &'a dyn Ask,
    pub(super) question: &'a Question,
}

impl Scene<'_> {
    pub(super) async fn solve(&self, messages: Vec<Message>) -> Result<Call, ChatError> {
        self.ask.ask(Turn::Solve, messages, self.solving(self.setting.plan.solve_tokens)).await
    }

    pub(super) async fn decompose(&self, messages: Vec<Message>) -> Result<Call, ChatError> {
        self.ask.ask(Turn::Decompose, messages, self.decomposing(self.setting.plan.decomposing())).await
    }

    /// The whole decomposition, written at once or recorded; the answer has none where it cannot be read.
    pub(super) async fn decomposed(&self) -> Result<Answer, ChatError> {
        let Setting { plan, prompts, manner, recorded, .. } = *self.setting;
        if recorded {
            // A data set is asked for no cap but that of the arm.
            let cap = self.setting.arm.variant.max_subquestions.map_or(usize::MAX, |_| self.setting.most());
            return Ok(self.with(self.question.recorded.clone().map(|steps| steps.capped(cap)), None));
        }
        let Request { messages, sampling, .. } = super::decomposing(plan, prompts, manner, self.question);
        let call = self.ask.ask(Turn::Decompose, messages, self.decomposing(sampling)).await?;
        let finish = call.reply.finish.clone();
        let parsed = decompose::read(&call.reply.text, &finish, manner.style, self.setting.most());
        let decomposition = parsed.decomposition.filter(|_| !finish.is_refusal());
        // The solver, where it is asked, ends with its own.
        Ok(Answer { finish, ..self.with(decomposition, Some(call)) })
    }

    fn with(&self, decomposition: Option<Decomposition>, call: Option<Call>) -> Answer {
        for (at, step) in decomposition.iter().flat_map(Decomposition::steps).enumerate() {
            self.ask.told(News::Subquestion { number: at + 1, text: &step.text });
        }
        Answer {
            decomposer_text: call.as_ref().map(|call| call.reply.text.clone()),
            malformed: decomposition.is_none(),
            decomposition,
            decompose_calls: call.into_iter().collect(),
            ..Answer::default()
        }
    }

    pub(super) fn solving(&self, max_tokens: u32) -> Sampling {
        let part = &self.setting.plan.solving;
        self.seeded(part.sampling(max_tokens), part)
    }

    fn decomposing(&self, sampling: Sampling) -> Sampling {
        self.seeded(sampling, &self.setting.plan.decomposing)
    }

    /// Each answer has a seed of its own; the first has the one that a single answer has.
    fn seeded(&self, sampling: Sampling, part: &PartSampling) -> Sampling {
        let Setting { seed, repeat, .. } = *self.setting;
        let item = match repeat {
            0 => format!("evaluate/{}", self.question.id),
            repeat => format!("evaluate/{}/{repeat}", self.question.id),
        };
        Sampling { seed: derive_seed(part.draw.seed.unwrap_or(seed), &item), ..sampling }
    }
}
