//! OpenAI, and Azure's OpenAI, which has a path, a header and a filter of its own.

use std::sync::Arc;

use divvy_core::chat::{Finish, Usage};
use divvy_llm::{
    ApiKey, Budget, Caps, Chat, ClientConfig, ErrorKind, HttpChat, HttpConfig, RetryPolicy, Transfer, call_key,
};
use divvy_testkit::{
    script::Step,
    teacher::{Lesson, Teacher},
};
use tokio_util::sync::CancellationToken;

use super::{No, Whole, are_read, are_read_streamed, are_refusals, chat, other, tokens};
use crate::{bench, request};

#[tokio::test]
async fn replies_in_one_piece() {
    let cases: [Whole; 3] = [
        (
            "OpenAI",
            r#"{"id": "chatcmpl-a", "object": "chat.completion", "created": 1760000000, "model": "gpt-x-2026-01-01",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "1. Who?", "refusal": null,
                "annotations": []}, "logprobs": null, "finish_reason": "stop"}], "usage": {"prompt_tokens": 90,
                "completion_tokens": 4, "total_tokens": 94, "prompt_tokens_details": {"cached_tokens": 64,
                "audio_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}, "service_tier": "default",
                "system_fingerprint": "fp_1"}"#,
            "1. Who?",
            Finish::Stop,
            tokens(90, Some(64), 4),
        ),
        (
            "OpenAI, a refusal",
            r#"{"choices": [{"message": {"role": "assistant", "content": null, "refusal": "I can't help with that."},
                "finish_reason": "stop"}], "usage": {"prompt_tokens": 9, "completion_tokens": 6}}"#,
            "I can't help with that.",
            other("refusal"),
            tokens(9, None, 6),
        ),
        (
            "Azure, filtered half-way",
            r#"{"choices": [{"content_filter_results": {"violence": {"filtered": true, "severity": "high"}},
                "finish_reason": "content_filter", "index": 0, "message": {"content": "1. Who", "role": "assistant"}}],
                "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}"#,
            "1. Who",
            other("content_filter"),
            tokens(9, None, 3),
        ),
    ];
    are_read(&cases).await;
}

#[tokio::test]
async fn replies_in_streams() {
    let cases: [Whole; 3] = [
        (
            "OpenAI",
            "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\
             \"finish_reason\":null}],\"usage\":null}\n\n\
             data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"4\"},\"finish_reason\":null}],\"usage\":null}\n\n\
             data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"2\"},\"finish_reason\":null}],\"usage\":null}\n\n\
             data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
             data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"prompt_tokens_details\":\
             {\"cached_tokens\":0}}}\n\ndata: [DONE]\n\n",
            "42",
            Finish::Stop,
            tokens(9, Some(0), 2),
        ),
        (
            "OpenAI, a refusal",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null,\"refusal\":\"I can't \"}}]}\n\n\
             data: {\"choices\":[{\"delta\":{\"refusal\":\"do that.\"}}]}\n\n\
             data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
            "I can't do that.",
            other("refusal"),
            Usage::default(),
        ),
        (
            "Azure, with a first event about filters",
            "data: {\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\",\"object\":\"\",\"prompt_filter_results\":[{\
             \"prompt_index\":0,\"content_filter_results\":{}}]}\n\n\
             data: {\"choices\":[{\"content_filter_results\":{},\"delta\":{\"content\":\"42\"},\"finish_reason\":null}]}\n\n\
             data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
            "42",
            Finish::Stop,
            Usage::default(),
        ),
    ];
    are_read_streamed(&cases).await;
}

