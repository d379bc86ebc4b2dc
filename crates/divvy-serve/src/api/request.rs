//! A chat completion request, read. Reference: <https://platform.openai.com/docs/api-reference/chat/create>.

use divvy_core::{
    chat::{Message, Role, Sampling},
    question::{Question, QuestionId, ScorerKind, Split},
};
use serde::Deserialize;

use super::fields::Fields;
use crate::{answering::Order, error::ApiError};

/// Tokens of a plain model's reply where the caller sets no limit.
const PLAIN_TOKENS: u32 = 1024;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    pub(crate) premise: Option<String>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    max_tokens: Option<u32>,
    sampling: Wanted,
    /// Fields that mean nothing here.
    unknown: Vec<String>,
}

/// Sampling as the caller wants it: a plain model's; an arm answers as it was measured.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<Stop>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct WireMessage {
    role: String,
    content: Option<Content>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    premise: Option<String>,
}

impl Request {
    /// # Errors
    /// 400 naming the field.
    pub(crate) fn read(body: &[u8], most_messages: usize) -> Result<Self, ApiError> {
        let mut fields = Fields::read(body)?;
        let model = fields.required("model")?;
        let wire: Vec<WireMessage> = fields.required("messages")?;
        let mut nested: Vec<String> = wire.iter().flat_map(|message| named("messages", &message.rest)).collect();
        let messages = messages(wire, most_messages)?;
        if fields.take::<u64>("n")?.is_some_and(|n| n != 1) {
            return Err(ApiError::field("n", "unsupported_value", "`n`: one choice is all there is"));
        }
        let (newer, older) = (fields.take("max_completion_tokens")?, fields.take("max_tokens")?);
        let stream_options: Option<StreamOptions> = fields.take("stream_options")?;
        let own: Own = fields.take("divvy")?.unwrap_or_default();
        nested.extend(stream_options.iter().flat_map(|options| named("stream_options", &options.rest)));
        nested.sort();
        nested.dedup();
        Ok(Self {
            model,
            messages,
            premise: own.premise,
            stream: fields.take("stream")?.unwrap_or(false),
            include_usage: stream_options.is_some_and(|options| options.include_usage),
            max_tokens: newer.or(older),
            sampling: Wanted::take(&mut fields)?,
            unknown: fields.left().into_iter().chain(nested).filter(|name| !is_label(name)).collect(),
        })
    }

    /// Fields that will have no effect.
    pub(crate) fn ignored(&self, by_arm: bool) -> Vec<String> {
        let mut ignored = self.unknown.clone();
        if by_arm {
            ignored.extend(self.sampling.named().into_iter().map(str::to_owned));
        }
        ignored
    }

    /// For an arm: the last user message is the question, what was said before it belongs to its premise.
    ///
    /// # Errors
    /// 400 where there is no question.
    pub(crate) fn order(&self, scorer: ScorerKind) -> Result<Order, ApiError> {
        let bad = |message: &str| ApiError::field("messages", "no_question", message);
        let (last, before) = self.messages.split_last().ok_or_else(|| bad("`messages` is empty"))?;
        if last.role != Role::User || last.content.trim().is_empty() {
            return Err(bad("The last of `messages` must be the user's question"));
        }
        let instructions: Vec<&str> =
            before.iter().filter(|message| message.role == Role::System).map(|message| &*message.content).collect();
        let system = (!instructions.is_empty()).then(|| instructions.join("\n\n"));
        let premise = premise(self.premise.as_deref(), before);
        Ok(Order { question: question(&last.content, premise, scorer), system, max_tokens: self.max_tokens })
    }

    /// For a plain model, whose template keeps people's words apart from its own marks.
    ///
    /// # Errors
    /// 400 for a setting out of its range.
    pub(crate) fn plain(&self) -> Result<(Vec<Message>, Sampling), ApiError> {
        Ok((self.messages.clone(), self.sampling.of(self.max_tokens.unwrap_or(PLAIN_TOKENS))?))
    }
}

/// Who sends the request, and under what label, is no matter of its answer.
pub(super) fn is_label(name: &str) -> bool {
    ["user", "metadata", "store", "safety_identifier"].contains(&name)
}

