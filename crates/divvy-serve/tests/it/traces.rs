//! What a collector hears of a request: the tree of spans, their attributes, and nothing of anybody's text.

use std::time::Duration;

use divvy_testkit::{
    collector::{Collector, Span},
    script::{Fault, Step},
};
use serde_json::{Value, json};

use crate::house::{House, open_traced, question, streamed};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

async fn open(script: Vec<Step>) -> (House, Collector) {
    let collector = Collector::start().await.unwrap();
    (open_traced(script, &collector.url(), false).await, collector)
}

/// All spans, once the service has stopped: the request's and its calls', in order.
async fn told(house: &House, collector: &Collector, count: usize) -> (Span, Vec<Span>) {
    house.stop.cancel();
    let mut spans = collector.wait(count).await;
    assert_eq!(spans.len(), count, "{spans:#?}");
    let at = spans.iter().position(|span| span.kind == "SPAN_KIND_SERVER").expect("a request's span");
    let request = spans.remove(at);
    assert!(spans.iter().all(|span| span.parent == request.id && span.trace == request.trace), "{spans:#?}");
    (request, spans)
}

/// That the span has these attributes.
fn has(span: &Span, expect: &Value) {
    for (name, value) in expect.as_object().unwrap() {
        assert_eq!(span.attributes.get(name), (!value.is_null()).then_some(value), "{name} of {span:#?}");
    }
}

#[tokio::test]
async fn a_request_is_a_tree_that_continues_the_callers_trace_and_goes_on_upstream() {
    let (house, collector) = open(vec![]).await;
    let headers = format!("traceparent: 00-{TRACE}-{CALLER}-01\r\ntracestate: vendor=x\r\n");
    let body = question("two-stage/sd/qwen").to_string();
    let reply = house.send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await.json();
    let (request, calls) = told(&house, &collector, 3).await;
    assert_eq!((&*request.trace, &*request.parent), (TRACE, CALLER));
    assert_eq!(request.name, "invoke_agent two-stage/sd/qwen");
    let usage = &reply["divvy"]["usage"];
    has(
        &request,
        &json!({
            "gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "divvy",
            "gen_ai.request.model": "two-stage/sd/qwen", "gen_ai.agent.name": "two-stage/sd/qwen",
            "gen_ai.response.id": reply["id"], "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": usage["prompt_tokens"], "gen_ai.usage.output_tokens": usage["completion_tokens"],
            "divvy.strategy": "two-stage", "divvy.decomposer": "student:sd", "divvy.solver": "qwen", "divvy.calls": 2,
            "divvy.outcome": "200", "http.response.status_code": 200, "divvy.fallback": null, "error.type": null,
        }),
    );
    let dollars: f64 = usage["cost_dollars"].as_str().unwrap().parse().unwrap();
    assert!((request.attributes["divvy.cost_dollars"].as_f64().unwrap() - dollars).abs() < 1e-12);
    assert!(request.attributes["gen_ai.response.time_to_first_chunk"].as_f64().unwrap() > 0.0);
    assert_eq!(request.resource["service.name"], "divvy");
    let port = house.teacher.url().rsplit(':').next().unwrap().trim_end_matches("/v1").parse::<u16>().unwrap();
    for (call, (stage, model, at)) in calls.iter().zip([("decompose", "student:sd", 0), ("solve", "qwen", 1)]) {
        assert_eq!((&*call.name, call.kind, call.failed), ("chat teacher", "SPAN_KIND_CLIENT", false));
        has(
            call,
            &json!({
                "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "teacher",
                "divvy.stage": stage, "divvy.model": model, "divvy.outcome": "ok",
                "server.address": "127.0.0.1", "server.port": port, "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.usage.input_tokens": usage["calls"][at]["prompt_tokens"],
                "gen_ai.usage.output_tokens": usage["calls"][at]["completion_tokens"],
            }),
        );
        let asked = &house.teacher.asked()[at];
        assert_eq!(asked.traceparent, Some(format!("00-{TRACE}-{}-01", call.id)), "the endpoint knows its parent");
    }
    let text = format!("{request:?}{calls:?}");
    assert!(!text.contains("pens") && !text.contains("Break the question"), "no text of anybody's: {text}");
}

#[tokio::test]
async fn without_a_caller_a_trace_begins_and_a_stream_is_one_too() {
    let (house, collector) = open(vec![]).await;
    house.post(&streamed("qwen")).await;
    let (request, calls) = told(&house, &collector, 2).await;
    assert_eq!((&*request.name, &*request.parent, request.trace.len()), ("chat qwen", "", 32));
    has(&request, &json!({"gen_ai.operation.name": "chat", "gen_ai.agent.name": null, "divvy.outcome": "200"}));
    has(&calls[0], &json!({"divvy.stage": "complete"}));
}

