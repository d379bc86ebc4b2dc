use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use divvy_core::chat::{ChatRequest, Finish, Reply, Usage};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    attempt::{Attempt, Keep},
    chat::{Chat, Deltas},
    error::{ErrorKind, UNCHARGED},
    layer::testing::job,
};

/// Fails with these, then succeeds; notes when it was asked.
struct Failing {
    errors: Mutex<VecDeque<ChatError>>,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Layer for Failing {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        self.asked.lock().unwrap().push(Instant::now());
        let error = self.errors.lock().unwrap().pop_front();
        let reply = Reply { text: "yes".into(), finish: Finish::Stop, usage: Usage::default() };
        error.map_or(Ok(Call { key: job.key, reply, from_cache: false, price_nanos: None, latency_ms: 0 }), Err)
    }
}

fn retry_of<L: Layer>(counts_refusals: bool, deadline: Duration, inner: L) -> Retry<L> {
    Retry { policy: RetryPolicy::default(), counts_refusals, deadline, ends_tries: true, inner }
}

async fn try_with(errors: Vec<ChatError>, deadline: u64) -> (Result<Call, ChatError>, Vec<Duration>) {
    try_and_count(errors, deadline, false).await
}

async fn try_and_count(
    errors: Vec<ChatError>,
    deadline: u64,
    counts_refusals: bool,
) -> (Result<Call, ChatError>, Vec<Duration>) {
    let asked = Arc::<Mutex<Vec<Instant>>>::default();
    let inner = Failing { errors: Mutex::new(errors.into()), asked: asked.clone() };
    let retry = retry_of(counts_refusals, Duration::from_secs(deadline), inner);
    let result = retry.call(job(8)).await;
    let asked = asked.lock().unwrap();
    let pauses = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    (result, pauses)
}

fn busy(retry_after: Option<u64>) -> ChatError {
    let retry_after = retry_after.map(Duration::from_secs);
    ChatError { retry_after, ..ChatError::new(ErrorKind::RateLimited, "busy") }
}

