mod unstated;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use divvy_core::chat::{ChatRequest, Finish, Message, Reply, Usage};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    budget::{End, spend::most_tokens},
    error::ErrorKind,
    layer::testing::job,
};

const SECOND: Duration = Duration::from_secs(1);

/// Notes when it is asked and for how many tokens; replies after a second that it took a tenth of them.
#[derive(Default)]
struct Endpoint {
    log: Arc<Mutex<Vec<(Instant, u64)>>>,
    replies: AtomicUsize,
    /// It tells nothing before so many replies.
    tells_after: usize,
    /// How many had gone out when it told.
    told_at: Arc<Mutex<Option<usize>>>,
    fails: bool,
    silent: bool,
    asks_for_pause: Option<Duration>,
    told: Told,
}

impl Layer for Endpoint {
    fn told(&self) -> Told {
        if self.replies.load(Relaxed) >= self.tells_after { self.told } else { Told::default() }
    }

    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let (tokens_in, tokens_out) = job.most_tokens();
        let most = tokens_in + tokens_out;
        self.log.lock().unwrap().push((Instant::now(), most));
        tokio::time::sleep(Duration::from_secs(1)).await;
        if self.replies.fetch_add(1, Relaxed) + 1 == self.tells_after {
            *self.told_at.lock().unwrap() = Some(self.log.lock().unwrap().len());
        }
        if let Some(asked) = self.asks_for_pause.filter(|_| self.log.lock().unwrap().len() == 1) {
            let error = ChatError::new(ErrorKind::RateLimited, "slow down");
            return Err(ChatError { retry_after: Some(asked), ..error });
        }
        if self.fails {
            return Err(ChatError::new(ErrorKind::ServerError, "no"));
        }
        let count = (!self.silent).then_some(most / 20);
        let usage = Usage { tokens_in: count, tokens_cached: None, tokens_out: count };
        let reply = Reply { text: "yes".into(), finish: Finish::Stop, usage };
        Ok(Call { key: job.key, reply, from_cache: false, price_nanos: None, latency_ms: 0 })
    }
}

fn rate<L: Layer>(rates: Rates, endpoint: L) -> Rate<L> {
    Rate::new(Arc::new(Minute::new(rates)), LONGEST_HOLD, endpoint)
}

/// Sends jobs with these pauses before them; when each reached the endpoint, and what it may have taken.
async fn send(rates: Rates, endpoint: Endpoint, jobs: Vec<(Duration, u32)>) -> Vec<(Duration, u64)> {
    let (log, start) = (Arc::clone(&endpoint.log), Instant::now());
    let rate = Arc::new(rate(rates, endpoint));
    let mut running = Vec::new();
    for (pause, max_tokens) in jobs {
        tokio::time::sleep(pause).await;
        let rate = Arc::clone(&rate);
        running.push(tokio::spawn(async move { rate.call(job(max_tokens)).await.is_ok() }));
    }
    for task in running {
        task.await.unwrap();
    }
    let log = log.lock().unwrap();
    log.iter().map(|(at, tokens)| (*at - start, *tokens)).collect()
}

