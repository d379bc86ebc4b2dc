//! Streamed replies.

use divvy_serve::{Keys, settings::Settings};
use divvy_testkit::script::{Fault, Step};
use serde_json::{Value, json};

use crate::house::{Heard, SOLVED, STEPS, open, open_with, streamed};

fn said(heard: &Heard, field: &str) -> String {
    let deltas = heard.events();
    deltas.iter().filter_map(|event| event["choices"][0]["delta"][field].as_str()).collect()
}

fn own_events(heard: &Heard) -> Vec<Value> {
    heard.events().iter().map(|event| event["divvy"].clone()).filter(|own| own["event"].is_string()).collect()
}

#[tokio::test]
async fn steps_come_as_reasoning_and_the_answer_as_content() {
    let house = open(vec![]).await;
    let mut body = streamed("two-stage/sd/qwen");
    body["stream_options"] = json!({"include_usage": true});
    let heard = house.post(&body).await;
    assert_eq!(heard.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert!(!heard.body.contains("event:"), "named events break clients");
    assert!(heard.body.ends_with("data: [DONE]\n\n"));
    assert_eq!(said(&heard, "content"), "The answer is: 9");
    assert_eq!(said(&heard, "reasoning_content"), format!("{STEPS}\n1. 3 * 2 = 6\n2. 3 + 6 = 9\n"));
    let events = heard.events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let last = &events[events.len() - 1];
    assert_eq!(last["choices"], json!([]));
    assert!(last["usage"]["total_tokens"].as_u64().unwrap() > 0);
    let finish = &events[events.len() - 2];
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert_eq!(finish["divvy"]["answer"], "9");
    assert!(events[..events.len() - 1].iter().all(|event| event["usage"].is_null()));
    let own = own_events(&heard);
    assert_eq!(own[0], json!({"event": "subquestion", "number": 1, "text": "How many pens does Ann buy?"}));
    assert_eq!(own[3], json!({"event": "sub_answer", "number": 2, "text": "3 + 6 = 9"}));
}

#[tokio::test]
async fn without_being_asked_for_there_is_no_usage_chunk() {
    let house = open(vec![]).await;
    let heard = house.post(&streamed("cot/qwen")).await;
    assert!(heard.events().iter().all(|event| event["choices"][0].is_object() && event.get("usage").is_none()));
}

#[tokio::test]
async fn a_subquestion_is_told_while_the_decomposer_still_writes() {
    let settings = Settings { keep_alive: std::time::Duration::from_millis(20), ..Settings::default() };
    let house = open_with(vec![Step::drip(STEPS, 30), Step::drip(SOLVED, 1)], settings, Keys::default()).await;
    let body = streamed("two-stage/sd/qwen").to_string();
    let mut stream = house.begin("POST", "/v1/chat/completions", "", body.as_bytes()).await;
    let mut text = String::new();
    while !text.contains("\"event\":\"subquestion\"") {
        let mut bytes = [0; 4096];
        let count = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    assert_eq!(house.teacher.asked().len(), 1, "the solver has not been asked yet");
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut rest).await.unwrap();
    assert!(rest.contains(": keep-alive"), "{rest}");
    assert!(rest.contains("The answer"), "{rest}");
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_an_event_and_never_a_bare_end() {
    let house = open(vec![Step::say(STEPS), Step::status(400)]).await;
    let heard = house.post(&streamed("two-stage/sd/qwen")).await;
    assert_eq!(heard.status, 200);
    let error = heard.events().pop().unwrap()["error"].take();
    assert_eq!((&error["code"], &error["type"]), (&json!("upstream_refused"), &json!("invalid_request_error")));
    assert!(heard.body.ends_with("data: [DONE]\n\n"));
    assert!(!heard.body.contains("\"finish_reason\":\"stop\""));
}

#[tokio::test]
async fn a_failure_before_the_first_piece_has_its_status() {
    let house = open(vec![Step::status(400)]).await;
    let heard = house.post(&streamed("cot/qwen")).await;
    assert_eq!((heard.status, &heard.json()["error"]["code"]), (400, &json!("upstream_refused")));
}

/// A stream of two words that breaks off.
fn broken() -> Step {
    let event = |text: &str| format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}}]}));
    Step::Body { body: event("One ") + &event("two ") }
}

#[tokio::test]
async fn what_was_heard_is_not_asked_for_again() {
    let house = open(vec![broken()]).await;
    let heard = house.post(&streamed("cot/qwen")).await;
    assert_eq!(said(&heard, "content"), "One two ");
    assert_eq!(heard.events().pop().unwrap()["error"]["code"], "cut-off");
    assert_eq!(house.teacher.asked().len(), 1);
    // Half a body in JSON: nothing was heard, so it is tried again.
    let house = open(vec![Step::fault(Fault::Cut)]).await;
    assert_eq!(house.post(&streamed("cot/qwen")).await.status, 200);
    assert_eq!(house.teacher.asked().len(), 2);
}

#[tokio::test]
async fn a_decomposer_that_breaks_off_leaves_no_subquestions_behind() {
    let event = |text: &str| format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}}]}));
    let house = open(vec![Step::Body { body: event("1. How many?\n") + &event("2. And") }]).await;
    let heard = house.post(&streamed("two-stage/sd/qwen")).await;
    let own = own_events(&heard);
    assert_eq!(own[0]["text"], "How many?");
    assert_eq!(own[1], json!({"event": "fallback", "reason": "decomposer-failed"}));
    assert_eq!(said(&heard, "content"), "The answer is: 9");
    let events = heard.events();
    let last = events.iter().rfind(|event| event["divvy"]["usage"].is_object()).unwrap();
    assert_eq!(last["divvy"]["subquestions"], json!([]));
    assert_eq!(last["divvy"]["usage"]["calls"][0]["ok"], false, "what was heard may have been charged");
}

#[tokio::test]
async fn a_preamble_is_not_told_as_a_subquestion() {
    let house = open(vec![Step::say("What do we need to know?\n1. How many?\n2. And then?")]).await;
    let own = own_events(&house.post(&streamed("two-stage/sd/qwen")).await);
    let texts: Vec<&str> =
        own.iter().filter(|own| own["event"] == "subquestion").map(|own| own["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["How many?", "And then?"]);
}

#[tokio::test]
async fn who_does_not_read_holds_no_place() {
    let settings = Settings { concurrency: 1, queue: 4, ..Settings::default() };
    let long = "word ".repeat(60_000);
    let house = open_with(vec![Step::say(long)], settings, Keys::default()).await;
    let body = streamed("cot/qwen").to_string();
    let silent = house.begin("POST", "/v1/chat/completions", "", body.as_bytes()).await;
    house.asked(1).await;
    let heard = house.post(&streamed("cot/qwen")).await;
    assert_eq!((heard.status, said(&heard, "content").as_str()), (200, "The answer is: 9"));
    drop(silent);
}