#[tokio::test]
async fn what_is_asked_and_answered_is_told_where_it_is_asked_for() {
    let collector = Collector::start().await.unwrap();
    let house = open_traced(vec![], &collector.url(), true).await;
    house.post(&question("qwen")).await;
    let (_, calls) = told(&house, &collector, 2).await;
    let read = |name: &str| serde_json::from_str::<Value>(calls[0].attributes[name].as_str().unwrap()).unwrap();
    let asked = question("qwen")["messages"][0]["content"].clone();
    let part = |text: Value| json!([{"type": "text", "content": text}]);
    assert_eq!(read("gen_ai.input.messages"), json!([{"role": "user", "parts": part(asked)}]));
    assert_eq!(
        read("gen_ai.output.messages"),
        json!([{"role": "assistant", "parts": part(json!("The answer is: 9"))}])
    );
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_spans_that_say_so() {
    let (house, collector) = open(vec![Step::fault(Fault::Hang)]).await;
    let body = question("cot/qwen").to_string();
    let stream = house.begin("POST", "/v1/chat/completions", "", body.as_bytes()).await;
    house.asked(1).await;
    drop(stream);
    let (request, calls) = told(&house, &collector, 2).await;
    has(&request, &json!({"divvy.outcome": "cancelled", "http.response.status_code": null, "error.type": null}));
    has(&calls[0], &json!({"divvy.outcome": "cancelled", "gen_ai.usage.output_tokens": null}));
    assert!(!request.failed && !calls[0].failed, "nobody failed");
}

#[tokio::test]
async fn a_fallback_shows_the_call_that_failed_and_the_one_that_answered() {
    let (house, collector) = open(vec![Step::status(401)]).await;
    house.post(&question("two-stage/sd/qwen")).await;
    let (request, calls) = told(&house, &collector, 3).await;
    has(&request, &json!({"divvy.fallback": "decomposer-failed", "divvy.outcome": "200"}));
    has(
        &calls[0],
        &json!({"error.type": "unauthorized", "divvy.outcome": "unauthorized", "http.response.status_code": 401}),
    );
    assert!(calls[0].failed && !request.failed && !calls[1].failed);
    assert!(!format!("{:?}", calls[0]).contains("scripted"), "an endpoint's own words are not told");
}

#[tokio::test]
async fn tries_that_came_to_nothing_are_events_of_their_call() {
    let (house, collector) = open(vec![Step::status(500), Step::status(503)]).await;
    house.post(&question("qwen")).await;
    let (_, calls) = told(&house, &collector, 2).await;
    let events: Vec<_> =
        calls[0].events.iter().map(|(name, told)| (&**name, told["http.response.status_code"].clone())).collect();
    assert_eq!(events, [("retry", json!(500)), ("retry", json!(503))]);
    has(&calls[0], &json!({"divvy.outcome": "ok"}));
}

#[tokio::test]
async fn what_fails_and_what_is_refused_is_told_by_its_code() {
    let (house, collector) = open(vec![Step::status(401)]).await;
    house.post(&question("cot/qwen")).await;
    house.post(&question("no such model")).await;
    house.stop.cancel();
    let spans = collector.wait(3).await;
    let of = |outcome: &str| spans.iter().find(|span| span.attributes["divvy.outcome"] == outcome).expect(outcome);
    has(of("502"), &json!({"error.type": "unauthorized"}));
    has(of("404"), &json!({"error.type": "model_not_found", "gen_ai.request.model": null}));
    assert!(of("502").failed && !of("404").failed, "a caller's mistake is no failure of the server's");
}

#[tokio::test]
async fn a_caller_that_is_not_sampled_is_not_traced_but_goes_on_upstream() {
    let (house, collector) = open(vec![]).await;
    let body = question("cot/qwen").to_string();
    let headers = format!("traceparent: 00-{TRACE}-{CALLER}-00\r\n");
    house.send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    let told = house.teacher.asked()[0].traceparent.clone().unwrap();
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"), "{told}");
    house.post(&question("cot/qwen")).await;
    house.stop.cancel();
    assert_eq!(collector.wait(2).await.len(), 2, "of the second request alone");
}

#[tokio::test]
async fn no_answer_waits_for_a_collector_that_is_not_there() {
    // Takes connections, and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), closed] {
        let house = open_traced(vec![], &format!("http://{address}"), false).await;
        for _ in 0..200 {
            let answered = tokio::time::timeout(Duration::from_secs(5), house.post(&question("cot/qwen"))).await;
            assert_eq!(answered.expect("nobody waits").status, 200);
        }
    }
}