/// Pauses, of which two in three are none, and tokens asked for.
fn schedule() -> impl Strategy<Value = Vec<(Duration, u32)>> {
    let pause = prop_oneof![2 => Just(0), 1 => 0..9_000_u64].prop_map(Duration::from_millis);
    prop::collection::vec((pause, 1..=300_u32), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_minute_holds_more_than_its_limit_whatever_the_schedule(
        jobs in schedule(),
        requests in 1..18_u64,
        tokens in 400..3_400_u64,
    ) {
        let rates = Rates { requests: Some(requests), tokens: Some(tokens) };
        let (asked, clock) = (jobs.len(), tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build());
        // Silent about usage, so that what was held is what counts.
        let sent = clock.unwrap().block_on(send(rates, Endpoint { silent: true, ..Endpoint::default() }, jobs));
        prop_assert_eq!(sent.len(), asked);
        for (from, _) in &sent {
            let within = sent.iter().filter(|(at, _)| (*from..*from + MINUTE).contains(at));
            let (count, took) = within.fold((0, 0), |(count, took), (_, more)| (count + 1, took + more));
            prop_assert!(count <= requests, "{count} requests in the minute from {from:?}");
            prop_assert!(took <= tokens, "{took} tokens in the minute from {from:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Every request that goes out after the limit is known is the last of a minute that holds no more than the limit, those
    /// that went out before included. What had gone out by then nobody takes back.
    #[test]
    fn a_limit_that_is_learnt_in_the_middle_holds_with_what_went_out_before(
        jobs in schedule(),
        tells_after in 1..40_usize,
        requests in 1..18_u64,
        tokens in 400..3_400_u64,
    ) {
        let quota = |limit| Quota { limit: Some(limit), ..Quota::default() };
        let told = Told { requests: quota(requests), tokens: quota(tokens) };
        let endpoint = Endpoint { silent: true, told, tells_after, ..Endpoint::default() };
        let (asked, told_at) = (jobs.len(), Arc::clone(&endpoint.told_at));
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let sent = clock.unwrap().block_on(send(Rates::default(), endpoint, jobs));
        prop_assert_eq!(sent.len(), asked);
        let told_at = told_at.lock().unwrap().unwrap_or(asked);
        for (place, (to, _)) in sent.iter().enumerate().skip(told_at) {
            let within = sent[..=place].iter().filter(|(at, _)| *at + MINUTE > *to);
            let (count, took) = within.fold((0, 0), |(count, took), (_, more)| (count + 1, took + more));
            prop_assert!(count <= requests, "{count} requests in the minute to {to:?}");
            prop_assert!(took <= tokens, "{took} tokens in the minute to {to:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_learnt_is_used_to_the_full() {
    let quota = Quota { limit: Some(10), ..Quota::default() };
    let told = Told { requests: quota, tokens: Quota::default() };
    // Seven in half a second, before any reply; the rest when the limit is known.
    let jobs = [vec![(Duration::from_millis(70), 5); 7], vec![(3 * SECOND, 5)], vec![(Duration::ZERO, 5); 12]].concat();
    let sent = send(Rates::default(), Endpoint { told, tells_after: 1, ..Endpoint::default() }, jobs).await;
    let seconds: Vec<u64> = sent.iter().map(|(at, _)| at.as_secs()).collect();
    // Three fit beside the seven, whose places come free together.
    assert_eq!(seconds, [vec![0; 7], vec![3; 3], vec![60; 7], vec![63; 3]].concat());
}

/// Two workers of a server: what each sent before it heard of a limit counts for both.
#[cfg(unix)]
#[tokio::test]
async fn what_workers_sent_before_they_heard_of_a_limit_counts_for_all() {
    use divvy_store::Terms;

    let Some(server) = divvy_testkit::postgres::Postgres::start() else { return };
    let url = server.database("told");
    let mut workers = Vec::new();
    for _ in 0..2 {
        let store = Store::connect(&url, Terms::default()).await.unwrap();
        let clock = crate::clock::Clock::system();
        let rate = Minute::new(Rates::default()).shared(&store, None, "lane".into(), clock);
        for _ in 0..3 {
            let before = rate.enter_any(Rates::default(), 10, Instant::now()).await.unwrap();
            assert!(matches!(before, Ok(Place::Own(_))), "without a limit the server is not asked");
        }
        workers.push(rate);
    }
    let six = Rates { requests: Some(6), tokens: None };
    let first = workers[0].enter_any(six, 10, Instant::now()).await.unwrap();
    assert!(matches!(first, Ok(Place::Common(_))), "three were sent, as far as anybody has said");
    let second = workers[1].enter_any(six, 10, Instant::now()).await.unwrap();
    assert!(second.is_err(), "seven would be");
    assert_eq!(server.query("told", "SELECT sum(requests), sum(tokens) FROM divvy.lent"), "7|70");
}

/// The store was away for a while.
#[cfg(unix)]
#[tokio::test]
async fn a_request_whose_place_is_over_before_it_goes_out_takes_another() {
    /// Hears of two requests too late.
    #[derive(Default)]
    struct Slow(AtomicUsize);
    impl Layer for Slow {
        async fn call(&self, job: Job) -> Result<Call, ChatError> {
            assert!(job.place_ends.is_some() && job.sent.is_so());
            let kind = if self.0.fetch_add(1, Relaxed) < 2 { ErrorKind::Overdue } else { ErrorKind::Backend };
            Err(ChatError::new(kind, "no"))
        }
    }
    let Some(server) = divvy_testkit::postgres::Postgres::start() else { return };
    let store = Store::connect(&server.database("late"), divvy_store::Terms::default()).await.unwrap();
    let rates = Rates { requests: Some(6), tokens: Some(6_000) };
    let minute = Minute::new(rates).shared(&store, None, "lane".into(), crate::clock::Clock::system());
    let rate = Rate::new(Arc::new(minute), LONGEST_HOLD, Slow::default());
    assert_eq!(rate.call(job(9)).await.unwrap_err().kind, ErrorKind::Backend);
    assert_eq!(rate.inner.0.load(Relaxed), 3);
    assert!(matches!(rate.admit(5, 5).await, Ok(Place::Common(_))));
    assert_eq!(server.query("late", "SELECT sum(requests) FROM divvy.lent"), "2", "one was sent, and one is held");
}

/// The store is slow for good: the way through it is longer than a place is good for, or than any place could be.
#[cfg(unix)]
#[tokio::test]
async fn no_request_goes_out_in_a_place_that_is_over_however_slow_the_store() {
    /// Takes so long to hear of a request.
    #[derive(Default)]
    struct Slow(AtomicUsize, Duration);
    impl Layer for Slow {
        async fn call(&self, job: Job) -> Result<Call, ChatError> {
            assert!(self.0.fetch_add(1, Relaxed) < 9, "it does not end");
            let heard = Instant::now() + self.1;
            let kind = if heard >= job.place_ends.unwrap() { ErrorKind::Overdue } else { ErrorKind::Backend };
            Err(ChatError::new(kind, "no"))
        }
    }
    let Some(server) = divvy_testkit::postgres::Postgres::start() else { return };
    let store = Store::connect(&server.database("slow"), divvy_store::Terms::default()).await.unwrap();
    // One request a share: no clock goes on here that would end one in which more are left.
    let rates = Rates { requests: Some(30), tokens: None };
    let rate = |lane: &str, takes| {
        let minute = Minute::new(rates).shared(&store, None, lane.into(), crate::clock::Clock::system());
        Rate::new(Arc::new(minute), LONGEST_HOLD, Slow(AtomicUsize::new(0), Duration::from_secs(takes)))
    };
    let slow = rate("slow", 10);
    assert_eq!(slow.call(job(9)).await.unwrap_err().kind, ErrorKind::Backend);
    assert_eq!(slow.inner.0.load(Relaxed), 4, "places of 2, 4 and 8 seconds were over");
    let counts = "SELECT extract(epoch FROM max(until) - now()) > 70 FROM divvy.lent WHERE lane = 'slow'";
    assert_eq!(server.query("slow", counts), "t", "it counts for as long as it may be used, and a minute");
    let (hopeless, hasty) = (rate("hopeless", 100), rate("hasty", 100));
    let over = hopeless.call(job(9)).await.unwrap_err();
    assert_eq!((over.kind, over.usage, hopeless.inner.0.load(Relaxed)), (ErrorKind::OutOfTime, UNCHARGED, 6));
    let over = hasty.call(Job { deadline: Some(Instant::now()), ..job(9) }).await.unwrap_err();
    assert_eq!((over.kind, over.usage, hasty.inner.0.load(Relaxed)), (ErrorKind::OutOfTime, UNCHARGED, 1));
    assert!(over.message.contains("PostgreSQL server slow") && !over.may_be_charged(), "{over}");
}

/// Two requests were in flight at the kill; the next command begins at once.
#[tokio::test(start_paused = true)]
async fn what_a_killed_command_had_in_flight_counts_for_the_next() {
    use divvy_store::{Amount, Spending, SqliteStore};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let killed = SqliteStore::open(&path).await.unwrap();
    let purse = killed.purse(&divvy_core::digest::Digest::of_bytes(b"plan")).await.unwrap();
    purse.note(Spending { lost: Amount { calls: 2, tokens: 300, nanos: 0 }, ..Spending::default() });
    drop(purse);
    killed.close().await.unwrap();
    let store = Store::open(&path).await.unwrap();
    let (tokens_in, tokens_out) = most_tokens(&job(5).request);
    let two_fit = 300 + 2 * (tokens_in + tokens_out);
    for (requests, tokens, at_once) in [(Some(3), None, 1), (None, Some(two_fit), 2)] {
        let rates = Rates { requests, tokens };
        let (endpoint, clock) = (Endpoint { silent: true, ..Endpoint::default() }, crate::clock::Clock::system());
        let (log, began) = (Arc::clone(&endpoint.log), Instant::now());
        let minute = Minute::new(rates).shared(&store, Some("endpoint"), "lane".into(), clock);
        let rate = Arc::new(Rate::new(Arc::new(minute), LONGEST_HOLD, endpoint));
        let jobs = [(); 4].map(|()| {
            tokio::spawn({
                let rate = Arc::clone(&rate);
                async move { rate.call(job(5)).await.is_ok() }
            })
        });
        for sent in jobs {
            assert!(sent.await.unwrap());
        }
        let log = log.lock().unwrap();
        let within = |from: Instant| log.iter().filter(|(at, _)| (from..from + MINUTE).contains(at)).count();
        assert_eq!((within(began), log.len()), (at_once, 4), "{log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_used_to_the_full() {
    let rates = Rates { requests: Some(10), tokens: None };
    let sent = send(rates, Endpoint::default(), vec![(Duration::ZERO, 5); 30]).await;
    let minutes: Vec<u64> = sent.iter().map(|(at, _)| at.as_secs() / 60).collect();
    assert_eq!(minutes, [0, 1, 2].map(|minute| vec![minute; 10]).concat());
}

#[tokio::test(start_paused = true)]
async fn what_a_reply_did_not_take_is_free_again_at_once() {
    let most: u64 = {
        let (tokens_in, tokens_out) = most_tokens(&job(94).request);
        tokens_in + tokens_out
    };
    let rates = Rates { requests: None, tokens: Some(most + most / 2) };
    let sent = send(rates, Endpoint::default(), vec![(Duration::ZERO, 94); 3]).await;
    assert!(
        sent[1].0 >= SECOND && sent[2].0 < 4 * SECOND,
        "one waits for the other's reply, not for the minute: {sent:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_takes_no_tokens_but_is_a_request() {
    let fails = || Endpoint { fails: true, ..Endpoint::default() };
    let sent = send(Rates { requests: None, tokens: Some(100) }, fails(), vec![(Duration::ZERO, 80); 3]).await;
    assert!(sent[2].0 < 4 * SECOND, "{sent:?}");
    let sent = send(Rates { requests: Some(1), tokens: None }, fails(), vec![(Duration::ZERO, 80); 2]).await;
    assert!(sent[1].0 >= MINUTE, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_above_the_limit_goes_alone_instead_of_never() {
    let sent = send(
        Rates { requests: None, tokens: Some(50) },
        Endpoint { silent: true, ..Endpoint::default() },
        vec![(Duration::ZERO, 500); 2],
    )
    .await;
    assert!(sent[0].0 < SECOND && (MINUTE..MINUTE + SECOND).contains(&sent[1].0), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_the_wait_and_leaves_the_turn() {
    let rate = Arc::new(rate(Rates { requests: Some(1), tokens: None }, Endpoint::default()));
    rate.call(job(5)).await.unwrap();
    let (waiting, cancel) = (job(5), CancellationToken::new());
    let waiting = Job { cancel: cancel.clone(), ..waiting };
    let task = tokio::spawn({
        let rate = Arc::clone(&rate);
        async move { rate.call(waiting).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let start = Instant::now();
    cancel.cancel();
    let error = task.await.unwrap().unwrap_err();
    assert!(error.is_cancelled() && !error.may_be_charged(), "the endpoint never heard of it: {error:?}");
    assert!(start.elapsed() < SECOND);
    rate.call(job(5)).await.unwrap();
    assert!(start.elapsed() < MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_endpoint_asks_for_holds_for_all_requests() {
    let endpoint = Endpoint { asks_for_pause: Some(9 * SECOND), ..Endpoint::default() };
    let sent = send(Rates::default(), endpoint, vec![(Duration::ZERO, 5), (2 * SECOND, 5), (SECOND, 5)]).await;
    assert!(sent[1].0 >= 10 * SECOND && sent[2].0 < 11 * SECOND, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_endpoint_says_of_its_limits_is_kept() {
    let quota = Quota { limit: Some(3), remaining: Some(1), resets: None };
    let told = Told { requests: quota, tokens: Quota::default() };
    let sent = send(Rates::default(), Endpoint { told, ..Endpoint::default() }, vec![(Duration::ZERO, 5); 5]).await;
    assert!(sent[2].0 < SECOND && sent[3].0 >= MINUTE, "three a minute: {sent:?}");
    for tokens in [false, true] {
        let used_up = Quota { limit: None, remaining: Some(0), resets: Some(Instant::now() + 7 * SECOND) };
        let [requests, tokens] = if tokens { [Quota::default(), used_up] } else { [used_up, Quota::default()] };
        let told = Told { requests, tokens };
        let sent = send(Rates::default(), Endpoint { told, ..Endpoint::default() }, vec![(Duration::ZERO, 5)]).await;
        assert!(sent[0].0 >= 6 * SECOND, "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_once_the_budgets_time_is_used_up() {
    let (start, time) = (Instant::now(), Duration::from_secs(150));
    let ends = Some(End { at: start + time, time });
    let endpoint = Endpoint::default();
    let log = Arc::clone(&endpoint.log);
    let rate = rate(Rates { requests: Some(1), tokens: None }, endpoint);
    let calls = futures::future::join_all((0..10).map(|_| rate.call(Job { ends, ..job(9) }))).await;
    let late: Vec<&ChatError> = calls.iter().filter_map(|call| call.as_ref().err()).collect();
    assert_eq!((log.lock().unwrap().len(), late.len()), (3, 7), "one a minute");
    assert!(late.iter().all(|error| error.is_budget() && error.message.contains("2.5 minutes is used up")), "{late:?}");
    assert!(start.elapsed() < time + SECOND, "nobody waits any longer: {:?}", start.elapsed());
}

#[test]
fn digits_and_rare_scripts_may_take_a_token_for_each_byte() {
    let tokens_in = |text: &str| {
        let request = ChatRequest { messages: vec![Message::user(text)], ..(*job(9).request).clone() };
        most_tokens(&request).0
    };
    let frame = 4;
    assert_eq!(tokens_in("one two three"), frame + 6, "a word's letters by two and a half, rounded up");
    // A vocabulary that merges no digits, and one that lacks the letters.
    assert_eq!(tokens_in("31415926535897"), frame + 14);
    assert_eq!(tokens_in("คน"), frame + 6);
    assert_eq!(tokens_in("🦥🦥 a"), frame + 8 + 1, "the blank goes with the word");
}
