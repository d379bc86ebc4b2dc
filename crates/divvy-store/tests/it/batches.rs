//! Batches that are on record, and which worker follows one.

use divvy_store::{BatchEvent, BatchRow, BatchState, Store};

use crate::{both::on_both, key};

on_both! {
    a_batch_is_open_until_it_is_settled_or_came_to_nothing,
    batches_of_a_model_at_an_endpoint_are_taken_up,
}

const ENDPOINT: &str = "http://x/v1";

fn intended(intent: &str, keys: &[u32]) -> BatchRow {
    BatchRow {
        intent: intent.into(),
        endpoint: ENDPOINT.into(),
        model: "m".into(),
        keys: keys.iter().copied().map(key).collect(),
        created_ms: 5,
        deadline_ms: Some(99),
        state: None,
        file: None,
        remote: None,
        back: 0,
        failed: 0,
        followed: false,
    }
}

fn event(intent: &str, state: BatchState) -> BatchEvent {
    BatchEvent::new(intent, state, 7)
}

async fn open(store: &Store) -> Vec<BatchRow> {
    let open = store.open_batches().await.unwrap();
    open.into_iter().map(|batch| BatchRow { followed: false, ..batch }).collect()
}

async fn a_batch_is_open_until_it_is_settled_or_came_to_nothing(store: Store) {
    let (a, b, c) = (intended("a", &[2, 1]), intended("b", &[3]), intended("c", &[4]));
    for batch in [&a, &b, &c] {
        assert_eq!(store.intend_batch(batch).await.unwrap(), batch.keys);
    }
    assert_eq!(open(&store).await, [a.clone(), b, c.clone()]);
    let named = |state, name: &str| BatchEvent { name: Some(name.into()), ..event("a", state) };
    let running = BatchEvent { back: Some(1), failed: Some(0), ..event("a", BatchState::Running) };
    let steps = [
        named(BatchState::Uploaded, "file-1"),
        named(BatchState::Submitted, "batch_1"),
        running,
        event("b", BatchState::Abandoned),
    ];
    for step in steps {
        assert!(store.record_batch_event(&step).await.unwrap());
    }
    let (file, remote) = (Some("file-1".into()), Some("batch_1".into()));
    let a = BatchRow { state: Some(BatchState::Running), file, remote, back: 1, ..a };
    assert_eq!(open(&store).await, [a, c.clone()]);
    assert!(store.record_batch_event(&event("a", BatchState::Settled)).await.unwrap());
    assert_eq!(open(&store).await, [c]);
    let nobodys = store.record_batch_event(&event("nobody", BatchState::Settled)).await;
    assert!(!nobodys.unwrap_or(false), "a batch that nobody meant to hand in");
}

async fn batches_of_a_model_at_an_endpoint_are_taken_up(store: Store) {
    let elsewhere = BatchRow { endpoint: "http://y/v1".into(), ..intended("b", &[1]) };
    let of_another = BatchRow { model: "n".into(), ..intended("c", &[1]) };
    for batch in [&intended("a", &[1]), &elsewhere, &of_another] {
        assert_eq!(store.intend_batch(batch).await.unwrap(), batch.keys);
    }
    let taken = store.take_up_batches(ENDPOINT, "m").await.unwrap();
    assert_eq!(taken.iter().map(|batch| &batch.intent[..]).collect::<Vec<_>>(), ["a"]);
}

#[cfg(unix)]
mod on_a_server_with_others {
    use std::time::Duration;

    use divvy_store::Terms;
    use divvy_testkit::postgres::Postgres;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn worker(url: &str) -> Store {
        Store::connect(url, Terms { lease: LONG, patience: LONG }).await.unwrap()
    }

    fn intents(batches: &[BatchRow]) -> Vec<&str> {
        batches.iter().map(|batch| &batch.intent[..]).collect()
    }

    #[tokio::test]
    async fn a_row_is_in_one_open_batch_whoever_hands_it_in() {
        let Some(server) = Postgres::start() else { return };
        let url = server.database("rows");
        let (ann, bob) = (worker(&url).await, worker(&url).await);
        assert_eq!(ann.intend_batch(&intended("a", &[1, 2])).await.unwrap().len(), 2);
        assert_eq!(bob.intend_batch(&intended("b", &[3, 2, 1, 4])).await.unwrap(), [key(3), key(4)]);
        assert_eq!(bob.intend_batch(&intended("c", &[1, 4])).await.unwrap(), [], "its own included");
        let open = bob.open_batches().await.unwrap();
        assert_eq!((intents(&open), &open[1].keys[..]), (vec!["a", "b"], &[key(3), key(4)][..]), "none without rows");
        assert!(open.iter().all(|batch| batch.followed));
        assert!(ann.record_batch_event(&event("a", BatchState::Settled)).await.unwrap());
        assert_eq!(bob.intend_batch(&intended("d", &[1, 2, 3])).await.unwrap(), [key(1), key(2)]);
    }

    #[tokio::test]
    async fn who_leaves_leaves_his_batches_to_the_next_and_has_no_more_say_in_them() {
        let Some(server) = Postgres::start() else { return };
        let url = server.database("heirs");
        let (ann, bob) = (worker(&url).await, worker(&url).await);
        ann.intend_batch(&intended("a", &[1])).await.unwrap();
        assert_eq!(bob.take_up_batches(ENDPOINT, "m").await.unwrap(), [], "she is heard of");
        assert!(!bob.record_batch_event(&event("a", BatchState::Settled)).await.unwrap(), "it is hers");
        // As the server sees a worker that stands still: it is not heard of, and can still write.
        let _ = server
            .query("heirs", "UPDATE divvy.worker SET expires = now() - INTERVAL '1 hour', lease = '0' WHERE id = 1");
        assert!(!bob.open_batches().await.unwrap()[0].followed);
        assert_eq!(intents(&bob.take_up_batches(ENDPOINT, "m").await.unwrap()), ["a"]);
        assert_eq!(intents(&bob.take_up_batches(ENDPOINT, "m").await.unwrap()), ["a"], "an answer that was lost");
        assert!(!ann.record_batch_event(&event("a", BatchState::Submitted)).await.unwrap(), "it is his");
        assert_eq!(ann.open_batches().await.unwrap()[0].state, None, "nothing of hers is kept");
        assert!(bob.record_batch_event(&event("a", BatchState::Abandoned)).await.unwrap());
        assert_eq!(ann.intend_batch(&intended("a", &[1])).await.unwrap(), [], "her own word for it, heard too late");
        assert_eq!(ann.intend_batch(&intended("b", &[1])).await.unwrap(), [key(1)], "its row is free");
    }
}
