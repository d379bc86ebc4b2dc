//! Replies as llama-server and LiteLLM's proxy sent them (`recorded/`, where a README says how they came about).

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
async fn a_form_that_llama_server_does_not_take_is_known_as_such() {
    for body in [body!("llama-server/bad-schema.json"), body!("llama-server/bad-format.json")] {
        let error = told(400, body, Transfer::Whole).await.unwrap_err();
        assert!(error.refuses_format(), "{error}");
    }
    let error = told(400, body!("llama-server/bad-type.json"), Transfer::Whole).await.unwrap_err();
    assert!(!error.refuses_format(), "{error}");
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
