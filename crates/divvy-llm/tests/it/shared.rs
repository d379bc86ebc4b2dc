//! Clients of several workers on one server.

use std::{sync::Arc, time::Duration};

use divvy_core::{cost::Prices, digest::Digest};
use divvy_llm::{Budget, Caps, Client, ClientConfig, Endpoint, Rates, Scripted, Step};
use divvy_store::{Spending, Store, Terms};
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
async fn workers_that_call_a_model_differently_share_its_minute() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("minute");
    for name in ["teacher", "judge"] {
        let (rates, lane) = (Rates { requests: Some(60), tokens: None }, Some("http://x/v1 m".to_owned()));
        let place = Endpoint { name: Some("http://x/v1".into()), lane, rates, ..Endpoint::new(slow("yes")) };
        let client = Client::new(vec![place], worker(&url).await, ClientConfig::new(name));
        client.complete(request(name), &CancellationToken::new()).await.unwrap();
    }
    assert_eq!(server.query("minute", "SELECT DISTINCT lane FROM divvy.lent"), "http://x/v1 m");
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

/// A worker with a runtime of its own: while it is not told to run, it is as one that was stopped or killed.
struct Stoppable {
    runtime: tokio::runtime::Runtime,
    client: Arc<Client>,
    budget: Arc<Budget>,
}

const LEASE: Duration = Duration::from_millis(300);

impl Stoppable {
    fn new(url: &str, model: &Arc<Scripted>, caps: Caps, concurrency: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let terms = Terms { lease: LEASE, ..Terms::default() };
        let store = runtime.block_on(Store::connect(url, terms)).unwrap();
        let budget = Budget::common(caps, store.shared().unwrap().clone(), plan());
        let endpoint = Endpoint { max_concurrency: concurrency, ..Endpoint::new(model.clone()) };
        let config = config(|config| divvy_llm::ClientConfig { budget: budget.clone(), ..config });
        Self { runtime, client: Arc::new(Client::new(vec![endpoint], store, config)), budget }
    }

    /// Asks so many things; how many replies came before the budget ended.
    fn ask(&self, name: &str, requests: usize) -> usize {
        let cancel = CancellationToken::new();
        let asked = (0..requests).map(|k| self.client.complete(request(&format!("{name}/{k}")), &cancel));
        let results = self.runtime.block_on(futures::future::join_all(asked.collect::<Vec<_>>()));
        assert!(
            results.iter().all(|result| result.as_ref().err().is_none_or(|error| error.is_budget())),
            "{results:?}"
        );
        results.iter().flatten().count()
    }
}

fn plan() -> Digest {
    Digest::of_bytes(b"plan")
}

