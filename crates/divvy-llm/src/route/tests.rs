use divvy_core::chat::{Finish, Reply, Usage};
use divvy_store::Amount;
use tokio::time::sleep;

use super::*;
use crate::{
    budget::spend::of_failure,
    layer::testing::job,
    limit::{Limit, Seats},
    rate::{LONGEST_HOLD, Minute, Rate, Rates},
};

/// Answers after a while, or fails as it is told.
#[derive(Default)]
struct Server {
    fails: Mutex<Option<ErrorKind>>,
    asks_for_pause: Mutex<Option<Duration>>,
    asked: AtomicUsize,
    takes: Duration,
}

impl Server {
    fn failing(kind: ErrorKind) -> Arc<Self> {
        Arc::new(Self { fails: Mutex::new(Some(kind)), ..Self::default() })
    }

    fn asked(&self) -> usize {
        self.asked.load(atomic::Ordering::Relaxed)
    }
}

impl Layer for Arc<Server> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        self.asked.fetch_add(1, atomic::Ordering::Relaxed);
        sleep(self.takes).await;
        if let Some(kind) = *self.fails.lock().unwrap() {
            return Err(ChatError::new(kind, "no"));
        }
        if let Some(pause) = *self.asks_for_pause.lock().unwrap() {
            let error = ChatError::new(ErrorKind::RateLimited, "slower");
            return Err(ChatError { status: Some(429), retry_after: Some(pause), ..error });
        }
        let reply = Reply { text: "yes".into(), finish: Finish::Stop, usage: Usage::default() };
        Ok(Call { key: job.key, reply, from_cache: false, price_nanos: None, latency_ms: 0 })
    }
}

fn route<L: Layer>(lanes: Vec<(u32, L)>, rest: Rest) -> Route<L> {
    let several = lanes.len() > 1;
    Route::new(lanes.into_iter().map(|(weight, lane)| (weight, Health::new(several, rest), lane)).collect(), rest)
}

fn slow() -> Arc<Server> {
    Arc::new(Server { takes: Duration::from_secs(1), ..Server::default() })
}

