//! A server that vanishes without a word, as when its machine loses power or a router forgets a connection: what was sent is
//! taken, and nothing ever comes back.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use divvy_core::records::ItemState;
use divvy_store::{RawReply, Terms};
use divvy_testkit::postgres::Postgres;

use super::{LONG, Worker, places, units};
use crate::{call, key};

/// Stands between a worker and the server.
struct Wire {
    url: String,
    /// The next connection on which a worker says this is mute from then on.
    mute_at: Arc<Mutex<Option<Vec<u8>>>>,
    _folder: tempfile::TempDir,
}

impl Wire {
    fn before(url: &str) -> Self {
        const SOCKET: &str = ".s.PGSQL.5432";
        let (_, socket) = url.split_once("host=").unwrap();
        let (behind, folder) = (format!("{socket}/{SOCKET}"), tempfile::tempdir().unwrap());
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let mute_at = Arc::<Mutex<Option<Vec<u8>>>>::default();
        let words = Arc::clone(&mute_at);
        std::thread::spawn(move || {
            for worker in listener.incoming() {
                carry(worker.unwrap(), UnixStream::connect(&behind).unwrap(), Arc::clone(&words));
            }
        });
        Self { url: url.replace(socket, folder.path().to_str().unwrap()), mute_at, _folder: folder }
    }

    fn mute_at(&self, word: &[u8]) {
        *self.mute_at.lock().unwrap() = Some(word.to_vec());
    }

    fn was_mute(&self) -> bool {
        self.mute_at.lock().unwrap().is_none()
    }
}

fn carry(worker: UnixStream, server: UnixStream, words: Arc<Mutex<Option<Vec<u8>>>>) {
    let mute = Arc::new(AtomicBool::new(false));
    let (asks, answers, is_mute) = (worker.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&mute));
    let hears = move |sent: &[u8]| {
        let mut word = words.lock().unwrap();
        if word.as_ref().is_some_and(|word| sent.windows(word.len()).any(|part| part == word)) {
            *word = None;
            mute.store(true, Ordering::SeqCst);
        }
        true
    };
    std::thread::spawn(move || pass(asks, server, hears));
    std::thread::spawn(move || pass(answers, worker, move |_| !is_mute.load(Ordering::SeqCst)));
}

/// What comes from one end goes to the other, if it `lets` it.
fn pass(mut from: UnixStream, mut to: UnixStream, lets: impl Fn(&[u8]) -> bool) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if lets(&bytes[..read]) && to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    // Whoever is gone, the other end is told.
    let _ = to.shutdown(Shutdown::Write);
}

/// Half of it is the longest silence.
const PATIENCE: Duration = Duration::from_secs(6);

#[test]
fn what_was_written_when_the_server_fell_silent_is_written_once() {
    let Some(server) = Postgres::start() else { return };
    let wire = Wire::before(&server.database("mute"));
    let worker = Worker::on(&wire.url, Terms { lease: LONG, patience: PATIENCE });
    let raw = RawReply { key: key(1), number: 1, bytes: vec![1], endpoint: None, received_ms: 1, latency_ms: None };
    wire.mute_at(b"COMMIT\0");
    worker.run(worker.store.record_raw(&raw)).unwrap();
    assert!(wire.was_mute());
    // Before anything was committed, and where it is taken back.
    wire.mute_at(b"BEGIN\0");
    worker.run(worker.store.record_call(&call(1))).unwrap();
    assert!(wire.was_mute());
    let count = |table: &str| server.query("mute", &format!("SELECT count(*) FROM divvy.{table}"));
    assert_eq!([count("raw_reply"), count("call")], ["1", "1"]);
}

#[test]
fn items_whose_claim_was_not_heard_of_are_this_workers_all_the_same() {
    let Some(server) = Postgres::start() else { return };
    let wire = Wire::before(&server.database("unheard"));
    let (worker, units) = (Worker::on(&wire.url, Terms { lease: LONG, patience: PATIENCE }), units(4));
    wire.mute_at(b"q/00");
    let claims = worker.claim(&units, 2);
    assert!(wire.was_mute());
    assert_eq!((places(&claims), claims.open.len(), claims.busy), (vec![0, 1], 2, 0));
    let tokens = server.query("unheard", "SELECT count(*), max(token) FROM divvy.item WHERE worker IS NOT NULL");
    assert_eq!(tokens, "2|2", "claimed before the silence, and not anew");
    assert!(claims.mine.iter().all(|(place, token)| worker.settle(&units[*place], *token, ItemState::Done)));
}

/// The lease is much shorter than the silence that is borne.
#[test]
fn a_sign_of_life_that_is_not_answered_is_given_again_before_the_lease_is_over() {
    const LEASE: Duration = Duration::from_secs(6);
    let Some(server) = Postgres::start() else { return };
    let url = server.database("alive");
    let (wire, terms) = (Wire::before(&url), Terms { lease: LEASE, patience: LONG });
    let (worker, other, units) = (Worker::on(&wire.url, terms), Worker::on(&url, terms), units(1));
    assert_eq!(places(&worker.claim(&units, 1)), vec![0]);
    wire.mute_at(b"SET expires");
    worker.run(async { tokio::time::sleep(2 * LEASE).await });
    assert!(wire.was_mute());
    let claims = other.claim(&units, 1);
    assert_eq!((places(&claims), claims.busy), (vec![], 1), "it has been alive all the while");
}
