//! A teacher on loopback that speaks the OpenAI protocol, with faults on demand. It counts what it was asked, so that
//! a test can compare what was paid for with what is in the store.
//!
//! ```text
//! POST /v1/chat/completions  {"model": "teacher", "messages": [{"role": "user", "content": "2+2?"}]}
//! 200 {"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}], "usage": {…}}
//! GET  /v1/models            {"data": [{"id": "teacher"}]}
//! ```
//!
//! With a [`Bureau`] it also takes files of requests, see there.

mod bureau;

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri},
    routing::{get, post},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

pub use self::bureau::{Bureau, Door, Fate, HandedIn, Mishap, RowFate, RowRule};
use crate::script::{Fault, Step};

/// Answers from the messages of a request.
pub type Rule = dyn Fn(&Asked) -> String + Send + Sync;

/// What a request meets in place of an answer, if anything.
pub type Misfortune = dyn Fn(&Asked) -> Option<Step> + Send + Sync;

/// A request as it came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    pub body: Value,
    /// What stood in `Authorization`.
    pub authorization: Option<String>,
    /// What stood in `traceparent`.
    pub traceparent: Option<String>,
    /// What stood in `api-key`, Azure's header.
    pub api_key: Option<String>,
    /// Path and query.
    pub target: String,
}

impl Asked {
    /// The text of the last message.
    #[must_use]
    pub fn last(&self) -> &str {
        let messages = self.body["messages"].as_array();
        messages.and_then(|all| all.last()).and_then(|message| message["content"].as_str()).unwrap_or_default()
    }
}

#[derive(Default)]
struct Log {
    script: VecDeque<Step>,
    asked: Vec<Asked>,
    /// Completions that went out whole, faults not counted.
    answered: usize,
    /// When the last were taken on, where there is a quota.
    taken: Vec<Instant>,
    /// Requests whose client went away before their end.
    abandoned: usize,
}

/// Notes a request that is dropped before its end.
struct Watch {
    class: Arc<Class>,
    ended: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.class.log().abandoned += usize::from(!self.ended);
    }
}

/// The settings of a teacher; see [`Teacher::start`].
pub struct Lesson {
    /// Used up first, a step a request.
    pub script: Vec<Step>,
    /// Answers once the script is used up, …
    pub rule: Box<Rule>,
    /// … unless this has something else for it.
    pub misfortune: Box<Misfortune>,
    pub latency: Duration,
    /// The only model it serves; any other is a 404.
    pub model: String,
    /// Wanted as bearer token, else 401.
    pub api_key: Option<String>,
    /// It refuses `max_tokens`, as OpenAI's models that think do.
    pub own_word: bool,
    /// 0 takes any free port.
    pub port: u16,
    /// With every reply to a request for a completion.
    pub headers: Vec<(&'static str, &'static str)>,
    /// Completions that it takes on in so long; beyond, it refuses with a 429 that says no more.
    pub quota: Option<(usize, Duration)>,
    /// Its Batch API; without one, those paths are not found.
    pub bureau: Option<Bureau>,
}

impl Default for Lesson {
    fn default() -> Self {
        Self {
            script: Vec::new(),
            rule: Box::new(|asked| format!("You said: {}", asked.last())),
            misfortune: Box::new(|_| None),
            latency: Duration::ZERO,
            model: "teacher".to_owned(),
            api_key: None,
            own_word: false,
            port: 0,
            headers: Vec::new(),
            quota: None,
            bureau: None,
        }
    }
}

struct Class {
    rule: Box<Rule>,
    misfortune: Box<Misfortune>,
    latency: Duration,
    model: String,
    api_key: Option<String>,
    own_word: bool,
    headers: Vec<(&'static str, &'static str)>,
    quota: Option<(usize, Duration)>,
    bureau: Option<bureau::Desk>,
    log: Mutex<Log>,
}

/// Serves until it is dropped.
pub struct Teacher {
    class: Arc<Class>,
    address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Teacher {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Teacher {
    /// # Errors
    /// When the port is taken.
    pub async fn start(lesson: Lesson) -> std::io::Result<Self> {
        let log = Log { script: lesson.script.into(), ..Log::default() };
        let class = Arc::new(Class {
            rule: lesson.rule,
            misfortune: lesson.misfortune,
            latency: lesson.latency,
            model: lesson.model,
            api_key: lesson.api_key,
            own_word: lesson.own_word,
            headers: lesson.headers,
            quota: lesson.quota,
            bureau: lesson.bureau.map(bureau::Desk::new),
            log: Mutex::new(log),
        });
        let app = Router::new()
            .route("/v1/chat/completions", post(completions))
            .route("/openai/deployments/{deployment}/chat/completions", post(completions))
            .route("/v1/models", get(models))
            .merge(bureau::routes())
            .with_state(class.clone());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", lesson.port)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("serving on loopback does not fail");
        });
        Ok(Self { class, address, server })
    }

