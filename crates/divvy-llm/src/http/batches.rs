//! The Batch API beside a chat endpoint: a file of requests goes up, a batch is made of it, and a file of replies comes
//! down. One request, one try, as everywhere in here; what makes it safe is in [`crate::Batches`]. Reference:
//! <https://platform.openai.com/docs/guides/batch>; Azure's own paths: learn.microsoft.com, "Azure OpenAI batch".
//!
//! ```text
//! {"custom_id": "3fa9…", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": […]}}
//! {"id": "batch_req_1", "custom_id": "3fa9…", "response": {"status_code": 200, "body": {"choices": […]}}, "error": null}
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use divvy_core::{
    chat::{ChatRequest, Reply},
    digest::Digest,
};
use futures::{Stream, StreamExt, stream::BoxStream};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    HttpChat, Inner, batch_lines, refusal,
    wire::{self, Words},
};
use crate::error::{ChatError, ErrorKind};

/// For one small request and its reply.
const SOON: Duration = Duration::from_secs(60);
/// For a file on its way up, whatever its size.
const UPLOAD: Duration = Duration::from_hours(1);
/// A download that stands still for so long is given up.
const STALL: Duration = Duration::from_mins(2);
/// Batches on a page of the list.
const PAGE: usize = 100;
/// Any text that no request holds; a line is JSON, in which no line begins like this.
const BOUNDARY: &str = "divvy-batch-boundary-6d1f0c5e";

/// The Batch API of an endpoint. A clone shares the connections of the [`HttpChat`] that it came from.
#[derive(Clone)]
pub struct HttpBatches {
    inner: Arc<Inner>,
}

/// A batch as the endpoint tells it. What we can do without is read as far as it is what we know.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct View {
    pub(crate) id: String,
    status: String,
    #[serde(default)]
    input_file_id: Value,
    pub(crate) output_file_id: Option<String>,
    pub(crate) error_file_id: Option<String>,
    #[serde(default)]
    created_at: Value,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    request_counts: Value,
    #[serde(default)]
    errors: Value,
}

/// Rows that the endpoint is through with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) completed: u64,
    pub(crate) failed: u64,
}

/// Why a batch was refused as a whole.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Fault {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) line: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct Page {
    pub(crate) data: Vec<View>,
    #[serde(default)]
    pub(crate) has_more: bool,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

impl View {
    /// In small letters, as OpenAI writes it.
    pub(crate) fn status(&self) -> String {
        self.status.to_lowercase()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.status().as_str(), "completed" | "failed" | "expired" | "cancelled" | "canceled")
    }

    /// Whether it bears the name that we gave it, or is made of our file: some endpoints keep no metadata.
    pub(crate) fn is_of(&self, intent: &str, file: Option<&str>) -> bool {
        let name = self.metadata.get("divvy").and_then(Value::as_str);
        name == Some(intent) || (file.is_some() && self.input_file_id.as_str() == file)
    }

    /// Seconds since 1970.
    pub(crate) fn created_at(&self) -> Option<i64> {
        self.created_at.as_i64()
    }

    pub(crate) fn counts(&self) -> Counts {
        let count = |name: &str| self.request_counts.get(name).and_then(Value::as_u64).unwrap_or(0);
        Counts { completed: count("completed"), failed: count("failed") }
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        let all = self.errors.get("data").unwrap_or(&self.errors).as_array();
        all.into_iter().flatten().filter_map(|fault| serde_json::from_value(fault.clone()).ok()).collect()
    }
}

impl HttpChat {
    /// The Batch API of the same endpoint.
    #[must_use]
    pub fn batches(&self) -> HttpBatches {
        HttpBatches { inner: Arc::clone(&self.inner) }
    }

    /// The endpoint and the model under which its batches are on record.
    #[must_use]
    pub fn batch_place(&self) -> (String, String) {
        let batches = self.batches();
        (batches.endpoint(), batches.model().to_owned())
    }

