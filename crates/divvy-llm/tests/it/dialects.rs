//! Exchanges in the dialects of the servers that people have, written after their documentation and sources: what each
//! puts in a reply or leaves out, and how it says no.

use divvy_core::chat::{Finish, Usage};
use divvy_llm::{ApiKey, Chat, ChatError, ErrorKind, HttpChat, HttpConfig, Transfer};
use divvy_testkit::{script::Step, teacher::Teacher};
use tokio_util::sync::CancellationToken;

use crate::request;

async fn ask(teacher: &Teacher, transfer: Transfer) -> Result<divvy_core::chat::Reply, ChatError> {
    let config = HttpConfig { url: teacher.url(), model: "teacher".into(), api_key: ApiKey::None, transfer };
    let chat = HttpChat::new(config).unwrap();
    chat.complete(request("two words"), CancellationToken::new()).await
}

async fn told(status: u16, raw: &str, transfer: Transfer) -> Result<divvy_core::chat::Reply, ChatError> {
    let teacher = Teacher::scripted([Step::raw(status, raw)]).await.unwrap();
    ask(&teacher, transfer).await
}

fn tokens(tokens_in: u64, tokens_cached: Option<u64>, tokens_out: u64) -> Usage {
    Usage { tokens_in: Some(tokens_in), tokens_cached, tokens_out: Some(tokens_out) }
}

fn other(reason: &str) -> Finish {
    Finish::Other(reason.to_owned())
}

/// Server, body, text, finish, usage.
type Whole = (&'static str, &'static str, &'static str, Finish, Usage);

fn whole() -> Vec<Whole> {
    vec![
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
        (
            "OpenRouter",
            r#"{"id": "gen-1", "provider": "Somebody", "model": "org/m", "object": "chat.completion", "choices": [{
                "logprobs": null, "finish_reason": "stop", "native_finish_reason": "eos", "index": 0, "message": {
                "role": "assistant", "content": "42", "refusal": null, "reasoning": "six by seven",
                "reasoning_details": [{"type": "reasoning.text", "text": "six by seven"}]}}], "usage": {
                "prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28, "cost": 0.00012, "is_byok": false,
                "prompt_tokens_details": {"cached_tokens": 0}, "cost_details": {"upstream_inference_cost": null}}}"#,
            "42",
            Finish::Stop,
            tokens(20, Some(0), 8),
        ),
        (
            "Together",
            r#"{"id": "nz7", "object": "chat.completion", "created": 1, "model": "org/m", "prompt": [], "choices": [{
                "finish_reason": "eos", "seed": 12345678901234567890, "logprobs": null, "index": 0, "message": {
                "role": "assistant", "content": "42", "tool_calls": []}}], "usage": {"prompt_tokens": 20,
                "completion_tokens": 2, "total_tokens": 22, "cached_tokens": 0}}"#,
            "42",
            Finish::Stop,
            tokens(20, None, 2),
        ),
        (
            "vLLM, a model that thinks",
            r#"{"id": "cmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant",
                "reasoning_content": "Six by seven.", "content": "\n\n42", "tool_calls": []}, "logprobs": null,
                "finish_reason": "stop", "stop_reason": 151645}], "usage": {"prompt_tokens": 30, "total_tokens": 40,
                "completion_tokens": 10, "prompt_tokens_details": null}, "prompt_logprobs": null,
                "kv_transfer_params": null}"#,
            "\n\n42",
            Finish::Stop,
            tokens(30, None, 10),
        ),
        (
            "vLLM, cut while it thinks",
            r#"{"choices": [{"message": {"role": "assistant", "reasoning_content": "Six by", "content": null},
                "finish_reason": "length"}], "usage": {"prompt_tokens": 30, "completion_tokens": 16}}"#,
            "",
            Finish::Length,
            tokens(30, None, 16),
        ),
        (
            "llama-server",
            r#"{"choices": [{"finish_reason": "length", "index": 0, "message": {"role": "assistant", "content": "4"}}],
                "created": 1, "model": "m.gguf", "system_fingerprint": "b6000-abc", "object": "chat.completion",
                "usage": {"completion_tokens": 1, "prompt_tokens": 12, "total_tokens": 13}, "id": "chatcmpl-x",
                "timings": {"prompt_n": 12, "prompt_ms": 31.2, "predicted_n": 1, "predicted_ms": 8.5}}"#,
            "4",
            Finish::Length,
            tokens(12, None, 1),
        ),
        (
            "Ollama",
            r#"{"id": "chatcmpl-7", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint":
                "fp_ollama", "choices": [{"index": 0, "message": {"role": "assistant", "content": "42",
                "reasoning": "hm"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 26, "completion_tokens": 3,
                "total_tokens": 29}}"#,
            "42",
            Finish::Stop,
            tokens(26, None, 3),
        ),
        (
            "DeepSeek, which counts its cache by another name",
            r#"{"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 70,
                "completion_tokens": 2, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 6}}"#,
            "42",
            Finish::Stop,
            tokens(70, Some(64), 2),
        ),
        (
            "Mistral, in parts with thoughts",
            r#"{"choices": [{"message": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}, "finish_reason": "model_length"}]}"#,
            "42",
            Finish::Length,
            Usage::default(),
        ),
        (
            "a proxy that counts in decimals and has lost the reason",
            r#"{"choices": [{"message": {"content": "42"}, "finish_reason": null}],
                "usage": {"prompt_tokens": 7.0, "completion_tokens": null, "prompt_tokens_details": "none"}}"#,
            "42",
            Finish::Stop,
            Usage { tokens_in: Some(7), ..Usage::default() },
        ),
        (
            "a server that counts nothing",
            r#"{"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": null}"#,
            "42",
            Finish::Stop,
            Usage::default(),
        ),
    ]
}

