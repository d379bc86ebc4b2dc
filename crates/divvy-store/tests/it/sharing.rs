//! What workers on a server share. A worker here has a runtime of its own, which runs only while it is told to: between
//! two such moments the worker is as one that was stopped.

#![cfg(unix)]

mod account;
mod silence;

use std::time::Duration;

use divvy_core::{
    digest::Digest,
    question::QuestionId,
    records::{ItemState, Stage},
};
use divvy_store::{
    AttemptRecord, Claims, ItemRow, Lent, PostgresStore, RawReply, Share, StoreError, Terms, Token, Unit,
};
use divvy_testkit::postgres::{PASSWORD, Postgres};
use tokio::runtime::{Builder, Runtime};

use crate::{call, key};

const STAGE: Stage = Stage::Collect;

struct Worker {
    runtime: Runtime,
    store: PostgresStore,
}

impl Worker {
    fn new(url: &str, lease: Duration) -> Self {
        Self::on(url, Terms { lease, patience: Duration::from_secs(60) })
    }

    fn on(url: &str, terms: Terms) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(PostgresStore::open(url, terms)).unwrap();
        runtime.block_on(store.put_plan(&plan(), "{}")).unwrap();
        Self { runtime, store }
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn claim(&self, units: &[Unit], most: usize) -> Claims {
        self.run(self.store.claim(&plan(), STAGE, units, most, 0)).unwrap()
    }

    fn settle(&self, unit: &Unit, token: Token, state: ItemState) -> bool {
        self.run(self.store.settle(vec![(item(unit, state), token)])).unwrap()[0]
    }

    fn states(&self) -> Vec<ItemState> {
        self.run(self.store.items(&plan(), STAGE)).unwrap().into_iter().map(|item| item.state).collect()
    }
}

fn plan() -> Digest {
    key(1)
}

fn units(n: u32) -> Vec<Unit> {
    (0..n).map(|at| Unit { question: QuestionId(format!("q/{at:02}")), sample: 0, arm: String::new() }).collect()
}

fn item(unit: &Unit, state: ItemState) -> ItemRow {
    ItemRow {
        plan: plan(),
        stage: STAGE,
        question: unit.question.clone(),
        sample: unit.sample,
        arm: unit.arm.clone(),
        state,
        payload_json: "null".into(),
        calls: Vec::new(),
        updated_ms: 1,
    }
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

fn places(claims: &Claims) -> Vec<usize> {
    claims.mine.iter().map(|(place, _)| *place).collect()
}

#[test]
fn each_item_is_in_one_workers_work_and_a_settled_one_in_nobodys() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("claims");
    let (ann, bob, units) = (Worker::new(&url, LONG), Worker::new(&url, LONG), units(10));
    let first = ann.claim(&units, 4);
    assert_eq!((places(&first), first.open.len()), (vec![0, 1, 2, 3], 6));
    let second = bob.claim(&units, 100);
    assert_eq!((places(&second), second.open.len(), second.busy), (vec![4, 5, 6, 7, 8, 9], 4, 4));
    assert!(first.mine.iter().zip(&second.mine).all(|(a, b)| a.1 != b.1));
    assert!(ann.settle(&units[0], first.mine[0].1, ItemState::Done));
    assert!(
        !ann.settle(&units[0], first.mine[0].1, ItemState::Failed("again".into())),
        "a token is good for one outcome"
    );
    assert!(!bob.settle(&units[1], second.mine[0].1, ItemState::Done), "a token is good for its item");
    // Nobody asks about what he has in work, but for one who has not heard that he has it.
    let again = bob.claim(&units, 100);
    assert_eq!((again.mine, again.open.len(), again.busy), (second.mine, 3, 3), "the settled one is over");
    ann.run(ann.store.give_back(&plan(), STAGE)).unwrap();
    assert_eq!(places(&bob.claim(&units[..4], 100)), [1, 2, 3]);
    bob.run(bob.store.close()).unwrap();
    assert_eq!(ann.claim(&units, 100).mine.len(), 9, "who leaves takes nothing along");
    assert_eq!(ann.states(), [ItemState::Done]);
}

#[test]
fn a_worker_is_told_of_the_others_as_long_as_they_are_there() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("others");
    let (ann, bob) = (Worker::new(&url, LONG), Worker::new(&url, LONG));
    assert_eq!(ann.run(ann.store.workers()).unwrap().len(), 2);
    let others = |worker: &Worker| worker.run(worker.store.other_workers()).unwrap().len();
    assert_eq!((others(&ann), others(&bob)), (1, 1));
    bob.run(bob.store.close()).unwrap();
    assert_eq!(others(&ann), 0);
}

