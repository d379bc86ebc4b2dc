//! The client in batches, against a teacher's Batch API: what several callers and a budget of time make of it. Whole runs
//! and kills are tested with the real program.

use std::{sync::Arc, time::Duration};

use divvy_llm::{
    ApiKey, BatchSettings, Batches, Budget, Caps, Client, ClientConfig, Endpoint, HttpChat, HttpConfig, Transfer,
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

fn batches(teacher: &Teacher, store: &Store) -> Arc<Batches> {
    let settings =
        BatchSettings { poll: Duration::from_millis(5), quiet: Duration::from_millis(100), ..BatchSettings::default() };
    Batches::new(chat(teacher), store.clone(), &config(|c| c), settings)
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