    /// Whether another asks with the same key, and the same login and query in its URL: where it does not, it is served as somebody
    /// else.
    #[must_use]
    pub fn asks_as(&self, other: &Self) -> bool {
        self.inner.place.asks_as(&other.inner.place)
    }
}

impl HttpBatches {
    /// Where its requests go, as it is shown and kept: the same whatever the deployment on Azure.
    pub(crate) fn endpoint(&self) -> String {
        self.inner.place.batch_name().to_owned()
    }

    pub(crate) fn model(&self) -> &str {
        self.inner.place.batch_model()
    }

    /// One request as a line of the file.
    pub(crate) fn line(&self, words: Words, key: &Digest, request: &ChatRequest) -> Bytes {
        let (path, body) = (self.path(), wire::body(words, request, self.model(), false));
        let head = format!(r#"{{"custom_id":"{}","method":"POST","url":"{path}","body":"#, key.hex());
        [head.as_bytes(), &body, b"}\n"].concat().into()
    }

    /// What the API calls chat completions: the same at every provider, but for Azure's older versions.
    fn path(&self) -> &'static str {
        if self.inner.place.is_azure() { "/chat/completions" } else { "/v1/chat/completions" }
    }

    /// Sends a file of `length` bytes up; returns the endpoint's name for it.
    pub(crate) async fn upload(
        &self,
        name: &str,
        length: u64,
        lines: impl Stream<Item = Bytes> + Send + Sync + 'static,
    ) -> Result<String, ChatError> {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{BOUNDARY}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}.jsonl\"\r\n\
             Content-Type: application/jsonl\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let length = head.len() as u64 + length + tail.len() as u64;
        let once = |text: String| futures::stream::iter([Bytes::from(text)]);
        let body = once(head).chain(lines).chain(once(tail)).map(Ok::<_, std::convert::Infallible>);
        let post = self
            .inner
            .client
            .post(self.url("files", ""))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .header("content-length", length)
            .body(reqwest::Body::wrap_stream(body))
            .timeout(UPLOAD);
        self.json::<Named>(post, "POST …/files").await.map(|file| file.id)
    }

    pub(crate) async fn create(&self, file: &str, intent: &str, window: &str) -> Result<View, ChatError> {
        let body = json!({
            "input_file_id": file, "endpoint": self.path(), "completion_window": window, "metadata": {"divvy": intent},
        });
        let post = self.inner.client.post(self.url("batches", "")).header("content-type", "application/json");
        self.json(post.body(body.to_string()).timeout(SOON), "POST …/batches").await
    }

    pub(crate) async fn view(&self, batch: &str) -> Result<View, ChatError> {
        let get = self.inner.client.get(self.url(&format!("batches/{batch}"), "")).timeout(SOON);
        self.json(get, "GET …/batches/ID").await
    }

    pub(crate) async fn cancel(&self, batch: &str) -> Result<View, ChatError> {
        let post = self.inner.client.post(self.url(&format!("batches/{batch}/cancel"), "")).timeout(SOON);
        self.json(post.header("content-length", 0), "POST …/batches/ID/cancel").await
    }

    /// A page of the batches there are, newest first.
    pub(crate) async fn list(&self, after: Option<&str>) -> Result<Page, ChatError> {
        let after = after.map_or_else(String::new, |id| format!("&after={id}"));
        let get = self.inner.client.get(self.url("batches", &format!("limit={PAGE}{after}"))).timeout(SOON);
        self.json(get, "GET …/batches").await
    }

    /// A file, as it comes down.
    pub(crate) async fn content(&self, file: &str) -> Result<BoxStream<'static, Result<Bytes, ChatError>>, ChatError> {
        let get = self.inner.client.get(self.url(&format!("files/{file}/content"), ""));
        let mut response = soon(self.send(self.inner.with_key(get))).await?;
        if let Some(elsewhere) = redirected(&response) {
            // A signed address in somebody's storage: our key is none of its business.
            response = soon(self.send(self.inner.client.get(elsewhere))).await?;
        }
        if !response.status().is_success() {
            return Err(self.refused(response, "GET …/files/ID/content").await);
        }
        let place = self.inner.place.clone();
        let chunks = response.bytes_stream().map(move |chunk| chunk.map_err(|error| place.cut_off(&error)));
        Ok(patient(chunks.boxed()))
    }

    /// A line of a file that came down, as it may be kept.
    pub(crate) fn without_key(&self, line: Bytes) -> Bytes {
        self.inner.place.bytes_without_key(line)
    }

    /// A line of a file that came down, as the reply that it stands for.
    pub(crate) fn read(&self, line: &[u8]) -> Result<Reply, ChatError> {
        batch_lines::read(line, &self.inner.place)
    }

    /// The words in which the endpoint wants to be told, as far as that is known: a whole file is in the same.
    pub(crate) fn words(&self) -> Words {
        self.inner.words()
    }

    /// Of a row or a batch that was refused: one that is told our word and wants its own hears that from now on.
    pub(crate) fn reworded(&self, error: ChatError) -> ChatError {
        self.inner.reworded(error)
    }

    fn url(&self, path: &str, query: &str) -> String {
        self.inner.place.batch_url(path, query)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, ChatError> {
        request.send().await.map_err(|error| self.inner.place.unreachable(&error))
    }

    async fn json<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder, what: &str) -> Result<T, ChatError> {
        let response = self.send(self.inner.with_key(request)).await?;
        if !response.status().is_success() {
            return Err(self.refused(response, what).await);
        }
        let body = self.inner.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| self.inner.place.no_batches(&format!("{what}: {error}"), &body))
    }

    async fn refused(&self, response: reqwest::Response, what: &str) -> ChatError {
        let status = response.status().as_u16();
        let retry_after = refusal::retry_after(response.headers());
        let body = self.inner.body(response).await.unwrap_or_default();
        let error = self.inner.place.refused(status, retry_after, &body, Some(&[]));
        let told = format!("{what}: {}", without_hint(&error.message));
        let lacks = matches!(status, 404 | 405 | 501) && !what.contains("/ID");
        if !lacks {
            // A whole file is no single prompt that a firewall takes for an attack.
            let kind = if error.kind == ErrorKind::Blocked { ErrorKind::BatchFailed } else { error.kind };
            return ChatError { kind, message: told, ..error };
        }
        let way_out = "is there a Batch API? Take `mode = \"batch\"` out of [models.NAME] to ask online, or name an \
                       endpoint that has one";
        ChatError { kind: ErrorKind::NotFound, message: format!("{told}; {way_out}"), ..error }
    }
}

