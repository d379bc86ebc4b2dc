//! The client in batches, against a teacher's Batch API: what several callers and a budget of time make of it. Whole runs
//! and kills are tested with the real program.

use std::{sync::Arc, time::Duration};

use divvy_core::cost::Prices;
use divvy_llm::{
    ApiKey, BatchSettings, Batches, Budget, Caps, Client, ClientConfig, Endpoint, ErrorKind, HttpChat, HttpConfig,
    RetryPolicy, Transfer,
};
use divvy_store::Store;
use divvy_testkit::{
    teacher::{Bureau, Fate, Lesson, Teacher},
    workspace::Workspace,
};
use tokio_util::sync::CancellationToken;

use crate::{config, request};

async fn teacher(bureau: Bureau) -> Teacher {
    Teacher::start(Lesson { bureau: Some(bureau), ..Lesson::default() }).await.unwrap()
}

fn chat(teacher: &Teacher) -> HttpChat {
    let config =
        HttpConfig { url: teacher.url(), model: "teacher".into(), api_key: ApiKey::None, transfer: Transfer::Whole };
    HttpChat::new(config).unwrap()
}

fn soon() -> BatchSettings {
    BatchSettings { poll: Duration::from_millis(5), quiet: Duration::from_millis(100), ..BatchSettings::default() }
}

fn batches(teacher: &Teacher, store: &Store) -> Arc<Batches> {
    Batches::new(chat(teacher), store.clone(), &config(|c| c), soon())
}

fn client(teacher: &Teacher, store: &Store, batches: &Arc<Batches>, budget: &Arc<Budget>) -> Client {
    let config = config(|c| ClientConfig { budget: Arc::clone(budget), ..c });
    Client::batched(vec![Endpoint::new(Arc::new(chat(teacher)))], store.clone(), config, Arc::clone(batches))
}

async fn store(workspace: &Workspace) -> Store {
    Store::open(&workspace.file("store.db")).await.unwrap()
}

#[tokio::test]
async fn two_clients_of_one_model_share_a_row_and_only_one_has_paid() {
    let (workspace, teacher) = (Workspace::new(), teacher(Bureau::default()).await);
    let store = store(&workspace).await;
    let (batches, budget) = (batches(&teacher, &store), Budget::new(Caps::default()));
    let (one, other) = (client(&teacher, &store, &batches, &budget), client(&teacher, &store, &batches, &budget));
    let cancel = CancellationToken::new();
    let (one, other) =
        tokio::join!(one.complete(request("two words"), &cancel), other.complete(request("two words"), &cancel));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((one.reply.text.as_str(), &other.reply), ("You said: two words", &one.reply));
    assert!(one.from_cache != other.from_cache, "one has paid");
    assert_eq!((teacher.handed_in()[0].asked.len(), budget.spent().0), (1, 1));
}

#[tokio::test]
async fn when_the_time_is_used_up_the_batch_stays_out_and_the_next_budget_finds_it() {
    let (workspace, teacher) =
        (Workspace::new(), teacher(Bureau { fates: vec![Fate::Hold { answered: 0 }], ..Bureau::default() }).await);
    let store = store(&workspace).await;
    let minutes = Budget::new(Caps { time: Some(Duration::from_millis(600)), ..Caps::default() });
    let cancel = CancellationToken::new();
    let first = client(&teacher, &store, &batches(&teacher, &store), &minutes);
    let late = first.complete(request("a"), &cancel).await.unwrap_err();
    assert!(late.is_budget() && late.message.contains("minutes is used up"), "{late}");
    assert_eq!(store.open_batches().await.unwrap().len(), 1);
    teacher.release();
    let next = client(&teacher, &store, &batches(&teacher, &store), &Budget::new(Caps::default()));
    assert_eq!(next.complete(request("a"), &cancel).await.unwrap().reply.text, "You said: a");
    assert_eq!((teacher.handed_in().len(), teacher.asked().len()), (1, 0));
}

/// Words cost a thousand nano-dollars each, and half of that in a batch.
#[tokio::test]
async fn a_try_that_failed_is_spent_at_the_price_of_the_way_that_it_went() {
    let prices = |each| Some(Prices { input: each, cached_input: each, output: each, ..Prices::FREE });
    for deadline in [None, Some(Duration::from_hours(1))] {
        let lesson = Lesson { rule: Box::new(|_| String::new()), bureau: Some(Bureau::default()), ..Lesson::default() };
        let (workspace, teacher) = (Workspace::new(), Teacher::start(lesson).await.unwrap());
        let (store, budget) = (store(&workspace).await, Budget::new(Caps::default()));
        let config = config(|c| ClientConfig {
            budget: Arc::clone(&budget),
            prices: prices(1_000_000_000),
            batch_prices: prices(500_000_000),
            retry: RetryPolicy::NEVER,
            ..c
        });
        let batches = Batches::new(chat(&teacher), store.clone(), &config, BatchSettings { deadline, ..soon() });
        let client = Client::batched(vec![Endpoint::new(Arc::new(chat(&teacher)))], store, config, batches);
        let cancel = CancellationToken::new();
        let error = client.complete(request("two words"), &cancel).await.unwrap_err();
        assert_eq!((error.kind, budget.spent()), (ErrorKind::Empty, (1, 2, 1_000)));
        let error = client.complete_online(request("three more words"), &cancel).await.unwrap_err();
        assert_eq!((error.kind, budget.spent()), (ErrorKind::Empty, (2, 5, 4_000)), "{deadline:?}");
    }
}