    /// A teacher that follows a script, then repeats what it hears.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn scripted(script: impl IntoIterator<Item = Step>) -> std::io::Result<Self> {
        Self::start(Lesson { script: script.into_iter().collect(), ..Lesson::default() }).await
    }

    /// `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Goes away: what it is answering comes to its end, and nobody gets a connection any more.
    pub fn leave(&self) {
        self.server.abort();
    }

    /// Every request so far, faults included.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.class.log().asked.clone()
    }

    /// How many requests were given up by their client before their end.
    #[must_use]
    pub fn abandoned(&self) -> usize {
        self.class.log().abandoned
    }

    /// How many completions went out whole.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.class.log().answered
    }
}

impl Class {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn models(State(class): State<Arc<Class>>) -> Response<Body> {
    reply(200, &json!({"object": "list", "data": [{"id": class.model, "object": "model"}]}), None)
}

async fn completions(State(class): State<Arc<Class>>, uri: Uri, headers: HeaderMap, bytes: Bytes) -> Response<Body> {
    let mut response = completion(&class, &uri, &headers, &bytes).await;
    let more =
        class.headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    response.headers_mut().extend(more);
    response
}

async fn completion(class: &Arc<Class>, uri: &Uri, headers: &HeaderMap, bytes: &[u8]) -> Response<Body> {
    let Ok(body) = serde_json::from_slice::<Value>(bytes) else { return error(400, "the body is no JSON", None) };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (authorization, traceparent, api_key) = (header("authorization"), header("traceparent"), header("api-key"));
    let asked = Asked { body, authorization, traceparent, api_key, target: uri.to_string() };
    let step = {
        let mut log = class.log();
        log.asked.push(asked.clone());
        log.script.pop_front()
    };
    let mut watch = Watch { class: Arc::clone(class), ended: false };
    tokio::time::sleep(class.latency).await;
    if let Some(refusal) = class.refuse(&asked) {
        watch.ended = true;
        return refusal;
    }
    let step = step.or_else(|| (class.misfortune)(&asked));
    match step.unwrap_or_else(|| Step::say((class.rule)(&asked))) {
        Step::Drip { drip, pause_ms } => drip_events(&drip, Duration::from_millis(pause_ms), &asked, watch),
        step => {
            let response = class.perform(step, &asked).await;
            watch.ended = true;
            response
        }
    }
}

/// A word an event, a pause after each.
fn drip_events(text: &str, pause: Duration, asked: &Asked, watch: Watch) -> Response<Body> {
    let usage = usage_of(text, asked);
    let words: Vec<String> = event_list(text, "stop", Some(&usage));
    let count = words.len();
    let drops = stream::unfold((words.into_iter().enumerate(), watch), move |(mut words, mut watch)| async move {
        let (at, word) = words.next()?;
        if at > 0 {
            tokio::time::sleep(pause).await;
        }
        watch.ended |= at + 1 == count;
        Some((Ok::<_, Infallible>(word), (words, watch)))
    });
    respond(200, "text/event-stream", Body::from_stream(drops), None)
}

impl Class {
    fn refuse(&self, asked: &Asked) -> Option<Response<Body>> {
        let wanted = self.api_key.as_ref().map(|key| format!("Bearer {key}"));
        if wanted.is_some() && asked.authorization != wanted {
            return Some(error(401, "Incorrect API key provided.", None));
        }
        if self.own_word && !asked.body["max_tokens"].is_null() {
            let message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.";
            return Some(error(400, message, None));
        }
        let model = asked.body["model"].as_str().unwrap_or_default();
        if model != self.model {
            return Some(error(404, &format!("The model `{model}` does not exist."), None));
        }
        self.is_over_quota().then(|| error(429, "Rate limit reached.", None))
    }

    fn is_over_quota(&self) -> bool {
        let Some((most, time)) = self.quota else { return false };
        let (now, taken) = (Instant::now(), &mut self.log().taken);
        taken.retain(|at| *at + time > now);
        taken.push(now);
        taken.len() > most && taken.pop().is_some()
    }

