//! The teacher's Batch API: a file of requests goes up, a batch is made of it, and a file of replies comes down. Nothing
//! in here takes time: a batch is a step further each time it is looked at, so that tests have no clock to wait for.
//!
//! ```text
//! POST /v1/files               multipart, purpose=batch    {"id": "file-1"}
//! POST /v1/batches             {"input_file_id": "file-1", "metadata": {…}, …}
//! GET  /v1/batches/batch_1     validating → in_progress → finalizing → completed, expired, cancelled, or failed
//! GET  /v1/files/file-2/content  {"custom_id": "…", "response": {"status_code": 200, "body": {…}}}
//! ```

mod course;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, Response, Uri},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{Asked, Class, Teacher, cut, error, reply, respond};

/// How a row comes back, from its request and the number of its batch (1 is the first).
pub type RowRule = dyn Fn(&Asked, usize) -> RowFate + Send + Sync;

/// The settings of a Batch API.
pub struct Bureau {
    /// Looks at a batch before it is over.
    pub looks: usize,
    /// What becomes of the batches, in their order; those after the last are completed.
    pub fates: Vec<Fate>,
    /// What goes wrong at which door, each once and in order.
    pub mishaps: Vec<(Door, Mishap)>,
    pub row: Box<RowRule>,
    /// Most batches on a page of the list.
    pub page: usize,
    /// It keeps no metadata.
    pub nameless: bool,
}