/// The way out of a wrong model name is none here.
fn without_hint(message: &str) -> &str {
    message.split_once("; check `model`").map_or(message, |(before, _)| before)
}

fn redirected(response: &reqwest::Response) -> Option<String> {
    let elsewhere = response.headers().get("location").filter(|_| response.status().is_redirection())?;
    Some(elsewhere.to_str().ok()?.to_owned())
}

/// The head of an answer; what follows may take as long as it is long.
async fn soon<T>(answer: impl Future<Output = Result<T, ChatError>>) -> Result<T, ChatError> {
    let late = || ChatError::new(ErrorKind::TimedOut, format!("a file's download did not begin in {SOON:?}"));
    tokio::time::timeout(SOON, answer).await.unwrap_or_else(|_| Err(late()))
}

/// Ends with an error when nothing comes for long.
fn patient(chunks: BoxStream<'static, Result<Bytes, ChatError>>) -> BoxStream<'static, Result<Bytes, ChatError>> {
    let stalled = || ChatError::new(ErrorKind::TimedOut, format!("the file's download stood still for {STALL:?}"));
    futures::stream::unfold(Some(chunks), move |chunks| async move {
        let mut chunks = chunks?;
        match tokio::time::timeout(STALL, chunks.next()).await {
            Ok(next) => next.map(|chunk| (chunk, Some(chunks))),
            Err(_) => Some((Err(stalled()), None)),
        }
    })
    .boxed()
}
