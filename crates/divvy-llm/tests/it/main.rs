//! The client against models that misbehave: a scripted one in this process, and a teacher on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic; the lint spares only the tests themselves")]

mod batch;
mod cancelling;
mod dialects;
mod hours;
mod http;
mod lanes;
mod layers;
#[cfg(unix)]
mod shared;
mod told_limits;

use std::sync::Arc;

use divvy_core::{
    chat::{ChatRequest, Message, Sampling},
    model::ModelId,
};
use divvy_llm::{Chat, Client, ClientConfig, Endpoint};
use divvy_store::Store;
use divvy_testkit::workspace::Workspace;

fn request(text: &str) -> ChatRequest {
    ChatRequest {
        model: ModelId::remote("test", "teacher"),
        messages: vec![Message::user(text)],
        sampling: Sampling::greedy(16),
        sample: 0,
    }
}

/// A client whose retries do not wait, over a fresh store.
struct Bench {
    store: Store,
    client: Client,
    workspace: Workspace,
}

async fn bench(backend: Arc<dyn Chat>, change: impl FnOnce(ClientConfig) -> ClientConfig) -> Bench {
    let workspace = Workspace::new();
    let store = Store::open(&workspace.file("store.db")).await.unwrap();
    let client = Client::new(vec![Endpoint::new(backend)], store.clone(), config(change));
    Bench { store, client, workspace }
}

fn config(change: impl FnOnce(ClientConfig) -> ClientConfig) -> ClientConfig {
    let mut config = ClientConfig::new("teacher");
    config.retry.base = std::time::Duration::ZERO;
    change(config)
}
