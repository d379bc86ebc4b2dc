//! Keys, the line, sizes, shutting down.

use std::time::Duration;

use divvy_serve::{Keys, fresh_key, settings::Settings};
use divvy_testkit::script::{Fault, Step};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::house::{open, open_with, question, streamed};

#[tokio::test]
async fn keys_are_asked_for_and_their_limits_hold() {
    let (key, hash) = fresh_key();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    std::fs::write(&file, format!("[[keys]]\nname = \"a\"\nblake3 = \"{hash}\"\ntokens_per_minute = 1\n")).unwrap();
    let keys = Keys::read(&file).unwrap().with("other", "another-key");
    let house = open_with(vec![], Settings::default(), keys).await;
    assert_eq!(house.post(&question("cot/qwen")).await.status, 401);
    assert_eq!(house.get("/v1/models").await.status, 401);
    assert_eq!(house.get("/healthz").await.status, 200);
    let body = question("cot/qwen").to_string();
    let send = async |key: &str| {
        let header = format!("authorization: Bearer {key}\r\n");
        house.send("POST", "/v1/chat/completions", &header, body.as_bytes()).await
    };
    assert_eq!(send(&key).await.status, 200);
    let heard = send(&key).await;
    assert_eq!((heard.status, &heard.json()["error"]["code"]), (429, &json!("tokens_per_minute")));
    assert!(heard.header("retry-after").unwrap().parse::<u64>().unwrap() > 50);
    assert_eq!(send("another-key").await.status, 200);
    assert_eq!(send("wrong").await.status, 401);
}

#[tokio::test]
async fn a_full_line_refuses_and_says_when_to_come_back() {
    let settings = Settings { concurrency: 1, queue: 0, ..Settings::default() };
    let house = open_with(vec![Step::fault(Fault::Hang)], settings, Keys::default()).await;
    let body = question("cot/qwen").to_string();
    let first = house.begin("POST", "/v1/chat/completions", "", body.as_bytes()).await;
    house.asked(1).await;
    let heard = house.post(&question("cot/qwen")).await;
    assert_eq!((heard.status, heard.header("retry-after")), (429, Some("1")));
    drop(first);
    let mut status = 429;
    while status == 429 {
        status = house.post(&question("cot/qwen")).await.status;
    }
    assert_eq!(status, 200, "a place that was left is free again");
}

#[tokio::test]
async fn bodies_that_are_too_large_cut_or_no_json_are_told() {
    let settings = Settings { max_body: 2000, read_timeout: Duration::from_millis(300), ..Settings::default() };
    let house = open_with(vec![], settings, Keys::default()).await;
    let path = "/v1/chat/completions";
    let large = house.send("POST", path, "", &vec![b' '; 4000]).await;
    assert_eq!((large.status, &large.json()["error"]["code"]), (413, &json!("request_too_large")));
    let bad = house.send("POST", path, "", b"{\"model\": \"\xff\"}").await;
    assert_eq!((bad.status, &bad.json()["error"]["code"]), (400, &json!("invalid_body")));
    let mut slow = tokio::net::TcpStream::connect(house.address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: 900\r\n\r\n{{", house.address);
    tokio::io::AsyncWriteExt::write_all(&mut slow, head.as_bytes()).await.unwrap();
    let mut text = String::new();
    // The rest of the body never comes, so that the connection cannot be used again.
    let _ = tokio::io::AsyncReadExt::read_to_string(&mut slow, &mut text).await;
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("request_timeout"), "{text}");
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let house = open(vec![]).await;
    let body = question("cot/qwen").to_string();
    let send = async |origin: String| {
        house.send("POST", "/v1/chat/completions", &format!("origin: {origin}\r\n"), body.as_bytes()).await.status
    };
    assert_eq!(send("http://evil.example".to_owned()).await, 403);
    assert_eq!(send("null".to_owned()).await, 403);
    assert_eq!(send(format!("http://{}", house.address)).await, 200);
}

#[tokio::test]
async fn without_keys_a_name_of_somebody_elses_is_refused() {
    let settings = Settings { hosts: vec!["divvy.example".to_owned()], ..Settings::default() };
    let house = open_with(vec![], settings, Keys::default()).await;
    let get = async |host: &str| {
        let mut stream = tokio::net::TcpStream::connect(house.address).await.unwrap();
        let head = format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await.unwrap();
        text
    };
    for host in ["localhost:8787", "127.0.0.1", "[::1]:80", "divvy.example:443", "DIVVY.example"] {
        assert!(get(host).await.starts_with("HTTP/1.1 200"), "{host}");
    }
    for host in ["evil.example:8787", "localhost.evil.example", ""] {
        assert!(get(host).await.starts_with("HTTP/1.1 403"), "{host}");
    }
}

#[tokio::test]
async fn what_does_not_end_in_time_at_shutdown_ends_with_an_error() {
    let settings = Settings { drain: Duration::from_millis(100), ..Settings::default() };
    let house = open_with(vec![Step::drip("one two three", 100_000)], settings, Keys::default()).await;
    let body = streamed("cot/qwen").to_string();
    let mut stream = house.begin("POST", "/v1/chat/completions", "", body.as_bytes()).await;
    house.asked(1).await;
    // Idle connections are no reason to wait.
    let _idle = tokio::net::TcpStream::connect(house.address).await.unwrap();
    house.stop.cancel();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await.unwrap();
    assert!(text.contains("shutting_down"), "{text}");
}

#[tokio::test]
async fn strict_refuses_what_has_no_effect() {
    let house = open_with(vec![], Settings { strict: true, ..Settings::default() }, Keys::default()).await;
    let mut body = question("cot/qwen");
    body["frequency_penalty"] = json!(1);
    let heard = house.post(&body).await;
    assert_eq!((heard.status, &heard.json()["error"]["param"]), (400, &json!("frequency_penalty")));
}

#[tokio::test]
async fn at_shutdown_what_is_under_way_comes_to_its_end() {
    let house = open(vec![Step::drip("The answer is: 9", 60)]).await;
    let body = streamed("cot/qwen").to_string();
    let mut stream = house.begin("POST", "/v1/chat/completions", "", body.as_bytes()).await;
    house.asked(1).await;
    house.stop.cancel();
    while tokio::net::TcpStream::connect(house.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(house.teacher.abandoned(), 0, "nobody else is let in, and what is under way goes on");
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await.unwrap();
    assert!(text.contains("[DONE]") && text.contains("\"finish_reason\":\"stop\""), "{text}");
}

#[tokio::test]
async fn a_connection_that_rests_is_closed_in_time() {
    let settings = Settings { read_timeout: Duration::from_millis(50), ..Settings::default() };
    let house = open_with(vec![], settings, Keys::default()).await;
    let mut stream = tokio::net::TcpStream::connect(house.address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", house.address);
    let mut heard = Vec::new();
    // Twice on one connection; then nothing, and the server ends it.
    stream.write_all(request.repeat(2).as_bytes()).await.unwrap();
    stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&heard).matches("200 OK").count(), 2);
}
