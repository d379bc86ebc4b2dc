//! Upstreams that fail: fallback, deadlines, statuses.

use std::time::Duration;

use divvy_serve::{Keys, settings::Settings};
use divvy_testkit::script::{Fault, Step};
use serde_json::json;

use crate::house::{open, open_with, question, streamed};

#[tokio::test]
async fn where_the_decomposer_writes_nonsense_the_solver_answers_alone_and_it_is_told() {
    let house = open(vec![Step::say("Pens are nice.")]).await;
    let reply = house.post(&question("two-stage/sd/qwen")).await.json();
    assert_eq!(reply["choices"][0]["message"]["content"], "The answer is: 9");
    assert_eq!(reply["divvy"]["fallback"], "malformed-decomposition");
    assert_eq!(reply["divvy"]["usage"]["calls"].as_array().unwrap().len(), 2, "what was paid for stays in the books");
    let house = open(vec![Step::status(401)]).await;
    let heard = house.post(&streamed("two-stage/sd/qwen")).await;
    assert!(heard.body.contains("\"event\":\"fallback\""), "{}", heard.body);
    assert!(heard.body.contains("\"answer\":\"9\""), "{}", heard.body);
    assert!(house.get("/metrics").await.body.contains("divvy_fallbacks_total{model=\"two-stage/sd/qwen\"} 1"));
}

#[tokio::test]
async fn without_a_fallback_it_fails() {
    let settings = || Settings { falls_back: false, ..Settings::default() };
    let house = open_with(vec![Step::say("Pens are nice.")], settings(), Keys::default()).await;
    let heard = house.post(&question("two-stage/sd/qwen")).await;
    assert_eq!((heard.status, &heard.json()["error"]["code"]), (502, &json!("malformed_decomposition")));
    let house = open_with(vec![Step::status(401)], settings(), Keys::default()).await;
    let heard = house.post(&question("two-stage/sd/qwen")).await;
    assert_eq!(heard.status, 502);
    assert!(heard.body.contains("student:sd") && !heard.body.contains("127.0.0.1"), "{}", heard.body);
}

#[tokio::test]
async fn a_decomposer_that_hangs_leaves_the_solver_its_time() {
    let settings = Settings { deadline: Duration::from_millis(1500), ..Settings::default() };
    let house = open_with(vec![Step::fault(Fault::Hang)], settings, Keys::default()).await;
    let reply = house.post(&question("two-stage/sd/qwen")).await.json();
    assert_eq!(reply["divvy"]["fallback"], "decomposer-failed");
}

#[tokio::test]
async fn a_deadline_ends_a_request() {
    let settings = Settings { deadline: Duration::from_millis(200), ..Settings::default() };
    let house = open_with(vec![Step::fault(Fault::Hang)], settings, Keys::default()).await;
    let heard = house.post(&question("cot/qwen")).await;
    assert_eq!(heard.status, 504, "{}", heard.body);
    assert!(house.get("/metrics").await.body.contains("outcome=\"504\"} 1"));
}

#[tokio::test]
async fn a_try_that_failed_before_its_first_piece_is_repeated() {
    let house = open(vec![Step::status(500), Step::status(503)]).await;
    assert_eq!(house.post(&question("cot/qwen")).await.status, 200);
    assert_eq!(house.teacher.asked().len(), 3);
    let house = open(vec![Step::status(500); 3]).await;
    assert_eq!(house.post(&question("cot/qwen")).await.status, 502);
    let busy = Step::Status { status: 429, retry_after: Some(30.0), message: None };
    let house = open(vec![busy]).await;
    let heard = house.post(&question("cot/qwen")).await;
    assert_eq!(
        (heard.status, heard.header("retry-after")),
        (429, Some("30")),
        "nobody is kept waiting for half a minute"
    );
}

#[tokio::test]
async fn an_upstream_without_usage_leaves_it_unknown() {
    let house = open(vec![Step::fault(Fault::NoUsage)]).await;
    let reply = house.post(&question("cot/qwen")).await.json();
    assert!(reply.get("usage").is_none(), "unknown is not zero: {reply}");
    assert_eq!(reply["divvy"]["usage"]["completion_tokens"], json!(null));
}

#[tokio::test]
async fn a_truncated_reply_says_so() {
    let house = open(vec![Step::fault(Fault::Truncated)]).await;
    assert_eq!(house.post(&question("cot/qwen")).await.json()["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn an_upstreams_refusal_is_not_for_ever() {
    for refusal in [Step::status(401), Step::status(404), Step::status(403)] {
        let house = open(vec![refusal]).await;
        assert_ne!(house.post(&question("cot/qwen")).await.status, 200);
        assert_eq!(house.post(&question("cot/qwen")).await.status, 200, "the next request finds it well");
    }
    let busy = Step::Status { status: 429, retry_after: Some(30.0), message: None };
    let house = open(vec![busy]).await;
    for _ in 0..2 {
        let heard = house.post(&question("cot/qwen")).await;
        assert_eq!(heard.status, 429, "nobody waits in silence for half a minute");
        assert!(heard.header("retry-after").unwrap().parse::<u64>().unwrap() > 25);
    }
    assert_eq!(house.teacher.asked().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_left_alone_after_a_while() {
    let settings = Settings { deadline: Duration::from_millis(500), ..Settings::default() };
    let mut script = vec![Step::say("The answer is: 9")];
    script.extend(vec![Step::fault(Fault::Hang); 9]);
    let house = open_with(script, settings, Keys::default()).await;
    assert_eq!(house.post(&question("cot/qwen")).await.status, 200);
    for _ in 0..5 {
        assert_eq!(house.post(&question("cot/qwen")).await.status, 504);
    }
    let heard = house.post(&question("cot/qwen")).await;
    assert!(heard.status == 504 && heard.header("retry-after").is_some(), "{}", heard.head);
    assert_eq!(house.teacher.asked().len(), 6, "the seventh is told at once");
    let metrics = house.get("/metrics").await.body;
    assert!(metrics.contains("divvy_stage_seconds_count{model=\"cot/qwen\",stage=\"solve\"} 7"), "{metrics}");
}
