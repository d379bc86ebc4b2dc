//! The Jobs API of Ray, one call a function; nothing is tried twice here.
//!
//! ```text
//! GET  /api/version                         {"ray_version": "2.60.0", …}
//! GET  /api/packages/gcs/_ray_pkg_HASH.zip  200 without a body, or 404; PUT with the archive
//! POST /api/jobs/                           {"entrypoint": …, "submission_id": …}; without the last slash 404
//! GET  /api/jobs/ID                         {"status": "RUNNING", "message": …, "driver_exit_code": null, …}
//! GET  /api/jobs/ID/logs                    {"logs": "…"}, all of them
//! POST /api/jobs/ID/stop                    {"stopped": true}
//! ```
//!
//! What is refused is plain text, often a Python traceback, whose last line says why. Anybody who reaches an open
//! dashboard runs what he likes there; the token that closes it goes into a header and nowhere else.

use std::{collections::BTreeMap, env, time::Duration};

use reqwest::{
    Method, StatusCode, Url,
    blocking::{Client, RequestBuilder, Response},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::package::Package;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(60);
/// For an archive on a slow line.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(1800);
/// Where Ray's own programs find a token.
const TOKEN: &str = "RAY_AUTH_TOKEN";

#[derive(Debug, Error)]
pub enum RayError {
    /// It may be there again soon.
    #[error(
        "ray: {address} does not answer ({reason}); `ray start --head` prints the dashboard's address, which other machines \
         reach with --dashboard-host=0.0.0.0 or through a tunnel"
    )]
    Away { address: String, reason: String },
    #[error("{0}")]
    Refused(String),
}

/// What `Authorization` carries.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// From the variable that is named, else from Ray's own where it is set.
    ///
    /// # Errors
    /// A variable that is named and not set.
    pub fn find(named: Option<&str>) -> Result<Option<Self>, RayError> {
        let name = named.unwrap_or(TOKEN);
        let value = env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        match (value, named) {
            (None, Some(name)) => Err(RayError::Refused(format!("ray: the token's variable {name} is not set"))),
            (value, _) => Ok(value.map(Self)),
        }
    }
}

/// A cluster that has answered.
pub struct Ray {
    client: Client,
    address: String,
    token: Option<Token>,
    pub version: String,
}

/// A job to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Request {
    /// A line for a shell on the node.
    pub entrypoint: String,
    /// Chosen here, so that a job whose answer was lost is found again.
    pub submission_id: String,
    pub runtime_env: serde_json::Value,
    pub metadata: BTreeMap<String, String>,
    /// 0 runs it on the head.
    pub entrypoint_num_cpus: u32,
    pub entrypoint_num_gpus: u32,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Job {
    /// Programs that connect to the cluster by themselves are listed, too, and have none.
    pub submission_id: Option<String>,
    pub status: Status,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub driver_exit_code: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Pending,
    Running,
    Stopped,
    Succeeded,
    Failed,
}

impl Status {
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Stopped | Self::Succeeded | Self::Failed)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "waiting",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Succeeded => "done",
            Self::Failed => "failed",
        }
    }
}

#[derive(Deserialize)]
struct Version {
    ray_version: String,
}

#[derive(Deserialize)]
struct Logs {
    logs: String,
}

#[derive(Deserialize)]
struct Stopped {
    stopped: bool,
}

impl Ray {
    /// Asks who is there.
    ///
    /// # Errors
    /// An address that is none, or nobody there, or not Ray, or a token that it does not take.
    pub fn connect(address: &str, token: Option<Token>) -> Result<Self, RayError> {
        let address = checked(address)?;
        // Fails when a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            // Ray takes one that begins like a browser's for a browser, and refuses.
            .user_agent(concat!("divvy/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // It would take the token to another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| RayError::Refused(format!("ray: no client for {address}: {error}")))?;
        let mut ray = Self { client, address, token, version: String::new() };
        let answer = ray.answer(ray.to(Method::GET, "version"))?;
        let told = |_| RayError::Refused(format!("ray: what answers at {} is no dashboard of Ray", ray.address));
        ray.version = ray.read::<Version>(answer).map_err(told)?.ray_version;
        Ok(ray)
    }

    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What a person should know before anything is sent there.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let url = Url::parse(&self.address).ok()?;
        if url.scheme() == "https" || is_loopback(&url) {
            return None;
        }
        let token = if self.token.is_some() { ", the token included" } else { "" };
        let open =
            if self.token.is_none() { "; without a token whoever reaches it runs what they like there" } else { "" };
        Some(format!(
            "ray: what goes to {} can be read on its way{token}{open}; https or a tunnel (ssh -L 8265:localhost:8265 HEAD) mends that",
            self.address
        ))
    }

    /// Sends an archive unless it is there. Tells whether it was sent.
    ///
    /// # Errors
    /// Whatever keeps it from getting there.
    pub fn bring(&self, package: &Package) -> Result<bool, RayError> {
        let path = format!("packages/gcs/{}", package.name);
        let asked = self.send(self.to(Method::GET, &path))?;
        if asked.status() != StatusCode::NOT_FOUND {
            return self.accepted(asked).map(|_| false);
        }
        let put = self.to(Method::PUT, &path).timeout(UPLOAD_TIMEOUT).body(package.bytes.clone());
        self.answer(put).map(|_| true)
    }

    /// A job that has this id already is taken for this one.
    ///
    /// # Errors
    /// What the cluster says against it.
    pub fn submit(&self, request: &Request) -> Result<(), RayError> {
        let body = serde_json::to_vec(request).map_err(|error| RayError::Refused(format!("ray: {error}")))?;
        let posted = self.to(Method::POST, "jobs/").header("content-type", "application/json").body(body);
        match self.answer(posted) {
            Err(RayError::Refused(said)) if said.contains("already exists") => Ok(()),
            answered => answered.map(drop),
        }
    }

    /// `None` for one that the cluster does not know.
    ///
    /// # Errors
    /// No answer, or one that is not understood.
    pub fn job(&self, id: &str) -> Result<Option<Job>, RayError> {
        let answer = self.send(self.to(Method::GET, &format!("jobs/{id}")))?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(self.accepted(answer)?).map(Some)
    }

    /// # Errors
    /// No answer, or one that is not understood.
    pub fn jobs(&self) -> Result<Vec<Job>, RayError> {
        self.read(self.answer(self.to(Method::GET, "jobs/"))?)
    }

    /// All that a job has said so far. Of one whose node is gone there is nothing.
    ///
    /// # Errors
    /// No answer, or one that is not understood.
    pub fn logs(&self, id: &str) -> Result<String, RayError> {
        let logs: Logs = self.read(self.answer(self.to(Method::GET, &format!("jobs/{id}/logs")))?)?;
        Ok(logs.logs)
    }

    /// Whether there was something to stop.
    ///
    /// # Errors
    /// No answer, or one that is not understood.
    pub fn stop(&self, id: &str) -> Result<bool, RayError> {
        let stopped: Stopped = self.read(self.answer(self.to(Method::POST, &format!("jobs/{id}/stop")))?)?;
        Ok(stopped.stopped)
    }

    fn to(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}/api/{path}", self.address));
        match &self.token {
            Some(Token(token)) => request.bearer_auth(token),
            None => request,
        }
    }

