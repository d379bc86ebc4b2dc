//! What every stage is given: the plan, its questions, the store, the models, and someone who watches.

use std::sync::Arc;

use async_trait::async_trait;
use divvy_core::{
    chat::{ChatRequest, Message, Sampling},
    digest::{Digest, derive_seed},
    model::ModelId,
    plan::{Plan, RECORDED, TEACHER},
    question::QuestionId,
};
use divvy_llm::{Call, Client};
use divvy_store::Store;
use tokio_util::sync::CancellationToken;

use crate::{
    demonstrations::Shown, error::FlowError, items::Pace, progress::Progress, redo::Take, shard::Shard, split::Splits,
    train::Artefact,
};

pub struct Context {
    pub plan: Plan,
    pub digest: Digest,
    pub questions: Splits,
    /// Demonstrations from all the training questions of the plan.
    pub shown: Arc<Shown>,
    pub store: Store,
    pub models: Arc<dyn Models>,
    pub progress: Arc<dyn Progress>,
    pub cancel: CancellationToken,
    /// No further request goes out once it is cancelled: a child of `cancel`, which a stage that cannot go on cancels as well.
    pub asking: CancellationToken,
    /// Questions of other shards are not worked on.
    pub shard: Option<Shard>,
    /// Milliseconds since the epoch, UTC.
    pub now: fn() -> i64,
}

/// A model that is ready to be asked.
#[derive(Clone)]
pub struct Ready {
    pub client: Arc<Client>,
    pub id: ModelId,
    /// Requests worth having in flight at once.
    pub concurrency: usize,
    /// It answers many requests together, in batches.
    pub in_bulk: bool,
}

impl Ready {
    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace { at_once: self.concurrency, in_bulk: self.in_bulk }
    }
}

/// Samples of one item are numbered from 0; those of its further takes lie this far apart.
const SAMPLES_A_TAKE: u32 = 1 << 16;

/// Models by name, opened when first asked for.
#[async_trait]
pub trait Models: Send + Sync {
    /// `name` is a key of `[models]` or `student:NAME`.
    async fn get(&self, name: &str) -> Result<Ready, FlowError>;
    /// Identity of what a student is trained from: the base's weights, however it answers.
    fn base(&self, name: &str) -> String;
    /// A student was trained, or found trained: from now on `student:NAME` can be asked for.
    fn add_student(&self, name: &str, base: &str, artefact: &Artefact);
}

impl Context {
    /// The teacher under its own name, everything else as it is.
    #[must_use]
    pub fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        if name == TEACHER { &self.plan.collect.teacher } else { name }
    }

    /// Whether this process works on the question at all.
    #[must_use]
    pub fn works_on(&self, question: &QuestionId) -> bool {
        self.shard.is_none_or(|shard| shard.holds(question))
    }

    #[must_use]
    pub fn is_recorded(&self, name: &str) -> bool {
        self.resolve(name) == RECORDED
    }

    /// Asks a model once; a finished identical call is free.
    ///
    /// # Errors
    /// What [`Client::complete`] says.
    pub async fn ask(
        &self,
        ready: &Ready,
        messages: Vec<Message>,
        sampling: Sampling,
        sample: u32,
    ) -> Result<Call, divvy_llm::ChatError> {
        self.ask_again(ready, messages, sampling, sample, Take::default()).await
    }

    /// Asks for a reply of its own in each take, see [`crate::redo`]; the first is the default.
    ///
    /// # Errors
    /// What [`Client::complete`] says.
    pub async fn ask_again(
        &self,
        ready: &Ready,
        messages: Vec<Message>,
        sampling: Sampling,
        sample: u32,
        take: Take,
    ) -> Result<Call, divvy_llm::ChatError> {
        let request = self.request(ready, messages, sampling, (sample, take));
        ready.client.complete(request, &self.asking).await
    }

    /// The same, and never in a batch: everything else waits for what comes of it.
    ///
    /// # Errors
    /// What [`Client::complete_online`] says.
    pub(crate) async fn ask_online(
        &self,
        ready: &Ready,
        messages: Vec<Message>,
        sampling: Sampling,
        (sample, take): (u32, Take),
    ) -> Result<Call, divvy_llm::ChatError> {
        let request = self.request(ready, messages, sampling, (sample, take));
        ready.client.complete_online(request, &self.asking).await
    }

    fn request(
        &self,
        ready: &Ready,
        messages: Vec<Message>,
        sampling: Sampling,
        (sample, Take { number, max_tokens }): (u32, Take),
    ) -> ChatRequest {
        let taken = if number == 0 { sampling.seed } else { derive_seed(sampling.seed, &format!("take/{number}")) };
        let sample = sample + number * SAMPLES_A_TAKE;
        // A greedy reply has no use for a seed: without one, equal requests are one call.
        let seed = if sampling.temperature > 0.0 { taken } else { 0 };
        let sampling = Sampling { seed, max_tokens: max_tokens.unwrap_or(sampling.max_tokens), ..sampling };
        ChatRequest { model: ready.id.clone(), messages, sampling, sample }
    }
}