#[tokio::test]
async fn replies_in_one_piece() {
    for (server, raw, text, finish, usage) in whole() {
        // A server that was asked for a stream and does not stream is understood too.
        for transfer in [Transfer::Whole, Transfer::Streamed] {
            let reply = told(200, raw, transfer).await.unwrap_or_else(|error| panic!("{server}: {error}"));
            assert_eq!((&*reply.text, &reply.finish, reply.usage), (text, &finish, usage), "{server} {transfer:?}");
        }
    }
}

#[tokio::test]
async fn replies_in_streams() {
    let cases: [Whole; 8] = [
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
        (
            "OpenRouter, which keeps the line open, and counts with the last piece",
            ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n\
             data: {\"provider\":\"Somebody\",\"choices\":[{\"delta\":{\"content\":\"\",\"reasoning\":\"hm\"}}]}\n\n\
             data: {\"choices\":[{\"delta\":{\"content\":\"42\"},\"finish_reason\":\"stop\",\"native_finish_reason\":\"eos\"}],\
             \"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5,\"cost\":0.1}}\n\ndata: [DONE]\n\n",
            "42",
            Finish::Stop,
            tokens(9, None, 5),
        ),
        (
            "vLLM, which counts with every piece",
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":{\"prompt_tokens\":9,\
             \"completion_tokens\":0}}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"42\"},\"finish_reason\":\"length\",\
             \"stop_reason\":null}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":16}}\n\ndata: [DONE]\n\n",
            "42",
            Finish::Length,
            tokens(9, None, 16),
        ),
        (
            "llama-server, without a space and with carriage returns",
            "data:{\"choices\":[{\"delta\":{\"content\":\"42\"},\"finish_reason\":null}]}\r\n\r\n\
             data:{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"timings\":{\"predicted_n\":2}}\r\n\r\n\
             data:[DONE]\r\n\r\n",
            "42",
            Finish::Stop,
            Usage::default(),
        ),
        (
            "a server that ends without a word",
            "data: {\"choices\":[{\"delta\":{\"content\":\"42\"},\"finish_reason\":null}]}\n\n\
             data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\
             \"completion_tokens\":2}}",
            "42",
            Finish::Stop,
            tokens(1, None, 2),
        ),
        (
            "Mistral, in parts",
            "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[]}]}}]}\n\n\
             data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"42\"}]},\
             \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
            "42",
            Finish::Stop,
            Usage::default(),
        ),
    ];
    for (server, raw, text, finish, usage) in cases {
        let reply = told(200, raw, Transfer::Streamed).await.unwrap_or_else(|error| panic!("{server}: {error}"));
        assert_eq!((&*reply.text, &reply.finish, reply.usage), (text, &finish, usage), "{server}");
    }
}