    fn send(&self, request: RequestBuilder) -> Result<Response, RayError> {
        request.send().map_err(|error| self.away(&innermost(&error)))
    }

    fn away(&self, reason: &str) -> RayError {
        RayError::Away { address: self.address.clone(), reason: reason.to_owned() }
    }

    fn answer(&self, request: RequestBuilder) -> Result<Response, RayError> {
        self.accepted(self.send(request)?)
    }

    fn accepted(&self, answer: Response) -> Result<Response, RayError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = answer.text().unwrap_or_default();
        let said = last_words(&said);
        let Self { address, .. } = self;
        Err(match status.as_u16() {
            401 | 403 => RayError::Refused(format!(
                "ray: {address} wants a token ({said}): name the variable that holds it, token_env = \"{TOKEN}\", or set {TOKEN}"
            )),
            413 => RayError::Refused(format!("ray: {address} takes no archive of this size ({said})")),
            502..=504 => self.away(&format!("{status}")),
            _ => RayError::Refused(format!("ray: {address} refused ({status}): {said}")),
        })
    }

    fn read<T: serde::de::DeserializeOwned>(&self, answer: Response) -> Result<T, RayError> {
        let text = answer.text().map_err(|error| self.away(&innermost(&error)))?;
        let told = |error| RayError::Refused(format!("ray: {} said what was not understood: {error}", self.address));
        serde_json::from_str(&text).map_err(told)
    }
}

fn checked(address: &str) -> Result<String, RayError> {
    let wrong = |why: &str| RayError::Refused(format!("ray: `{address}` is no address of a dashboard: {why}"));
    let url = Url::parse(address).map_err(|_| wrong("write http://HEAD:8265"))?;
    if url.scheme() != "http" && url.scheme() != "https" {
        return Err(wrong("write http://HEAD:8265"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(RayError::Refused(
            "ray: a token goes into a variable, token_env, and not into the address".to_owned(),
        ));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What a client tells lies below what it was doing.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

/// Of a traceback the last line that says something.
fn last_words(said: &str) -> &str {
    let telling = |line: &&str| line.chars().any(char::is_alphanumeric);
    said.lines().rev().map(str::trim).find(telling).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_a_token_is_not_a_part_of_them() {
        assert_eq!(checked("http://head:8265/").unwrap(), "http://head:8265");
        for (address, word) in
            [("head:8265", "http://HEAD:8265"), ("ray://head:10001", "http://"), ("http://me:x@head", "token_env")]
        {
            let told = checked(address).unwrap_err().to_string();
            assert!(told.contains(word) && !told.contains("me:x"), "{told}");
        }
    }

    #[test]
    fn of_a_traceback_the_last_words_count() {
        let said =
            "Traceback (most recent call last):\n  File \"x.py\", line 1\nValueError: Job t1 already exists.\n.\n\n";
        assert_eq!(last_words(said), "ValueError: Job t1 already exists.");
        assert_eq!(last_words(""), "without a word");
    }

    #[test]
    fn plain_http_is_warned_of_off_this_machine() {
        let warned = |address: &str, token: Option<&str>| {
            let token = token.map(|token| Token(token.to_owned()));
            Ray { client: Client::new(), address: address.to_owned(), token, version: String::new() }.warning()
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        for safe in ["http://localhost:8265", "http://127.0.0.1:1", "http://[::1]:1", "https://head"] {
            assert_eq!(warned(safe, None), None, "{safe}");
        }
        assert!(warned("http://head:8265", None).unwrap().contains("without a token"));
        let told = warned("http://head:8265", Some("hidden")).unwrap();
        assert!(told.contains("the token included") && !told.contains("hidden"), "{told}");
    }
}
