use std::{sync::Arc, time::Duration};

use divvy_core::chat::{Finish, Reply, Usage};
use tokio::time::sleep;

use super::*;
use crate::{budget::End, layer::testing::job};

const PATIENCE: Duration = Duration::from_mins(5);

/// Serves so many at once and refuses the rest, as an endpoint with a limit of its own does.
struct Server {
    capacity: usize,
    now: Mutex<(usize, usize, usize)>,
}

impl Layer for Arc<Server> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let refused = {
            let (running, most, refused) = &mut *self.now.lock().unwrap();
            *running += 1;
            *most = (*most).max(*running);
            *refused += usize::from(*running > self.capacity);
            *running > self.capacity
        };
        sleep(Duration::from_millis(200)).await;
        self.now.lock().unwrap().0 -= 1;
        if refused {
            return Err(ChatError::new(ErrorKind::RateLimited, "429"));
        }
        let reply = Reply { text: "yes".into(), finish: Finish::Stop, usage: Usage::default() };
        Ok(Call { key: job.key, reply, from_cache: false, price_nanos: None, latency_ms: 200 })
    }
}

async fn send(limit: Arc<Limit<Arc<Server>>>, count: usize) -> usize {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let limit = Arc::clone(&limit);
            tokio::spawn(async move { limit.call(job(9)).await.is_ok() })
        })
        .collect();
    let mut answered = 0;
    for task in tasks {
        answered += usize::from(task.await.unwrap());
    }
    answered
}

fn limit(most: usize, adaptive: bool, capacity: usize) -> (Arc<Limit<Arc<Server>>>, Arc<Server>) {
    let server = Arc::new(Server { capacity, now: Mutex::default() });
    let patience = adaptive.then_some(PATIENCE);
    (Arc::new(Limit::new(Seats::new(most, patience), PATIENCE, true, Arc::clone(&server))), server)
}

#[tokio::test(start_paused = true)]
async fn it_finds_what_the_endpoint_takes() {
    let (limit, server) = limit(200, true, 10);
    send(Arc::clone(&limit), 1000).await;
    *server.now.lock().unwrap() = Default::default();
    let answered = send(Arc::clone(&limit), 1000).await;
    assert!((5..=15).contains(&limit.most()), "{} is what people see", limit.most());
    let (_, most, refused) = *server.now.lock().unwrap();
    assert!(answered >= 800 && refused <= 200, "{answered} answered, {refused} refused");
    assert!((8..=15).contains(&most), "at most {most} at once");
}

#[tokio::test(start_paused = true)]
async fn a_fixed_limit_stays() {
    let (limit, server) = limit(7, false, 3);
    send(Arc::clone(&limit), 50).await;
    assert_eq!(limit.most(), 7);
    assert_eq!(server.now.lock().unwrap().1, 7);
}

/// Answers one after the other, each in half a minute, and goes on with those for which nobody waits any more.
#[derive(Default)]
struct OneByOne(Arc<tokio::sync::Mutex<()>>);

impl Layer for OneByOne {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let line = Arc::clone(&self.0);
        let work = tokio::spawn(async move {
            let _turn = line.lock().await;
            sleep(Duration::from_secs(30)).await;
        });
        let done = tokio::time::timeout(PATIENCE, work).await;
        done.map_err(|_| ChatError::new(ErrorKind::TimedOut, "too late"))?.unwrap();
        let reply = Reply { text: "yes".into(), finish: Finish::Stop, usage: Usage::default() };
        Ok(Call { key: job.key, reply, from_cache: false, price_nanos: None, latency_ms: 30_000 })
    }
}