#[tokio::test(start_paused = true)]
async fn pauses_are_drawn_below_a_doubling_bound() {
    let (result, pauses) = try_with(vec![busy(None); 5], 600).await;
    assert!(result.is_ok());
    assert_eq!(pauses.len(), 5);
    for (pause, bound) in pauses.iter().zip([1, 2, 4, 8, 16]) {
        // The timer's grain is a millisecond.
        assert!(*pause <= Duration::from_secs(bound) + Duration::from_millis(1), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_the_least_pause() {
    let (result, pauses) = try_with(vec![busy(Some(40)), busy(Some(3))], 600).await;
    assert!(result.is_ok());
    assert!(pauses[0] >= Duration::from_secs(40) && pauses[1] >= Duration::from_secs(3), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_tries_is_bounded_and_said() {
    let (result, pauses) = try_with(vec![busy(None); 100], 600).await;
    let error = result.unwrap_err();
    assert_eq!(pauses.len() + 1, 6);
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert!(error.message.contains("after 6 tries"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_beyond_the_deadline_is_not_begun() {
    let start = Instant::now();
    let (result, pauses) = try_with(vec![busy(Some(3600))], 60).await;
    assert!(result.unwrap_err().message.contains("60 s"));
    assert!(pauses.is_empty() && start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_will_not_get_better_is_not_tried_again() {
    for kind in [ErrorKind::Unauthorized, ErrorKind::NotFound, ErrorKind::BadRequest, ErrorKind::ContextTooLong] {
        let (result, pauses) = try_with(vec![ChatError::new(kind, "no")], 600).await;
        assert_eq!(result.unwrap_err().message, "no");
        assert!(pauses.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_in_another_word_is_no_try_of_the_policys_and_waits_for_nothing() {
    let other_word = ChatError::new(ErrorKind::OtherWord, "say it otherwise");
    let errors = [vec![other_word], vec![busy(Some(40)); 100]].concat();
    let (result, pauses) = try_with(errors, 600).await;
    let error = result.unwrap_err();
    assert_eq!((pauses.len(), pauses[0]), (6, Duration::ZERO), "{pauses:?}");
    assert!(pauses[1..].iter().all(|pause| *pause >= Duration::from_secs(40)), "{pauses:?}");
    assert!(error.message.contains("after 7 tries"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_is_asked_once_more_whatever_else_happens() {
    let no = |kinds: &[ErrorKind]| kinds.iter().map(|kind| ChatError::new(*kind, "no")).collect::<Vec<_>>();
    let (empty, error) = (ErrorKind::Empty, ErrorKind::ServerError);
    for (errors, tries) in [(&[empty, empty, empty][..], 2), (&[error, empty, error, empty, empty], 4)] {
        let (result, pauses) = try_with(no(errors), 600).await;
        assert_eq!((result.unwrap_err().kind, pauses.len() + 1), (empty, tries));
    }
    assert!(try_with(no(&[empty, error, error]), 600).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_may_be_charged_is_asked_for_three_times_whatever_is_free_in_between() {
    let error = |kind| ChatError::new(kind, "no");
    let (cut, ill) = (error(ErrorKind::CutOff), error(ErrorKind::ServerError));
    let proxy = ChatError { status: Some(504), ..ill.clone() };
    let in_line = ChatError { usage: UNCHARGED, ..error(ErrorKind::TimedOut) };
    let mixed = [&ill, &cut, &refused(), &proxy, &ill, &cut, &cut].map(ChatError::clone).to_vec();
    for (errors, tries) in [(vec![cut; 9], 3), (mixed, 6), (vec![in_line; 9], 6), (vec![ill; 9], 6)] {
        let (result, pauses) = try_with(errors, 600).await;
        assert_eq!((result.is_err(), pauses.len() + 1), (true, tries), "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_a_pause() {
    let inner = Failing { errors: Mutex::new(vec![busy(Some(500)); 2].into()), asked: Arc::default() };
    let retry = retry_of(false, Duration::from_secs(3600), inner);
    let job = job(8);
    let cancel = job.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cancel.cancel();
    });
    let start = Instant::now();
    assert!(retry.call(job).await.unwrap_err().is_cancelled());
    assert!(start.elapsed() < Duration::from_secs(6));
}

#[test]
fn the_draw_covers_the_range() {
    let policy = RetryPolicy::default();
    assert_eq!(policy.pause(1, None, 0), Duration::ZERO);
    assert_eq!(policy.pause(1, None, u64::MAX), Duration::from_secs(1));
    assert_eq!(policy.pause(60, None, u64::MAX), Duration::from_secs(30));
}

/// Stands in line for five minutes before each try, then fails.
struct Queue;

impl Layer for Queue {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let start = Instant::now();
        tokio::time::sleep(Duration::from_secs(300)).await;
        job.waited.since(start);
        Err(busy(None))
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_line_leaves_the_deadline_alone() {
    let retry = retry_of(false, Duration::from_secs(120), Queue);
    let error = retry.call(job(8)).await.unwrap_err();
    assert!(error.message.contains("after 6 tries"), "{error}");
}

/// Fails at once, and from a moment on says nothing at all.
struct Dying {
    hangs_from: Instant,
}

impl Chat for Dying {
    fn start(&self, _request: ChatRequest, _cancel: CancellationToken) -> Deltas {
        if Instant::now() >= self.hangs_from {
            return stream::pending().boxed();
        }
        stream::iter([Err(ChatError::new(ErrorKind::ServerError, "ill"))]).boxed()
    }
}

/// A try of so many seconds at most, of which nothing is kept.
struct Asks(Attempt);

impl Layer for Asks {
    async fn call(&self, job: Job) -> Result<Call, ChatError> {
        let received = self.0.run(&job, self).await?;
        Ok(Call { key: job.key, reply: received.reply, from_cache: false, price_nanos: None, latency_ms: 0 })
    }
}

impl Keep for Asks {
    async fn keep(&self, _job: &Job, _body: &Bytes, _took: Duration) -> Result<(), ChatError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_under_way_at_the_deadline_is_given_up() {
    const MINUTE: Duration = Duration::from_mins(1);
    for in_line in [Duration::ZERO, MINUTE] {
        let (start, job) = (Instant::now(), job(8));
        tokio::time::advance(in_line).await;
        job.waited.since(start);
        let start = Instant::now();
        let attempt = Attempt {
            backend: Arc::new(Dying { hangs_from: start + 19 * MINUTE / 2 }),
            model_name: "m".into(),
            endpoint: None,
            timeout: 5 * MINUTE,
            stall: None,
            meter: Default::default(),
            lands: None,
            speaks: false.into(),
        };
        let policy = RetryPolicy { attempts: 1000, base: Duration::from_secs(9), most: Duration::from_secs(9) };
        let retry = Retry { policy, ..retry_of(false, 10 * MINUTE, Asks(attempt)) };
        let error = retry.call(job).await.unwrap_err();
        let took = start.elapsed() - 10 * MINUTE;
        assert!(took >= in_line && took < in_line + Duration::from_millis(9), "{took:?} after its deadline");
        assert_eq!(error.kind, ErrorKind::OutOfTime, "it had half a minute");
        let told = [
            "ill; then model `m` did not",
            "had left; raise `timeout_seconds`",
            "the 600 s for one request are used up",
        ];
        assert!(told.iter().all(|told| error.message.contains(told)), "{error}");
    }
}

/// As an endpoint says it, without a word for how long.
fn refused() -> ChatError {
    ChatError { status: Some(429), ..busy(None) }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_a_rate_is_no_try() {
    let ill = || ChatError::new(ErrorKind::ServerError, "ill");
    let errors = [vec![refused(); 20], vec![ill(); 5]].concat();
    assert!(try_with(errors, 1200).await.0.is_ok());
    let (result, pauses) = try_with([vec![refused(); 20], vec![ill(); 6]].concat(), 1200).await;
    assert!(result.unwrap_err().message.contains("after 26 tries"));
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(30_001)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_waited_out_as_long_as_the_deadline_allows_and_then_the_way_out_is_said() {
    let start = Instant::now();
    let error = try_with(vec![refused(); 1000], 600).await.0.unwrap_err();
    assert!((570..600).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(error.message.contains("600 s") && error.message.contains("`requests_per_minute` of the model"), "{error}");
    // A told pause is obeyed, and needs no setting.
    let told = ChatError { retry_after: Some(Duration::from_secs(50)), ..refused() };
    let error = try_with(vec![told; 1000], 600).await.0.unwrap_err();
    assert!(error.message.contains("(12 tries") && !error.message.contains("requests_per_minute"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn where_somebody_waits_a_refusal_is_a_try() {
    let (result, pauses) = try_and_count(vec![refused(); 100], 600, true).await;
    assert_eq!((result.unwrap_err().status, pauses.len() + 1), (Some(429), 6));
}
