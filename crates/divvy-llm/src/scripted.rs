//! A model for tests: says what a script tells it to, in order, and remembers what it was asked.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use divvy_core::chat::{ChatRequest, Finish, Usage};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::{
    chat::{Chat, Delta, Deltas},
    error::{ChatError, ErrorKind},
};

#[derive(Clone, Debug)]
pub enum Step {
    Say(String),
    /// Says it after this long.
    After(Duration, String),
    Fail(ChatError),
    /// Never answers.
    Hang,
}

type Rule = dyn Fn(&ChatRequest) -> Step + Send + Sync;

/// Steps first, in order of the requests; then the rule.
pub struct Scripted {
    steps: Mutex<VecDeque<Step>>,
    rule: Box<Rule>,
    asked: Mutex<Vec<ChatRequest>>,
}

impl Scripted {
    /// Fails when it is asked more often than there are steps.
    #[must_use]
    pub fn steps(steps: impl IntoIterator<Item = Step>) -> Self {
        let out_of_steps = |_: &ChatRequest| Step::Fail(ChatError::new(ErrorKind::Backend, "the script is over"));
        Self { steps: Mutex::new(steps.into_iter().collect()), ..Self::rule(out_of_steps) }
    }

    #[must_use]
    pub fn rule(rule: impl Fn(&ChatRequest) -> Step + Send + Sync + 'static) -> Self {
        Self { steps: Mutex::default(), rule: Box::new(rule), asked: Mutex::default() }
    }

    /// Every request so far.
    #[must_use]
    pub fn asked(&self) -> Vec<ChatRequest> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Chat for Scripted {
    fn start(&self, request: ChatRequest, _cancel: CancellationToken) -> Deltas {
        let step = self.steps.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let step = step.unwrap_or_else(|| (self.rule)(&request));
        let tokens_in = request.messages.iter().map(|m| m.content.split_whitespace().count() as u64).sum();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        match step {
            Step::Say(text) => say(text, tokens_in),
            Step::After(pause, text) => {
                stream::once(tokio::time::sleep(pause)).flat_map(move |()| say(text.clone(), tokens_in)).boxed()
            }
            Step::Fail(error) => stream::iter([Err(error)]).boxed(),
            Step::Hang => stream::pending().boxed(),
        }
    }
}

/// A word is a token here.
fn say(text: String, tokens_in: u64) -> Deltas {
    let usage = Usage {
        tokens_in: Some(tokens_in),
        tokens_cached: None,
        tokens_out: Some(text.split_whitespace().count() as u64),
    };
    stream::iter([Ok(Delta::Text(text)), Ok(Delta::Done { finish: Finish::Stop, usage })]).boxed()
}
