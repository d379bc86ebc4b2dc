//! A model behind an OpenAI-compatible endpoint: `POST {url}/chat/completions`, in one piece or streamed. One request,
//! one try: everything that makes it reliable is a layer above. Reference:
//! <https://platform.openai.com/docs/api-reference/chat/create>.

pub(crate) mod batch_lines;
pub(crate) mod batches;
mod blocking;
mod direct;
mod key;
mod limits;
mod refusal;
mod sse;
pub(crate) mod wire;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use divvy_core::{
    chat::{ChatRequest, Reply},
    model::shown_url,
};
use futures::{StreamExt, stream};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use tokio_util::sync::CancellationToken;

use crate::{
    chat::{Chat, Delta, Deltas, Told, TraceHeaders},
    error::{ChatError, ErrorKind},
};

pub use batches::HttpBatches;
pub use blocking::blocking_client;
use direct::{Answer, Cause, Direct};
pub use key::ApiKey;
pub(crate) use limits::heard_of;
use refusal::Place;
pub(crate) use sse::same_however_cut;
use wire::Words;

/// Longest body that is read, in one piece or streamed: a completion is some kilobytes; more is not one.
const MOST_BYTES: usize = 64 << 20;
/// What OpenAI calls `max_tokens` for models that think.
const OWN_WORD: &str = "max_completion_tokens";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const OUR_NAME: &str = concat!("divvy/", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// The reply in one piece, parsed after it was kept.
    #[default]
    Whole,
    /// Server-sent events: text as it is written, for people who watch.
    Streamed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpConfig {
    /// `https://host/v1`, with or without `/chat/completions` behind it; for Azure
    /// `https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT?api-version=…`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    pub api_key: ApiKey,
    pub transfer: Transfer,
}

impl HttpConfig {
    /// Whose limits its requests are under: those of a model at a URL, as both are shown, for whoever has this key, or the login
    /// or the query in the URL. The key need not be there. It is kept in stores, and says no secret.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn lane(&self) -> Result<String, ChatError> {
        let place = self.place()?;
        let key = match &self.api_key {
            ApiKey::None => String::new(),
            ApiKey::Env(variable) => format!(" {variable}"),
            ApiKey::File(file) => format!(" {}", file.display()),
        };
        let unshown = place.unshown().map_or_else(String::new, |digest| format!(" {}", digest.short()));
        Ok(format!("{} {}{key}{unshown}", place.name, place.model))
    }

    /// The same, with its URL as all could be written that mean the place. What is equal then is one [`HttpChat`].
    ///
    /// # Errors
    /// A URL that is none.
    pub fn plain(self) -> Result<Self, ChatError> {
        Ok(Self { url: self.place()?.whole(), ..self })
    }

    fn place(&self) -> Result<Place, ChatError> {
        Place::new(&self.url, self.model.clone(), ApiKey::None)
    }
}

/// A clone shares the connections.
#[derive(Clone)]
pub struct HttpChat {
    inner: Arc<Inner>,
}

struct Inner {
    client: reqwest::Client,
    /// The short way to completions, where there is one.
    direct: Option<Direct>,
    place: Place,
    /// Where completions are asked for.
    url: reqwest::Url,
    /// Of every such request.
    headers: HeaderMap,
    transfer: Transfer,
    told: Mutex<Told>,
    /// It has refused `max_tokens` and named its own word.
    own_word: AtomicBool,
}

impl HttpChat {
    /// # Errors
    /// An API key that is asked for and not there; a URL that is none; a TLS set-up that does not work.
    pub fn new(config: HttpConfig) -> Result<Self, ChatError> {
        let place = Place::new(&config.url, config.model, config.api_key)?;
        let client = client(&place)?;
        let place = place.with_login_of(&client);
        let url = place.completions()?;
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                direct: Direct::to(&url),
                headers: headers(&place),
                place,
                url,
                transfer: config.transfer,
                told: Mutex::default(),
                own_word: AtomicBool::new(false),
            }),
        })
    }

    /// Where requests go, as it is shown and kept: without a password and a query.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.inner.place.name
    }
}

