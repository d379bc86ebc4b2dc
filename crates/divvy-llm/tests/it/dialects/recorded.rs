//! Replies as llama-server, LiteLLM's proxy and vLLM sent them (`recorded/`, where a README says how they came about).

use divvy_core::chat::Finish;
use divvy_llm::{ErrorKind, Transfer};

use super::{No, Whole, are_read, are_read_streamed, are_refusals, tokens, told};

macro_rules! body {
    ($name:literal) => {
        include_str!(concat!("recorded/", $name))
    };
}

const HELLO: &str = "Hello there, welcome to my world. I'm here to help with any kind of creative writing project. What brings you here today?";

#[tokio::test]
async fn llama_server_in_one_piece() {
    let cases: [Whole; 5] = [
        ("a reply", body!("llama-server/whole.json"), HELLO, Finish::Stop, tokens(33, Some(32), 28)),
        ("a stop word", body!("llama-server/stop-word.json"), "L'Étoile, ", Finish::Stop, tokens(37, Some(36), 7)),
        ("cut off", body!("llama-server/length.json"), "L'É", Finish::Length, tokens(37, Some(36), 3)),
        (
            "a field that it does not know",
            body!("llama-server/unknown-field.json"),
            "L'Éto",
            Finish::Length,
            tokens(37, Some(36), 4),
        ),
        (
            "by a schema",
            body!("llama-server/schema.json"),
            "{\n    \"city\": \"Paris\"\n}",
            Finish::Stop,
            tokens(37, Some(36), 22),
        ),
    ];
    are_read(&cases).await;
}

#[tokio::test]
async fn llama_server_in_a_stream() {
    let cases: [Whole; 2] = [
        ("counted", body!("llama-server/stream.txt"), "L'Éto", Finish::Length, tokens(37, Some(36), 4)),
        (
            "not counted",
            body!("llama-server/stream-no-usage.txt"),
            "L'Éto",
            Finish::Length,
            divvy_core::chat::Usage::default(),
        ),
    ];
    are_read_streamed(&cases).await;
}

#[tokio::test]
async fn llama_server_says_no() {
    let cases: [No; 7] = [
        (
            "a type",
            400,
            body!("llama-server/bad-type.json"),
            ErrorKind::BadRequest,
            "HTTP 400: Expected 'messages' to be an array",
        ),
        ("no JSON", 400, body!("llama-server/bad-json.json"), ErrorKind::BadRequest, "syntax error while parsing"),
        (
            "a schema",
            400,
            body!("llama-server/bad-schema.json"),
            ErrorKind::BadRequest,
            "unrecognized type no-such-type",
        ),
        ("a format", 400, body!("llama-server/bad-format.json"), ErrorKind::BadRequest, "response_format type must be"),
        (
            "its context",
            400,
            body!("llama-server/overflow.json"),
            ErrorKind::ContextTooLong,
            "exceeds the available context size (512 tokens)",
        ),
        ("loading", 503, body!("llama-server/loading.json"), ErrorKind::ServerError, "Loading model"),
        ("a path", 404, body!("llama-server/no-path.json"), ErrorKind::NotFound, "File Not Found"),
    ];
    are_refusals(&cases).await;
}

/// Whoever asked for a form then asks without one.
#[tokio::test]
async fn a_form_that_is_not_taken_is_known_as_such() {
    for body in [
        body!("llama-server/bad-schema.json"),
        body!("llama-server/bad-format.json"),
        body!("vllm/bad-schema.json"),
        body!("vllm/bad-format.json"),
    ] {
        let error = told(400, body, Transfer::Whole).await.unwrap_err();
        assert!(error.refuses_format(), "{error}");
    }
    for body in [body!("llama-server/bad-type.json"), body!("vllm/bad-type.json"), body!("vllm/overflow-reply.json")] {
        let error = told(400, body, Transfer::Whole).await.unwrap_err();
        assert!(!error.refuses_format(), "{error}");
    }
}

const PARIS: &str = "Paris is the capital of France.";

#[tokio::test]
async fn litellm_in_one_piece() {
    let cases: [Whole; 2] = [
        ("of its own", body!("litellm/whole.json"), PARIS, Finish::Stop, tokens(10, None, 20)),
        (
            "of the llama-server behind it",
            body!("litellm/local.json"),
            "L'Étoile,",
            Finish::Length,
            tokens(37, Some(36), 6),
        ),
    ];
    are_read(&cases).await;
}

#[tokio::test]
async fn litellm_in_a_stream() {
    let cases: [Whole; 2] = [
        ("of its own", body!("litellm/stream.txt"), PARIS, Finish::Stop, tokens(14, None, 7)),
        (
            "of the llama-server behind it",
            body!("litellm/local-stream.txt"),
            "L'Éto",
            Finish::Length,
            tokens(37, Some(36), 4),
        ),
    ];
    are_read_streamed(&cases).await;
}

#[tokio::test]
async fn litellm_says_no() {
    let cases: [No; 7] = [
        ("a rate", 429, body!("litellm/limited.json"), ErrorKind::RateLimited, "this is a mock rate limit error"),
        ("an error", 500, body!("litellm/broken.json"), ErrorKind::ServerError, "mock internal server error"),
        ("nobody behind it", 500, body!("litellm/gone.json"), ErrorKind::ServerError, "Connection error"),
        (
            "a context behind it",
            400,
            body!("litellm/local-overflow.json"),
            ErrorKind::ContextTooLong,
            "exceeds the available context size (512 tokens)",
        ),
        ("a type", 400, body!("litellm/bad-type.json"), ErrorKind::BadRequest, "Invalid request format"),
        // Every request would hear it: as of any other server that does not know the model.
        (
            "a model",
            400,
            body!("litellm/unknown-model.json"),
            ErrorKind::NotFound,
            "Invalid model name passed in model=nobody",
        ),
        ("a key, without a database", 400, body!("litellm/bad-key.json"), ErrorKind::BadRequest, "No connected db"),
    ];
    are_refusals(&cases).await;
}

