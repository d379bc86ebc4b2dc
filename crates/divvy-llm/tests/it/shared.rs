//! Clients of several workers on one server.

use std::{sync::Arc, time::Duration};

use divvy_core::{cost::Prices, digest::Digest};
use divvy_llm::{Budget, Caps, Client, Endpoint, Scripted, Step};
use divvy_store::{Store, Terms};
use divvy_testkit::postgres::Postgres;
use tokio_util::sync::CancellationToken;

use crate::{config, request};

async fn worker(url: &str) -> Store {
    Store::connect(url, Terms::default()).await.unwrap()
}

fn client(store: &Store, model: &Arc<Scripted>, budget: Option<Arc<Budget>>) -> Client {
    let config = config(|mut config| {
        config.prices = Some(Prices { input: 1, cached_input: 1, output: 1_000, ..Prices::FREE });
        config.budget = budget.unwrap_or_default();
        config
    });
    Client::new(vec![Endpoint::new(model.clone())], store.clone(), config)
}

fn slow(text: &'static str) -> Arc<Scripted> {
    Arc::new(Scripted::rule(move |_| Step::After(Duration::from_millis(200), text.into())))
}

#[tokio::test]
async fn a_request_on_its_way_at_another_worker_is_not_paid_again() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("flights");
    let (ann, bob) = (worker(&url).await, worker(&url).await);
    let (first, second) = (slow("ann's"), slow("bob's"));
    let (a, b) = (client(&ann, &first, None), client(&bob, &second, None));
    let cancel = CancellationToken::new();
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        b.complete(request("same"), &cancel).await.unwrap()
    };
    let (of_a, of_b) = tokio::join!(a.complete(request("same"), &cancel), late);
    let of_a = of_a.unwrap();
    assert_eq!((of_a.reply.text.as_str(), of_b.reply.text.as_str()), ("ann's", "ann's"));
    assert_eq!((of_a.from_cache, of_b.from_cache, second.asked().len()), (false, true, 0));
}

#[tokio::test]
async fn a_request_that_another_worker_gives_up_is_made_here() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("given_up");
    let (ann, bob) = (worker(&url).await, worker(&url).await);
    let (first, second) = (Arc::new(Scripted::steps([Step::Hang])), slow("bob's"));
    let (a, b) = (client(&ann, &first, None), client(&bob, &second, None));
    let (stop, cancel) = (CancellationToken::new(), CancellationToken::new());
    let leave = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(second.asked().len(), 0);
        stop.cancel();
    };
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        b.complete(request("same"), &cancel).await.unwrap()
    };
    let (of_a, of_b, ()) = tokio::join!(a.complete(request("same"), &stop), late, leave);
    assert!(of_a.unwrap_err().is_cancelled());
    assert_eq!((of_b.reply.text.as_str(), of_b.from_cache), ("bob's", false));
}

#[tokio::test]
async fn workers_spend_the_common_budget_to_its_end_and_not_beyond() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("budget");
    let plan = Digest::of_bytes(b"plan");
    let caps = Caps { calls: Some(50), price_nanos: Some(1_000_000_000), ..Caps::default() };
    let model = Arc::new(Scripted::rule(|_| Step::After(Duration::from_millis(5), "yes".into())));
    let mut workers = Vec::new();
    for number in 0..3 {
        let (store, model, plan, caps) = (worker(&url).await, model.clone(), plan.clone(), caps);
        workers.push(tokio::spawn(async move {
            let budget = Budget::common(caps, store.shared().unwrap().clone(), plan);
            let client = client(&store, &model, Some(budget.clone()));
            let cancel = CancellationToken::new();
            let requests =
                (0..40).map(|k| client.complete(request(&format!("{number}/{k}")), &cancel)).collect::<Vec<_>>();
            let results = futures::future::join_all(requests).await;
            budget.settle().await.unwrap();
            results.into_iter().filter_map(Result::err).collect::<Vec<_>>()
        }));
    }
    for worker in workers {
        let refused = worker.await.unwrap();
        assert!(
            refused.iter().all(|error| error.is_budget() && error.message.contains("50 calls (of 50)")),
            "{refused:?}"
        );
    }
    assert_eq!(model.asked().len(), 50);
    assert_eq!(server.query("budget", "SELECT calls, held_calls, held_nanos FROM divvy.account"), "50|0|0");
}
