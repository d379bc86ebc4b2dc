//! What an endpoint says instead of a reply, put into words that name the endpoint, the model and the way out.

use std::{
    borrow::Cow,
    error::Error,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use divvy_core::{digest::Digest, model::shown_url};
use reqwest::header::HeaderMap;
use rustls::CertificateError;
use serde_json::Value;

use super::key::{ApiKey, Secret};
use crate::error::{ChatError, ErrorKind};

/// Who is asked, for requests and for messages.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Without `/chat/completions`, without a slash at the end and without a query. A password may stand in it.
    base: Arc<str>,
    /// The same as it is shown and kept.
    pub(super) name: Arc<str>,
    /// `?api-version=…` of an Azure endpoint; empty elsewhere.
    query: String,
    pub(super) model: String,
    api_key: ApiKey,
    secret: Option<Secret>,
    /// The password of the URL, and what is sent of it.
    login: Vec<Secret>,
}

impl Place {
    pub(super) fn new(url: &str, model: String, api_key: ApiKey) -> Result<Self, ChatError> {
        let (base, query) =
            url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
        let base = base.trim_end_matches('/');
        let base = base.strip_suffix("/chat/completions").unwrap_or(base).trim_end_matches('/');
        let parsed =
            reqwest::Url::parse(base).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(parsed) = parsed else { return Err(no_url(url)) };
        let secret = api_key.read()?;
        // Some put a key in the user's place.
        let login = parsed.password().or(Some(parsed.username())).filter(|login| !login.is_empty());
        let login = login.map(Secret::from).into_iter().collect();
        Ok(Self { base: base.into(), name: shown_url(base).into(), query, model, api_key, secret, login })
    }

    /// The same, which also knows in what form this client sends the password.
    pub(super) fn with_login_of(mut self, client: &reqwest::Client) -> Self {
        let request = client.get(&*self.base).build().ok();
        let header = request.as_ref().and_then(|request| request.headers().get("authorization")?.to_str().ok());
        self.login.extend(header.and_then(|header| header.strip_prefix("Basic ")).map(Secret::from));
        self
    }