fn client(place: &Place) -> Result<reqwest::Client, ChatError> {
    builder(&place.name).build().map_err(|error| no_tls(&place.name, &error))
}

/// What every client of ours is: for this URL's scheme.
fn builder(url: &str) -> reqwest::ClientBuilder {
    // Fails when a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(OUR_NAME)
        .connect_timeout(CONNECT_TIMEOUT)
        // A redirected POST would lose its body or take the key to another host.
        .redirect(reqwest::redirect::Policy::none());
    // Plain HTTP needs no certificates, and a bare machine may have none.
    if url.starts_with("https://") { builder } else { builder.tls_certs_only([]) }
}

fn no_tls(url: &str, error: &reqwest::Error) -> ChatError {
    let message = format!(
        "cannot set up TLS for {}: {}; are the system's CA certificates installed, and is what SSL_CERT_FILE names, if it \
         is set, a file of certificates (PEM)?",
        shown_url(url),
        refusal::root(error)
    );
    ChatError::new(ErrorKind::Unreachable, message)
}

impl Chat for HttpChat {
    fn start(&self, request: ChatRequest, cancel: CancellationToken) -> Deltas {
        self.start_traced(request, cancel, None)
    }

    fn start_traced(&self, request: ChatRequest, cancel: CancellationToken, trace: Option<TraceHeaders>) -> Deltas {
        let (inner, asked) = (self.inner.clone(), Asked { request, trace });
        match inner.transfer {
            Transfer::Whole => stream::once(whole(inner, asked, cancel)).flat_map(parse_after_raw).boxed(),
            // Boxed by itself, so that what sending took is given back while the reply is heard.
            Transfer::Streamed => stream::once(Box::pin(streamed(inner, asked, cancel))).flatten().boxed(),
        }
    }

    fn told(&self) -> Told {
        *self.inner.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reread(&self, raw: &[u8]) -> Option<Result<Reply, ChatError>> {
        let place = &self.inner.place;
        Some(match raw {
            _ if sse::looks_like(raw) => sse::read(raw, place),
            _ if batch_lines::looks_like(raw) => batch_lines::read(raw, place),
            _ => wire::read(raw, place),
        })
    }
}

struct Asked {
    request: ChatRequest,
    trace: Option<TraceHeaders>,
}

type Received = Result<(Arc<Inner>, Bytes), ChatError>;

async fn whole(inner: Arc<Inner>, asked: Asked, cancel: CancellationToken) -> Received {
    let exchange = async {
        let answer = inner.send(&asked).await?;
        inner.body(answer).await
    };
    let body = cancel.run_until_cancelled(exchange).await.ok_or_else(ChatError::cancelled)??;
    Ok((inner, body))
}

/// The raw body first; it is parsed when the next delta is asked for, and so after whoever keeps it has kept it.
fn parse_after_raw(received: Received) -> Deltas {
    let (inner, body) = match received {
        Ok(received) => received,
        Err(error) => return stream::iter([Err(error)]).boxed(),
    };
    let raw = stream::iter([Ok(Delta::Raw(body.clone()))]);
    let parsed = stream::once(async move { wire::read(&body, &inner.place) }).flat_map(|reply| {
        stream::iter(match reply {
            Ok(reply) => {
                vec![Ok(Delta::Text(reply.text)), Ok(Delta::Done { finish: reply.finish, usage: reply.usage })]
            }
            Err(error) => vec![Err(error)],
        })
    });
    raw.chain(parsed).boxed()
}

async fn streamed(inner: Arc<Inner>, asked: Asked, cancel: CancellationToken) -> Deltas {
    match cancel.run_until_cancelled(inner.send(&asked)).await {
        None => stream::iter([Err(ChatError::cancelled())]).boxed(),
        Some(Err(error)) => stream::iter([Err(error)]).boxed(),
        Some(Ok(answer)) => {
            let place = inner.place.clone();
            let chunks = answer.chunks().map(move |chunk| chunk.map_err(|e| place.cut_off(&*e)));
            sse::deltas(chunks.boxed(), inner.place.clone(), cancel)
        }
    }
}

/// What says who asks and in what form, the key with it.
fn headers(place: &Place) -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, json);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
    headers.extend(key(place).map(|(name, key)| (HeaderName::from_static(name), key)));
    headers
}