/// Server, status, body, kind, what the message must say.
type No = (&'static str, u16, &'static str, ErrorKind, &'static str);

#[tokio::test]
async fn refusals() {
    let cases: [No; 21] = [
        (
            "OpenAI, key",
            401,
            r#"{"error": {"message": "Incorrect API key provided: sk-…", "type": "invalid_request_error", "param": null,
                "code": "invalid_api_key"}}"#,
            ErrorKind::Unauthorized,
            "Incorrect API key",
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
        (
            "OpenRouter, credit",
            402,
            r#"{"error": {"message": "Insufficient credits", "code": 402}, "user_id": "u"}"#,
            ErrorKind::Unpaid,
            "Insufficient credits",
        ),
        (
            "OpenRouter, its provider",
            502,
            r#"{"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "upstream overloaded",
                "provider_name": "Somebody"}}}"#,
            ErrorKind::ServerError,
            "Provider returned error: upstream overloaded",
        ),
        (
            "OpenRouter, with a 200",
            200,
            r#"{"error": {"message": "Rate limit exceeded", "code": 429}}"#,
            ErrorKind::RateLimited,
            "HTTP 429: Rate limit exceeded",
        ),
        (
            "OpenRouter, in the middle of a choice",
            200,
            r#"{"choices": [{"message": {"content": "4"}, "finish_reason": "error", "error": {"code": 503,
                "message": "The provider has gone away"}}]}"#,
            ErrorKind::ServerError,
            "has gone away",
        ),
        (
            "Together, length",
            422,
            r#"{"id": "nz", "error": {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193.",
                "type": "invalid_request_error", "param": "max_tokens", "code": null}}"#,
            ErrorKind::ContextTooLong,
            "lower `max_tokens`",
        ),
        (
            "vLLM, length",
            400,
            r#"{"object": "error", "message": "This model's maximum context length is 4096 tokens.", "type":
                "BadRequestError", "param": null, "code": 400}"#,
            ErrorKind::ContextTooLong,
            "4096 tokens",
        ),
        (
            "vLLM, with a 200",
            200,
            r#"{"object": "error", "message": "The engine is dead.", "type": "InternalServerError", "code": 500}"#,
            ErrorKind::ServerError,
            "The engine is dead",
        ),
        ("FastAPI, a sentence", 404, r#"{"detail": "Not Found"}"#, ErrorKind::NotFound, "HTTP 404: Not Found"),
        (
            "FastAPI, a list",
            422,
            r#"{"detail": [{"type": "extra_forbidden", "loc": ["body", "response_format"], "msg": "Extra inputs are not permitted",
                "input": {}}]}"#,
            ErrorKind::BadRequest,
            "body.response_format: Extra inputs are not permitted",
        ),
        (
            "llama-server, loading",
            503,
            r#"{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}"#,
            ErrorKind::ServerError,
            "Loading model",
        ),
        (
            "llama-server, length",
            400,
            r#"{"error": {"code": 400, "message": "the request exceeds the available size", "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000, "n_ctx": 4096}}"#,
            ErrorKind::ContextTooLong,
            "exceeds the available size",
        ),
        (
            "Ollama, model",
            404,
            r#"{"error": {"message": "model \"m\" not found, try pulling it first", "type": "api_error", "code": null}}"#,
            ErrorKind::NotFound,
            "try pulling it first",
        ),
        (
            "Ollama, a bare sentence",
            500,
            r#"{"error": "llama runner process has terminated"}"#,
            ErrorKind::ServerError,
            "runner",
        ),
        (
            "Google, a list",
            400,
            r#"[{"error": {"code": 400, "message": "Invalid value at 'top_p'", "status": "INVALID_ARGUMENT"}}]"#,
            ErrorKind::BadRequest,
            "HTTP 400: Invalid value at 'top_p'",
        ),
        (
            "a proxy",
            502,
            "<html>\r\n<head><title>502 Bad\n Gateway</title></head>\r\n<body><center><h1>502</h1></center></body></html>",
            ErrorKind::ServerError,
            "HTTP 502: a page in HTML, `502 Bad Gateway`",
        ),
    ];
    for (server, status, raw, kind, words) in cases {
        for transfer in [Transfer::Whole, Transfer::Streamed] {
            let error = told(status, raw, transfer).await.unwrap_err();
            assert_eq!(error.kind, kind, "{server} {transfer:?}: {error}");
            assert!(error.message.contains(words), "{server} {transfer:?}: {error}");
        }
    }
}

