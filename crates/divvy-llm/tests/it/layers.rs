use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use divvy_core::{
    chat::{ChatRequest, Finish, Message, ReplyFormat, Usage},
    cost::Prices,
    model::ModelId,
};
use divvy_llm::{
    Budget, Caps, Chat, Client, ClientConfig, Delta, Deltas, Endpoint, ErrorKind, Recorded, RetryPolicy, Scripted,
    Step, call_key,
};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::{bench, config, request};

fn echo() -> Arc<Scripted> {
    Arc::new(Scripted::rule(|request| Step::Say(format!("echo {}", request.messages[0].content))))
}

#[tokio::test]
async fn a_finished_call_is_free_and_on_record() {
    let model = echo();
    let bench = bench(model.clone(), |c| c).await;
    let cancel = CancellationToken::new();
    let first = bench.client.complete(request("a b"), &cancel).await.unwrap();
    let second = bench.client.complete(request("a b"), &cancel).await.unwrap();
    assert_eq!((first.reply.text.as_str(), first.from_cache, second.from_cache), ("echo a b", false, true));
    assert_eq!(second.reply, first.reply);
    assert_eq!(model.asked().len(), 1);
    let record = bench.store.call(&first.key).await.unwrap().unwrap();
    assert_eq!(serde_json::from_str::<ChatRequest>(&record.request_json).unwrap(), request("a b"));
    assert_eq!(bench.store.attempts(&first.key).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_finished_call_is_free_for_another_process_and_endpoint() {
    let bench = bench(echo(), |c| c).await;
    let cancel = CancellationToken::new();
    bench.client.complete(request("a"), &cancel).await.unwrap();
    let store = bench.store.clone();
    store.close().await.unwrap();
    drop(bench.client);
    let store = divvy_store::Store::open(&bench.workspace.file("store.db")).await.unwrap();
    let model = echo();
    let elsewhere = Endpoint { name: Some("http://elsewhere/v1".into()), ..Endpoint::new(model.clone()) };
    let client = Client::new(vec![elsewhere], store, config(|c| c));
    assert!(client.complete(request("a"), &cancel).await.unwrap().from_cache);
    assert!(model.asked().is_empty());
}

#[test]
fn the_key_follows_every_part_of_the_request() {
    let base = request("a");
    let mut others = vec![base.clone(); 14];
    others[0].model = ModelId::remote("test", "other");
    others[1].messages.insert(0, Message::system("a"));
    others[2].messages[0].content.push(' ');
    others[3].sampling.temperature = 0.5;
    others[4].sampling.top_p = 0.5;
    others[5].sampling.max_tokens += 1;
    others[6].sampling.repetition_penalty = 1.1;
    others[7].sampling.stop.push("x".into());
    others[8].sampling.seed = 1;
    others[9].sample = 1;
    others[10].sampling.top_k = 40;
    others[11].sampling.min_p = 0.1;
    others[12].sampling.logit_bias.insert(7, -1.0);
    let format = ReplyFormat { name: "steps".into(), schema: serde_json::json!({"type": "object"}) };
    others[13].sampling.format = Some(Box::new(format));
    let mut further = vec![others[12].clone(), others[13].clone()];
    further[0].sampling.logit_bias.insert(7, 1.0);
    further[1].sampling.format.as_mut().unwrap().schema = serde_json::json!({"type": "array"});
    let mut keys: Vec<_> = others.iter().chain(&further).chain([&base]).map(call_key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 17);
    // Derived seeds use all 64 bits.
    others[8].sampling.seed = u64::MAX;
    assert_ne!(call_key(&others[8]), call_key(&base));
}

#[tokio::test]
async fn a_hundred_identical_requests_are_one_call() {
    let model = Arc::new(Scripted::rule(|_| Step::After(Duration::from_millis(50), "once".into())));
    let bench = bench(model.clone(), |c| c).await;
    let cancel = CancellationToken::new();
    let calls = futures::future::join_all((0..100).map(|_| bench.client.complete(request("same"), &cancel))).await;
    let calls: Vec<_> = calls.into_iter().map(Result::unwrap).collect();
    assert!(calls.iter().all(|call| call.reply.text == "once"));
    assert_eq!(calls.iter().filter(|call| !call.from_cache).count(), 1, "only one has paid");
    assert_eq!(model.asked().len(), 1);
}

/// As two names in a recipe that mean one model.
#[tokio::test]
async fn clients_that_share_their_flights_send_a_request_once() {
    let model = Arc::new(Scripted::rule(|_| Step::After(Duration::from_millis(50), "once".into())));
    let flights = divvy_llm::Flights::default();
    let of = |c| ClientConfig { flights: flights.clone(), ..c };
    let (bench, cancel) = (bench(model.clone(), of).await, CancellationToken::new());
    let other = Client::new(vec![Endpoint::new(model.clone())], bench.store.clone(), config(of));
    let (one, two) =
        tokio::join!(bench.client.complete(request("same"), &cancel), other.complete(request("same"), &cancel));
    assert_eq!((one.unwrap().from_cache, two.unwrap().from_cache, model.asked().len()), (false, true, 1));
}

#[tokio::test]
async fn a_shared_call_outlives_the_caller_that_started_it() {
    let model = Arc::new(Scripted::rule(|_| Step::After(Duration::from_millis(100), "shared".into())));
    let bench = bench(model.clone(), |c| c).await;
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let leave = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        first.cancel();
    };
    let (left, stayed, ()) = tokio::join!(
        bench.client.complete(request("same"), &first),
        bench.client.complete(request("same"), &second),
        leave
    );
    assert!(left.unwrap_err().is_cancelled());
    assert_eq!(stayed.unwrap().reply.text, "shared");
    assert_eq!(model.asked().len(), 1);
}

#[tokio::test]
async fn cancelling_stops_a_model_that_hangs_and_the_next_run_asks_again() {
    let model = Arc::new(Scripted::steps([Step::Hang, Step::Say("now".into())]));
    let bench = bench(model.clone(), |c| c).await;
    let cancel = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(bench.client.complete(request("a"), &cancel), stop);
    assert!(result.unwrap_err().is_cancelled());
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!(call.reply.text, "now");
}

#[tokio::test]
async fn a_slow_model_times_out_and_is_asked_again() {
    let model = Arc::new(Scripted::steps([Step::Hang, Step::Say("at last".into())]));
    let bench = bench(model, |mut c| {
        c.attempt_timeout = Duration::from_millis(50);
        c
    })
    .await;
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!(call.reply.text, "at last");
    let outcomes: Vec<_> = bench.store.attempts(&call.key).await.unwrap().into_iter().map(|a| a.outcome).collect();
    assert_eq!(outcomes, ["timed-out", "ok"]);
}

#[tokio::test]
async fn an_only_try_that_times_out_says_how_much_time_it_had() {
    let once = |c: ClientConfig| ClientConfig { retry: RetryPolicy::NEVER, ..c }.within(Duration::from_secs(1));
    let bench = bench(Arc::new(Scripted::steps([Step::Hang])), once).await;
    let error = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap_err();
    assert!(error.message.contains("did not finish its reply in 1 s; raise `timeout_seconds`"), "{error}");
}

#[tokio::test]
async fn a_short_deadline_leaves_time_for_a_second_try() {
    let model = Arc::new(Scripted::steps([Step::Hang, Step::Say("at last".into())]));
    let bench = bench(model, |mut c| {
        c.deadline = Duration::from_secs(2);
        c
    })
    .await;
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!(call.reply.text, "at last");
}

/// Takes half an hour for each reply, and counts them.
struct Slow(AtomicUsize);

impl Chat for Slow {
    fn start(&self, _request: ChatRequest, _cancel: CancellationToken) -> Deltas {
        self.0.fetch_add(1, SeqCst);
        let reply = async {
            tokio::time::sleep(Duration::from_mins(30)).await;
            let done = Delta::Done { finish: Finish::Stop, usage: Usage::default() };
            stream::iter([Ok(Delta::Raw("{}".into())), Ok(Delta::Text("at last".into())), Ok(done)])
        };
        stream::once(reply).flatten().boxed()
    }
}

/// Ten minutes is the default: a model that thinks for longer is given the time that the recipe gives it, and is asked once.
#[tokio::test]
async fn a_reply_that_takes_half_an_hour_is_heard_where_it_may() {
    let model = Arc::new(Slow(AtomicUsize::new(0)));
    let patient = bench(model.clone(), |c| c.within(Duration::from_mins(70))).await;
    let hasty = bench(model.clone(), |c| c).await;
    tokio::time::pause();
    let call = patient.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!((&*call.reply.text, model.0.load(SeqCst)), ("at last", 1));
    let error = hasty.client.complete(request("a"), &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("raise `timeout_seconds`"), "{error}");
}

/// What has been sent is paid for, and what stands in line is not sent.
#[tokio::test]
async fn a_reply_on_its_way_is_waited_for_when_nobody_needs_it_any_more() {
    let model = Arc::new(Slow(AtomicUsize::new(0)));
    let bench = bench(model.clone(), |c| c).await;
    let one_at_once = Endpoint { max_concurrency: 1, ..Endpoint::new(model.clone()) };
    let config =
        config(|c| ClientConfig { lands: Some(CancellationToken::new()), ..c.within(Duration::from_mins(70)) });
    let client = Client::new(vec![one_at_once], bench.store.clone(), config);
    let cancel = CancellationToken::new();
    let asking = |text| client.complete(request(text), &cancel);
    let stop = async {
        while model.0.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::pause();
        cancel.cancel();
    };
    let (sent, in_line, ()) = tokio::join!(asking("a"), asking("b"), stop);
    assert_eq!(sent.unwrap().reply.text, "at last");
    assert!(in_line.unwrap_err().is_cancelled());
    assert_eq!(model.0.load(SeqCst), 1);
    assert!(client.complete(request("a"), &CancellationToken::new()).await.unwrap().from_cache);
}

#[tokio::test]
async fn no_more_than_the_limit_are_in_flight() {
    struct Counting(Arc<AtomicUsize>, Arc<AtomicUsize>);
    impl Chat for Counting {
        fn start(&self, request: ChatRequest, cancel: CancellationToken) -> Deltas {
            let (now, most) = (self.0.clone(), self.1.clone());
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            let inner = Scripted::rule(|_| Step::After(Duration::from_millis(10), "x".into())).start(request, cancel);
            let mut left = 2;
            use futures::StreamExt;
            inner
                .inspect(move |_| {
                    left -= 1;
                    if left == 0 {
                        now.fetch_sub(1, SeqCst);
                    }
                })
                .boxed()
        }
    }
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let bench = bench(echo(), |c| c).await;
    let three = Endpoint { max_concurrency: 3, ..Endpoint::new(Arc::new(Counting(now, most.clone()))) };
    let client = Client::new(vec![three], bench.store.clone(), config(|c| c));
    let cancel = CancellationToken::new();
    let all = (0..20).map(|k| client.complete(request(&k.to_string()), &cancel));
    for call in futures::future::join_all(all).await {
        call.unwrap();
    }
    assert_eq!(most.load(SeqCst), 3);
}

#[tokio::test]
async fn the_budget_stops_at_the_cap_and_finished_calls_stay_free() {
    let model = echo();
    let budget = Budget::new(Caps { calls: Some(5), ..Caps::default() });
    let shared = budget.clone();
    let bench = bench(model.clone(), |mut c| {
        c.budget = shared;
        c
    })
    .await;
    let cancel = CancellationToken::new();
    let all = (0..20).map(|k| bench.client.complete(request(&k.to_string()), &cancel));
    let results = futures::future::join_all(all).await;
    let stopped: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!((model.asked().len(), stopped.len(), budget.spent().0), (5, 15, 5));
    assert!(stopped.iter().all(|e| e.is_budget() && e.message.contains("of 5")), "{:?}", stopped[0]);
    let done = results.iter().position(Result::is_ok).unwrap();
    assert!(bench.client.complete(request(&done.to_string()), &cancel).await.unwrap().from_cache);
}

#[tokio::test]
async fn what_is_reserved_and_not_used_can_be_spent() {
    // Each call reserves 16 + tokens out and uses 4: all ten fit, if only one after the other.
    let budget = Budget::new(Caps { tokens: Some(60), ..Caps::default() });
    let shared = budget.clone();
    let bench = bench(echo(), |mut c| {
        c.budget = shared;
        c
    })
    .await;
    let cancel = CancellationToken::new();
    let all = (0..10).map(|k| bench.client.complete(request(&k.to_string()), &cancel));
    let results = futures::future::join_all(all).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(budget.spent().1, 30, "one word in, two out");
}

#[tokio::test]
async fn a_money_cap_wants_prices_and_counts_nano_dollars() {
    let prices = Prices { input: 1_000_000_000, cached_input: 1_000_000_000, output: 2_000_000_000, ..Prices::FREE };
    let capped = || Budget::new(Caps { price_nanos: Some(1_000_000), ..Caps::default() });
    let unpriced = bench(echo(), |mut c| {
        c.budget = capped();
        c
    })
    .await;
    let cancel = CancellationToken::new();
    let error = unpriced.client.complete(request("a"), &cancel).await.unwrap_err();
    assert!(error.is_budget() && error.message.contains("price"), "{error}");
    let budget = capped();
    let shared = budget.clone();
    let priced = bench(echo(), |mut c| {
        c.budget = shared;
        c.prices = Some(prices);
        c
    })
    .await;
    let call = priced.client.complete(request("a"), &cancel).await.unwrap();
    // One token in at $1 a million, two out at $2 a million: 5,000 nano-dollars.
    assert_eq!((call.price_nanos, budget.spent().2), (Some(5_000), 5_000));
}

#[tokio::test]
async fn a_store_that_cannot_write_stops_the_stage() {
    let bench = bench(echo(), |c| c).await;
    bench.store.close().await.unwrap();
    let error = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Store);
    assert!(error.is_fatal());
}