#[test]
fn what_a_silent_worker_brings_late_is_no_second_outcome() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("fencing");
    let (silent, other, units) = (Worker::new(&url, SHORT), Worker::new(&url, LONG), units(2));
    let claimed = silent.claim(&units, 2);
    assert!(silent.run(silent.store.claim_call(&key(5))).unwrap());
    assert!(!other.run(other.store.claim_call(&key(5))).unwrap(), "it is on its way");
    assert_eq!(other.claim(&units, 2).mine.len(), 0);
    std::thread::sleep(2 * SHORT);
    let taken = other.claim(&units[..1], 2);
    assert_eq!(places(&taken), [0], "nobody has heard of the silent one");
    assert!(other.run(other.store.claim_call(&key(5))).unwrap());
    // It is back, after half of its work was given away.
    let late = |at: usize| silent.settle(&units[at], claimed.mine[at].1, ItemState::Rejected("late".into()));
    assert!(!late(0));
    assert!(late(1), "nobody else has it: the work is not lost");
    assert!(other.settle(&units[0], taken.mine[0].1, ItemState::Done));
    assert!(!late(0));
    assert_eq!(other.states(), [ItemState::Done, ItemState::Rejected("late".into())]);
    assert_eq!(server.query("fencing", "SELECT count(*) FROM divvy.item_history"), "2");
    // Its reply is kept all the same, and the attempt that brought it; the first record of the call wins.
    let (kept, late) = (call(5), divvy_store::CallRecord { price_nanos: Some(7), ..call(5) });
    for (worker, call) in [(&other, &kept), (&silent, &late)] {
        let raw = RawReply {
            key: key(5),
            number: 1,
            bytes: call.raw_reply.clone(),
            endpoint: None,
            received_ms: 1,
            latency_ms: Some(5),
        };
        worker.run(worker.store.record_raw(&raw)).unwrap();
        worker.run(worker.store.record_call_with_attempt(call, &attempt(5))).unwrap();
    }
    assert_eq!(other.run(other.store.call(&key(5))).unwrap(), Some(kept));
    assert_eq!(other.run(other.store.raw_replies(&key(5))).unwrap().len(), 2);
    assert_eq!(other.run(other.store.attempts(&key(5))).unwrap().len(), 2);
}

fn attempt(number: u32) -> AttemptRecord {
    AttemptRecord {
        key: key(number),
        number: 1,
        outcome: "ok".into(),
        http_status: None,
        message: "with a \0 in it".into(),
        usage: divvy_core::chat::Usage::default(),
        price_nanos: None,
        started_ms: 1,
        latency_ms: 1,
    }
}

#[test]
fn a_worker_that_is_heard_of_keeps_its_work_however_long_it_takes() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("heartbeat");
    // Long enough for a busy machine to get from one line here to the next.
    let lease = Duration::from_secs(2);
    let (bob, ann, units) = (Worker::new(&url, LONG), Worker::new(&url, lease), units(1));
    let claimed = ann.claim(&units, 1);
    ann.run(async { tokio::time::sleep(2 * lease).await });
    assert_eq!(bob.claim(&units, 1).mine.len(), 0);
    assert!(ann.settle(&units[0], claimed.mine[0].1, ItemState::Done));
}

#[test]
fn what_failed_since_a_worker_began_is_not_tried_by_it_again() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("failed");
    let (ann, bob, units) = (Worker::new(&url, LONG), Worker::new(&url, LONG), units(1));
    let began = bob.run(bob.store.moment(&plan(), STAGE)).unwrap();
    let claimed = ann.claim(&units, 1);
    assert!(ann.settle(&units[0], claimed.mine[0].1, ItemState::Failed("timed-out".into())));
    assert_eq!(bob.run(bob.store.claim(&plan(), STAGE, &units, 1, began)).unwrap(), Claims::default());
    let later = bob.run(bob.store.moment(&plan(), STAGE)).unwrap();
    assert_eq!(bob.run(bob.store.claim(&plan(), STAGE, &units, 1, later)).unwrap().mine.len(), 1, "the next run does");
}

/// Cheap; the orders of events must only be many and uneven.
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn no_window_lends_more_than_the_rate() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("rates");
    let workers = [Worker::new(&url, LONG), Worker::new(&url, LONG), Worker::new(&url, LONG)];
    let share = Share {
        window: Duration::from_millis(400),
        most_requests: Some(7),
        most_tokens: Some(1_000),
        want_requests: 2,
        need_tokens: 90,
        want_tokens: 180,
    };
    let (mut state, mut waits) = (1, 0);
    while waits < 12 {
        let worker = &workers[random(&mut state, 3) as usize];
        match worker.run(worker.store.lend("lane", &share, &[])).unwrap() {
            Lent::Some(lent) => assert!((1..=2).contains(&lent.requests) && lent.tokens >= 90, "{lent:?}"),
            Lent::Wait(wait) => {
                assert!(wait <= share.window);
                waits += 1;
                std::thread::sleep(wait);
            }
        }
        let sums = server.query("rates", "SELECT sum(requests), sum(tokens) FROM divvy.lent");
        let (requests, tokens) = sums.split_once('|').unwrap();
        assert!(requests.parse::<i64>().unwrap() <= 7 && tokens.parse::<i64>().unwrap() <= 1_000, "{sums}");
    }
    // What took less than was lent makes room at once; a request larger than the limit goes alone.
    let [ann, bob, _] = &workers;
    let alone = Share { need_tokens: 5_000, want_tokens: 5_000, ..share };
    std::thread::sleep(share.window);
    let Lent::Some(lent) = ann.run(ann.store.lend("lane", &alone, &[])).unwrap() else { panic!("nothing was lent") };
    assert_eq!(lent.tokens, 1_000);
    assert!(matches!(bob.run(bob.store.lend("lane", &share, &[])).unwrap(), Lent::Wait(_)));
    let used = divvy_store::LentBefore { requests: 1, tokens: 300, ..lent };
    assert!(matches!(ann.run(ann.store.lend("lane", &share, &[used])).unwrap(), Lent::Some(_)));
}

