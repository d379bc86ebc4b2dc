//! Field by field against OpenAI's schema of chat completions: names, types, and what must be there.

use serde_json::{Value, json};

use crate::house::{open, question, streamed};

/// A field of an object: its name, whether it must be there, its JSON types.
type Field = (&'static str, bool, &'static [&'static str]);

const COMPLETION: &[Field] = &[
    ("id", true, &["string"]),
    ("object", true, &["string"]),
    ("created", true, &["number"]),
    ("model", true, &["string"]),
    ("choices", true, &["array"]),
    ("usage", false, &["object"]),
    ("divvy", false, &["object"]),
];
const CHOICE: &[Field] = &[
    ("index", true, &["number"]),
    ("message", true, &["object"]),
    ("logprobs", true, &["null", "object"]),
    ("finish_reason", true, &["string"]),
];
const MESSAGE: &[Field] = &[
    ("role", true, &["string"]),
    ("content", true, &["string", "null"]),
    ("refusal", true, &["string", "null"]),
    ("annotations", false, &["array"]),
    ("reasoning_content", false, &["string", "null"]),
    ("reasoning", false, &["string", "null"]),
];
const USAGE: &[Field] = &[
    ("prompt_tokens", true, &["number"]),
    ("completion_tokens", true, &["number"]),
    ("total_tokens", true, &["number"]),
    ("prompt_tokens_details", false, &["object"]),
    ("completion_tokens_details", false, &["object"]),
];
const CHUNK: &[Field] = &[
    ("id", true, &["string"]),
    ("object", true, &["string"]),
    ("created", true, &["number"]),
    ("model", true, &["string"]),
    ("choices", true, &["array"]),
    ("usage", false, &["object", "null"]),
    ("divvy", false, &["object"]),
];
const CHUNK_CHOICE: &[Field] = &[
    ("index", true, &["number"]),
    ("delta", true, &["object"]),
    ("logprobs", false, &["null", "object"]),
    ("finish_reason", true, &["string", "null"]),
];
const DELTA: &[Field] = &[
    ("role", false, &["string"]),
    ("content", false, &["string", "null"]),
    ("refusal", false, &["string", "null"]),
    ("reasoning_content", false, &["string"]),
    ("reasoning", false, &["string"]),
];
const MODEL: &[Field] = &[
    ("id", true, &["string"]),
    ("object", true, &["string"]),
    ("created", true, &["number"]),
    ("owned_by", true, &["string"]),
    ("divvy", false, &["object"]),
];
const ERROR: &[Field] = &[
    ("message", true, &["string"]),
    ("type", true, &["string"]),
    ("param", true, &["string", "null"]),
    ("code", true, &["string", "null"]),
];

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn conforms(value: &Value, fields: &[Field]) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    for (name, required, kinds) in fields {
        match object.get(*name) {
            None => assert!(!required, "`{name}` is missing: {value}"),
            Some(field) => assert!(kinds.contains(&kind(field)), "`{name}` is {}: {value}", kind(field)),
        }
    }
    let unknown: Vec<&String> = object.keys().filter(|key| !fields.iter().any(|(name, ..)| name == key)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are in no schema: {value}");
}

const MODELS: [&str; 6] =
    ["direct/qwen", "cot/qwen", "two-stage/sd/qwen", "sequential/sd/qwen", "self-ask/sd/qwen", "qwen"];

#[tokio::test]
async fn whole_replies() {
    let house = open(vec![]).await;
    for model in MODELS {
        let reply = house.post(&question(model)).await.json();
        conforms(&reply, COMPLETION);
        conforms(&reply["choices"][0], CHOICE);
        conforms(&reply["choices"][0]["message"], MESSAGE);
        conforms(&reply["usage"], USAGE);
        assert_eq!((&reply["object"], &reply["choices"][0]["index"]), (&json!("chat.completion"), &json!(0)));
    }
}

#[tokio::test]
async fn chunks() {
    let house = open(vec![]).await;
    for model in MODELS {
        let mut body = streamed(model);
        body["stream_options"] = json!({"include_usage": true});
        let events = house.post(&body).await.events();
        let id = &events[0]["id"];
        for event in &events {
            conforms(event, CHUNK);
            assert_eq!((&event["object"], &event["id"]), (&json!("chat.completion.chunk"), id));
            for choice in event["choices"].as_array().unwrap() {
                conforms(choice, CHUNK_CHOICE);
                conforms(&choice["delta"], DELTA);
            }
        }
        conforms(&events.last().unwrap()["usage"], USAGE);
    }
}

#[tokio::test]
async fn models_and_errors() {
    let house = open(vec![]).await;
    let list = house.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    list["data"].as_array().unwrap().iter().for_each(|model| conforms(model, MODEL));
    conforms(&house.post(&json!({})).await.json()["error"], ERROR);
    conforms(&house.get("/nowhere").await.json()["error"], ERROR);
}