#[tokio::test]
async fn recorded_replies_answer_by_key_or_by_messages() {
    let text = format!(
        "{}\n\n{}\n",
        serde_json::json!({"key": call_key(&request("a")).hex(), "text": "by key"}),
        serde_json::json!({"messages": [{"role": "user", "content": "b"}], "text": "by messages", "finish": "length"}),
    );
    let bench = bench(Arc::new(Recorded::parse(&text, "r.jsonl").unwrap()), |c| c).await;
    let cancel = CancellationToken::new();
    assert_eq!(bench.client.complete(request("a"), &cancel).await.unwrap().reply.text, "by key");
    assert_eq!(bench.client.complete(request("b"), &cancel).await.unwrap().reply.text, "by messages");
    let error = bench.client.complete(request("c"), &cancel).await.unwrap_err();
    assert!(error.message.contains("r.jsonl has no reply"), "{error}");
    for bad in ["{", r#"{"text": "x"}"#, r#"{"key": "12", "text": "x"}"#] {
        let error = Recorded::parse(&format!("\n{bad}"), "r.jsonl").unwrap_err();
        assert!(error.message.starts_with("r.jsonl, line 2: "), "{error}");
    }
}

/// Parses only what the store already holds, and says so.
struct Suspicious {
    store: divvy_store::Store,
}

