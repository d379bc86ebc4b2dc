use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use divvy_core::chat::Finish;
use divvy_llm::{
    ApiKey, Budget, Chat, ChatError, Client, ClientConfig, Delta, Endpoint, ErrorKind, Hear, HttpChat, HttpConfig,
    Live, RetryPolicy, Transfer,
};
use divvy_testkit::{
    script::{Fault, Step},
    teacher::{Lesson, Teacher},
};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::{bench, config, request};

pub(super) fn http(url: &str, transfer: Transfer) -> HttpChat {
    let config = HttpConfig { url: url.into(), model: "teacher".into(), api_key: ApiKey::None, transfer };
    HttpChat::new(config).unwrap()
}

/// One try, straight at the backend.
async fn ask(chat: &HttpChat) -> Result<divvy_core::chat::Reply, ChatError> {
    chat.complete(request("two words"), CancellationToken::new()).await
}

async fn fault(step: Step, transfer: Transfer) -> ChatError {
    let teacher = Teacher::scripted([step]).await.unwrap();
    ask(&http(&teacher.url(), transfer)).await.unwrap_err()
}

#[tokio::test]
async fn a_reply_comes_whole_and_streamed() {
    let teacher = Teacher::scripted([]).await.unwrap();
    for transfer in [Transfer::Whole, Transfer::Streamed] {
        let reply = ask(&http(&teacher.url(), transfer)).await.unwrap();
        assert_eq!((reply.text.as_str(), reply.finish), ("You said: two words", Finish::Stop));
        assert_eq!((reply.usage.tokens_in, reply.usage.tokens_out), (Some(2), Some(4)));
    }
    let body = &teacher.asked()[0].body;
    assert_eq!((&body["model"], &body["max_tokens"]), (&"teacher".into(), &16.into()));
}

#[tokio::test]
async fn a_streamed_raw_body_can_be_read_again() {
    let teacher = Teacher::scripted([]).await.unwrap();
    for transfer in [Transfer::Whole, Transfer::Streamed] {
        let chat = http(&teacher.url(), transfer);
        let deltas: Vec<_> = chat.start(request("a"), CancellationToken::new()).collect().await;
        let raw = deltas.iter().find_map(|d| if let Ok(Delta::Raw(raw)) = d { Some(raw.clone()) } else { None });
        let reply = chat.reread(&raw.unwrap()).unwrap().unwrap();
        assert_eq!(reply.text, "You said: a");
    }
}

#[tokio::test]
async fn missing_usage_is_unknown_and_length_is_kept() {
    let teacher = Teacher::scripted([Step::fault(Fault::NoUsage), Step::fault(Fault::Truncated)]).await.unwrap();
    let chat = http(&teacher.url(), Transfer::Whole);
    assert_eq!(ask(&chat).await.unwrap().usage.tokens_in, None);
    assert_eq!(ask(&chat).await.unwrap().finish, Finish::Length);
}

#[tokio::test]
async fn every_fault_has_its_kind() {
    for transfer in [Transfer::Whole, Transfer::Streamed] {
        for (step, kind) in [
            (Step::status(400), ErrorKind::BadRequest),
            (Step::status(401), ErrorKind::Unauthorized),
            (Step::status(402), ErrorKind::Unpaid),
            (Step::status(404), ErrorKind::NotFound),
            (Step::status(408), ErrorKind::ServerError),
            (Step::status(429), ErrorKind::RateLimited),
            (Step::status(500), ErrorKind::ServerError),
            (Step::status(307), ErrorKind::NotFound),
            (Step::fault(Fault::Cut), ErrorKind::CutOff),
            (Step::fault(Fault::Empty), ErrorKind::Empty),
        ] {
            let error = fault(step.clone(), transfer).await;
            assert_eq!(error.kind, kind, "{step:?} {transfer:?}: {error}");
            assert!(error.message.contains("model `teacher` at http://127.0.0.1:"), "{error}");
        }
    }
    assert_eq!(fault(Step::fault(Fault::Nonsense), Transfer::Whole).await.kind, ErrorKind::Unreadable);
    assert_eq!(fault(Step::fault(Fault::Nonsense), Transfer::Streamed).await.kind, ErrorKind::Unreadable);
}

