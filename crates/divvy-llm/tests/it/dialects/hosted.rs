//! Those who sell other people's models, or their own: OpenRouter, Together, DeepSeek, Mistral, Google, xAI.

use divvy_core::chat::{Finish, Usage};
use divvy_llm::ErrorKind;

use super::{No, Whole, are_read, are_read_streamed, are_refusals, tokens};

#[tokio::test]
async fn replies_in_one_piece() {
    let cases: [Whole; 7] = [
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
            tokens(20, Some(0), 2),
        ),
        (
            "xAI, which counts its thoughts in the total alone",
            r#"{"id": "x", "object": "chat.completion", "model": "grok", "choices": [{"index": 0, "message": {"role":
                "assistant", "content": "42", "refusal": null, "reasoning_content": "Six by seven."},
                "finish_reason": "stop"}], "usage": {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 399,
                "prompt_tokens_details": {"text_tokens": 12, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 386, "audio_tokens": 0}, "num_sources_used": 0}}"#,
            "42",
            Finish::Stop,
            tokens(12, Some(8), 387),
        ),
        (
            "Google, which does the same and does not say why",
            r#"{"choices": [{"finish_reason": "stop", "index": 0, "message": {"content": "42", "role": "assistant"}}],
                "created": 1, "model": "gemini", "object": "chat.completion", "usage": {"completion_tokens": 424,
                "prompt_tokens": 20, "total_tokens": 1016}}"#,
            "42",
            Finish::Stop,
            tokens(20, None, 996),
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
            "Google, which left nothing of it",
            r#"{"choices": [{"finish_reason": "RECITATION", "index": 0, "message": {"role": "assistant"}}]}"#,
            "",
            Finish::Other("content_filter".to_owned()),
            Usage::default(),
        ),
        (
            "Mistral, in parts with thoughts",
            r#"{"choices": [{"message": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}, "finish_reason": "model_length"}]}"#,
            "42",
            Finish::Length,
            Usage::default(),
        ),
    ];
    are_read(&cases).await;
}

#[tokio::test]
async fn replies_in_streams() {
    let cases: [Whole; 3] = [
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
            "Google, which counts its thoughts in the total alone",
            "data: {\"choices\":[{\"delta\":{\"content\":\"42\",\"role\":\"assistant\"},\"finish_reason\":\"stop\",\"index\":0}],\
             \"usage\":{\"completion_tokens\":2,\"prompt_tokens\":9,\"total_tokens\":50}}\n\ndata: [DONE]\n\n",
            "42",
            Finish::Stop,
            tokens(9, None, 41),
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
    are_read_streamed(&cases).await;
}

#[tokio::test]
async fn refusals() {
    let cases: [No; 10] = [
        (
            "OpenRouter, credit",
            402,
            r#"{"error": {"message": "Insufficient credits", "code": 402}, "user_id": "u"}"#,
            ErrorKind::Unpaid,
            "Insufficient credits",
        ),
        (
            "OpenRouter, an input that was flagged",
            403,
            r#"{"error": {"code": 403, "message": "org/m requires moderation. Your input was flagged for \"violence\".",
                "metadata": {"reasons": ["violence"], "flagged_input": "How many...", "provider_name": "Somebody",
                "model_slug": "org/m"}}}"#,
            ErrorKind::Refused,
            "was flagged for \"violence\"",
        ),
        (
            "OpenRouter, an output that was",
            403,
            r#"{"error": {"code": "content_policy_violation", "message": "The provider declined."}}"#,
            ErrorKind::Refused,
            "declined",
        ),
        (
            "OpenRouter, a key without the permission",
            403,
            r#"{"error": {"code": 403, "message": "Key limit exceeded", "metadata": {"reasons": null}}}"#,
            ErrorKind::Unauthorized,
            "Key limit exceeded",
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
            "Together, length, as a 403",
            403,
            r#"{"error": {"message": "Input token count + `max_tokens` must be less than the context length of the model.",
                "type": "invalid_request_error", "param": null, "code": null}}"#,
            ErrorKind::ContextTooLong,
            "lower `max_tokens`",
        ),
        (
            "Google, a list",
            400,
            r#"[{"error": {"code": 400, "message": "Invalid value at 'top_p'", "status": "INVALID_ARGUMENT"}}]"#,
            ErrorKind::BadRequest,
            "HTTP 400: Invalid value at 'top_p'",
        ),
    ];
    are_refusals(&cases).await;
}