const ETOILE: &str = "L'Éto";

#[tokio::test]
async fn vllm_in_one_piece() {
    let hello = "Hello! I'm here to help with any kind of creative writing project. What can I help you with?";
    let cases: [Whole; 8] = [
        ("a reply", body!("vllm/whole.json"), hello, Finish::Stop, tokens(33, None, 23)),
        ("a stop word", body!("vllm/stop-word.json"), "L'Étoile", Finish::Stop, tokens(37, None, 6)),
        ("cut off", body!("vllm/length.json"), ETOILE, Finish::Length, tokens(37, None, 4)),
        ("by a schema", body!("vllm/schema.json"), "{\n\"city\": \"Paris\"\n}", Finish::Stop, tokens(37, None, 11)),
        ("with probabilities", body!("vllm/logprobs.json"), "L'É", Finish::Length, tokens(37, None, 3)),
        (
            "what was cached, told",
            body!("vllm/cached.json"),
            "The sky is blue and the sea is",
            Finish::Length,
            tokens(335, Some(256), 8),
        ),
        (
            "of an adapter",
            body!("vllm/adapter.json"),
            "The capital of France is Paris.",
            Finish::Stop,
            tokens(37, None, 8),
        ),
        ("thoughts beside it", body!("vllm/thinking.json"), "Paris.", Finish::Stop, tokens(98, Some(0), 13)),
    ];
    are_read(&cases).await;
}

#[tokio::test]
async fn vllm_in_a_stream() {
    let cases: [Whole; 4] = [
        ("counted", body!("vllm/stream.txt"), "L'Étoile,", Finish::Length, tokens(37, None, 6)),
        ("counted with every piece", body!("vllm/stream-counting.txt"), ETOILE, Finish::Length, tokens(37, None, 4)),
        ("not counted", body!("vllm/stream-no-usage.txt"), ETOILE, Finish::Length, divvy_core::chat::Usage::default()),
        ("cut while it thinks", body!("vllm/thinking-cut.txt"), "", Finish::Length, tokens(37, Some(0), 4)),
    ];
    are_read_streamed(&cases).await;
}

#[tokio::test]
async fn vllm_says_no() {
    let cases: [No; 10] = [
        (
            "a prompt",
            400,
            body!("vllm/overflow.json"),
            ErrorKind::ContextTooLong,
            "maximum context length is 2048 tokens",
        ),
        (
            "a reply",
            400,
            body!("vllm/overflow-reply.json"),
            ErrorKind::ContextTooLong,
            "max_model_len=2048. Please request fewer output tokens. (parameter=max_tokens, value=4000); lower `max_tokens`",
        ),
        (
            "a model",
            404,
            body!("vllm/unknown-model.json"),
            ErrorKind::NotFound,
            "The model `nobody` does not exist. Valid aliases: smollm2; it serves: `",
        ),
        ("a path", 404, body!("vllm/no-path.json"), ErrorKind::NotFound, "HTTP 404: Not Found; it serves: `"),
        (
            "a key",
            401,
            body!("vllm/bad-key.json"),
            ErrorKind::Unauthorized,
            "it wants an API key: name the environment",
        ),
        ("a type", 400, body!("vllm/bad-type.json"), ErrorKind::BadRequest, "'loc': 'body.messages'"),
        // Not a model that has one temperature only.
        (
            "a temperature",
            400,
            body!("vllm/bad-temperature.json"),
            ErrorKind::BadRequest,
            "got -1.0. (parameter=temperature, value=-1.0)",
        ),
        ("a format", 400, body!("vllm/bad-format.json"), ErrorKind::BadRequest, "body.response_format.type"),
        (
            "a schema",
            400,
            body!("vllm/bad-schema.json"),
            ErrorKind::BadRequest,
            "HTTP 400: Grammar error: Invalid type: no-such-type",
        ),
        ("its engine died", 500, body!("vllm/dead.json"), ErrorKind::ServerError, "EngineCore encountered an issue"),
    ];
    are_refusals(&cases).await;
}

/// Each is asked for again.
#[tokio::test]
async fn what_vllm_breaks_off_is_no_reply() {
    let cases = [
        ("stopped", body!("vllm/abort.json"), Transfer::Whole, ErrorKind::CutOff, "`abort`", tokens(37, Some(0), 16)),
        (
            "stopped in a stream",
            body!("vllm/abort-stream.txt"),
            Transfer::Streamed,
            ErrorKind::CutOff,
            "`abort`",
            tokens(37, Some(0), 8),
        ),
        (
            "its engine died in a stream",
            body!("vllm/dead-stream.txt"),
            Transfer::Streamed,
            ErrorKind::ServerError,
            "HTTP 500: EngineCore encountered an issue",
            divvy_core::chat::Usage::default(),
        ),
        (
            "it only thought",
            body!("vllm/thinking-only.json"),
            Transfer::Whole,
            ErrorKind::Empty,
            "raise `max_tokens`",
            tokens(98, Some(0), 10),
        ),
    ];
    for (what, raw, transfer, kind, words, usage) in cases {
        let error = told(200, raw, transfer).await.unwrap_err();
        assert_eq!((error.kind, error.usage, error.is_retryable()), (kind, usage, true), "{what}: {error}");
        assert!(error.message.contains(words), "{what}: {error}");
    }
}
