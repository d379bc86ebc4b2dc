//! Models that are asked through the store.

use async_trait::async_trait;
use divvy_core::chat::{Message, Sampling};
use divvy_llm::{Call, ChatError};

use super::{Ask, Opened, Turn};
use crate::context::Context;

pub(super) struct Kept<'a> {
    pub(super) context: &'a Context,
    pub(super) opened: &'a Opened<'a>,
}

#[async_trait]
impl Ask for Kept<'_> {
    async fn ask(&self, turn: Turn, messages: Vec<Message>, sampling: Sampling) -> Result<Call, ChatError> {
        let decomposer = || self.opened.decomposer.as_ref().expect("the plan gives the arm a model to ask");
        let ready = if turn == Turn::Decompose { decomposer() } else { &self.opened.solver };
        self.context.ask(ready, messages, sampling, 0).await
    }
}
