//! What `/metrics` tells of endpoints and caches.

use divvy_testkit::script::Step;
use serde_json::json;

use crate::house::{House, open, question};

async fn tells(house: &House, lines: &[&str]) {
    let text = house.get("/metrics").await.body;
    for line in lines {
        assert!(text.lines().any(|own| own == *line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_breaker_is_seen_to_open() {
    // A lone endpoint rests only once it has answered.
    let mut script = vec![Step::say("The answer is: 9")];
    script.extend(vec![Step::status(401); 5]);
    let house = open(script).await;
    house.post(&question("qwen")).await;
    let host = house.teacher.url().trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let labels = format!("model=\"qwen\",endpoint=\"{host}\"");
    let state = |state: &str, value: u8| format!("divvy_breaker{{{labels},state=\"{state}\"}} {value}");
    let of_endpoint = |name: &str, value: u32| format!("divvy_endpoint_{name}{{{labels}}} {value}");
    tells(&house, &[&state("closed", 1), &state("open", 0), &of_endpoint("limit", 32), &of_endpoint("running", 0)])
        .await;
    for _ in 0..5 {
        assert_eq!(house.post(&question("qwen")).await.status, 502);
    }
    tells(&house, &[&state("closed", 0), &state("half-open", 0), &state("open", 1)]).await;
}

#[tokio::test]
async fn what_of_a_prompt_was_known_is_counted_where_the_model_tells() {
    let reply = |cached: serde_json::Value| {
        let usage =
            json!({"prompt_tokens": 30, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": cached}});
        let said = json!({"choices": [{"delta": {"content": "9"}, "finish_reason": "stop"}], "usage": usage});
        Step::Body { body: format!("data: {said}\n\ndata: [DONE]\n\n") }
    };
    let house = open(vec![reply(json!(20)), reply(json!(0)), reply(json!(null))]).await;
    for _ in 0..3 {
        assert_eq!(house.post(&question("qwen")).await.status, 200);
    }
    let cache = |result: &str| format!("divvy_prompt_cache_total{{model=\"qwen\",result=\"{result}\"}} 1");
    tells(&house, &[&cache("hit"), &cache("miss"), "divvy_cached_tokens_total{model=\"qwen\"} 20"]).await;
}