impl Chat for Suspicious {
    fn start(&self, request: ChatRequest, _cancel: CancellationToken) -> Deltas {
        let (store, key) = (self.store.clone(), call_key(&request));
        let parse = stream::once(async move {
            let kept = store.raw_replies(&key).await.unwrap();
            Ok(Delta::Text(format!("{} kept", kept.len())))
        });
        let done = stream::iter([Ok(Delta::Done { finish: Finish::Stop, usage: Usage::default() })]);
        stream::iter([Ok(Delta::Raw("raw".into()))]).chain(parse).chain(done).boxed()
    }
}

#[tokio::test]
async fn the_raw_reply_is_on_disk_before_it_is_parsed() {
    let workspace = divvy_testkit::workspace::Workspace::new();
    let store = divvy_store::Store::open(&workspace.file("store.db")).await.unwrap();
    let reading = divvy_store::Store::open_read(&workspace.file("store.db")).await.unwrap();
    let client = Client::new(vec![Endpoint::new(Arc::new(Suspicious { store: reading }))], store, config(|c| c));
    let call = client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!(call.reply.text, "1 kept");
}

#[tokio::test(start_paused = true)]
async fn no_call_begins_after_the_budget_of_time() {
    let budget = Budget::new(Caps { time: Some(Duration::from_mins(3)), ..Caps::default() });
    let bench = bench(echo(), |c| ClientConfig { budget, ..c }).await;
    let cancel = CancellationToken::new();
    bench.client.complete(request("a"), &cancel).await.unwrap();
    tokio::time::sleep(Duration::from_mins(3)).await;
    let late = bench.client.complete(request("b"), &cancel).await.unwrap_err();
    assert!(late.is_budget() && late.message.contains("3 minutes is used up"), "{late}");
    assert!(bench.client.complete(request("a"), &cancel).await.unwrap().from_cache, "what is finished stays free");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_stands_still_is_given_up_and_asked_for_again() {
    let model = Arc::new(Scripted::steps([Step::Hang, Step::Say("there".into())]));
    let bench = bench(model, |c| ClientConfig { stall: Some(Duration::from_secs(20)), ..c }).await;
    let start = tokio::time::Instant::now();
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert!(call.reply.text == "there" && start.elapsed() < Duration::from_secs(30));
    let attempts = bench.store.attempts(&call.key).await.unwrap();
    assert!(attempts[0].message.contains("sent nothing for 20 s; raise `stall_seconds`"), "{}", attempts[0].message);
}