/// `messages.name` for each field of a part of the request that nobody reads.
fn named(part: &str, rest: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
    rest.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| format!("{part}.{name}")).collect()
}

fn messages(wire: Vec<WireMessage>, most: usize) -> Result<Vec<Message>, ApiError> {
    if wire.is_empty() {
        return Err(ApiError::field("messages", "empty_array", "`messages` is empty"));
    }
    if wire.len() > most {
        return Err(ApiError::field("messages", "too_many_messages", format!("`messages`: at most {most}")));
    }
    wire.into_iter().enumerate().map(|(at, message)| message.read(at)).collect()
}

impl WireMessage {
    fn read(self, at: usize) -> Result<Message, ApiError> {
        let bad =
            |code, what: String| ApiError::field(&format!("messages[{at}]"), code, format!("messages[{at}]: {what}"));
        let role = match &*self.role {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => return Err(bad("unsupported_role", format!("the role `{other}` is not supported here"))),
        };
        let content = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                if let Some(part) = parts.iter().find(|part| part.kind != "text") {
                    return Err(bad("unsupported_content", format!("only text can be read, not `{}`", part.kind)));
                }
                parts.into_iter().filter_map(|part| part.text).collect::<Vec<_>>().join("\n")
            }
        };
        Ok(Message { role, content })
    }
}

impl Wanted {
    pub(super) fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self {
            temperature: fields.take("temperature")?,
            top_p: fields.take("top_p")?,
            seed: fields.take("seed")?,
            stop: fields.take("stop")?,
        })
    }

    fn named(&self) -> Vec<&'static str> {
        let all = [
            ("temperature", self.temperature.is_some()),
            ("top_p", self.top_p.is_some()),
            ("seed", self.seed.is_some()),
            ("stop", self.stop.is_some()),
        ];
        all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
    }

    pub(super) fn of(&self, max_tokens: u32) -> Result<Sampling, ApiError> {
        let range = |name: &str, value: Option<f64>, most: f64| match value {
            Some(value) if !(0.0..=most).contains(&value) => {
                Err(ApiError::field(name, "invalid_value", format!("`{name}` must lie between 0 and {most}")))
            }
            value => Ok(value.unwrap_or(1.0)),
        };
        let (temperature, top_p) = (range("temperature", self.temperature, 2.0)?, range("top_p", self.top_p, 1.0)?);
        let stop = match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Many(stops)) if stops.len() <= 4 => stops.clone(),
            Some(Stop::Many(_)) => return Err(ApiError::field("stop", "invalid_value", "`stop`: at most four")),
        };
        let seed = self.seed.map_or_else(random_seed, i64::cast_unsigned);
        Ok(Sampling { temperature, top_p, stop, seed, ..Sampling::greedy(max_tokens) })
    }
}

/// A caller who gives no seed wants another reply each time.
fn random_seed() -> u64 {
    getrandom::u64().expect("the system gives random bytes")
}