#[tokio::test]
async fn the_dialects_of_errors_are_understood() {
    let too_long = r"This model's maximum context length is 4096 tokens.";
    let step = Step::Status { status: 400, retry_after: None, message: Some(too_long.into()) };
    let error = fault(step, Transfer::Whole).await;
    assert_eq!(error.kind, ErrorKind::ContextTooLong);
    assert!(error.message.contains("max_tokens"), "{error}");
    let error = fault(Step::Status { status: 429, retry_after: Some(1.5), message: None }, Transfer::Whole).await;
    assert_eq!((error.status, error.retry_after), (Some(429), Some(Duration::from_millis(1500))));
    let body = r#"{"error": {"message": "upstream is down", "code": 502}}"#;
    let error = fault(Step::Body { body: body.into() }, Transfer::Whole).await;
    assert_eq!((error.kind, error.status), (ErrorKind::ServerError, Some(502)));
    let thinking =
        r#"{"choices": [{"message": {"content": null, "reasoning_content": "hm"}, "finish_reason": "stop"}]}"#;
    let error = fault(Step::Body { body: thinking.into() }, Transfer::Whole).await;
    assert!(error.kind == ErrorKind::Empty && error.message.contains("thought"), "{error}");
}

#[tokio::test]
async fn a_wrong_model_is_told_which_there_are() {
    let teacher = Teacher::start(Lesson { model: "gpt-x".into(), ..Lesson::default() }).await.unwrap();
    let error = ask(&http(&teacher.url(), Transfer::Whole)).await.unwrap_err();
    assert!(error.is_fatal() && error.message.contains("; it serves: `gpt-x`"), "{error}");
    assert!(!error.message.contains(".;"), "one sentence, not two run together: {error}");
}

#[tokio::test]
async fn nobody_there_asks_whether_the_server_runs() {
    let teacher = Teacher::scripted([]).await.unwrap();
    let url = teacher.url();
    drop(teacher);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = ask(&http(&url, Transfer::Whole)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains("is the server running"), "{error}");
    let no_url =
        HttpConfig { url: "localhost:80".into(), model: "m".into(), api_key: ApiKey::None, transfer: Transfer::Whole };
    assert!(HttpChat::new(no_url).err().unwrap().message.contains("no http(s) URL"));
}

#[tokio::test]
async fn keys_come_from_files_and_are_never_shown() {
    let teacher = Teacher::start(Lesson { api_key: Some("sk-secret".into()), ..Lesson::default() }).await.unwrap();
    let without = ask(&http(&teacher.url(), Transfer::Whole)).await.unwrap_err();
    assert!(without.message.contains("api_key_env"), "{without}");
    let workspace = divvy_testkit::workspace::Workspace::new();
    let with = |text: &str| HttpConfig {
        url: teacher.url(),
        model: "teacher".into(),
        api_key: ApiKey::File(workspace.write("key", text)),
        transfer: Transfer::Whole,
    };
    let right = with("sk-secret\n");
    assert!(!format!("{right:?}").contains("sk-secret"));
    assert!(ask(&HttpChat::new(right).unwrap()).await.is_ok());
    let wrong = ask(&HttpChat::new(with("sk-wrong")).unwrap()).await.unwrap_err();
    assert!(wrong.message.contains("check the API key in") && !wrong.message.contains("sk-wrong"), "{wrong}");
    let missing = HttpConfig { api_key: ApiKey::Env("DIVVY_TEST_NO_SUCH_KEY".into()), ..with("") };
    let error = HttpChat::new(missing).err().unwrap();
    assert!(error.message.contains("export DIVVY_TEST_NO_SUCH_KEY="), "{error}");
}

