//! The store under bad luck: a writer that is killed, a torn log, a full disk, two writers; and every table there and
//! back, in a file and on a server; and what workers on a server share.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic; the lint spares only the tests themselves")]

mod accidents;
mod batches;
mod both;
mod browsing;
mod sharing;
mod tables;

use divvy_core::{
    chat::{Finish, Reply, Usage},
    digest::Digest,
    question::Question,
};
use divvy_store::CallRecord;

fn call(number: u32) -> CallRecord {
    let usage = Usage { tokens_in: Some(10), tokens_cached: None, tokens_out: Some(u64::from(number)) };
    let text = format!("reply {number} {}", "and more ".repeat(40));
    CallRecord {
        key: key(number),
        model_name: "teacher".into(),
        model_id: Digest::of_bytes(b"teacher"),
        request_json: format!("{{\"n\":{number}}}"),
        raw_reply: format!("raw {text}").into_bytes(),
        reply: Reply { text, finish: Finish::Stop, usage },
        price_nanos: Some(1_500),
        latency_ms: 20,
        worked_us: Some(i64::from(number) * 1_000),
        created_ms: i64::from(number),
        endpoint: Some("http://localhost/v1".into()),
    }
}

fn json(question: &Question) -> String {
    serde_json::to_string(question).unwrap()
}

fn key(number: u32) -> Digest {
    Digest::of("test/1", &number)
}
