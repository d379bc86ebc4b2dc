//! Decomposer and solver side by side: one base in memory, one engine, an adapter for each sequence.

use divvy_core::{
    chat::{Message, Sampling},
    digest::Digest,
    model::ModelId,
};
use divvy_student::{
    adapter::{AdapterLabel, Factors, LoraSettings, Scaling},
    config::Projection,
};
use divvy_testkit::{checkpoint, workspace::Workspace};
use futures::future::join_all;

use super::*;

const PROMPTS: [&str; 3] = ["How many boxes are there?", "What is left of them?", "And who has the rest?"];

/// An adapter that makes another model of the base.
fn write_adapter(hosts: &Hosts, base: &Path, folder: &Path, push: f32) {
    let model = hosts.model(base, Numerics::Exact).unwrap();
    let settings = LoraSettings { rank: 2, alpha: 8.0, scaling: Scaling::Plain };
    let fresh = Adapter::new(&model.config, settings, 1);
    let pushed = |factors: &Factors| Factors {
        b: (0..factors.b.len()).map(|at| push * ((at * 7919) % 13) as f32 / 13.0).collect(),
        ..factors.clone()
    };
    let layer = |layer: usize| Projection::ALL.map(|projection| pushed(fresh.factors(layer, projection)));
    let adapter = Adapter::of(settings, (0..model.config.layers).map(layer).collect());
    let label = AdapterLabel { base: model.content_hash.clone(), ..AdapterLabel::default() };
    adapter.save(folder, &label).unwrap();
}

fn exact(path: &Path) -> Form {
    Form { path: path.to_owned(), numerics: Numerics::Exact, cache: CacheFormat::F32, cache_tokens: None }
}

fn asked(chat: &LocalChat, prompt: &str) -> Deltas {
    let request = ChatRequest {
        model: ModelId(Digest::of("test/1", &chat.name)),
        messages: vec![Message::user(prompt.to_owned())],
        sampling: Sampling::greedy(24),
        sample: 0,
    };
    chat.start(request, CancellationToken::new())
}

async fn said(chat: &LocalChat, prompt: &str) -> String {
    let texts = asked(chat, prompt).map(|delta| match delta.unwrap() {
        Delta::Text(text) => text,
        _ => String::new(),
    });
    texts.collect::<Vec<String>>().await.concat()
}

async fn all(chats: &[LocalChat]) -> Vec<String> {
    join_all(chats.iter().flat_map(|chat| PROMPTS.map(|prompt| said(chat, prompt)))).await
}

#[tokio::test]
async fn adapters_share_a_base_and_its_batch_and_answer_as_they_would_alone() {
    let workspace = Workspace::new();
    let base = workspace.file("tiny");
    checkpoint::write_tiny(&base).unwrap();
    let hosts = Arc::new(Hosts::default());
    let adapters = [("decomposer", 0.5), ("solver", -0.8)].map(|(name, push)| {
        let folder = workspace.file(name);
        write_adapter(&hosts, &base, &folder, push);
        folder
    });
    let parts = || [None, Some(adapters[0].clone()), Some(adapters[1].clone())];
    let form = || exact(&base);
    let chats = parts().map(|adapter| hosts.chat("tiny", form(), adapter, 16));
    let together = all(&chats).await;

    assert_eq!(hosts.threads.lock().unwrap().len(), 1, "one engine serves them all");
    let loaded: Vec<Slot> = hosts.models.lock().unwrap().values().cloned().collect();
    let [slot] = &loaded[..] else { panic!("the base was loaded more than once") };
    let model = slot.get().unwrap().as_ref().unwrap();
    // The host's slot, the engine and its desk: nobody has weights of their own.
    assert!(Arc::strong_count(model) <= 3, "{} hold the base", Arc::strong_count(model));

    for (part, adapter) in parts().into_iter().enumerate() {
        let alone = [Arc::new(Hosts::default()).chat("tiny", form(), adapter, 16)];
        assert_eq!(all(&alone).await, together[3 * part..3 * part + 3], "part {part}");
    }
    let [told] = &hosts.watched()[..] else { panic!("one engine tells how its time went") };
    assert!(told.contains("the engine of tiny") && told.contains("of its 16 places"), "{told}");
    hosts.watch();
    assert!(hosts.watched().is_empty(), "nothing was asked since");

    let different: std::collections::HashSet<&String> = together.iter().step_by(3).collect();
    assert_eq!(different.len(), 3, "each part is another model: {together:?}");
}

#[tokio::test]
async fn models_side_by_side_take_no_more_of_the_machine_than_there_was() {
    let workspace = Workspace::new();
    let hosts = Arc::new(Hosts::default());
    let chats = ["one", "other"].map(|name| {
        let path = workspace.file(name);
        checkpoint::write_tiny(&path).unwrap();
        hosts.chat(name, exact(&path), None, 16)
    });
    let began = std::time::Instant::now();
    let worked = async |chat: &LocalChat, prompt: &str| {
        let deltas: Vec<_> = asked(chat, prompt).collect().await;
        let [Ok(Delta::Worked(worked)), Ok(Delta::Done { .. })] = deltas[deltas.len() - 2..] else {
            panic!("{deltas:?}")
        };
        worked
    };
    let each = join_all(chats.iter().flat_map(|chat| PROMPTS.map(|prompt| worked(chat, prompt)))).await;
    assert!(each.iter().all(|worked| !worked.is_zero()), "{each:?}");
    // Each model by itself would count the time in which it waits for the other.
    let sum: std::time::Duration = each.iter().sum();
    assert!(sum <= began.elapsed(), "{each:?}");
}

#[tokio::test]
async fn a_text_that_is_too_long_is_told_as_such_however_that_is_seen() {
    let workspace = Workspace::new();
    let base = workspace.file("tiny");
    checkpoint::write_tiny(&base).unwrap();
    let hosts = Arc::new(Hosts::default());
    let small = Form { cache_tokens: Some(64), ..exact(&base) };
    let [plain, small] = [exact(&base), small].map(|form| hosts.chat("tiny", form, None, 16));
    let refused = async |chat: &LocalChat, bytes: usize| {
        let deltas: Vec<_> = asked(chat, &"x".repeat(bytes)).collect().await;
        let [Err(error)] = &deltas[..] else { panic!("{deltas:?}") };
        (error.kind, error.message.clone())
    };
    // A byte is a token there.
    for (chat, bytes, said) in [
        (&plain, BYTES_A_TOKEN * checkpoint::CONTEXT + 1, "bytes do not fit into its 4096 tokens"),
        (&plain, checkpoint::CONTEXT + 1, "the model's context holds 4096"),
        (&small, 100, "raise `kv_cache_tokens`"),
    ] {
        let (kind, message) = refused(chat, bytes).await;
        assert_eq!(kind, ErrorKind::ContextTooLong, "{message}");
        assert!(message.contains(said), "{message}");
    }
    assert!(asked(&small, "x").collect::<Vec<_>>().await.iter().all(Result::is_ok));
}