    /// Where completions are asked for.
    pub(super) fn completions(&self) -> Result<reqwest::Url, ChatError> {
        let url = self.url("chat/completions");
        reqwest::Url::parse(&url).map_err(|_| no_url(&self.name))
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}{}", self.base, self.query)
    }

    /// As all URLs that mean it could be written.
    pub(super) fn whole(&self) -> String {
        format!("{}{}", self.base, self.query)
    }

    /// Tells places apart that differ in what is not shown of a URL, a login or a query; `None` where it has neither. A deployment of
    /// Azure has the same limits in every version of its interface.
    pub(super) fn unshown(&self) -> Option<Digest> {
        let parts = self.query.trim_start_matches('?').split('&');
        let query: Vec<&str> = parts.filter(|part| !part.is_empty() && !part.starts_with("api-version=")).collect();
        let shown = self.base == self.name && query.is_empty();
        (!shown).then(|| Digest::of("place/1", &(&*self.base, query)))
    }

    pub(super) fn asks_as(&self, other: &Self) -> bool {
        (&self.api_key, self.unshown()) == (&other.api_key, other.unshown())
    }

    /// Where files and batches lie, as it is shown and kept.
    pub(super) fn batch_name(&self) -> &str {
        above_deployment(&self.name)
    }

    pub(super) fn batch_url(&self, path: &str, query: &str) -> String {
        let join = if query.is_empty() {
            ""
        } else if self.query.is_empty() {
            "?"
        } else {
            "&"
        };
        format!("{}/{path}{}{join}{query}", above_deployment(&self.base), self.query)
    }

    /// On Azure a row names its deployment as the model.
    pub(super) fn batch_model(&self) -> &str {
        self.base.split_once("/deployments/").map_or(&self.model, |(_, deployment)| deployment)
    }

    pub(super) fn is_azure(&self) -> bool {
        self.query.contains("api-version=")
    }

    /// The header that the key goes into, and what goes there. Azure has one of its own
    /// (learn.microsoft.com, "Azure OpenAI REST API reference", Authentication).
    pub(super) fn key_header(&self) -> Option<(&'static str, String)> {
        let key = self.key()?;
        Some(if self.is_azure() { ("api-key", key.to_owned()) } else { ("authorization", format!("Bearer {key}")) })
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.secret.as_ref().map(Secret::text)
    }

    fn error(&self, kind: ErrorKind, what: &str) -> ChatError {
        ChatError::new(kind, format!("model `{}` at {}: {what}", self.model, self.name))
    }

    pub(super) fn unreachable(&self, error: &(dyn Error + 'static)) -> ChatError {
        if let Some(certificate) = causes(error).find_map(bad_certificate) {
            return self.untrusted(certificate);
        }
        if causes(error).any(no_connection) {
            let what = format!("no connection ({}); is the server running, and is the URL right?", root(error));
            return self.error(ErrorKind::Unreachable, &what);
        }
        self.cut_off(error)
    }

    fn untrusted(&self, certificate: &CertificateError) -> ChatError {
        use CertificateError::{Expired, ExpiredContext, NotValidForName, NotValidForNameContext};
        let way_out = match certificate {
            NotValidForName | NotValidForNameContext { .. } => "is the URL right?",
            Expired | ExpiredContext { .. } => "it must be renewed there, unless this machine's clock is wrong",
            _ => {
                "if an authority of your own signed it, name that authority's file (PEM) in the variable SSL_CERT_FILE"
            }
        };
        self.error(ErrorKind::Untrusted, &format!("its certificate is not trusted ({certificate}); {way_out}"))
    }

    pub(super) fn cut_off(&self, error: &(dyn Error + 'static)) -> ChatError {
        let kind = if causes(error).any(timed_out) { ErrorKind::TimedOut } else { ErrorKind::CutOff };
        self.error(kind, &format!("the connection broke before the reply was complete ({})", root(error)))
    }

    /// The stream ended, in good order, without its last event.
    pub(super) fn ended_early(&self) -> ChatError {
        self.error(ErrorKind::CutOff, "the stream ended before the reply was complete")
    }

    /// The endpoint says itself that it is not all of it.
    pub(super) fn broken_off(&self, word: &str) -> ChatError {
        self.error(ErrorKind::CutOff, &format!("it broke its reply off (`finish_reason` is `{word}`)"))
    }

    pub(super) fn unreadable(&self, body: &[u8], reason: &str) -> ChatError {
        let what = format!(
            "the reply is no chat completion ({reason}); is the URL that of an OpenAI-compatible API (…/v1)? It begins: {}",
            self.redact(&excerpt(body))
        );
        self.error(ErrorKind::Unreadable, &what)
    }

    pub(super) fn no_batches(&self, reason: &str, body: &[u8]) -> ChatError {
        let what = format!(
            "the reply is not that of a Batch API ({reason}); is the URL that of one (…/v1)? It begins: {}",
            self.redact(&excerpt(body))
        );
        self.error(ErrorKind::Unreadable, &what)
    }

    pub(super) fn empty(&self, detail: &str) -> ChatError {
        self.error(ErrorKind::Empty, &format!("the completion is empty{detail}"))
    }

    /// An error that came with HTTP 200: its status, if any, is in the body.
    pub(super) fn refused_with_200(&self, body: &[u8]) -> ChatError {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let code =
            ["/error/code", "/code", "/error/status", "/status"].iter().find_map(|at| json.pointer(at)?.as_u64());
        let status = code.and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
        self.refused(status.unwrap_or(500), None, body, None)
    }

    pub(super) fn refused(
        &self,
        status: u16,
        retry_after: Option<Duration>,
        body: &[u8],
        models: Option<&[String]>,
    ) -> ChatError {
        let told = Told::read(body);
        let kind = told.kind(status);
        let told = self.redact(&told.text);
        let way_out = match kind {
            ErrorKind::Blocked => BLOCKED,
            _ if refuses_temperature(kind, &told) => OWN_TEMPERATURE,
            _ => &self.way_out(kind, models),
        };
        let what = format!("HTTP {status}: {}{way_out}", told.trim_end_matches('.'));
        ChatError { status: Some(status), retry_after, ..self.error(kind, &what) }
    }

    fn way_out(&self, kind: ErrorKind, models: Option<&[String]>) -> String {
        match kind {
            ErrorKind::Unauthorized if self.api_key == ApiKey::None => {
                "; it wants an API key: name the environment variable that holds it as `api_key_env` of the model"
                    .to_owned()
            }
            ErrorKind::Unauthorized => format!("; check {}", self.api_key.place()),
            ErrorKind::Unpaid => "; the account has no credit left, finished calls are kept".to_owned(),
            ErrorKind::NotFound => match models {
                Some(names) if !names.is_empty() => format!("; it serves: {}", list(names)),
                _ => "; check `model` and that the URL ends where the API does (…/v1)".to_owned(),
            },
            ErrorKind::ContextTooLong => "; lower `max_tokens`, or use a model with a longer context".to_owned(),
            _ => String::new(),
        }
    }

    /// What nobody but the endpoint should read.
    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secret.iter().chain(&self.login)
    }

    /// Some servers repeat the key in their complaint.
    fn redact(&self, text: &str) -> String {
        self.secrets().fold(text.to_owned(), |text, secret| secret.hidden_in(&text).unwrap_or(text))
    }

    /// How much of a text's end may be the beginning of a secret.
    pub(super) fn begun_in(&self, text: &str) -> usize {
        self.secrets().map(|secret| secret.begun_in(text)).max().unwrap_or(0)
    }

    /// A body as it may be kept: a server or a model may repeat what it was sent.
    pub(super) fn without_key<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        let without = |body: Cow<'b, [u8]>, secret: &Secret| secret.hidden_in_body(&body).map_or(body, Cow::Owned);
        self.secrets().fold(Cow::Borrowed(body), without)
    }

    pub(super) fn bytes_without_key(&self, body: Bytes) -> Bytes {
        let changed = match self.without_key(&body) {
            Cow::Borrowed(_) => None,
            Cow::Owned(changed) => Some(changed.into()),
        };
        changed.unwrap_or(body)
    }
}

