//! A client that goes away stops the work upstream, whenever it does.

use std::time::{Duration, Instant};

use divvy_testkit::script::{Fault, Step};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::house::{House, STEPS, open, question, streamed};

/// Leaves when `when` is seen in what comes; the upstream must hear of it soon.
async fn leaves(house: &House, body: &Value, calls: usize, when: Option<&str>) {
    let body = body.to_string();
    let mut stream = house.begin("POST", "/v1/chat/completions", "", body.as_bytes()).await;
    house.asked(calls).await;
    let mut text = String::new();
    while when.is_some_and(|when| !text.contains(when)) {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    drop(stream);
    let left = Instant::now();
    while house.teacher.abandoned() == 0 {
        assert!(left.elapsed() < Duration::from_secs(5), "the upstream goes on working");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let metrics = house.get("/metrics").await.body;
    assert!(metrics.contains("outcome=\"cancelled\"} 1"), "{metrics}");
    assert!(metrics.contains("divvy_running 0"), "{metrics}");
    assert_eq!(house.teacher.asked().len(), calls, "nothing more is asked");
}

#[tokio::test]
async fn before_the_first_piece() {
    let house = open(vec![Step::fault(Fault::Hang)]).await;
    leaves(&house, &streamed("two-stage/sd/qwen"), 1, None).await;
}

#[tokio::test]
async fn in_mid_stream() {
    let house = open(vec![Step::drip("one two three four five six", 200)]).await;
    leaves(&house, &streamed("cot/qwen"), 1, Some("two")).await;
}

#[tokio::test]
async fn between_stages() {
    let house = open(vec![Step::say(STEPS), Step::fault(Fault::Hang)]).await;
    leaves(&house, &streamed("two-stage/sd/qwen"), 2, Some("subquestion")).await;
}

#[tokio::test]
async fn without_a_stream() {
    let house = open(vec![Step::say(STEPS), Step::fault(Fault::Hang)]).await;
    leaves(&house, &question("two-stage/sd/qwen"), 2, None).await;
}

#[tokio::test]
async fn what_was_heard_before_is_charged() {
    let folder = tempfile::tempdir().unwrap();
    let (key, hash) = divvy_serve::fresh_key();
    let file = folder.path().join("keys.toml");
    std::fs::write(&file, format!("[[keys]]\nname = \"a\"\nblake3 = \"{hash}\"\ntokens_per_minute = 5\n")).unwrap();
    let keys = divvy_serve::Keys::read(&file).unwrap();
    let settings = divvy_serve::settings::Settings::default();
    let house = crate::house::open_with(vec![Step::drip("one two three four", 200)], settings, keys).await;
    let (body, header) = (streamed("cot/qwen").to_string(), format!("authorization: Bearer {key}\r\n"));
    let mut stream = house.begin("POST", "/v1/chat/completions", &header, body.as_bytes()).await;
    let mut text = String::new();
    while !text.contains("two") {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    drop(stream);
    while house.teacher.abandoned() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let heard = house.send("POST", "/v1/chat/completions", &header, body.as_bytes()).await;
    assert_eq!(heard.json()["error"]["code"], "tokens_per_minute", "going away early is not free");
}