#[tokio::test]
async fn streams_that_go_wrong() {
    let said = "data: {\"choices\":[{\"delta\":{\"content\":\"4\"},\"finish_reason\":null}]}\n\n";
    let cases = [
        ("cut", said.to_owned(), ErrorKind::CutOff),
        (
            "an error",
            format!("{said}data: {{\"error\":{{\"code\":502,\"message\":\"gone\"}}}}\n\n"),
            ErrorKind::ServerError,
        ),
        ("an error event", format!("{said}event: error\ndata: {{\"error\":\"gone\"}}\n\n"), ErrorKind::ServerError),
        (
            "vLLM's",
            format!("{said}data: {{\"object\":\"error\",\"message\":\"x\",\"code\":400}}\n\n"),
            ErrorKind::BadRequest,
        ),
        ("half an event", format!("{said}data: {{\"choices\":[{{\"del"), ErrorKind::Unreadable),
        ("nothing", ": keep-alive\n\n".to_owned(), ErrorKind::CutOff),
        (
            "nothing said",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n".to_owned(),
            ErrorKind::Empty,
        ),
    ];
    for (what, raw, kind) in cases {
        let error = told(200, &raw, Transfer::Streamed).await.unwrap_err();
        assert_eq!(error.kind, kind, "{what}: {error}");
    }
}

/// What a filter took away will be taken away again: it is not asked for six times.
#[tokio::test]
async fn an_empty_reply_is_empty_for_a_reason() {
    let filtered = r#"{"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}], "usage":
        {"prompt_tokens": 9, "completion_tokens": 0}}"#;
    let error = told(200, filtered, Transfer::Whole).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && !error.is_retryable() && error.may_be_charged(), "{error}");
    assert_eq!((error.reason(), error.usage.tokens_in), ("refused", Some(9)));
    let thinking = r#"{"choices": [{"message": {"content": null, "reasoning": "hm"}, "finish_reason": "stop"}]}"#;
    let error = told(200, thinking, Transfer::Whole).await.unwrap_err();
    assert!(error.kind == ErrorKind::Empty && error.message.contains("raise `max_tokens`"), "{error}");
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

/// OpenAI's models that think have another word for the most tokens of a reply.
#[tokio::test]
async fn a_word_that_is_refused_is_replaced_and_remembered() {
    let no = r#"{"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use
        'max_completion_tokens' instead.", "type": "invalid_request_error", "param": "max_tokens"}}"#;
    let teacher = Teacher::scripted([Step::raw(400, no)]).await.unwrap();
    let config =
        HttpConfig { url: teacher.url(), model: "teacher".into(), api_key: ApiKey::None, transfer: Transfer::Whole };
    let chat = HttpChat::new(config).unwrap();
    for text in ["a", "b"] {
        chat.complete(request(text), CancellationToken::new()).await.unwrap();
    }
    let asked = teacher.asked();
    let words: Vec<_> =
        asked.iter().map(|asked| (&asked.body["max_tokens"], &asked.body["max_completion_tokens"])).collect();
    let (none, most) = (&serde_json::Value::Null, &16.into());
    assert_eq!(words, [(most, none), (none, most), (none, most)]);
    // One that refuses both is asked twice and no more.
    let stubborn = Teacher::scripted(vec![Step::raw(400, no); 9]).await.unwrap();
    assert_eq!(ask(&stubborn, Transfer::Whole).await.unwrap_err().kind, ErrorKind::BadRequest);
    assert_eq!(stubborn.asked().len(), 2);
}