#[tokio::test]
async fn refusals() {
    let cases: [No; 7] = [
        (
            "OpenAI, key",
            401,
            r#"{"error": {"message": "Incorrect API key provided: sk-…", "type": "invalid_request_error", "param": null,
                "code": "invalid_api_key"}}"#,
            ErrorKind::Unauthorized,
            "Incorrect API key",
        ),
        (
            "OpenAI, a model that thinks",
            400,
            r#"{"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model.",
                "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}}"#,
            ErrorKind::BadRequest,
            "give `temperature = 1` where it is asked",
        ),
        (
            "OpenAI, credit",
            429,
            r#"{"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota", "param": null,
                "code": "insufficient_quota"}}"#,
            ErrorKind::Unpaid,
            "no credit left",
        ),
        (
            "OpenAI, rate",
            429,
            r#"{"error": {"message": "Rate limit reached for gpt-x.", "type": "requests", "code": "rate_limit_exceeded"}}"#,
            ErrorKind::RateLimited,
            "Rate limit reached",
        ),
        (
            "Azure, deployment",
            404,
            r#"{"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}"#,
            ErrorKind::NotFound,
            "deployment for this resource",
        ),
        (
            "Azure, filtered prompt",
            400,
            r#"{"error": {"message": "The response was filtered due to the prompt triggering the policy.", "type": null,
                "param": "prompt", "code": "content_filter", "status": 400, "innererror": {"code":
                "ResponsibleAIPolicyViolation"}}}"#,
            ErrorKind::Refused,
            "was filtered",
        ),
        (
            "Azure, gateway",
            429,
            r#"{"statusCode": 429, "message": "Rate limit is exceeded. Try again in 7 seconds."}"#,
            ErrorKind::RateLimited,
            "Try again in 7 seconds",
        ),
    ];
    are_refusals(&cases).await;
}

#[tokio::test]
async fn azure_has_a_path_and_a_header_of_its_own() {
    let teacher = Teacher::scripted([]).await.unwrap();
    let workspace = divvy_testkit::workspace::Workspace::new();
    let url = teacher.url().replace("/v1", "/openai/deployments/gpt-x?api-version=2026-01-01");
    let api_key = ApiKey::File(workspace.write("key", "azure-secret"));
    let config = HttpConfig { url, model: "teacher".into(), api_key, transfer: Transfer::Whole };
    let reply = HttpChat::new(config).unwrap().complete(request("a"), CancellationToken::new()).await.unwrap();
    assert_eq!(reply.text, "You said: a");
    let asked = &teacher.asked()[0];
    assert_eq!(asked.target, "/openai/deployments/gpt-x/chat/completions?api-version=2026-01-01");
    assert_eq!((asked.api_key.as_deref(), asked.authorization.as_deref()), (Some("azure-secret"), None));
}

/// OpenAI's models that think have another word for the most tokens of a reply. The request in that word is a try of its own, to
/// the budget and on record, and goes out also where nothing is tried again.
#[tokio::test]
async fn a_word_that_is_refused_is_replaced_and_remembered() {
    let teacher = Teacher::start(Lesson { own_word: true, ..Lesson::default() }).await.unwrap();
    let budget = Budget::new(Caps { calls: Some(2), ..Caps::default() });
    let shared = Arc::clone(&budget);
    let never = |c| ClientConfig { budget: shared, retry: RetryPolicy::NEVER, ..c };
    let bench = bench(Arc::new(chat(&teacher, Transfer::Whole)), never).await;
    let mut outcomes = Vec::new();
    for text in ["a", "b"] {
        let call = bench.client.complete(request(text), &CancellationToken::new()).await.unwrap();
        let attempts = bench.store.attempts(&call.key).await.unwrap();
        outcomes.extend(attempts.into_iter().map(|attempt| (attempt.number, attempt.outcome, attempt.http_status)));
    }
    let (refused, ok) = ((1, "other-word".to_owned(), Some(400)), |number| (number, "ok".to_owned(), None));
    assert_eq!(outcomes, [refused, ok(2), ok(1)]);
    let asked = teacher.asked();
    let words: Vec<_> =
        asked.iter().map(|asked| (&asked.body["max_tokens"], &asked.body["max_completion_tokens"])).collect();
    let (none, most) = (&serde_json::Value::Null, &16.into());
    assert_eq!(words, [(most, none), (none, most), (none, most)]);
    assert_eq!(budget.spent().0, 2, "what is refused is no call");
}

#[tokio::test]
async fn an_endpoint_that_refuses_both_words_is_asked_twice_and_no_more() {
    let no = r#"{"error": {"message": "Unsupported parameter: 'max_completion_tokens'."}}"#;
    let stubborn = Teacher::scripted(vec![Step::raw(400, no); 9]).await.unwrap();
    let bench = bench(Arc::new(chat(&stubborn, Transfer::Whole)), |c| c).await;
    let error = bench.client.complete(request("a"), &CancellationToken::new()).await.unwrap_err();
    let attempts = bench.store.attempts(&call_key(&request("a"))).await.unwrap();
    assert_eq!((error.kind, stubborn.asked().len(), attempts.len()), (ErrorKind::BadRequest, 2, 2));
}
