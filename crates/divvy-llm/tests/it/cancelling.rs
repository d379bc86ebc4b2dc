//! What a request that is given up, or whose reply cannot be kept, leaves in the budget and in the store: the endpoint may have
//! worked for it, and charges what nobody hears of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use divvy_core::{
    chat::{ChatRequest, Reply},
    cost::Prices,
};
use divvy_llm::{
    Budget, Caps, Chat, ChatError, Client, ClientConfig, Delta, Deltas, Endpoint, ErrorKind, HttpChat, RetryPolicy,
    Scripted, Step, Transfer, call_key,
};
use divvy_store::Store;
use divvy_testkit::teacher::Teacher;
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::{bench, config, http::http, request};

const PRICES: Prices =
    Prices { input: 1_000_000_000, cached_input: 1_000_000_000, output: 2_000_000_000, ..Prices::FREE };
/// The most that `request("a")` can take: five tokens in, sixteen out.
const MOST: (u64, i64) = (21, 5 * 1_000 + 16 * 2_000);

/// Polls until something is so; a test in which it never is fails.
async fn until(so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(60), "what was waited for did not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_try_that_is_cancelled_is_charged_as_estimated_and_holds_nothing() {
    let model = Arc::new(Scripted::steps([Step::Hang, Step::Say("now".into())]));
    let budget = Budget::new(Caps { calls: Some(2), ..Caps::default() });
    let shared = Arc::clone(&budget);
    let bench = bench(model.clone(), |c| ClientConfig { budget: shared, prices: Some(PRICES), ..c }).await;
    let cancel = CancellationToken::new();
    let stop = async {
        until(|| model.asked().len() == 1).await;
        assert_eq!(budget.spent(), (0, 0, 0), "it is reserved, not spent");
        cancel.cancel();
    };
    let (given_up, ()) = tokio::join!(bench.client.complete(request("a"), &cancel), stop);
    assert!(given_up.unwrap_err().is_cancelled());
    until(|| budget.spent().0 == 1).await;
    assert_eq!(budget.spent(), (1, MOST.0, MOST.1), "nobody knows what the endpoint did for it");

    // What was reserved is free: one more call fits into two, and no third.
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!((call.reply.text.as_str(), call.from_cache, budget.spent().0), ("now", false, 2));
    let third = bench.client.complete(request("b"), &CancellationToken::new()).await.unwrap_err();
    assert!(third.is_budget() && third.message.contains("2 calls (of 2)"), "{third}");
}

/// The one whose money is all in work is not asked, and leaves no trace.
#[tokio::test]
async fn who_gives_up_the_wait_for_the_budget_has_spent_nothing() {
    let model = Arc::new(Scripted::rule(|asked| match asked.messages[0].content.as_str() {
        "a" => Step::Hang,
        other => Step::Say(other.to_owned()),
    }));
    let budget = Budget::new(Caps { calls: Some(1), ..Caps::default() });
    let shared = Arc::clone(&budget);
    let bench = bench(model.clone(), |c| ClientConfig { budget: shared, ..c }).await;
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let later = async {
        until(|| model.asked().len() == 1).await;
        let leave = async {
            tokio::task::yield_now().await;
            second.cancel();
        };
        let (b, ()) = tokio::join!(bench.client.complete(request("b"), &second), leave);
        first.cancel();
        b
    };
    let (a, b) = tokio::join!(bench.client.complete(request("a"), &first), later);
    assert!(a.unwrap_err().is_cancelled() && b.unwrap_err().is_cancelled());
    until(|| budget.spent().0 == 1).await;
    assert_eq!((budget.spent().1, model.asked().len()), (MOST.0, 1), "the first alone");
}

/// Answers, and the store is gone by then.
struct ClosesTheStore(Store);

impl Chat for ClosesTheStore {
    fn start(&self, _request: ChatRequest, _cancel: CancellationToken) -> Deltas {
        let store = self.0.clone();
        stream::once(async move {
            store.close().await.unwrap();
            Ok(Delta::Raw("raw".into()))
        })
        .boxed()
    }
}

