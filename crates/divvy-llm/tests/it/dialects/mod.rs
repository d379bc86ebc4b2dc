//! How servers put a reply, leave out half of it, or say no. The files of families hold exchanges written after
//! documentation and sources; `recorded` has those that came from a server itself.

mod broken_off;
mod hosted;
mod openai;
mod own;
mod recorded;

use divvy_core::chat::{Finish, Reply, Usage};
use divvy_llm::{ApiKey, Chat, ChatError, ErrorKind, HttpChat, HttpConfig, Transfer};
use divvy_testkit::{script::Step, teacher::Teacher};
use tokio_util::sync::CancellationToken;

use crate::request;

fn chat(teacher: &Teacher, transfer: Transfer) -> HttpChat {
    let config = HttpConfig { url: teacher.url(), model: "teacher".into(), api_key: ApiKey::None, transfer };
    HttpChat::new(config).unwrap()
}

async fn ask(teacher: &Teacher, transfer: Transfer) -> Result<Reply, ChatError> {
    chat(teacher, transfer).complete(request("two words"), CancellationToken::new()).await
}

async fn told(status: u16, raw: &str, transfer: Transfer) -> Result<Reply, ChatError> {
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
/// Server, status, body, kind, what the message must say.
type No = (&'static str, u16, &'static str, ErrorKind, &'static str);

async fn is_read((server, raw, text, finish, usage): &Whole, transfer: Transfer) {
    let reply = told(200, raw, transfer).await.unwrap_or_else(|error| panic!("{server}: {error}"));
    assert_eq!((&*reply.text, &reply.finish, reply.usage), (*text, finish, *usage), "{server} {transfer:?}");
}

/// A server that was asked for a stream and does not stream is understood too.
async fn are_read(cases: &[Whole]) {
    for case in cases {
        is_read(case, Transfer::Whole).await;
        is_read(case, Transfer::Streamed).await;
    }
}

async fn are_read_streamed(cases: &[Whole]) {
    for case in cases {
        is_read(case, Transfer::Streamed).await;
    }
}

async fn are_refusals(cases: &[No]) {
    for (server, status, raw, kind, words) in cases {
        for transfer in [Transfer::Whole, Transfer::Streamed] {
            let error = told(*status, raw, transfer).await.unwrap_err();
            assert_eq!(error.kind, *kind, "{server} {transfer:?}: {error}");
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

/// What a filter took away will be taken away again: that is the reply, and not asked for six times.
#[tokio::test]
async fn an_empty_reply_is_empty_for_a_reason() {
    let filtered = r#"{"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}], "usage":
        {"prompt_tokens": 9, "completion_tokens": 0}}"#;
    are_read(&[("filtered", filtered, "", other("content_filter"), tokens(9, None, 0))]).await;
    let thinking = r#"{"choices": [{"message": {"content": null, "reasoning": "hm"}, "finish_reason": "stop"}]}"#;
    let error = told(200, thinking, Transfer::Whole).await.unwrap_err();
    assert!(error.kind == ErrorKind::Empty && error.message.contains("raise `max_tokens`"), "{error}");
}