/// A worker to which the server is slow uses its shares later than others do.
#[test]
fn a_share_counts_for_its_own_time_whoever_asks_next() {
    let Some(server) = Postgres::start() else { return };
    let url = server.database("windows");
    let worker = Worker::new(&url, LONG);
    let ask = |window_ms| {
        let share = Share {
            window: Duration::from_millis(window_ms),
            most_requests: Some(1),
            most_tokens: None,
            want_requests: 1,
            need_tokens: 0,
            want_tokens: 0,
        };
        worker.run(worker.store.lend("lane", &share, &[])).unwrap()
    };
    assert!(matches!(ask(60_000), Lent::Some(_)));
    let Lent::Wait(wait) = ask(1) else { panic!("it is lent") };
    assert!(wait > Duration::from_secs(50), "{wait:?}");
    assert_eq!(server.query("windows", "UPDATE divvy.lent SET until = now()"), "");
    assert!(matches!(ask(1), Lent::Some(_)));
}

#[test]
fn a_server_that_restarts_costs_time_and_nothing_else() {
    let Some(mut server) = Postgres::start() else { return };
    let url = server.database("restart");
    let worker = Worker::new(&url, LONG);
    let store = worker.store.clone();
    let writing = std::thread::spawn(move || {
        worker.run(async {
            for number in 0..400 {
                let raw = RawReply {
                    key: key(number),
                    number: 1,
                    bytes: vec![1],
                    endpoint: None,
                    received_ms: 1,
                    latency_ms: Some(5),
                };
                let record = call(number);
                let (kept, recorded) = tokio::join!(store.record_raw(&raw), store.record_call(&record));
                kept.and(recorded).unwrap();
                store.add_stage_time(&plan(), STAGE, 1).await.unwrap();
            }
            store.close().await.unwrap();
        });
    });
    for crash in [false, true, true] {
        std::thread::sleep(Duration::from_millis(150));
        if crash {
            server.crash()
        } else {
            server.stop()
        }
        std::thread::sleep(Duration::from_millis(100));
        server.go_on();
    }
    assert!(!writing.is_finished(), "it was written before the server went away; there must be more to write");
    writing.join().unwrap();
    let count = |table: &str| server.query("restart", &format!("SELECT count(*) FROM divvy.{table}"));
    assert_eq!(
        [count("call"), count("raw_reply"), count("stage_time")],
        ["400", "400", "400"],
        "none lost, none twice"
    );
}

#[test]
fn a_server_that_stays_away_is_said_to_be_away() {
    let Some(mut server) = Postgres::start() else { return };
    let url = server.database("away");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let open = |patience| runtime.block_on(PostgresStore::open(&url, Terms { lease: LONG, patience }));
    let store = open(Duration::from_millis(300)).unwrap();
    let wrong = url.replace(PASSWORD, "wrong");
    let refused = runtime.block_on(PostgresStore::open(&wrong, Terms::default())).unwrap_err().to_string();
    assert!(refused.contains("password authentication failed") && !refused.contains("wrong@"), "{refused}");
    let missing = url.replace("/away?", "/nowhere?");
    let refused = runtime.block_on(PostgresStore::open(&missing, Terms::default())).unwrap_err().to_string();
    assert!(refused.contains("nowhere"), "{refused}");
    let empty = server.database("empty");
    let none = runtime.block_on(PostgresStore::open_read(&empty)).unwrap_err();
    assert!(matches!(none, StoreError::Missing { .. }), "{none}");
    server.stop();
    for error in [
        runtime.block_on(store.record_call(&call(1))).unwrap_err(),
        runtime.block_on(store.call(&key(1))).unwrap_err(),
        open(LONG).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Away { .. }), "{error}");
        assert!(
            !error.to_string().contains(PASSWORD) && error.to_string().contains("run the same command again"),
            "{error}"
        );
    }
    server.go_on();
    runtime.block_on(store.record_call(&call(1))).unwrap();
    let reading = runtime.block_on(PostgresStore::open_read(&url)).unwrap();
    assert_eq!(runtime.block_on(reading.call(&key(1))).unwrap(), Some(call(1)));
    let unwritten = runtime.block_on(reading.record_call(&call(2))).unwrap_err();
    assert!(matches!(unwritten, StoreError::ReadOnly { .. }), "{unwritten}");
}