#[tokio::test]
async fn a_reply_that_cannot_be_kept_is_spent_all_the_same() {
    let budget = Budget::new(Caps::default());
    let bench = bench(Arc::new(Scripted::rule(|_| Step::Hang)), |c| c).await;
    let backend = Arc::new(ClosesTheStore(bench.store.clone()));
    let shared = Arc::clone(&budget);
    let config = config(|c| ClientConfig { budget: shared, ..c });
    let client =
        Client::new(vec![Endpoint { max_concurrency: 1, ..Endpoint::new(backend) }], bench.store.clone(), config);
    let cancel = CancellationToken::new();
    let (a, b) = tokio::join!(client.complete(request("a"), &cancel), client.complete(request("b"), &cancel));
    assert_eq!((a.unwrap_err().kind, b.unwrap_err().kind), (ErrorKind::Store, ErrorKind::Store));
    assert_eq!(budget.spent().0, 1, "whoever stood in line is not sent any more");
}

/// Notes when the first piece of a reply has come.
struct Noting {
    inner: HttpChat,
    begun: Arc<AtomicBool>,
}

impl Chat for Noting {
    fn start(&self, request: ChatRequest, cancel: CancellationToken) -> Deltas {
        let begun = Arc::clone(&self.begun);
        let note = move |delta: &Result<Delta, ChatError>| {
            begun.fetch_or(matches!(delta, Ok(Delta::Text(text)) if !text.is_empty()), Relaxed);
        };
        self.inner.start(request, cancel).inspect(note).boxed()
    }

    fn reread(&self, raw: &[u8]) -> Option<Result<Reply, ChatError>> {
        self.inner.reread(raw)
    }
}

const MINUTE: Duration = Duration::from_mins(1);

/// Why a reply is given up, the settings with which it is, and what is on record then.
const WAYS: [(bool, Option<Duration>, Duration, &str, &str); 3] = [
    (false, Some(MINUTE), Duration::from_mins(5), "timed-out", "sent nothing for 60 s"),
    (false, None, MINUTE, "timed-out", "did not finish its reply in 60 s"),
    (true, None, Duration::from_mins(5), "cancelled", "interrupted"),
];

#[tokio::test]
async fn what_had_come_of_a_reply_that_is_given_up_is_kept_and_never_taken_for_the_whole() {
    for (interrupted, stall, attempt_timeout, outcome, why) in WAYS {
        let teacher = Teacher::scripted([divvy_testkit::script::Step::drip("one two", 600_000)]).await.unwrap();
        let begun = Arc::<AtomicBool>::default();
        let model = Noting { inner: http(&teacher.url(), Transfer::Streamed), begun: Arc::clone(&begun) };
        let budget = Budget::new(Caps::default());
        let of = ClientConfig { stall, attempt_timeout, retry: RetryPolicy::NEVER, ..ClientConfig::new("teacher") };
        let of = ClientConfig { budget: Arc::clone(&budget), prices: Some(PRICES), ..of };
        let bench = bench(Arc::new(model), |_| of).await;
        let (cancel, key) = (CancellationToken::new(), call_key(&request("a")));
        let then = async {
            until(|| begun.load(Relaxed)).await;
            // From now on nothing happens, and the clock goes on to whatever is due next.
            if interrupted { cancel.cancel() } else { tokio::time::pause() }
        };
        let (given_up, ()) = tokio::join!(bench.client.complete(request("a"), &cancel), then);
        if !interrupted {
            tokio::time::resume();
        }
        given_up.unwrap_err();
        // The end of a command: nobody has waited for what became of it.
        budget.settle().await.unwrap();
        assert_eq!(budget.spent(), (1, MOST.0, MOST.1), "{why}");
        let raw: Vec<String> = bench.store.raw_replies(&key).await.unwrap().into_iter().map(text).collect();
        assert!(raw.len() == 1 && raw[0].contains("one ") && !raw[0].contains("two"), "{why}: {raw:?}");
        let attempts = bench.store.attempts(&key).await.unwrap();
        assert!(attempts.len() == 1 && attempts[0].message.contains(why), "{attempts:?}");
        assert_eq!(attempts[0].outcome, outcome);

        let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
        assert_eq!((call.reply.text.as_str(), teacher.asked().len()), ("You said: a", 2), "{why}");
    }
}

fn text(raw: divvy_store::RawReply) -> String {
    String::from_utf8(raw.bytes).unwrap()
}