impl Default for Bureau {
    fn default() -> Self {
        Self {
            looks: 3,
            fates: Vec::new(),
            mishaps: Vec::new(),
            row: Box::new(|_, _| RowFate::Answered),
            page: 100,
            nameless: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Complete,
    /// In progress, with so many rows answered, until it is cancelled or [`Teacher::release`] lets it go on.
    Hold {
        answered: usize,
    },
    /// Expires with so many rows answered.
    Expire {
        answered: usize,
    },
    /// Refused as a whole.
    Refuse {
        code: String,
        message: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowFate {
    Answered,
    Status(u16, String),
    /// It has no line at all.
    Missing,
    /// Its line is cut in the middle.
    Torn,
    /// It comes twice, with a line of nobody's between.
    Twice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Upload,
    Create,
    Look,
    List,
    Cancel,
    Content,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mishap {
    /// Nothing is done.
    Status(u16, Option<f64>),
    /// Nothing is done, and nothing said.
    Deaf,
    /// It is done, and nothing said.
    Mute,
    /// It is done, and the answer is an error.
    Lost(u16),
    /// The answer breaks off.
    Cut,
}

/// A batch as it was handed in.
#[derive(Clone, Debug)]
pub struct HandedIn {
    pub id: String,
    pub metadata: Value,
    pub window: Value,
    pub asked: Vec<Asked>,
    file: String,
    /// Of its file.
    pub bytes: usize,
    pub status: &'static str,
    rows: Vec<String>,
    number: usize,
    looks: usize,
    fate: Fate,
    created_at: u64,
    output: Option<String>,
    errors: Option<String>,
}

#[derive(Default)]
struct Cabinet {
    mishaps: Vec<(Door, Mishap)>,
    files: BTreeMap<String, Vec<u8>>,
    uploads: usize,
    batches: Vec<HandedIn>,
    released: bool,
}

pub(super) struct Desk {
    bureau: Bureau,
    cabinet: Mutex<Cabinet>,
}

impl Desk {
    pub(super) fn new(mut bureau: Bureau) -> Self {
        let mishaps = std::mem::take(&mut bureau.mishaps);
        Self { bureau, cabinet: Mutex::new(Cabinet { mishaps, ..Cabinet::default() }) }
    }

    fn cabinet(&self) -> MutexGuard<'_, Cabinet> {
        self.cabinet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mishap(&self, door: Door) -> Option<Mishap> {
        let mut cabinet = self.cabinet();
        let at = cabinet.mishaps.iter().position(|(at, _)| *at == door)?;
        Some(cabinet.mishaps.remove(at).1)
    }
}

impl Teacher {
    /// Every batch so far, oldest first; none without a bureau.
    #[must_use]
    pub fn handed_in(&self) -> Vec<HandedIn> {
        self.class.bureau.as_ref().map_or_else(Vec::new, |desk| desk.cabinet().batches.clone())
    }

    /// Files of requests that came up whole.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.class.bureau.as_ref().map_or(0, |desk| desk.cabinet().uploads)
    }

    /// Mishaps that have not happened yet.
    #[must_use]
    pub fn mishaps_left(&self) -> usize {
        self.class.bureau.as_ref().map_or(0, |desk| desk.cabinet().mishaps.len())
    }

    /// Lets batches that are held go on.
    pub fn release(&self) {
        self.class.bureau.iter().for_each(|desk| desk.cabinet().released = true);
    }
}

pub(super) fn routes() -> Router<Arc<Class>> {
    Router::new()
        .route("/v1/files", post(upload))
        .route("/v1/files/{id}/content", get(content))
        .route("/v1/batches", post(create).get(list))
        .route("/v1/batches/{id}", get(look))
        .route("/v1/batches/{id}/cancel", post(cancel))
        .layer(DefaultBodyLimit::disable())
}

/// Lets a request in, does what it asks for, and answers as far as no mishap is due.
async fn serve(
    class: &Class,
    headers: &HeaderMap,
    door: Door,
    act: impl FnOnce(&Desk) -> Response<Body>,
) -> Response<Body> {
    let Some(desk) = &class.bureau else { return error(404, "Not Found", None) };
    let wanted = class.api_key.as_ref().map(|key| format!("Bearer {key}"));
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    if wanted.is_some() && authorization != wanted.as_deref() {
        return error(401, "Incorrect API key provided.", None);
    }
    match desk.mishap(door) {
        None => act(desk),
        Some(Mishap::Status(status, retry_after)) => error(status, "scripted", retry_after),
        Some(Mishap::Deaf) => std::future::pending().await,
        Some(Mishap::Mute) => {
            act(desk);
            std::future::pending().await
        }
        Some(Mishap::Lost(status)) => {
            act(desk);
            error(status, "scripted", None)
        }
        Some(Mishap::Cut) => cut(),
    }
}

async fn upload(State(class): State<Arc<Class>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    serve(&class, &headers, Door::Upload, |desk| {
        let Some(file) = file_of(&headers, &body) else { return error(400, "no file with the purpose batch", None) };
        let mut cabinet = desk.cabinet();
        cabinet.uploads += 1;
        let id = cabinet.keep(file);
        reply(200, &json!({"id": id, "object": "file", "purpose": "batch"}), None)
    })
    .await
}

/// The file of a multipart form whose purpose is `batch`.
fn file_of(headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
    let content_type = headers.get("content-type")?.to_str().ok()?;
    let boundary = format!("--{}", content_type.split_once("boundary=")?.1);
    let text = String::from_utf8(body.to_vec()).ok()?;
    let parts: Vec<(&str, &str)> = text.split(&boundary).filter_map(|part| part.split_once("\r\n\r\n")).collect();
    let part = |name: &str| {
        let name = format!("name=\"{name}\"");
        let found = parts.iter().find(|(head, _)| head.contains(&name));
        found.and_then(|(_, content)| content.strip_suffix("\r\n"))
    };
    (part("purpose") == Some("batch")).then(|| part("file").map(|file| file.as_bytes().to_vec()))?
}

impl Cabinet {
    fn keep(&mut self, file: Vec<u8>) -> String {
        let id = format!("file-{}", self.files.len() + 1);
        self.files.insert(id.clone(), file);
        id
    }

    fn batch(&mut self, id: &str) -> Option<&mut HandedIn> {
        self.batches.iter_mut().find(|batch| batch.id == id)
    }
}

async fn create(State(class): State<Arc<Class>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    serve(&class, &headers, Door::Create, |desk| {
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut cabinet = desk.cabinet();
        let name = body["input_file_id"].as_str().unwrap_or_default();
        let Some(file) = cabinet.files.get(name) else { return error(400, "no such file", None) };
        let (bytes, lines) = (file.len(), String::from_utf8_lossy(file));
        let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let number = cabinet.batches.len() + 1;
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let asked = |line: &Value| Asked { body: line["body"].clone(), ..Asked::default() };
        cabinet.batches.push(HandedIn {
            id: format!("batch_{number}"),
            metadata: if desk.bureau.nameless { Value::Null } else { body["metadata"].clone() },
            window: body["completion_window"].clone(),
            asked: lines.iter().map(asked).collect(),
            file: name.to_owned(),
            bytes,
            status: "validating",
            rows: lines.iter().map(|line| line["custom_id"].as_str().unwrap_or_default().to_owned()).collect(),
            number,
            looks: 0,
            fate: desk.bureau.fates.get(number - 1).cloned().unwrap_or(Fate::Complete),
            created_at: seconds,
            output: None,
            errors: None,
        });
        reply(200, &cabinet.batches[number - 1].view(), None)
    })
    .await
}

async fn list(State(class): State<Arc<Class>>, headers: HeaderMap, uri: Uri) -> Response<Body> {
    serve(&class, &headers, Door::List, |desk| {
        let query = uri.query().unwrap_or_default();
        let after = query.split('&').find_map(|pair| pair.strip_prefix("after="));
        let cabinet = desk.cabinet();
        let newest: Vec<&HandedIn> = cabinet.batches.iter().rev().collect();
        let from = after.and_then(|id| newest.iter().position(|batch| batch.id == id)).map_or(0, |at| at + 1);
        let page: Vec<Value> = newest[from..].iter().take(desk.bureau.page).map(|batch| batch.view()).collect();
        let has_more = from + page.len() < newest.len();
        reply(200, &json!({"object": "list", "data": page, "has_more": has_more}), None)
    })
    .await
}

async fn look(State(class): State<Arc<Class>>, Path(id): Path<String>, headers: HeaderMap) -> Response<Body> {
    serve(&class, &headers, Door::Look, |desk| {
        class.proceed(desk, &id);
        let mut cabinet = desk.cabinet();
        match cabinet.batch(&id) {
            Some(batch) => reply(200, &batch.view(), None),
            None => error(404, &format!("No batch found with id '{id}'."), None),
        }
    })
    .await
}

async fn cancel(State(class): State<Arc<Class>>, Path(id): Path<String>, headers: HeaderMap) -> Response<Body> {
    serve(&class, &headers, Door::Cancel, |desk| {
        let mut cabinet = desk.cabinet();
        let Some(batch) = cabinet.batch(&id) else { return error(404, "no such batch", None) };
        if batch.output.is_some() {
            return error(409, "Cannot cancel a batch that is over.", None);
        }
        batch.status = "cancelling";
        reply(200, &batch.view(), None)
    })
    .await
}

async fn content(State(class): State<Arc<Class>>, Path(id): Path<String>, headers: HeaderMap) -> Response<Body> {
    serve(&class, &headers, Door::Content, |desk| match desk.cabinet().files.get(&id) {
        Some(file) => respond(200, "application/jsonl", file.clone().into(), None),
        None => error(404, "no such file", None),
    })
    .await
}
