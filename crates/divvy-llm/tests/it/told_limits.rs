//! Limits that an endpoint tells in the headers of its replies, over real HTTP: they are kept from then on, with what went
//! out before them. Time is tokio's, and moves when the test moves it.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use divvy_llm::{Endpoint, Hear, Live, Rates, TraceHeaders, Transfer};
use divvy_testkit::teacher::{Lesson, Teacher};
use tokio::time::{Instant, advance};

use crate::{config, http::http, request};

/// As long as what it returns lives, time stands still: a paused clock goes on by itself when all tasks wait, and cannot
/// know that one of them waits for a socket.
fn stop_the_clock() -> mpsc::Sender<()> {
    let (hold, held) = mpsc::channel();
    tokio::task::spawn_blocking(move || held.recv());
    hold
}

/// When each try went out.
struct Log {
    start: Instant,
    sent: Mutex<Vec<Duration>>,
}

impl Hear for Log {
    fn piece(&self, _text: &str) {}

    fn trying(&self, _endpoint: Option<&str>) -> Option<TraceHeaders> {
        self.sent.lock().unwrap().push(self.start.elapsed());
        None
    }
}

/// One after another, and each waited for until the moment at which it is due.
async fn sent(headers: &[(&'static str, &'static str)], due: &[Duration]) -> Vec<Duration> {
    let teacher = Teacher::start(Lesson { headers: headers.to_vec(), ..Lesson::default() }).await.unwrap();
    let endpoint = Endpoint::new(Arc::new(http(&teacher.url(), Transfer::Whole)));
    let live = Arc::new(Live::new(vec![endpoint], &config(|c| c)));
    let log = Arc::new(Log { start: Instant::now(), sent: Mutex::default() });
    for (count, due) in (1..).zip(due) {
        let (live, hears) = (Arc::clone(&live), Arc::clone(&log));
        let until = Instant::now() + Duration::from_mins(10);
        let asked = tokio::spawn(async move { live.ask(request("a"), until, hears).await });
        go_on_to(log.start + *due).await;
        assert_eq!(log.sent.lock().unwrap().len(), count, "{headers:?}: it is late, {due:?} after the first");
        asked.await.unwrap().unwrap();
    }
    assert_eq!(teacher.answered(), due.len());
    log.sent.lock().unwrap().clone()
}

/// Whoever can go on before then does so at the moment at which it can.
async fn go_on_to(then: Instant) {
    everybody_moves().await;
    let left = then - Instant::now();
    if let Some(almost) = left.checked_sub(Duration::from_millis(1)) {
        advance(almost).await;
        everybody_moves().await;
        advance(Duration::from_millis(1)).await;
        everybody_moves().await;
    }
}

/// Every task goes on as far as it can without the clock and the network.
async fn everybody_moves() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_told_with_the_first_reply_is_kept_from_then_on() {
    let _hold = stop_the_clock();
    let seconds = |all: [u64; 7]| all.map(Duration::from_secs);
    let requests = [("x-ratelimit-limit-requests", "3"), ("x-ratelimit-remaining-requests", "2")];
    // A request holds 21 tokens until its reply says that it took 4.
    let tokens = [("x-ratelimit-limit-tokens", "30")];
    for headers in [&requests[..], &tokens] {
        let due = seconds([0, 0, 0, 60, 60, 60, 120]);
        assert_eq!(sent(headers, &due).await, due, "{headers:?}");
    }
    // A day's.
    let due = seconds([0; 7]);
    assert_eq!(sent(&[("x-ratelimit-limit-requests", "100000")], &due).await, due);
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_used_up_is_waited_for_in_every_dialect() {
    let _hold = stop_the_clock();
    for (remaining, left, reset, time) in [
        ("x-ratelimit-remaining-requests", "0", "x-ratelimit-reset-requests", "800ms"),
        // Less than the prompt's five.
        ("x-ratelimit-remaining-tokens", "4", "x-ratelimit-reset-tokens", "0.8"),
        ("x-ratelimit-remaining", "0", "x-ratelimit-reset", "0m0.8s"),
        ("ratelimit-remaining", "0", "ratelimit-reset", "0.8"),
    ] {
        let due = [0, 800, 1600].map(Duration::from_millis);
        assert_eq!(sent(&[(remaining, left), (reset, time)], &due).await, due, "{remaining}");
    }
    // There is some left.
    let headers = [("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "0.8")];
    assert_eq!(sent(&headers, &[Duration::ZERO; 3]).await, [Duration::ZERO; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_sent_again_in_the_endpoints_own_word_keeps_to_the_rate() {
    let _hold = stop_the_clock();
    let teacher = Teacher::start(Lesson { own_word: true, ..Lesson::default() }).await.unwrap();
    let rates = Rates { requests: Some(2), tokens: None };
    let endpoint = Endpoint { rates, ..Endpoint::new(Arc::new(http(&teacher.url(), Transfer::Whole))) };
    let live = Arc::new(Live::new(vec![endpoint], &config(|c| c)));
    let log = Arc::new(Log { start: Instant::now(), sent: Mutex::default() });
    let ask = |text: &'static str| {
        let (live, hears, until) = (Arc::clone(&live), Arc::clone(&log), Instant::now() + Duration::from_mins(10));
        tokio::spawn(async move { live.ask(request(text), until, hears).await })
    };
    ask("a").await.unwrap().unwrap();
    let second = ask("b");
    go_on_to(log.start + Duration::from_mins(1)).await;
    second.await.unwrap().unwrap();
    // The first request took both places of its minute.
    assert_eq!(*log.sent.lock().unwrap(), [0, 0, 60].map(Duration::from_secs));
    assert_eq!((teacher.asked().len(), teacher.answered()), (3, 2));
}
