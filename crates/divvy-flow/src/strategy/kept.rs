//! Models that are asked through the store.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use divvy_core::{
    chat::{Message, Sampling},
    digest::Digest,
};
use divvy_llm::{Call, ChatError};

use super::{Ask, Opened, Turn};
use crate::context::Context;

pub(super) struct Kept<'a> {
    pub(super) context: &'a Context,
    pub(super) opened: &'a Opened<'a>,
    /// Which of a question's answers this is.
    repeat: u32,
    /// Keys of the calls that were answered, in order.
    answered: Mutex<Vec<Digest>>,
}

impl<'a> Kept<'a> {
    pub(super) fn new(context: &'a Context, opened: &'a Opened<'a>, repeat: u32) -> Self {
        Self { context, opened, repeat, answered: Mutex::default() }
    }

    /// An error that knows what was paid for before it.
    pub(super) fn after_all(self, error: ChatError) -> ChatError {
        let answered = self.answered.into_inner().unwrap_or_else(PoisonError::into_inner);
        ChatError { calls: answered.into_iter().chain(error.calls).collect(), ..error }
    }
}

#[async_trait]
impl Ask for Kept<'_> {
    async fn ask(&self, turn: Turn, messages: Vec<Message>, sampling: Sampling) -> Result<Call, ChatError> {
        let decomposer = || self.opened.decomposer.as_ref().expect("the plan gives the arm a model to ask");
        let ready = if turn == Turn::Decompose { decomposer() } else { &self.opened.solver };
        // What is said greedily is said once for all answers.
        let sample = if sampling.temperature > 0.0 { self.repeat } else { 0 };
        let call = self.context.ask(ready, messages, sampling, sample).await?;
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).push(call.key.clone());
        Ok(call)
    }
}
