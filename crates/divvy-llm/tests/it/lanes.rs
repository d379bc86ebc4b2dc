//! Two names of one model at one endpoint, whose limits they keep to together.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
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
use futures::{StreamExt, future::join_all, stream};
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

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const FIVE: Rates = Rates { requests: Some(5), tokens: None };

/// As one of two names makes it.
fn endpoint(server: &Endpoints, lane: &str) -> Endpoint {
    let (rates, lane) = (FIVE, Some(lane.to_owned()));
    Endpoint { lane, rates, max_concurrency: 2, ..Endpoint::new(Arc::new(server.clone())) }
}

/// Ten requests each of two names, which mean one place or two. Returns the most in a minute, and at once.
async fn ask_both<F: Future<Output = Result<divvy_llm::Call, ChatError>>>(
    places: [&str; 2],
    make: impl Fn(ClientConfig, Endpoint) -> Box<dyn Fn(usize) -> F>,
) -> (usize, usize) {
    let (server, lanes) = (Endpoints::default(), Lanes::default());
    let names = places.map(|lane| {
        let config = config(|c| ClientConfig { lanes: lanes.clone(), ..c });
        make(config, endpoint(&server, lane))
    });
    let calls = names.iter().enumerate().flat_map(|(name, ask)| (0..10).map(move |k| ask(10 * name + k)));
    for call in join_all(calls).await {
        call.unwrap();
    }
    server.most()
}

#[tokio::test(start_paused = true)]
async fn two_clients_of_one_place_together_keep_to_its_limits() {
    let workspace = Workspace::new();
    let store = Store::open(&workspace.file("store.db")).await.unwrap();
    let start = Instant::now();
    let (_, at_once) = ask_both(["here", "here"], |config, endpoint| {
        let client = Arc::new(Client::new(vec![endpoint], store.clone(), config));
        Box::new(move |number| {
            let client = Arc::clone(&client);
            async move { client.complete(request(&number.to_string()), &CancellationToken::new()).await }
        })
    })
    .await;
    // The clock leaps while the store is at work, so that nobody knows in which minute one reached the endpoint; but the
    // last five of twenty leave the line three minutes after the first.
    assert!(start.elapsed() >= 3 * MINUTE && at_once <= 2, "{:?}, {at_once} at once", start.elapsed());
}

struct Deaf;

impl Hear for Deaf {
    fn piece(&self, _text: &str) {}
}

#[tokio::test(start_paused = true)]
async fn two_voices_of_one_place_together_keep_to_its_limits() {
    for (places, most) in [(["here", "here"], (5, 2)), (["here", "there"], (10, 4))] {
        let asked = ask_both(places, |config, endpoint| {
            let live = Arc::new(Live::new(vec![endpoint], &config));
            Box::new(move |number| {
                let live = Arc::clone(&live);
                async move { live.ask(request(&number.to_string()), Instant::now() + 60 * MINUTE, Arc::new(Deaf)).await }
            })
        });
        assert_eq!(asked.await, most, "{places:?}");
    }
}

/// Answers once; from then on it fails after a second, or answers again at once.
#[derive(Clone)]
struct Ill {
    log: Endpoints,
    well: Arc<AtomicBool>,
}

impl Chat for Ill {
    fn start(&self, request: ChatRequest, cancel: CancellationToken) -> Deltas {
        let mut log = self.log.0.lock().unwrap();
        log.came.push(Instant::now());
        if log.came.len() == 1 || self.well.load(Relaxed) {
            return Scripted::rule(|_| Step::Say("yes".into())).start(request, cancel);
        }
        let failed = Err(ChatError::new(ErrorKind::ServerError, "ill"));
        stream::once(tokio::time::sleep(SECOND)).map(move |()| failed.clone()).boxed()
    }
}

impl Ill {
    fn new() -> Self {
        Self { log: Endpoints::default(), well: Arc::default() }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { lane: Some("here".into()), max_concurrency: 5, ..Endpoint::new(Arc::new(self.clone())) }
    }

    fn asked(&self) -> usize {
        self.log.0.lock().unwrap().came.len()
    }
}

async fn ask(voice: &Live) -> Result<divvy_llm::Call, ChatError> {
    voice.ask(request("hello"), Instant::now() + MINUTE, Arc::new(Deaf)).await
}

#[tokio::test(start_paused = true)]
async fn the_failures_of_one_voice_clear_the_line_of_the_other() {
    let (server, lanes) = (Ill::new(), Lanes::default());
    let [one, other] = [(); 2].map(|()| {
        let config = config(|c| ClientConfig { lanes: lanes.clone(), ..c });
        Live::new(vec![server.endpoint()], &config)
    });
    ask(&one).await.unwrap();
    let calls = [[&one; 5], [&other; 5]].concat().into_iter().map(ask);
    let errors: Vec<ChatError> = join_all(calls).await.into_iter().map(Result::unwrap_err).collect();
    assert_eq!(server.asked(), 1 + 5, "the other's stood in line until it was left alone");
    assert!(errors[5..].iter().all(|error| error.message.contains("left alone for a while")), "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_one_client_leaves_alone_the_other_does_not_ask_either() {
    let workspace = Workspace::new();
    let store = Store::open(&workspace.file("store.db")).await.unwrap();
    let (server, lanes) = (Ill::new(), Lanes::default());
    let [one, other] = [(); 2].map(|()| {
        let mut config = config(|c| ClientConfig { lanes: lanes.clone(), ..c });
        config.retry.attempts = 5;
        Client::new(vec![server.endpoint()], store.clone(), config)
    });
    let never = CancellationToken::new();
    one.complete(request("first"), &never).await.unwrap();
    one.complete(request("second"), &never).await.unwrap_err();
    let came = server.log.0.lock().unwrap().came.clone();
    assert_eq!(came.len(), 1 + 5);
    server.well.store(true, Relaxed);
    other.complete(request("third"), &never).await.unwrap();
    // It failed a second after it came, and rests for five.
    assert!(server.log.0.lock().unwrap().came[6] >= came[5] + 6 * SECOND);
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
    for same in
        ["http://x/v1/", "http://x/v1/chat/completions", "http://x/v1//chat/completions", "http://x/v1?api-version=1"]
    {
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
