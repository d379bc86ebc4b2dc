//! A Ray cluster of one machine on loopback, as its dashboard shows itself: the Jobs API of Ray 2.60.0, written down from
//! what that answered to curl. A job is a shell on this machine, in the unpacked working directory.
//!
//! ```text
//! POST /api/jobs      404: the last slash is needed
//! POST /api/jobs/     {"job_id": "a", "submission_id": "a"}; an id twice: 500, and a traceback as plain text
//! GET  /api/jobs/a    PENDING, RUNNING, then SUCCEEDED, FAILED or STOPPED
//! User-Agent: Mozilla 405 for all that changes something
//! ```

mod running;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Response, Uri},
};
use serde_json::{Value, json};

/// Of a request's body.
const MOST_BYTES: usize = 104_857_600;
/// What a submission may hold.
const FIELDS: [&str; 9] = [
    "entrypoint",
    "submission_id",
    "job_id",
    "runtime_env",
    "metadata",
    "entrypoint_num_cpus",
    "entrypoint_num_gpus",
    "entrypoint_memory",
    "entrypoint_resources",
];

/// What a cluster is started with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// With one, nobody is heard without it.
    pub token: Option<String>,
    /// Of its nodes.
    pub environment: Vec<(String, String)>,
}

/// Serves until it is dropped; its jobs end with it.
pub struct Cluster {
    head: Arc<Head>,
    address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

struct Head {
    setup: Setup,
    folder: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    packages: BTreeMap<String, Bytes>,
    jobs: BTreeMap<String, running::Job>,
    submitted: Vec<Value>,
    uploads: usize,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.abort();
        self.head.known().jobs.values().for_each(|job| job.signal("-KILL"));
    }
}

impl Cluster {
    /// Keeps what it unpacks in `folder`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(folder: &Path, setup: Setup) -> std::io::Result<Self> {
        let head = Arc::new(Head { setup, folder: folder.to_owned(), known: Mutex::default() });
        let limit = axum::extract::DefaultBodyLimit::disable();
        let app = Router::new().fallback(answer).layer(limit).with_state(head.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("serving on loopback does not fail");
        });
        Ok(Self { head, address, server })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The bodies of all submissions that were taken.
    #[must_use]
    pub fn submitted(&self) -> Vec<Value> {
        self.head.known().submitted.clone()
    }

    /// How many archives came in.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.head.known().uploads
    }

    /// The states of all jobs, by their ids.
    #[must_use]
    pub fn states(&self) -> BTreeMap<String, String> {
        let known = self.head.known();
        known.jobs.iter().map(|(id, job)| (id.clone(), job.state().to_owned())).collect()
    }

    /// As SIGKILL from outside does.
    pub fn kill(&self, id: &str) {
        if let Some(job) = self.head.known().jobs.get(id) {
            job.signal("-KILL");
        }
    }
}

impl Head {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The words of the real one.
    fn closed(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let token = self.setup.token.as_ref()?;
        match headers.get("authorization").and_then(|value| value.to_str().ok()) {
            None => Some(text(401, "Unauthorized: Missing authentication token")),
            Some(given) if given != format!("Bearer {token}") => {
                Some(text(403, "Forbidden: Invalid authentication token"))
            }
            Some(_) => None,
        }
    }
}

async fn answer(
    State(head): State<Arc<Head>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    if let Some(closed) = head.closed(&headers) {
        return closed;
    }
    let agent = headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if method != Method::GET && agent.starts_with("Mozilla") {
        return text(405, &format!("'{method}' method not allowed for browser traffic."));
    }
    if body.len() > MOST_BYTES {
        return text(413, &format!("Maximum request body size {MOST_BYTES} exceeded."));
    }
    let words: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
    match (method.as_str(), words.as_slice()) {
        ("GET", ["api", "version"]) => {
            reply(&json!({"version": "4", "ray_version": "2.60.0", "session_name": "session"}))
        }
        ("GET", ["api", "packages", "gcs", name]) => match head.known().packages.contains_key(*name) {
            true => text(200, ""),
            false => text(404, &format!("Package gcs://{name} does not exist")),
        },
        ("PUT", ["api", "packages", "gcs", name]) => {
            let mut known = head.known();
            known.packages.insert((*name).to_owned(), body);
            known.uploads += 1;
            text(200, "")
        }
        ("GET", ["api", "jobs", ""]) => reply(&head.known().jobs.values().map(running::Job::json).collect()),
        ("POST", ["api", "jobs", ""]) => submit(&head, &body),
        ("GET" | "POST" | "DELETE", ["api", "jobs", id, what @ ..]) if !id.is_empty() => {
            of_job(&head, &method, id, what)
        }
        _ => text(404, "404: Not Found"),
    }
}

fn of_job(head: &Head, method: &Method, id: &str, what: &[&str]) -> Response<Body> {
    let mut known = head.known();
    let Some(job) = known.jobs.get(id) else { return text(404, &format!("Job {id} does not exist")) };
    match (method.as_str(), what) {
        ("GET", []) => reply(&job.json()),
        ("GET", ["logs"]) => reply(&json!({"logs": job.logs()})),
        ("POST", ["stop"]) => reply(&json!({"stopped": job.stop()})),
        ("DELETE", []) if job.is_over() => {
            known.jobs.remove(id);
            reply(&json!({"deleted": true}))
        }
        _ => text(404, "404: Not Found"),
    }
}

fn submit(head: &Arc<Head>, body: &[u8]) -> Response<Body> {
    let Ok(wanted) = serde_json::from_slice::<Value>(body) else {
        return text(500, "500 Internal Server Error\n\nServer got itself in trouble");
    };
    let fields = wanted.as_object().into_iter().flat_map(|fields| fields.keys());
    if let Some(strange) = fields.into_iter().find(|field| !FIELDS.contains(&field.as_str())) {
        let said = format!("JobSubmitRequest.__init__() got an unexpected keyword argument '{strange}'");
        return text(400, &traceback("TypeError", &said));
    }
    if !wanted["entrypoint"].is_string() {
        let said = "JobSubmitRequest.__init__() missing 1 required positional argument: 'entrypoint'";
        return text(400, &traceback("TypeError", said));
    }
    let mut known = head.known();
    let id =
        wanted["submission_id"].as_str().map_or_else(|| format!("raysubmit_{}", known.submitted.len()), str::to_owned);
    if known.jobs.contains_key(&id) {
        let said = format!("Job with submission_id {id} already exists. Please use a different submission_id.");
        return text(500, &(traceback("ValueError", &said) + ".\n"));
    }
    let job = running::Job::start(&head.folder, &id, &wanted, &head.setup.environment, &known.packages);
    known.jobs.insert(id.clone(), job);
    known.submitted.push(wanted);
    reply(&json!({"job_id": id, "submission_id": id}))
}

fn traceback(kind: &str, said: &str) -> String {
    format!("Traceback (most recent call last):\n  File \"job_head.py\", line 419, in submit_job\n{kind}: {said}\n")
}

fn text(status: u16, text: &str) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", "text/plain; charset=utf-8");
    response.body(text.to_owned().into()).expect("status and headers are valid")
}

fn reply(json: &Value) -> Response<Body> {
    let response = Response::builder().header("content-type", "application/json; charset=utf-8");
    response.body(json.to_string().into()).expect("status and headers are valid")
}