#[tokio::test]
async fn faults_are_survived_and_every_attempt_is_on_record() {
    let script = [
        Step::status(500),
        Step::Status { status: 429, retry_after: Some(0.01), message: None },
        Step::fault(Fault::Nonsense),
        Step::fault(Fault::Empty),
    ];
    let teacher = Teacher::scripted(script).await.unwrap();
    let bench = bench(Arc::new(http(&teacher.url(), Transfer::Whole)), |c| c).await;
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!(call.reply.text, "You said: a");
    let attempts = bench.store.attempts(&call.key).await.unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|a| (a.number, a.outcome.as_str(), a.http_status)).collect();
    let expected = [
        (1, "server-error", Some(500)),
        (2, "rate-limited", Some(429)),
        (3, "unreadable", None),
        (4, "empty-completion", None),
        (5, "ok", None),
    ];
    assert_eq!(outcomes, expected);
    // Whatever came with a 200 is kept as it came.
    assert_eq!(bench.store.raw_replies(&call.key).await.unwrap().len(), 3);
    assert_eq!(teacher.answered(), 1);
}

/// An endpoint may charge for each.
#[tokio::test]
async fn what_breaks_off_again_and_again_is_paid_three_times() {
    let teacher = Teacher::scripted(vec![Step::fault(Fault::Cut); 9]).await.unwrap();
    let (budget, backend) = (Arc::<Budget>::default(), Arc::new(http(&teacher.url(), Transfer::Whole)));
    let shared = Arc::clone(&budget);
    let bench = bench(backend, |c| ClientConfig { budget: shared, ..c }).await;
    let error = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap_err();
    assert!(error.kind == ErrorKind::CutOff && error.message.contains("after 3 tries"), "{error}");
    assert_eq!((teacher.asked().len(), budget.spent().0), (3, 3));
}

/// What says nothing twice has answered, where others are answered.
#[tokio::test]
async fn a_reply_that_says_nothing_is_paid_twice_and_never_again() {
    for transfer in [Transfer::Whole, Transfer::Streamed] {
        let script = [Step::say("yes"), Step::fault(Fault::Empty), Step::fault(Fault::Empty)];
        let teacher = Teacher::scripted(script).await.unwrap();
        let budget = Arc::<Budget>::default();
        let (shared, backend) = (Arc::clone(&budget), Arc::new(http(&teacher.url(), transfer)));
        let bench = bench(backend, |c| ClientConfig { budget: shared, ..c }).await;
        let ask = async |text: &str| bench.client.complete(request(text), &CancellationToken::new()).await.unwrap();
        assert_eq!(ask("a").await.reply.text, "yes");
        for from_cache in [false, true] {
            let mute = ask("b").await;
            assert_eq!((&*mute.reply.text, &mute.reply.finish, mute.from_cache), ("", &Finish::Stop, from_cache));
            assert_eq!(mute.reply.usage.tokens_in, Some(1));
        }
        let attempts = bench.store.attempts(&divvy_llm::call_key(&request("b"))).await.unwrap();
        let outcomes: Vec<&str> = attempts.iter().map(|attempt| &*attempt.outcome).collect();
        assert_eq!((outcomes, teacher.asked().len()), (vec!["empty-completion", "ok"], 3));
        assert_eq!(budget.spent().0, 3, "each was paid for");
    }
}

/// One that never says anything may be mute, and its rows wait until it is mended.
#[tokio::test]
async fn the_silence_of_an_endpoint_that_answers_nobody_is_no_answer() {
    let teacher = Teacher::scripted(vec![Step::fault(Fault::Empty); 4]).await.unwrap();
    let bench = bench(Arc::new(http(&teacher.url(), Transfer::Whole)), |c| c).await;
    for text in ["a", "b"] {
        let error = bench.client.complete(request(text), &CancellationToken::new()).await.unwrap_err();
        assert!(error.kind == ErrorKind::Empty && error.message.contains("after 2 tries"), "{error}");
    }
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!((&*call.reply.text, teacher.asked().len()), ("You said: a", 5));
}

