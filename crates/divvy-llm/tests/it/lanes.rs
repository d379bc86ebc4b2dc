//! Two names of one model at one endpoint, whose limits they keep to together.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use divvy_core::chat::ChatRequest;
use divvy_llm::{
    ApiKey, Chat, ChatError, Client, ClientConfig, Deltas, Endpoint, ErrorKind, Hear, HttpConfig, Lanes, Live, Rates,
    Scripted, Step, Transfer,
};
use divvy_store::Store;
use divvy_testkit::workspace::Workspace;
use futures::{StreamExt, future::join_all};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{config, request};

/// Notes when each request came, how many were there at once, and how many at most.
#[derive(Default)]
struct Log {
    came: Vec<Instant>,
    now: usize,
    most: usize,
}

/// Answers after two seconds.
#[derive(Clone, Default)]
struct Endpoints(Arc<Mutex<Log>>);

impl Chat for Endpoints {
    fn start(&self, request: ChatRequest, cancel: CancellationToken) -> Deltas {
        let log = Arc::clone(&self.0);
        {
            let mut log = log.lock().unwrap();
            log.came.push(Instant::now());
            log.now += 1;
            log.most = log.most.max(log.now);
        }
        let inner = Scripted::rule(|_| Step::After(Duration::from_secs(2), "yes".into())).start(request, cancel);
        inner.enumerate().map(move |(at, delta)| (log.lock().unwrap().now -= at, delta).1).boxed()
    }
}

impl Endpoints {
    /// Most requests in a minute, and at once.
    fn most(&self) -> (usize, usize) {
        let log = self.0.lock().unwrap();
        let within = |from: &Instant| log.came.iter().filter(|at| (*from..*from + MINUTE).contains(at)).count();
        (log.came.iter().map(within).max().unwrap(), log.most)
    }
}

const MINUTE: Duration = Duration::from_mins(1);
const FIVE: Rates = Rates { requests: Some(5), tokens: None };

/// As one of two names makes it.
fn endpoint(server: &Endpoints, lane: &str) -> Endpoint {
    let (rates, lane) = (FIVE, Some(lane.to_owned()));
    Endpoint { lane, rates, max_concurrency: 2, ..Endpoint::new(Arc::new(server.clone())) }
}

/// Ten requests each of two names, which mean one place or two.
async fn ask_both<F: Future<Output = Result<divvy_llm::Call, ChatError>>>(
    make: impl Fn(ClientConfig, Endpoint) -> Box<dyn Fn(usize) -> F>,
) {
    for (places, most) in [(["here", "here"], (5, 2)), (["here", "there"], (10, 4))] {
        let (server, lanes) = (Endpoints::default(), Lanes::default());
        let names = places.map(|lane| {
            let config = config(|c| ClientConfig { lanes: lanes.clone(), ..c });
            make(config, endpoint(&server, lane))
        });
        let calls = names.iter().enumerate().flat_map(|(name, ask)| (0..10).map(move |k| ask(10 * name + k)));
        for call in join_all(calls).await {
            call.unwrap();
        }
        assert_eq!(server.most(), most, "{places:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_clients_of_one_place_together_keep_to_its_limits() {
    let workspace = Workspace::new();
    let store = Store::open(&workspace.file("store.db")).await.unwrap();
    // A request that was answered before is not asked again.
    let asked = Arc::<AtomicUsize>::default();
    ask_both(|config, endpoint| {
        let (client, asked) = (Arc::new(Client::new(vec![endpoint], store.clone(), config)), Arc::clone(&asked));
        Box::new(move |_| {
            let (client, number) = (Arc::clone(&client), asked.fetch_add(1, Relaxed));
            async move { client.complete(request(&number.to_string()), &CancellationToken::new()).await }
        })
    })
    .await;
}

struct Deaf;

impl Hear for Deaf {
    fn piece(&self, _text: &str) {}
}

#[tokio::test(start_paused = true)]
async fn two_voices_of_one_place_together_keep_to_its_limits() {
    ask_both(|config, endpoint| {
        let live = Arc::new(Live::new(vec![endpoint], &config));
        Box::new(move |number| {
            let live = Arc::clone(&live);
            async move { live.ask(request(&number.to_string()), Instant::now() + 60 * MINUTE, Arc::new(Deaf)).await }
        })
    })
    .await;
}

/// One name hears that the key is refused: the other is not sent to hear the same.
#[tokio::test]
async fn what_one_name_hears_of_a_place_the_other_knows() {
    let workspace = Workspace::new();
    let store = Store::open(&workspace.file("store.db")).await.unwrap();
    let server = Arc::new(Scripted::rule(|_| Step::Fail(ChatError::new(ErrorKind::Unauthorized, "no such key"))));
    let lanes = Lanes::default();
    for name in ["a", "b"] {
        let config = config(|c| ClientConfig { lanes: lanes.clone(), ..c });
        let endpoint = Endpoint { lane: Some("here".into()), ..Endpoint::new(server.clone()) };
        let client = Client::new(vec![endpoint], store.clone(), config);
        let error = client.complete(request(name), &CancellationToken::new()).await.unwrap_err();
        assert_eq!((&*error.message, server.asked().len()), ("no such key", 1));
    }
}

#[test]
fn a_place_is_a_url_a_model_and_a_key() {
    let lane = |url: &str, model: &str, key: Option<&str>| {
        let api_key = key.map_or(ApiKey::None, |key| ApiKey::Env(key.into()));
        HttpConfig { url: url.into(), model: model.into(), api_key, transfer: Transfer::Whole }.lane().unwrap()
    };
    let here = lane("http://x/v1", "m", None);
    for same in ["http://x/v1/", "http://x/v1/chat/completions"] {
        assert_eq!(lane(same, "m", None), here);
    }
    let mine = lane("http://user:secret@x/v1", "m", None);
    assert_eq!(lane("http://user:secret@x/v1/", "m", None), mine);
    // No such variable is set.
    let others = [
        lane("http://y/v1", "m", None),
        lane("http://x/v1", "n", None),
        lane("http://x/v1", "m", Some("DIVVY_TEST_ONE_KEY")),
        lane("http://x/v1", "m", Some("DIVVY_TEST_ANOTHER_KEY")),
        mine,
        lane("http://user:secret2@x/v1", "m", None),
        lane("http://x/v1?secret=1", "m", None),
        lane("http://x/v1?secret=2", "m", None),
        here,
    ];
    let apart: BTreeSet<&String> = others.iter().collect();
    assert!(apart.len() == others.len() && !others.iter().any(|lane| lane.contains("secret")), "{others:?}");
}
