//! Replies of which the endpoint itself says that they are not whole.

use std::sync::Arc;

use divvy_llm::{Budget, ClientConfig, ErrorKind, RetryPolicy, Transfer, call_key};
use divvy_testkit::{script::Step, teacher::Teacher};
use tokio_util::sync::CancellationToken;

use super::{ask, chat, other};
use crate::{bench, request};

/// The same reply that ends with this word, whole and streamed, with its figures in an event of their own.
fn ends_with(word: &str) -> [(Transfer, Step); 2] {
    let usage = r#""usage": {"prompt_tokens": 9, "completion_tokens": 3}"#;
    let choice = |said: &str| format!(r#"{{"{said}": {{"content": "1. Who"}}, "finish_reason": "{word}"}}"#);
    let whole = format!(r#"{{"choices": [{}], {usage}}}"#, choice("message"));
    let streamed = format!(
        "data: {{\"choices\": [{}]}}\n\ndata: {{\"choices\": [], {usage}}}\n\ndata: [DONE]\n\n",
        choice("delta")
    );
    [(Transfer::Whole, Step::raw(200, whole)), (Transfer::Streamed, Step::raw(200, streamed))]
}

#[tokio::test]
async fn a_reply_that_the_endpoint_broke_off_is_paid_for_and_asked_for_again() {
    for (transfer, step) in ["abort", "Error", "cancelled", "CANCELED"].into_iter().flat_map(ends_with) {
        let teacher = Teacher::scripted([step]).await.unwrap();
        let (budget, backend) = (Arc::<Budget>::default(), Arc::new(chat(&teacher, transfer)));
        let shared = Arc::clone(&budget);
        let bench = bench(backend, |c| ClientConfig { budget: shared, retry: RetryPolicy::NEVER, ..c }).await;
        let (cancel, key) = (CancellationToken::new(), call_key(&request("a")));
        let error = bench.client.complete(request("a"), &cancel).await.unwrap_err();
        assert!(error.kind == ErrorKind::CutOff && error.is_retryable(), "{error:?}");
        assert!(error.message.contains("broke its reply off (`finish_reason` is `"), "{error}");
        assert_eq!((budget.spent().0, budget.spent().1), (1, 12), "{transfer:?}");
        let attempts = bench.store.attempts(&key).await.unwrap();
        assert_eq!((&*attempts[0].outcome, attempts[0].usage.tokens_out), ("cut-off", Some(3)));
        // It is kept as it came, and read again it is no reply either.
        let call = bench.client.complete(request("a"), &cancel).await.unwrap();
        assert_eq!((call.reply.text.as_str(), teacher.asked().len()), ("You said: a", 2), "{transfer:?}");
    }
}

#[tokio::test]
async fn a_word_for_the_end_that_nobody_knows_is_kept() {
    for (transfer, step) in ends_with("function_call") {
        let teacher = Teacher::scripted([step]).await.unwrap();
        let reply = ask(&teacher, transfer).await.unwrap();
        assert_eq!((&*reply.text, reply.finish), ("1. Who", other("function_call")));
    }
}