#[tokio::test]
async fn what_a_filter_took_away_is_paid_once() {
    let filtered = r#"{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}"#;
    let teacher = Teacher::scripted([Step::raw(200, filtered)]).await.unwrap();
    let bench = bench(Arc::new(http(&teacher.url(), Transfer::Whole)), |c| c).await;
    for from_cache in [false, true] {
        let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
        let finish = Finish::Other("content_filter".to_owned());
        assert_eq!((&*call.reply.text, call.reply.finish, call.from_cache), ("", finish, from_cache));
    }
    assert_eq!(teacher.asked().len(), 1);
}

#[tokio::test]
async fn a_stream_that_is_no_reply_is_kept_as_it_came_and_never_taken_for_one() {
    let half = "data: {\"choices\": [{\"delta\": {\"content\": \"half\"}}]}\n\n";
    for step in [Step::fault(Fault::Nonsense), Step::fault(Fault::Cut), Step::raw(200, half)] {
        let teacher = Teacher::scripted([step.clone()]).await.unwrap();
        let backend = Arc::new(http(&teacher.url(), Transfer::Streamed));
        let bench = bench(backend, |c| ClientConfig { retry: RetryPolicy::NEVER, ..c }).await;
        let (cancel, key) = (CancellationToken::new(), divvy_llm::call_key(&request("a")));
        bench.client.complete(request("a"), &cancel).await.unwrap_err();
        assert_eq!(bench.store.raw_replies(&key).await.unwrap().len(), 1, "{step:?}");
        let call = bench.client.complete(request("a"), &cancel).await.unwrap();
        assert_eq!((call.reply.text.as_str(), teacher.asked().len()), ("You said: a", 2), "{step:?}");
    }
}

/// Notes what it hears.
#[derive(Default)]
struct Ear(Mutex<String>);

impl Hear for Ear {
    fn piece(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }
}

/// Ten minutes between two words.
fn stands_still() -> Step {
    Step::drip("one two", 600_000)
}

const STALL: Option<Duration> = Some(Duration::from_millis(300));

#[tokio::test]
async fn a_stream_that_stands_still_in_the_middle_is_given_up() {
    // One that is slow to begin is asked again; none comes to its end.
    let teacher = Teacher::scripted(vec![stands_still(); 3]).await.unwrap();
    let endpoint = Endpoint::new(Arc::new(http(&teacher.url(), Transfer::Streamed)));
    let live = Live::new(vec![endpoint], &config(|c| ClientConfig { stall: STALL, ..c }));
    let (ear, until) = (Arc::new(Ear::default()), tokio::time::Instant::now() + Duration::from_mins(5));
    let error = live.ask(request("a"), until, ear.clone()).await.unwrap_err();
    assert_eq!((error.kind, ear.0.lock().unwrap().as_str()), (ErrorKind::Stalled, "one "));
    assert!(error.message.contains("sent nothing for 0.3 s; raise `stall_seconds`"), "{error}");
}

#[tokio::test]
async fn a_stream_that_stood_still_is_asked_for_again() {
    let teacher = Teacher::scripted([stands_still()]).await.unwrap();
    let backend = Arc::new(http(&teacher.url(), Transfer::Streamed));
    let bench = bench(backend, |c| ClientConfig { stall: STALL, ..c }).await;
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    let attempts = bench.store.attempts(&call.key).await.unwrap();
    assert_eq!((call.reply.text.as_str(), attempts[0].outcome.as_str()), ("You said: a", "timed-out"));
    assert!(attempts[0].message.contains("sent nothing for 0.3 s"), "{}", attempts[0].message);
}