#[test]
fn of_a_worker_that_died_what_was_out_is_lost_and_what_stood_in_line_is_not() {
    let Some(server) = Postgres::start() else { return };
    for (name, caps) in [("uncapped", Caps::default()), ("capped", Caps { calls: Some(100), ..Caps::default() })] {
        let url = server.database(name);
        let model = Arc::new(Scripted::rule(|request| match request.messages[0].content.starts_with("done") {
            true => Step::Say("yes".into()),
            false => Step::Hang,
        }));
        let killed = Stoppable::new(&url, &model, caps, 2);
        assert_eq!(killed.ask("done", 3), 3);
        killed.runtime.block_on(async {
            for k in 0..5 {
                let client = killed.client.clone();
                let hangs =
                    async move { client.complete(request(&format!("hangs/{k}")), &CancellationToken::new()).await };
                tokio::spawn(hangs);
            }
            while model.asked().len() < 5 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        std::thread::sleep(2 * LEASE);
        let other = Stoppable::new(&url, &model, caps, 2);
        assert_eq!(other.ask("done", 4), 4);
        let store = other.runtime.block_on(Store::connect_read(&url)).unwrap();
        let Spending { spent, lost } = other.runtime.block_on(store.spending(&plan())).unwrap();
        assert_eq!((spent.calls, lost.calls), (4, 2), "{name}: three of the four were there already");
        assert_eq!(other.runtime.block_on(other.budget.spent_for_plan()).unwrap().0, 6);
        std::mem::forget(killed.runtime);
    }
}

#[test]
fn a_worker_that_stood_still_spends_nothing_that_others_were_lent_meanwhile() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("still");
    let caps = Caps { calls: Some(10), ..Caps::default() };
    let model = Arc::new(Scripted::rule(|_| Step::Say("yes".into())));
    let still = Stoppable::new(&url, &model, caps, 1);
    assert_eq!(still.ask("first", 1), 1);
    let held = server.query("still", "SELECT held_calls FROM divvy.account").parse::<i64>().unwrap();
    assert!(held > 1, "it holds more than it has spent");
    std::thread::sleep(2 * LEASE);
    let other = Stoppable::new(&url, &model, caps, 1);
    assert_eq!(other.ask("second", 5), 5);
    assert_eq!(still.ask("third", 1), 1, "there is room");
    std::thread::sleep(2 * LEASE);
    assert_eq!(other.ask("fourth", 9), 3);
    assert_eq!(still.ask("fifth", 1), 0);
    assert_eq!(model.asked().len(), 10);
    for worker in [still, other] {
        worker.runtime.block_on(worker.budget.settle()).unwrap();
    }
    assert_eq!(server.query("still", "SELECT calls, held_calls FROM divvy.account"), "10|0");
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

/// The store fails before the account has heard of what was spent, or before its answer is heard.
#[tokio::test]
async fn what_was_spent_is_booked_once_though_the_store_failed_meanwhile() {
    const ARGUMENTS: &str = "BYTEA, BIGINT, BIGINT, BIGINT[], BIGINT[], BIGINT[], BIGINT[], BIGINT[]";
    let Some(server) = Postgres::start() else { return };
    for (name, books) in [("unsaid", false), ("unheard", true)] {
        let store = worker(&server.database(name)).await;
        let budget =
            Budget::common(Caps { calls: Some(10), ..Caps::default() }, store.shared().unwrap().clone(), plan());
        let client = client(&store, &Arc::new(Scripted::rule(|_| Step::Say("yes".into()))), Some(budget.clone()));
        client.complete(request("first"), &CancellationToken::new()).await.unwrap();
        let sql = |sql: &str| assert_eq!(server.query(name, &format!("SET search_path = divvy; {sql}")), "");
        sql("ALTER FUNCTION borrow RENAME TO truly_borrow");
        if books {
            sql(&format!(
                "CREATE FUNCTION borrow({ARGUMENTS}, OUT granted BOOLEAN, OUT holds BIGINT[], OUT total BIGINT[], OUT lost BIGINT[],
                     OUT others BOOLEAN) LANGUAGE sql AS
                 'SELECT NULL::boolean, holds, total, lost, others FROM truly_borrow($1, $2, $3, $4, $5, $6, $7, $8)'"
            ));
        }
        budget.settle().await.unwrap_err();
        if books {
            sql(&format!("DROP FUNCTION borrow({ARGUMENTS})"));
        }
        sql("ALTER FUNCTION truly_borrow RENAME TO borrow");
        budget.settle().await.unwrap();
        assert_eq!(server.query(name, "SELECT calls, held_calls FROM divvy.account"), "1|0", "{name}");
    }
}

#[test]
fn a_worker_that_stood_still_does_not_send_what_another_has_taken_over() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("taken");
    let model = Arc::new(Scripted::rule(|_| Step::After(4 * LEASE, "yes".into())));
    let still = Stoppable::new(&url, &model, Caps::default(), 1);
    let ask = |k| {
        let client = still.client.clone();
        async move { client.complete(request(&format!("line/{k}")), &CancellationToken::new()).await }
    };
    // One is out, two stand in line.
    let asked: Vec<_> = still.runtime.block_on(async {
        let asked = (0..3).map(|k| tokio::spawn(ask(k))).collect();
        while model.asked().is_empty() || server.query("taken", "SELECT count(*) FROM divvy.flight") != "3" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        asked
    });
    std::thread::sleep(2 * LEASE);
    let other = Stoppable::new(&url, &model, Caps::default(), 3);
    std::thread::scope(|scope| {
        let replies = scope.spawn(|| other.ask("line", 3));
        while model.asked().len() < 4 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let late = still.runtime.block_on(futures::future::join_all(asked));
        assert!(late.iter().all(|reply| reply.as_ref().is_ok_and(Result::is_ok)), "{late:?}");
        assert_eq!(replies.join().unwrap(), 3);
    });
    assert_eq!(model.asked().len(), 4, "what stood in line went out once");
}