/// It is marked, so that it is not shown when headers are logged.
fn key(place: &Place) -> Option<(&'static str, HeaderValue)> {
    let (name, key) = place.key_header()?;
    let mut value = HeaderValue::from_str(&key).expect("a key was checked to be graphic ASCII when it was read");
    value.set_sensitive(true);
    Some((name, value))
}

/// What cannot stand in a header is left out: nobody's answer depends on it.
fn with_trace(headers: &mut HeaderMap, trace: &TraceHeaders) {
    for (name, value) in [("traceparent", &trace.parent), ("tracestate", &trace.state)] {
        if let Some(value) = HeaderValue::from_str(value).ok().filter(|value| !value.is_empty()) {
            headers.insert(name, value);
        }
    }
}

impl Inner {
    /// Sends; returns when the head of a 200 is there, or with the error that the endpoint told.
    async fn send(&self, asked: &Asked) -> Result<Answer, ChatError> {
        let knew = self.own_word.load(Relaxed);
        let answer = self.post(asked).await;
        answer.map_err(|error| if knew { error } else { self.reworded(error) })
    }

    fn words(&self) -> Words {
        if self.own_word.load(Relaxed) { Words::MaxCompletionTokens } else { Words::default() }
    }

    /// A refused request was not charged. It is sent again by the layer that tries again, past every limit.
    fn reworded(&self, error: ChatError) -> ChatError {
        let refused = matches!(error.kind, ErrorKind::BadRequest | ErrorKind::BatchFailed);
        if !refused || !error.message.contains(OWN_WORD) {
            return error;
        }
        self.own_word.store(true, Relaxed);
        ChatError { kind: ErrorKind::OtherWord, ..error }
    }

    async fn post(&self, asked: &Asked) -> Result<Answer, ChatError> {
        let streamed = self.transfer == Transfer::Streamed;
        let body = wire::body(self.words(), &asked.request, &self.place.model, streamed);
        let mut headers = self.headers.clone();
        asked.trace.iter().for_each(|trace| with_trace(&mut headers, trace));
        let answer = self.exchange(headers, body).await.map_err(|error| self.place.unreachable(&*error))?;
        if let Some(told) = limits::told(answer.headers()) {
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
        }
        if answer.status() == reqwest::StatusCode::OK {
            return Ok(answer);
        }
        Err(self.refused(answer).await)
    }

    async fn exchange(&self, headers: HeaderMap, body: Vec<u8>) -> Result<Answer, Cause> {
        match &self.direct {
            Some(direct) => direct.post(headers, body).await,
            None => Ok(self.client.post(self.url.clone()).headers(headers).body(body).send().await?.into()),
        }
    }

    fn with_key(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match key(&self.place) {
            Some((name, key)) => request.header(name, key),
            None => request,
        }
    }

    async fn body(&self, answer: impl Into<Answer>) -> Result<Bytes, ChatError> {
        let (mut answer, mut body) = (answer.into(), BytesMut::new());
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.place.cut_off(&*error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_BYTES {
                return Err(self.place.unreadable(&body, "it does not end"));
            }
        }
        Ok(self.place.bytes_without_key(body.freeze()))
    }

    async fn refused(&self, answer: Answer) -> ChatError {
        let status = answer.status().as_u16();
        let retry_after = refusal::retry_after(answer.headers());
        let body = self.body(answer).await.unwrap_or_default();
        let models = if status == 404 { self.models().await } else { None };
        self.place.refused(status, retry_after, &body, models.as_deref())
    }

    /// Names of the models that the endpoint serves, if it tells.
    async fn models(&self) -> Option<Vec<String>> {
        let get = self.client.get(self.place.url("models")).timeout(Duration::from_secs(5));
        let response = self.with_key(get).send().await.ok()?;
        wire::model_names(&self.body(response).await.ok()?)
    }
}