async fn all<L: Layer>(route: &Route<L>, count: usize) -> usize {
    let calls = futures::future::join_all((0..count).map(|_| route.call(job(9)))).await;
    calls.iter().filter(|call| call.is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn requests_are_shared_out_by_weight() {
    let (small, large) = (slow(), slow());
    let route = route(vec![(1, Arc::clone(&small)), (3, Arc::clone(&large))], Rest::Wait(Duration::from_mins(5)));
    assert_eq!(all(&route, 40).await, 40);
    assert_eq!((small.asked(), large.asked()), (10, 30));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_is_left_alone_until_it_is_back() {
    let (ill, well) = (Server::failing(ErrorKind::ServerError), slow());
    let route = route(vec![(100, Arc::clone(&ill)), (1, Arc::clone(&well))], Rest::Wait(Duration::from_mins(5)));
    for _ in 0..50 {
        let _ = route.call(job(9)).await;
    }
    assert_eq!(ill.asked(), 1, "a healthy one is asked first, whatever the weights");
    *ill.fails.lock().unwrap() = None;
    *well.fails.lock().unwrap() = Some(ErrorKind::Unreachable);
    for _ in 0..30 {
        let _ = route.call(job(9)).await;
    }
    assert!(ill.asked() >= 29, "it stands in for the other one, and is well again: {}", ill.asked());
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_our_key_hands_over_at_once_and_for_good() {
    let (locked, open) = (Server::failing(ErrorKind::Unauthorized), slow());
    let route = route(vec![(9, Arc::clone(&locked)), (1, Arc::clone(&open))], Rest::Wait(Duration::from_mins(5)));
    assert_eq!(all(&route, 9).await + all(&route, 9).await, 18);
    assert!(locked.asked() <= 9 && open.asked() == 18);
    *open.fails.lock().unwrap() = Some(ErrorKind::NotFound);
    assert_eq!(route.call(job(9)).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(route.call(job(9)).await.unwrap_err().kind, ErrorKind::Unauthorized, "nobody is left");
    let standings: Vec<BreakerState> = route.endpoints().map(|(standing, ..)| standing).collect();
    assert_eq!(standings, [BreakerState::Open; 2], "both are seen to be given up");
}

/// A prompt that looks like an attack, or an address that one of the endpoints takes nothing from.
#[tokio::test(start_paused = true)]
async fn what_a_firewall_blocks_is_asked_elsewhere_once() {
    let (walled, open) = (Server::failing(ErrorKind::Blocked), slow());
    let route = route(vec![(9, Arc::clone(&walled)), (1, Arc::clone(&open))], Rest::Wait(Duration::from_mins(5)));
    assert_eq!(all(&route, 12).await, 12);
    let asked = (walled.asked(), open.asked());
    assert_eq!(all(&route, 1).await, 1);
    assert_eq!((walled.asked(), open.asked()), (asked.0, asked.1 + 1), "it is left alone");
    *open.fails.lock().unwrap() = Some(ErrorKind::Blocked);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(route.call(job(9)).await.unwrap_err().kind, ErrorKind::Blocked);
    assert!((walled.asked(), open.asked()) <= (asked.0 + 1, asked.1 + 2), "each once");
    let alone = self::route(vec![(1, Arc::clone(&walled))], Rest::Wait(Duration::from_mins(5)));
    assert_eq!((all(&alone, 20).await, alone.endpoints().next().unwrap().0), (0, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_only_endpoint_rests_once_it_had_answered() {
    let server = Arc::new(Server::default());
    let route = route(vec![(1, Arc::clone(&server))], Rest::Wait(Duration::from_mins(5)));
    route.call(job(9)).await.unwrap();
    *server.fails.lock().unwrap() = Some(ErrorKind::ServerError);
    for _ in 0..5 {
        route.call(job(9)).await.unwrap_err();
    }
    let (start, asked) = (Instant::now(), server.asked());
    let back = async {
        sleep(Duration::from_secs(20)).await;
        *server.fails.lock().unwrap() = None;
    };
    let (answered, ()) = tokio::join!(all(&route, 50), back);
    assert!(answered >= 47 && start.elapsed() < Duration::from_mins(2), "{answered} after {:?}", start.elapsed());
    assert!(server.asked() - asked <= 50, "one probe at a time while it was ill");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_lets_the_next_one_go() {
    let server = slow();
    let route = route(vec![(1, Arc::clone(&server))], Rest::Wait(Duration::from_mins(5)));
    route.call(job(9)).await.unwrap();
    *server.fails.lock().unwrap() = Some(ErrorKind::ServerError);
    assert_eq!(all(&route, 5).await, 0);
    sleep(Duration::from_secs(6)).await;
    let _ = tokio::time::timeout(Duration::from_millis(1), route.call(job(9))).await;
    *server.fails.lock().unwrap() = None;
    assert_eq!(all(&route, 1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_does_not_come_back_is_an_error_in_the_end() {
    let server = Arc::new(Server::default());
    let route = route(vec![(1, Arc::clone(&server))], Rest::Wait(Duration::from_mins(5)));
    route.call(job(9)).await.unwrap();
    *server.fails.lock().unwrap() = Some(ErrorKind::ServerError);
    assert_eq!(all(&route, 30).await, 0);
    let start = Instant::now();
    assert_eq!(all(&route, 30).await, 0);
    assert!(start.elapsed() < Duration::from_mins(10), "{:?}", start.elapsed());
    let error = route.call(job(9)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_tried_again_nothing_rests() {
    let server = Arc::new(Server::default());
    let route = route(vec![(1, Arc::clone(&server))], Rest::Never);
    route.call(job(9)).await.unwrap();
    *server.fails.lock().unwrap() = Some(ErrorKind::TimedOut);
    for _ in 0..20 {
        route.call(job(9)).await.unwrap_err();
    }
    assert_eq!(server.asked(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_own_time_was_over_says_nothing_about_the_endpoint() {
    let server = Arc::new(Server::default());
    let route = route(vec![(1, Arc::clone(&server))], Rest::Wait(Duration::from_mins(5)));
    route.call(job(9)).await.unwrap();
    for (kind, standing) in [(ErrorKind::OutOfTime, BreakerState::Closed), (ErrorKind::TimedOut, BreakerState::Open)] {
        *server.fails.lock().unwrap() = Some(kind);
        for _ in 0..5 {
            assert_eq!(route.call(job(9)).await.unwrap_err().kind, kind);
        }
        assert_eq!(route.endpoints().next().unwrap().0, standing, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_that_all_endpoints_rest_is_charged_nothing() {
    let server = Server::failing(ErrorKind::TimedOut);
    let route = route(vec![(1, Arc::clone(&server)), (1, Arc::clone(&server))], Rest::Brief);
    for _ in 0..20 {
        route.call(job(9)).await.unwrap_err();
    }
    let asked = server.asked();
    let error = route.call(job(9)).await.unwrap_err();
    assert_eq!((server.asked(), error.usage), (asked, UNCHARGED), "{error}");
    let most = Amount { calls: 1, tokens: 25, nanos: 7 };
    assert_eq!(of_failure(&error, None, most), Amount::default(), "it is no call either");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_wants_another_word_is_not_ill() {
    let servers = [ErrorKind::OtherWord, ErrorKind::OtherWord].map(Server::failing);
    let route = route(servers.iter().map(|server| (1, Arc::clone(server))).collect(), Rest::Brief);
    for _ in 0..40 {
        route.call(job(9)).await.unwrap_err();
    }
    assert_eq!(servers.iter().map(|server| server.asked()).sum::<usize>(), 40);
    let standings: Vec<BreakerState> = route.endpoints().map(|(standing, ..)| standing).collect();
    assert_eq!(standings, [BreakerState::Closed; 2]);
}

const PATIENCE: Duration = Duration::from_mins(5);

/// Seats before a server, and the pauses that it asks for.
type Line = Limit<Rate<Arc<Server>>>;

fn seats(most: usize, server: &Arc<Server>) -> Line {
    let rate = Rate::new(Arc::new(Minute::new(Rates::default())), LONGEST_HOLD, Arc::clone(server));
    Limit::new(Seats::new(most, None), PATIENCE, true, rate)
}

/// So many requests, each asked again until it is answered. How long they stood in line, together.
async fn all_answered(route: &Route<Line>, count: usize) -> Duration {
    let waits = futures::future::join_all((0..count).map(|_| async {
        let job = job(9);
        while route.call(job.clone()).await.is_err() {}
        job.waited.so_far()
    }));
    waits.await.into_iter().sum()
}

/// Fails after five minutes, which is when a request is given up.
fn hanging() -> Arc<Server> {
    let takes = Duration::from_mins(5);
    Arc::new(Server { fails: Mutex::new(Some(ErrorKind::TimedOut)), takes, ..Server::default() })
}

#[tokio::test(start_paused = true)]
async fn the_line_at_an_endpoint_that_hangs_moves_when_its_breaker_opens() {
    let (hangs, well) = (hanging(), slow());
    let lanes = vec![(1, seats(8, &hangs)), (1, seats(8, &well))];
    let (route, start) = (route(lanes, Rest::Wait(Duration::from_mins(5))), Instant::now());
    let waited = all_answered(&route, 200).await;
    assert_eq!((hangs.asked(), well.asked()), (8, 200), "those that were out when it opened");
    assert!(start.elapsed() < Duration::from_secs(330), "{:?}", start.elapsed());
    assert!(waited >= 92 * Duration::from_mins(5), "time in a line that was left is time in line: {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_in_line_is_sent_to_an_only_endpoint_while_it_rests() {
    let server = slow();
    let route = route(vec![(1, seats(8, &server))], Rest::Wait(Duration::from_mins(5)));
    all_answered(&route, 8).await;
    *server.fails.lock().unwrap() = Some(ErrorKind::TimedOut);
    let back = async {
        sleep(Duration::from_secs(60)).await;
        *server.fails.lock().unwrap() = None;
        server.asked()
    };
    let (_, asked) = tokio::join!(all_answered(&route, 100), back);
    // Rests of 5, 10, 20 and 40 seconds, with a probe after each.
    assert!(
        (17..=20).contains(&asked),
        "{asked}: eight were out when it opened, besides the first eight and the probes"
    );
    assert_eq!(server.asked() - asked, 100, "all of them once it was back");
}

/// Two names of one place: the tries of one open the breaker, and the other's have stood in line meanwhile.
#[tokio::test(start_paused = true)]
async fn nobody_in_the_line_of_another_name_is_sent_while_the_place_rests() {
    let (server, rest) = (slow(), Rest::Wait(Duration::from_mins(5)));
    let (health, seats) = (Health::new(false, rest), Seats::new(8, None));
    let [one, other] = [(); 2].map(|()| {
        let rate = Rate::new(Arc::new(Minute::new(Rates::default())), LONGEST_HOLD, Arc::clone(&server));
        Route::new(vec![(1, Arc::clone(&health), Limit::new(Arc::clone(&seats), PATIENCE, true, rate))], rest)
    });
    all_answered(&one, 8).await;
    *server.fails.lock().unwrap() = Some(ErrorKind::TimedOut);
    let seen = async {
        sleep(Duration::from_secs(5)).await;
        let resting = server.asked();
        *server.fails.lock().unwrap() = None;
        resting
    };
    let (failed, _, resting) = tokio::join!(all(&one, 8), all_answered(&other, 100), seen);
    assert_eq!((failed, resting, server.asked()), (0, 16, 116), "the first eight, and those that were out");
}

/// The name that hears of the pause has no other place to go, but those of the other name have.
#[tokio::test(start_paused = true)]
async fn a_place_that_wants_a_pause_gives_the_line_of_another_name_to_a_free_one() {
    let (busy, free, rest) = (slow(), slow(), Rest::Wait(Duration::from_mins(5)));
    let (health, seats_there) = (Health::new(false, rest), Seats::new(4, None));
    let minute = Arc::new(Minute::new(Rates::default()));
    let there = || {
        let rate = Rate::new(Arc::clone(&minute), LONGEST_HOLD, Arc::clone(&busy));
        (1, Arc::clone(&health), Limit::new(Arc::clone(&seats_there), PATIENCE, true, rate))
    };
    let one = Route::new(vec![there()], rest);
    let other = Route::new(vec![there(), (1, Health::new(true, rest), seats(4, &free))], rest);
    *busy.asks_for_pause.lock().unwrap() = Some(Duration::from_mins(3));
    let start = Instant::now();
    let (refused, _) = tokio::join!(all(&one, 4), all_answered(&other, 100));
    assert_eq!((refused, busy.asked(), free.asked()), (0, 4, 100));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_wants_a_pause_gives_its_line_to_a_free_one() {
    let (busy, free) = (slow(), slow());
    let lanes = vec![(1, seats(4, &busy)), (1, seats(4, &free))];
    let (route, start) = (route(lanes, Rest::Wait(Duration::from_mins(5))), Instant::now());
    *busy.asks_for_pause.lock().unwrap() = Some(Duration::from_mins(3));
    let waited = all_answered(&route, 100).await;
    assert_eq!((busy.asked(), free.asked()), (4, 100), "those that it refused went to the other one, too");
    assert!(start.elapsed() < Duration::from_secs(30) && !waited.is_zero(), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn of_two_that_want_a_pause_the_first_to_be_back_gets_the_line_and_keeps_it() {
    let (longer, shorter) = (slow(), slow());
    let lanes = vec![(1, seats(4, &longer)), (1, seats(4, &shorter))];
    let (route, start) = (route(lanes, Rest::Wait(Duration::from_mins(5))), Instant::now());
    *longer.asks_for_pause.lock().unwrap() = Some(Duration::from_mins(3));
    *shorter.asks_for_pause.lock().unwrap() = Some(Duration::from_mins(1));
    let back = async {
        sleep(Duration::from_secs(2)).await;
        *shorter.asks_for_pause.lock().unwrap() = None;
    };
    tokio::join!(all_answered(&route, 100), back);
    assert_eq!((longer.asked(), shorter.asked()), (4, 104));
    assert!((61..100).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}