/// A greedy reply and one that is drawn are two experiments: which it is to be is the recipe's to say.
const OWN_TEMPERATURE: &str = "; it draws its replies and cannot do otherwise: give `temperature = 1` where it is asked, under [collect] \
    and [screen], and in `solving` and `decomposing` under [evaluate]";

/// A page where an API would say it in JSON.
const BLOCKED: &str = "; this is the page of a firewall before the endpoint, which has blocked this request (for words in its prompt that \
    look like an attack) or all from this address, unless no API is at this URL: whoever runs the firewall can let the API's requests \
    through; else check that the URL ends where the API does (…/v1)";

/// OpenAI's models that think: "'temperature' does not support 0 with this model. Only the default (1) value is supported."
fn refuses_temperature(kind: ErrorKind, told: &str) -> bool {
    let told = told.to_lowercase();
    let only_one = ["does not support", "only the default"].iter().any(|words| told.contains(words));
    kind == ErrorKind::BadRequest && told.contains("temperature") && only_one
}

/// What an error body says, in any of the common shapes.
struct Told {
    text: String,
    code: String,
    /// OpenRouter says for what the input was flagged.
    flagged: bool,
    /// It is for people who look at it in a browser.
    page: bool,
}

impl Told {
    fn read(body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        // Google's endpoint wraps its error in a list.
        let json = json.get(0).unwrap_or(&json);
        let error = json.get("error").filter(|error| !error.is_null()).unwrap_or(json);
        let text = said(error).unwrap_or_else(|| page_title(body).unwrap_or_else(|| excerpt(body)));
        let word = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
        let reasons = error.pointer("/metadata/reasons").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
        let input =
            error.pointer("/metadata/flagged_input").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        let code = format!("{} {}", word("code"), word("type"));
        Self { text, code, flagged: reasons || input, page: is_page(body) }
    }

    /// By a firewall that looks into requests: another one may pass.
    fn is_blocked(&self, status: u16) -> bool {
        status == 403 && self.page
    }

    fn kind(&self, status: u16) -> ErrorKind {
        let lower = self.text.to_lowercase();
        const TOO_LONG: [&str; 7] = [
            "context length",
            "context window",
            "context size",
            "maximum context",
            // vLLM, of `max_tokens`.
            "max_model_len",
            "too many tokens",
            "`max_new_tokens` must be",
        ];
        match status {
            // Whatever the status: it is about this one request.
            _ if self.flagged => ErrorKind::Refused,
            _ if ["content_filter", "content_policy_violation"].iter().any(|code| self.code.contains(code)) => {
                ErrorKind::Refused
            }
            _ if self.code.contains("context_length_exceeded") || self.code.contains("exceed_context_size") => {
                ErrorKind::ContextTooLong
            }
            400 | 403 | 413 | 422 if TOO_LONG.iter().any(|words| lower.contains(words)) => ErrorKind::ContextTooLong,
            _ if self.is_blocked(status) => ErrorKind::Blocked,
            401 | 403 => ErrorKind::Unauthorized,
            402 => ErrorKind::Unpaid,
            404 | 405 | 300..400 => ErrorKind::NotFound,
            // LiteLLM's proxy.
            400 if lower.contains("invalid model name") => ErrorKind::NotFound,
            429 if self.code.contains("insufficient_quota") => ErrorKind::Unpaid,
            429 => ErrorKind::RateLimited,
            408 | 409 | 425 | 500.. => ErrorKind::ServerError,
            _ => ErrorKind::BadRequest,
        }
    }
}