/// A proxy that gave up waiting says nothing of the model behind it; one that is overloaded has not asked it.
#[tokio::test]
async fn a_proxy_that_gave_up_waiting_may_have_been_charged() {
    for (status, spent) in [(504, 1), (524, 1), (502, 0), (503, 0), (429, 0)] {
        let teacher = Teacher::scripted([Step::status(status)]).await.unwrap();
        let budget = Arc::<Budget>::default();
        let (shared, backend) = (Arc::clone(&budget), Arc::new(http(&teacher.url(), Transfer::Whole)));
        let bench = bench(backend, |c| ClientConfig { budget: shared, retry: RetryPolicy::NEVER, ..c }).await;
        bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap_err();
        assert_eq!(budget.spent().0, spent, "{status}");
    }
}

#[tokio::test]
async fn a_paid_reply_that_was_never_parsed_is_read_instead_of_paid_again() {
    let teacher = Teacher::scripted([]).await.unwrap();
    let bench = bench(Arc::new(http(&teacher.url(), Transfer::Whole)), |c| c).await;
    let key = divvy_llm::call_key(&request("a"));
    let bytes = br#"{"choices": [{"message": {"content": "kept"}, "finish_reason": "stop"}]}"#.to_vec();
    let raw = divvy_store::RawReply { key, number: 1, bytes, endpoint: None, received_ms: 0, latency_ms: Some(5) };
    bench.store.record_raw(&raw).await.unwrap();
    let call = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap();
    assert_eq!((call.reply.text.as_str(), call.from_cache, call.latency_ms), ("kept", true, 5));
    assert!(teacher.asked().is_empty());
    assert_eq!(bench.store.call(&call.key).await.unwrap().unwrap().latency_ms, 5);
}

#[tokio::test]
async fn the_raw_body_comes_before_the_text() {
    let teacher = Teacher::scripted([]).await.unwrap();
    let chat = http(&teacher.url(), Transfer::Whole);
    let mut deltas = chat.start(request("a"), CancellationToken::new());
    assert!(matches!(deltas.next().await, Some(Ok(Delta::Raw(_)))));
    assert!(matches!(deltas.next().await, Some(Ok(Delta::Text(_)))));
}

#[tokio::test]
async fn a_hanging_endpoint_is_left_at_once_when_cancelled() {
    let teacher = Teacher::scripted([Step::fault(Fault::Hang)]).await.unwrap();
    let chat = http(&teacher.url(), Transfer::Whole);
    let cancel = CancellationToken::new();
    let stop = async {
        while teacher.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(chat.complete(request("a"), cancel.clone()), stop);
    assert!(result.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn one_endpoint_stands_in_for_another_and_nothing_is_paid_twice() {
    let (dying, well) = (Teacher::scripted([]).await.unwrap(), Teacher::scripted([]).await.unwrap());
    let locked = Teacher::start(Lesson { api_key: Some("sk-other".into()), ..Lesson::default() }).await.unwrap();
    let place = |teacher: &Teacher| Endpoint {
        name: Some(teacher.url()),
        adaptive: true,
        ..Endpoint::new(Arc::new(http(&teacher.url(), Transfer::Whole)))
    };
    let bench = bench(Arc::new(http(&well.url(), Transfer::Whole)), |c| c).await;
    let client = Client::new([&dying, &locked, &well].map(place).into(), bench.store.clone(), config(|c| c));
    let cancel = CancellationToken::new();
    let all = |range: std::ops::Range<u32>| {
        futures::future::join_all(range.map(|k| client.complete(request(&format!("q{k}")), &cancel)))
    };
    assert!(all(0..20).await.into_iter().all(|call| call.is_ok()));
    let served = dying.answered() + well.answered();
    assert!(served == 20 && dying.answered() > 0 && well.answered() > 0, "{} + {}", dying.answered(), well.answered());
    let before = dying.answered();
    drop(dying);
    assert!(all(10..40).await.into_iter().all(|call| call.is_ok()), "twenty more, ten of them kept");
    assert_eq!(well.answered(), 40 - before);
    let calls = bench.store.calls(&divvy_store::CallFilter::default()).await.unwrap();
    let here = calls.iter().filter(|call| call.endpoint.as_deref() == Some(well.url().as_str())).count();
    assert_eq!((calls.len(), here), (40, well.answered()));
}
