//! What people run themselves: vLLM, llama-server, Ollama, servers on FastAPI, and proxies before them.

use divvy_core::chat::{Finish, Usage};
use divvy_llm::ErrorKind;

use super::{No, Whole, are_read, are_read_streamed, are_refusals, tokens};

#[tokio::test]
async fn replies_in_one_piece() {
    let cases: [Whole; 8] = [
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
            "a proxy that counts in decimals and has lost the reason",
            r#"{"choices": [{"message": {"content": "42"}, "finish_reason": null}],
                "usage": {"prompt_tokens": 7.0, "completion_tokens": null, "prompt_tokens_details": "none"}}"#,
            "42",
            Finish::Stop,
            Usage { tokens_in: Some(7), ..Usage::default() },
        ),
        (
            "a server that counts past its end",
            r#"{"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": {"prompt_tokens":
                18446744073709551615, "completion_tokens": 1e15, "prompt_tokens_details": {"cached_tokens": 1099511627777}}}"#,
            "42",
            Finish::Stop,
            Usage::default(),
        ),
        (
            "a server whose total is less than its parts",
            r#"{"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9,
                "completion_tokens": 5, "total_tokens": 3}}"#,
            "42",
            Finish::Stop,
            tokens(9, None, 5),
        ),
        (
            "a server whose total cannot be",
            r#"{"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9,
                "completion_tokens": 5, "total_tokens": 1099511627777}}"#,
            "42",
            Finish::Stop,
            tokens(9, None, 5),
        ),
        (
            "a server that counts nothing",
            r#"{"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}], "usage": null}"#,
            "42",
            Finish::Stop,
            Usage::default(),
        ),
    ];
    are_read(&cases).await;
}

#[tokio::test]
async fn replies_in_streams() {
    let cases: [Whole; 3] = [
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
    ];
    are_read_streamed(&cases).await;
}

#[tokio::test]
async fn refusals() {
    let cases: [No; 9] = [
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
            "a proxy",
            502,
            "<html>\r\n<head><title>502 Bad\n Gateway</title></head>\r\n<body><center><h1>502</h1></center></body></html>",
            ErrorKind::ServerError,
            "HTTP 502: a page in HTML, `502 Bad Gateway`",
        ),
        (
            "a firewall",
            403,
            "\n<!DOCTYPE html>\n<!--[if lt IE 7]> <html class=\"no-js ie6\"> <![endif]--><head>\n\
             <title>Attention Required! | Cloudflare</title></head><body>Sorry, you have been blocked</body></html>",
            ErrorKind::Blocked,
            "`Attention Required! | Cloudflare`; this is the page of a firewall before the endpoint, which has blocked this request",
        ),
        (
            "a login before everything",
            401,
            "<html><head><title>401 Authorization Required</title></head></html>",
            ErrorKind::Unauthorized,
            "it wants an API key",
        ),
    ];
    are_refusals(&cases).await;
}