/// Sixteen at once are more than it answers in the time for a try, so that most of what is sent at first is lost.
#[tokio::test(start_paused = true)]
async fn where_tries_time_out_it_shrinks_until_they_are_answered() {
    let limit = Limit::new(Seats::new(128, Some(PATIENCE)), PATIENCE, true, OneByOne::default());
    let (late, limit) = (std::sync::atomic::AtomicUsize::new(0), &limit);
    let row = || async {
        for _ in 0..2 {
            if limit.call(job(9)).await.is_ok() {
                return true;
            }
            late.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        false
    };
    let rows = futures::future::join_all((0..300).map(|_| row())).await;
    assert_eq!(rows.iter().filter(|answered| !**answered).count(), 0, "two tries each, as a call has");
    let late = late.into_inner();
    assert!((2..=9).contains(&limit.most()) && late <= 60, "{} at once, {late} tries were lost", limit.most());
}

/// Fails with this after so long.
struct Fails(Duration, ChatError);

impl Layer for Fails {
    async fn call(&self, _job: Job) -> Result<Call, ChatError> {
        sleep(self.0).await;
        Err(self.1.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn it_shrinks_when_tries_had_all_their_time_and_were_not_alone() {
    let error = |kind| ChatError::new(kind, "too late");
    let proxy = ChatError { status: Some(504), ..error(ErrorKind::ServerError) };
    for (after, error, at_once, most) in [
        // As a caller's own deadline, or that of a request that waited for most of its time.
        (PATIENCE / 10, error(ErrorKind::TimedOut), 16, 16),
        (PATIENCE, error(ErrorKind::OutOfTime), 16, 16),
        // As a breaker sees whether the endpoint is back.
        (PATIENCE, error(ErrorKind::TimedOut), 1, 16),
        (PATIENCE, error(ErrorKind::TimedOut), 2, 8),
        (PATIENCE / 10, proxy, 2, 8),
        // As `stall_seconds` gives up.
        (PATIENCE / 10, error(ErrorKind::Stalled), 1, 16),
        (PATIENCE / 10, error(ErrorKind::Stalled), 2, 8),
    ] {
        let limit = Limit::new(Seats::new(128, Some(PATIENCE)), PATIENCE, true, Fails(after, error.clone()));
        futures::future::join_all((0..at_once).map(|_| limit.call(job(9)))).await;
        assert_eq!(limit.most(), most, "{at_once} at once, {after:?}, {error:?}");
    }
}

/// Knows nobody.
struct Locked(std::sync::atomic::AtomicUsize);

impl Layer for Arc<Locked> {
    async fn call(&self, _job: Job) -> Result<Call, ChatError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        Err(ChatError::new(ErrorKind::Unauthorized, "no such key"))
    }
}

#[tokio::test(start_paused = true)]
async fn those_in_line_at_an_endpoint_that_refuses_all_are_not_sent() {
    let server = Arc::new(Locked(0.into()));
    let limit = Limit::new(Seats::new(4, Some(PATIENCE)), PATIENCE, true, Arc::clone(&server));
    let calls = futures::future::join_all((0..50).map(|_| limit.call(job(9)))).await;
    assert!(calls.iter().all(|call| call.as_ref().is_err_and(|error| error.message == "no such key")));
    assert_eq!(server.0.load(std::sync::atomic::Ordering::Relaxed), 4);
}

/// Charges for what is no reply, but for the first request, which it may answer.
struct Chatty {
    asked: std::sync::atomic::AtomicU32,
    answers: bool,
}

impl Layer for Arc<Chatty> {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let earlier = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        if earlier > 0 || !self.answers {
            return Err(ChatError::new(ErrorKind::Unreadable, "welcome"));
        }
        let reply = Reply { text: "yes".into(), finish: Finish::Stop, usage: Usage::default() };
        Ok(Call { key: job.key, reply, from_cache: false, price_nanos: None, latency_ms: 1 })
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_charges_and_never_replies_is_asked_no_further() {
    let asked = async |answers, attempt, closes| {
        let server = Arc::new(Chatty { asked: 0.into(), answers });
        let limit = Limit::new(Seats::new(4, None), PATIENCE, closes, Arc::clone(&server));
        let calls = (0..200).map(|_| limit.call(Job { attempt, ..job(9) }));
        let calls = futures::future::join_all(calls).await;
        let refused = calls.into_iter().filter_map(Result::err).filter(|error| error.kind == ErrorKind::Useless);
        (server.asked.load(std::sync::atomic::Ordering::Relaxed), refused.collect::<Vec<_>>())
    };
    let (sent, refused) = asked(false, 1, true).await;
    assert!((MOST_IN_VAIN..MOST_IN_VAIN + 4).contains(&sent) && refused.len() as u32 == 200 - sent, "{sent}");
    let error = &refused[0];
    assert!(error.is_fatal() && !error.is_retryable() && !error.may_be_charged(), "{error:?}");
    assert!(error.message.starts_with("welcome; 64 requests"), "{error}");
    // One that has answered, requests that are tried again, a service, which goes on.
    for (answers, attempt, closes) in [(true, 1, true), (false, 2, true), (false, 1, false)] {
        assert_eq!(asked(answers, attempt, closes).await.0, 200, "{answers} {attempt} {closes}");
    }
}

#[tokio::test(start_paused = true)]
async fn slots_come_back_from_calls_that_are_dropped() {
    let (limit, server) = limit(16, true, 99);
    for _ in 0..5 {
        let calls = (0..16).map(|_| limit.call(job(9)));
        let all = futures::future::join_all(calls);
        let _ = tokio::time::timeout(Duration::from_millis(10), all).await;
    }
    server.now.lock().unwrap().0 = 0;
    assert_eq!(send(limit, 20).await, 20);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_in_line_was_never_sent() {
    let (limit, _) = limit(1, false, 9);
    let waiting = job(9);
    let cancel = waiting.cancel.clone();
    let leave = async {
        tokio::task::yield_now().await;
        cancel.cancel();
    };
    let (first, second, ()) = tokio::join!(limit.call(job(9)), limit.call(waiting), leave);
    let second = second.unwrap_err();
    assert!(first.is_ok() && second.is_cancelled() && !second.may_be_charged(), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_in_line_is_sent_once_the_budgets_time_is_used_up() {
    let (limit, _server) = limit(1, false, 1);
    let time = Duration::from_millis(500);
    let (start, ends) = (Instant::now(), Some(End { at: Instant::now() + time, time }));
    let calls = (0..10).map(|_| async {
        let call = limit.call(Job { ends, ..job(9) }).await;
        (call, start.elapsed())
    });
    let calls = futures::future::join_all(calls).await;
    let late: Vec<_> = calls.iter().filter(|(call, _)| call.is_err()).collect();
    assert_eq!(late.len(), 7, "a fifth of a second each, one after another");
    for (call, waited) in late {
        assert!(call.as_ref().is_err_and(ChatError::is_budget) && *waited < 2 * time, "{call:?} after {waited:?}");
    }
}

/// Two places, and replies that take a second to be recorded once they have come: the next are sent meanwhile.
#[tokio::test(start_paused = true)]
async fn a_reply_that_is_kept_gives_its_place_away_while_it_is_recorded() {
    struct Slow;
    impl Layer for Slow {
        async fn call(&self, job: Job) -> Result<Call, ChatError> {
            sleep(Duration::from_millis(200)).await;
            job.slot.as_ref().unwrap().leave();
            sleep(Duration::from_secs(1)).await;
            Err(ChatError::new(ErrorKind::Backend, "done"))
        }
    }
    let (limit, start) = (Limit::new(Seats::new(2, None), PATIENCE, true, Slow), tokio::time::Instant::now());
    futures::future::join_all((0..10).map(|_| limit.call(job(9)))).await;
    assert_eq!(start.elapsed(), Duration::from_millis(5 * 200 + 1000));
    assert_eq!(limit.seats.slots.available_permits(), 2, "each was given back once");
}