/// A sentence, wherever it stands: OpenAI's `message`, FastAPI's `detail` (a sentence, or a list of what is wrong where),
/// what OpenRouter heard from its provider.
fn said(error: &Value) -> Option<String> {
    if let Some(text) = error.as_str() {
        return Some(text.to_owned());
    }
    let text = ["message", "detail", "error", "errors", "msg"].iter().find_map(|key| match error.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => list.first().and_then(said),
        nested @ Value::Object(_) => said(nested),
        _ => None,
    })?;
    let place = error.get("loc").and_then(Value::as_array).map(|path| {
        let words = path.iter().map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned));
        words.collect::<Vec<_>>().join(".")
    });
    let raw = error.pointer("/metadata/raw").and_then(Value::as_str);
    let text = place.map_or_else(|| text.clone(), |place| format!("{place}: {text}"));
    Some(raw.map_or_else(|| text.clone(), |raw| format!("{text}: {raw}")))
}

/// Whether a body is HTML.
fn is_page(body: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&body[..body.len().min(1024)]).to_lowercase();
    head.trim_start().starts_with('<') && ["<!doctype html", "<html"].iter().any(|word| head.contains(word))
}

/// What a proxy calls its page.
fn page_title(body: &[u8]) -> Option<String> {
    let page = String::from_utf8_lossy(body);
    let (_, after) = page.split_once("<title>")?;
    let title = after.split_once("</title>")?.0.split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then(|| format!("a page in HTML, `{title}`"))
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), or OpenAI's finer `retry-after-ms`.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim());
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    let Some(seconds) = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number("retry-after")) else {
        let date = httpdate::parse_http_date(text("retry-after")?).ok()?;
        return Some(date.duration_since(their_time(headers)).unwrap_or_default().min(LONGEST_WAIT));
    };
    // Whoever asks for longer is not waited for anyway, and a moment must not lie beyond all clocks.
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(LONGEST_WAIT))
}

/// Longer than any quota.
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 40);

/// What time it is there: a moment that a server names is meant by its clock, and ours may be wrong.
pub(super) fn their_time(headers: &HeaderMap) -> SystemTime {
    let date = headers.get("date").and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    date.unwrap_or_else(SystemTime::now)
}

/// The error, what it came from, and so on.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn no_connection(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref().is_some_and(hyper_util::client::legacy::Error::is_connect)
        || cause.downcast_ref().is_some_and(reqwest::Error::is_builder)
}

/// rustls's own error stands in one of the connection, or in two.
fn bad_certificate<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e CertificateError> {
    if let Some(connection) = cause.downcast_ref::<io::Error>() {
        return bad_certificate(connection.get_ref()?);
    }
    match cause.downcast_ref()? {
        rustls::Error::InvalidCertificate(certificate) => Some(certificate),
        _ => None,
    }
}

fn timed_out(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref().is_some_and(reqwest::Error::is_timeout)
        || cause.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::TimedOut)
}

/// The innermost cause: `Connection refused` rather than `error sending request for url …`.
pub(super) fn root(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

fn excerpt(body: &[u8]) -> String {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * MOST)]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.is_empty() => "(nothing)".to_owned(),
        None => line,
    }
}

fn list(names: &[String]) -> String {
    const MOST: usize = 10;
    let shown = names.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > MOST { format!("{shown} and {} more", names.len() - MOST) } else { shown }
}

/// Files and batches belong to no deployment: on Azure they lie above it.
fn above_deployment(base: &str) -> &str {
    base.split_once("/deployments/").map_or(base, |(above, _)| above)
}

/// Nobody knows where the host of such a text begins: whatever may be a password stays out.
fn no_url(url: &str) -> ChatError {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (&url[..scheme.len() + 3], rest));
    let rest = rest.rsplit('@').next().unwrap_or_default();
    let url = format!("{scheme}{}", rest.split(['?', '#']).next().unwrap_or_default());
    let message = format!("`{url}` is no http(s) URL; an endpoint is written like https://api.example.com/v1");
    ChatError::new(ErrorKind::NotFound, message)
}

#[cfg(test)]
mod tests;
