//! Calls that are paid by a machine's time, which is known when they are over.

use std::{sync::Arc, time::Duration};

use divvy_core::{chat::ChatRequest, cost::Prices};
use divvy_llm::{Budget, Caps, Chat, ClientConfig, Scripted, Step, call_key};
use tokio_util::sync::CancellationToken;

use crate::{bench, request};

/// A thousandth of a dollar for each second.
fn by_the_hour() -> Prices {
    Prices { machine_hour: 3_600_000_000, ..Prices::FREE }
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_paid_for_the_time_it_works() {
    let model = Arc::new(Scripted::rule(|_| Step::After(Duration::from_secs(2), "x".into())));
    let budget = Budget::new(Caps { price_nanos: Some(5_000_000), ..Caps::default() });
    let shared = budget.clone();
    let bench = bench(model, |c| ClientConfig { budget: shared, prices: Some(by_the_hour()), ..c }).await;
    let cancel = CancellationToken::new();
    for text in ["a", "b"] {
        let call = bench.client.complete(request(text), &cancel).await.unwrap();
        assert_eq!(call.price_nanos, Some(2_000_000), "{text}");
    }
    let again = bench.client.complete(request("a"), &cancel).await.unwrap();
    assert_eq!((again.from_cache, again.price_nanos, budget.spent().2), (true, Some(2_000_000), 4_000_000));
    assert_eq!(worked(&bench, "a").await, Some(2_000_000), "the time is kept, for another price");
    // What a call costs is known afterwards; the next is taken to cost as much as the dearest so far.
    let error = bench.client.complete(request("c"), &cancel).await.unwrap_err();
    assert!(error.is_budget(), "{error}");
}

/// Nobody knows before the first is over what one costs: two seconds each, and room for two.
#[tokio::test(start_paused = true)]
async fn of_calls_that_are_paid_by_time_the_first_goes_alone_under_a_cap() {
    let model = Arc::new(Scripted::rule(|_| Step::After(Duration::from_secs(2), "x".into())));
    let budget = Budget::new(Caps { price_nanos: Some(5_000_000), ..Caps::default() });
    let shared = budget.clone();
    let bench = bench(model.clone(), |c| ClientConfig { budget: shared, prices: Some(by_the_hour()), ..c }).await;
    let cancel = CancellationToken::new();
    let texts = ["a", "b", "c", "d", "e", "f"];
    let calls = futures::future::join_all(texts.map(|text| bench.client.complete(request(text), &cancel))).await;
    assert_eq!(calls.iter().filter(|call| call.is_ok()).count(), 2);
    assert!(calls.iter().flat_map(|call| call.as_ref().err()).all(divvy_llm::ChatError::is_budget));
    assert_eq!((model.asked().len(), budget.spent().2), (2, 4_000_000));
}

async fn worked(bench: &crate::Bench, text: &str) -> Option<i64> {
    bench.store.call_usages(&[call_key(&request(text))]).await.unwrap()[0].worked_us
}

#[tokio::test(start_paused = true)]
async fn a_machines_time_is_kept_unless_tokens_are_paid_for() {
    let slow = || Arc::new(Scripted::rule(|_| Step::After(Duration::from_secs(3), "x".into())));
    let by_token = Prices { input: 1_000_000, ..Prices::FREE };
    let cases = [(true, None, Some(3_000_000)), (false, None, None), (true, Some(by_token), None)];
    for (timed, prices, kept) in cases {
        let bench = bench(slow(), |c| ClientConfig { timed, prices, ..c }).await;
        bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
        assert_eq!(worked(&bench, "a").await, kept, "{timed} {prices:?}");
    }
}

/// A model in this process that waits for its turn longer than it works.
struct InTurn;

impl Chat for InTurn {
    fn start(&self, _request: ChatRequest, _cancel: CancellationToken) -> divvy_llm::Deltas {
        use divvy_core::chat::{Finish, Usage};
        use divvy_llm::Delta;
        use futures::{StreamExt, stream};
        let waiting = stream::once(async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(Delta::Worked(Duration::from_millis(40)))
        });
        let done = stream::iter([Ok(Delta::Done { finish: Finish::Stop, usage: Usage::default() })]);
        waiting.chain(done).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_knows_how_long_it_worked_is_believed() {
    let bench = bench(Arc::new(InTurn), |c| ClientConfig { prices: Some(by_the_hour()), ..c }).await;
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!((worked(&bench, "a").await, call.price_nanos), (Some(40_000), Some(40_000)));
    assert!(call.latency_ms >= 5_000, "whoever waited, waited for all of it: {}", call.latency_ms);
}