fn premise(given: Option<&str>, before: &[Message]) -> Option<String> {
    let turn = |message: &Message| match message.role {
        Role::System => None,
        Role::User => Some(format!("User: {}", message.content.trim())),
        Role::Assistant => Some(format!("Assistant: {}", message.content.trim())),
    };
    let parts: Vec<String> = given.map(str::to_owned).into_iter().chain(before.iter().filter_map(turn)).collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

fn question(text: &str, premise: Option<String>, scorer: ScorerKind) -> Question {
    Question {
        id: QuestionId("served/test/0".to_owned()),
        dataset: "served".to_owned(),
        split: Split::Test,
        premise,
        text: text.to_owned(),
        golds: Vec::new(),
        scorer,
        steps: None,
        recorded: None,
        cluster: None,
        worked: Vec::new(),
    }
}

/// Why a body is no request, for an arm or a plain model.
pub(super) fn refusal(body: &[u8]) -> Option<ApiError> {
    let read = Request::read(body, 8).and_then(|request| {
        request.plain()?;
        request.order(ScorerKind::Exact).map(drop)
    });
    read.err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &serde_json::Value) -> Result<Request, ApiError> {
        Request::read(body.to_string().as_bytes(), 8)
    }

    #[test]
    fn the_question_is_the_last_user_message_and_the_rest_its_premise() {
        let request = read(&serde_json::json!({
            "model": "m", "temperature": 0.3, "tools": [], "user": "u", "logprobs": null,
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Ann has 3 pens.", "name": "ann"},
                {"role": "assistant", "content": "I see."},
                {"role": "user", "content": [{"type": "text", "text": "How many?"}]},
            ],
            "divvy": {"premise": "A passage."},
        }));
        let request = request.unwrap();
        let order = request.order(ScorerKind::Numeric).ok().unwrap();
        assert_eq!(order.question.text, "How many?");
        assert_eq!(order.question.premise.as_deref(), Some("A passage.\n\nUser: Ann has 3 pens.\n\nAssistant: I see."));
        assert_eq!(order.system.as_deref(), Some("Be kind."));
        assert_eq!(request.ignored(true), ["tools", "messages.name", "temperature"]);
        assert_eq!(request.ignored(false), ["tools", "messages.name"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_field() {
        use serde_json::json;
        let user = json!([{"role": "user", "content": "?"}]);
        for (body, said) in [
            (json!([]), "must be a JSON object"),
            (json!({"messages": user}), "`model` is missing"),
            (json!({"model": "m"}), "`messages` is missing"),
            (json!({"model": 3, "messages": user}), "`model`: invalid type"),
            (json!({"model": "m", "messages": []}), "`messages` is empty"),
            (json!({"model": "m", "messages": vec![user[0].clone(); 9]}), "at most 8"),
            (json!({"model": "m", "messages": [{"role": "tool", "content": "?"}]}), "messages[0]: the role `tool`"),
            (
                json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
                "not `image_url`",
            ),
            (json!({"model": "m", "messages": user, "n": 2}), "`n`: one choice"),
            (json!({"model": "m", "messages": user, "divvy": {"pipeline": "x"}}), "`divvy`: unknown field"),
            (json!({"model": "m", "messages": user, "stream": "yes"}), "`stream`: invalid type"),
        ] {
            let error = read(&body).unwrap_err();
            assert_eq!(error.status, 400);
            assert!(error.json().to_string().contains(said), "{body}: {}", error.json());
        }
    }

    #[test]
    fn a_plain_model_gets_the_callers_settings() {
        use serde_json::json;
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "<|im_end|>"}], "temperature": 0, "stop": "x", "seed": -1, "max_tokens": 7});
        let (messages, sampling) = read(&body).unwrap().plain().ok().unwrap();
        assert_eq!(messages[0].content, "<|im_end|>");
        assert_eq!((sampling.temperature, sampling.max_tokens, &*sampling.stop), (0.0, 7, &["x".to_owned()][..]));
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "?"}], "temperature": 3});
        assert_eq!(read(&body).unwrap().plain().unwrap_err().status, 400);
    }

    /// JSON of any shape, with the names that requests have.
    fn json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        use serde_json::{Value, json};
        let names =
            ["model", "messages", "role", "content", "type", "text", "stream", "stop", "seed", "divvy", "n", "x"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(|b| json!(b)),
            any::<f64>().prop_map(|n| json!(n)),
            any::<i64>().prop_map(|n| json!(n)),
            "\\PC{0,8}".prop_map(|text| json!(text)),
            prop::sample::select(vec!["user", "system", "assistant", "text", "m"]).prop_map(|text| json!(text)),
        ];
        leaf.prop_recursive(4, 48, 6, move |inner| {
            let object = prop::collection::hash_map(prop::sample::select(names.to_vec()), inner.clone(), 0..6);
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(Value::Array),
                object.prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Some(error) = refusal(&bytes) {
                proptest::prop_assert_eq!(error.status, 400);
            }
        }

        #[test]
        fn any_json_is_answered_or_refused(
            body in json(),
            messages in proptest::option::of(json()),
            model in proptest::bool::ANY,
        ) {
            let mut body = body;
            if let Some(fields) = body.as_object_mut() {
                fields.extend(messages.map(|messages| ("messages".to_owned(), messages)));
                fields.extend(model.then(|| ("model".to_owned(), "m".into())));
            }
            if let Some(error) = refusal(body.to_string().as_bytes()) {
                proptest::prop_assert_eq!(error.status, 400);
            }
        }
    }
}
