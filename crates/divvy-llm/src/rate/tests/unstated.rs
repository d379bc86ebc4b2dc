//! The layers together before endpoints that allow so many requests in a while, refuse the rest, and say nothing of it.

use tokio::time::sleep;

use super::*;
use crate::{
    limit::{Limit, Seats},
    retry::{Retry, RetryPolicy},
    route::{Health, Rest, Route},
};

const QUOTA: usize = 40;

/// How an endpoint counts.
#[derive(Clone, Copy, Debug)]
enum Counts {
    /// By the clock's minutes.
    Minutes,
    /// What the last minute held, refusals included.
    All,
    /// One more every so often.
    Tokens,
    /// It takes nothing.
    Nothing,
}

struct Server {
    counts: Counts,
    start: Instant,
    /// When it was asked, and whether it answered.
    log: Arc<Mutex<Vec<(Instant, bool)>>>,
}

impl Server {
    fn takes(&self, log: &[(Instant, bool)], now: Instant) -> bool {
        let answered = |since: Instant| log.iter().filter(|(at, took)| *took && *at >= since).count();
        let minutes = (now - self.start).as_secs() / 60;
        match self.counts {
            Counts::Minutes => answered(self.start + minutes as u32 * MINUTE) < QUOTA,
            Counts::All => log.iter().filter(|(at, _)| *at + MINUTE > now).count() < QUOTA,
            Counts::Tokens => {
                // Ten to begin with.
                answered(self.start) < 10 + ((now - self.start).as_secs_f64() / 60.0 * QUOTA as f64) as usize
            }
            Counts::Nothing => false,
        }
    }
}

impl Layer for Server {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let takes = {
            let (now, mut log) = (Instant::now(), self.log.lock().unwrap());
            let takes = self.takes(&log, now);
            log.push((now, takes));
            takes
        };
        if !takes {
            sleep(SECOND / 50).await;
            return Err(ChatError { status: Some(429), ..ChatError::new(ErrorKind::RateLimited, "HTTP 429: slower") });
        }
        sleep(SECOND).await;
        let reply = Reply { text: "yes".into(), finish: Finish::Stop, usage: Usage::default() };
        Ok(Call { key: job.key, reply, from_cache: false, price_nanos: None, latency_ms: 0 })
    }
}

/// What became of so many requests that were all there at once, what the endpoint heard, and how long it took.
async fn run(counts: Counts, asked: u32) -> (Vec<Result<Call, ChatError>>, Vec<(Instant, bool)>, Duration) {
    let (start, log) = (Instant::now(), Arc::default());
    let server = Server { counts, start, log: Arc::clone(&log) };
    let lane = Limit::new(Seats::new(16, Some(5 * MINUTE)), 5 * MINUTE, true, rate(Rates::default(), server));
    let rest = Rest::Wait(5 * MINUTE);
    let inner = Route::new(vec![(1, Health::new(false, rest), lane)], rest);
    let (policy, deadline) = (RetryPolicy::default(), 10 * MINUTE);
    let retry = Retry { policy, counts_refusals: false, deadline, ends_tries: true, inner };
    let calls = futures::future::join_all((1..=asked).map(|tokens| retry.call(job(tokens)))).await;
    let log = std::mem::take(&mut *log.lock().unwrap());
    (calls, log, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_nobody_states_is_lived_with_and_nothing_is_lost() {
    for counts in [Counts::Minutes, Counts::All, Counts::Tokens] {
        let (calls, log, took) = run(counts, 256).await;
        let refused = log.iter().filter(|(_, took)| !took).count();
        assert!(calls.iter().all(Result::is_ok), "{counts:?}");
        assert!(refused < 2 * 256 && took < 12 * MINUTE, "{counts:?}: {refused} were refused in {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_nothing_is_asked_ever_less_and_given_up_in_the_end() {
    let (calls, log, took) = run(Counts::Nothing, 256).await;
    let error = calls.into_iter().find_map(Result::err).unwrap();
    assert!(error.message.contains("HTTP 429") && error.message.contains("`requests_per_minute`"), "{error}");
    let (begin, end) = (log[0].0 + MINUTE, log[0].0 + 5 * MINUTE);
    let later = log.iter().filter(|(at, _)| (begin..end).contains(at)).count();
    assert!(later < 60 && took < 20 * MINUTE, "{later} in four minutes, {took:?} in all");
}
