//! What a request that is given up, or whose reply cannot be kept, leaves in the budget: the endpoint may have worked for it,
//! and charges what nobody hears of.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use divvy_core::{chat::ChatRequest, cost::Prices};
use divvy_llm::{Budget, Caps, Chat, Client, ClientConfig, Delta, Deltas, Endpoint, ErrorKind, Scripted, Step};
use divvy_store::Store;
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::{bench, config, request};

const PRICES: Prices =
    Prices { input: 1_000_000_000, cached_input: 1_000_000_000, output: 2_000_000_000, ..Prices::FREE };
/// The most that `request("a")` can take: five tokens in, sixteen out.
const MOST: (u64, i64) = (21, 5 * 1_000 + 16 * 2_000);

/// Polls until something is so; a test in which it never is fails.
async fn until(so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(60), "what was waited for did not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_try_that_is_cancelled_is_charged_as_estimated_and_holds_nothing() {
    let model = Arc::new(Scripted::steps([Step::Hang, Step::Say("now".into())]));
    let budget = Budget::new(Caps { calls: Some(2), ..Caps::default() });
    let shared = Arc::clone(&budget);
    let bench = bench(model.clone(), |c| ClientConfig { budget: shared, prices: Some(PRICES), ..c }).await;
    let cancel = CancellationToken::new();
    let stop = async {
        until(|| model.asked().len() == 1).await;
        assert_eq!(budget.spent(), (0, 0, 0), "it is reserved, not spent");
        cancel.cancel();
    };
    let (given_up, ()) = tokio::join!(bench.client.complete(request("a"), &cancel), stop);
    assert!(given_up.unwrap_err().is_cancelled());
    until(|| budget.spent().0 == 1).await;
    assert_eq!(budget.spent(), (1, MOST.0, MOST.1), "nobody knows what the endpoint did for it");

    // What was reserved is free: one more call fits into two, and no third.
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!((call.reply.text.as_str(), call.from_cache, budget.spent().0), ("now", false, 2));
    let third = bench.client.complete(request("b"), &CancellationToken::new()).await.unwrap_err();
    assert!(third.is_budget() && third.message.contains("2 calls (of 2)"), "{third}");
}

/// The one whose money is all in work is not asked, and leaves no trace.
#[tokio::test]
async fn who_gives_up_the_wait_for_the_budget_has_spent_nothing() {
    let model = Arc::new(Scripted::rule(|asked| match asked.messages[0].content.as_str() {
        "a" => Step::Hang,
        other => Step::Say(other.to_owned()),
    }));
    let budget = Budget::new(Caps { calls: Some(1), ..Caps::default() });
    let shared = Arc::clone(&budget);
    let bench = bench(model.clone(), |c| ClientConfig { budget: shared, ..c }).await;
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let later = async {
        until(|| model.asked().len() == 1).await;
        let leave = async {
            tokio::task::yield_now().await;
            second.cancel();
        };
        let (b, ()) = tokio::join!(bench.client.complete(request("b"), &second), leave);
        first.cancel();
        b
    };
    let (a, b) = tokio::join!(bench.client.complete(request("a"), &first), later);
    assert!(a.unwrap_err().is_cancelled() && b.unwrap_err().is_cancelled());
    until(|| budget.spent().0 == 1).await;
    assert_eq!((budget.spent().1, model.asked().len()), (MOST.0, 1), "the first alone");
}

/// Answers, and the store is gone by then.
struct ClosesTheStore(Store);

impl Chat for ClosesTheStore {
    fn start(&self, _request: ChatRequest, _cancel: CancellationToken) -> Deltas {
        let store = self.0.clone();
        stream::once(async move {
            store.close().await.unwrap();
            Ok(Delta::Raw("raw".into()))
        })
        .boxed()
    }
}

#[tokio::test]
async fn a_reply_that_cannot_be_kept_is_spent_all_the_same() {
    let budget = Budget::new(Caps::default());
    let bench = bench(Arc::new(Scripted::rule(|_| Step::Hang)), |c| c).await;
    let backend = Arc::new(ClosesTheStore(bench.store.clone()));
    let shared = Arc::clone(&budget);
    let config = config(|c| ClientConfig { budget: shared, ..c });
    let client =
        Client::new(vec![Endpoint { max_concurrency: 1, ..Endpoint::new(backend) }], bench.store.clone(), config);
    let cancel = CancellationToken::new();
    let (a, b) = tokio::join!(client.complete(request("a"), &cancel), client.complete(request("b"), &cancel));
    assert_eq!((a.unwrap_err().kind, b.unwrap_err().kind), (ErrorKind::Store, ErrorKind::Store));
    assert_eq!(budget.spent().0, 1, "whoever stood in line is not sent any more");
}