    async fn perform(&self, step: Step, asked: &Asked) -> Response<Body> {
        match step {
            Step::Say { say } => self.answer(&say, asked, "stop", true),
            Step::Status { status, retry_after, message } => {
                error(status, message.as_deref().unwrap_or("scripted"), retry_after)
            }
            Step::Raw { raw, status, content_type } => respond(status, &content_type, raw.into(), None),
            Step::Body { body } => respond(200, "application/json", body.into(), None),
            Step::Drip { .. } => unreachable!("it needs the watch"),
            Step::Fault { fault: Fault::Hang } => std::future::pending().await,
            Step::Fault { fault: Fault::Cut } => cut(),
            Step::Fault { fault: Fault::Nonsense } => {
                respond(200, "text/html", "<html>Bad gateway</html>".into(), None)
            }
            Step::Fault { fault: Fault::Empty } => self.answer("", asked, "stop", true),
            Step::Fault { fault: Fault::Truncated } => self.answer(&(self.rule)(asked), asked, "length", true),
            Step::Fault { fault: Fault::NoUsage } => self.answer(&(self.rule)(asked), asked, "stop", false),
        }
    }

    fn answer(&self, text: &str, asked: &Asked, finish: &str, usage: bool) -> Response<Body> {
        if !text.is_empty() {
            self.log().answered += 1;
        }
        let usage = usage.then(|| usage_of(text, asked));
        if asked.body["stream"] == json!(true) {
            return respond(200, "text/event-stream", events(text, finish, usage.as_ref()), None);
        }
        reply(200, &self.completion(text, finish, usage), None)
    }

    fn completion(&self, text: &str, finish: &str, usage: Option<Value>) -> Value {
        let message = json!({"role": "assistant", "content": text});
        let mut body = json!({
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        });
        if let Some(usage) = usage {
            body["usage"] = usage;
        }
        body
    }
}

/// A word is a token here.
fn usage_of(text: &str, asked: &Asked) -> Value {
    let words = |text: &str| text.split_whitespace().count();
    let messages = asked.body["messages"].as_array().cloned().unwrap_or_default();
    let heard: usize = messages.iter().map(|message| words(message["content"].as_str().unwrap_or_default())).sum();
    json!({"prompt_tokens": heard, "completion_tokens": words(text), "total_tokens": heard + words(text)})
}

fn events(text: &str, finish: &str, usage: Option<&Value>) -> Body {
    Body::from_stream(stream::iter(event_list(text, finish, usage).into_iter().map(Ok::<_, Infallible>)))
}

/// A word an event, the usage in the last.
fn event_list(text: &str, finish: &str, usage: Option<&Value>) -> Vec<String> {
    let event = |choices: Value, usage: Option<&Value>| {
        format!("data: {}\n\n", json!({"object": "chat.completion.chunk", "choices": choices, "usage": usage}))
    };
    let pieces = text.split_inclusive(' ').map(|word| json!([{"index": 0, "delta": {"content": word}}]));
    let mut events: Vec<String> = pieces.map(|choices| event(choices, None)).collect();
    events.push(event(json!([{"index": 0, "delta": {}, "finish_reason": finish}]), None));
    events.push(event(json!([]), usage));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// Half a body, then a broken connection.
fn cut() -> Response<Body> {
    let half = Ok(Bytes::from_static(br#"{"choices": [{"message": {"content": "half an ans"#));
    let broken = Err(std::io::Error::other("scripted cut"));
    // The pause lets the first half out, so that the client meets a cut and not a refused connection.
    let later = stream::once(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        broken
    });
    respond(200, "application/json", Body::from_stream(stream::iter([half]).chain(later)), None)
}

fn error(status: u16, message: &str, retry_after: Option<f64>) -> Response<Body> {
    reply(status, &json!({"error": {"message": message, "type": "scripted", "code": null}}), retry_after)
}

fn reply(status: u16, json: &Value, retry_after: Option<f64>) -> Response<Body> {
    respond(status, "application/json", json.to_string().into(), retry_after)
}

fn respond(status: u16, content_type: &str, body: Body, retry_after: Option<f64>) -> Response<Body> {
    let status = StatusCode::from_u16(status).expect("a script holds valid statuses");
    let mut response = Response::builder().status(status).header("content-type", content_type);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds.to_string());
    }
    response.body(body).expect("status and headers are valid")
}
