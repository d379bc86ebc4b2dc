//! The hub client against a stand-in of the hub on loopback: metadata headers, a redirect to the place of the bytes,
//! range requests, a connection that breaks off, refusals.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::models::{
    cache::Cache,
    fetch::{Secret, fetch_with},
    hash::hex,
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the stand-in serves and what it was asked.
#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Breaks off that many body transfers in the middle.
    cuts: usize,
    /// Requests without this token are answered 401.
    token: Option<String>,
    /// `METHOD path range` of each request.
    log: Vec<String>,
}

struct Hub {
    endpoint: String,
    state: Arc<Mutex<State>>,
    home: TempDir,
}

impl Hub {
    fn start(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let shared = Arc::clone(&state);
        // Lives until the test process ends: it waits for connections, and there will be none.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || answer(stream, &shared));
            }
        });
        Self { endpoint, state, home: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> FetchSettings {
        FetchSettings {
            python: "unused".into(),
            pip_env: Vec::new(),
            hub_endpoint: Some(self.endpoint.clone()),
            hub_token: None,
            hub_cache: Some(self.home.path().join("hub")),
        }
    }

    fn cache(&self) -> Cache {
        Cache { root: self.home.path().join("divvy") }
    }

    fn fetch(&self, source: &str, pin: Option<&str>) -> Result<PathBuf, FetchError> {
        fetch_with(&self.settings(), &source.parse().unwrap(), pin, &self.cache(), &mut |_| ())
    }

    fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }
}

/// One request, one answer, connection closed.
fn answer(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut headers = BTreeMap::new();
    for line in reader.lines() {
        let line = line.unwrap();
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = headers.get("range").cloned();
    let mut state = state.lock().unwrap();
    state.log.push(format!("{path} {}", range.as_deref().unwrap_or("-")));
    let wanted = state.token.as_ref().map(|token| format!("Bearer {token}"));
    if wanted.is_some() && headers.get("authorization") != wanted.as_ref() {
        return reply(stream, "401 Unauthorized", &[], b"", None);
    }
    if path.starts_with("/api/models/") {
        let siblings: Vec<_> = state.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return reply(stream, "200 OK", &[], body.as_bytes(), None);
    }
    let name = path.split("/resolve/main/").nth(1).or(path.strip_prefix("/bytes/")).unwrap_or_default().to_owned();
    let Some(bytes) = state.files.get(&name).cloned() else { return reply(stream, "404 Not Found", &[], b"", None) };
    if path.contains("/resolve/") {
        // As the hub does for large files: headers here, bytes elsewhere.
        let host = headers.get("host").cloned().unwrap_or_default();
        let etag = format!("\"{}\"", hex(&Sha256::digest(&bytes)));
        let location = format!("http://{host}/bytes/{name}");
        let extra = [("x-repo-commit", COMMIT), ("x-linked-etag", &etag), ("etag", "\"x\""), ("location", &location)];
        return reply(stream, "302 Found", &extra, b"", None);
    }
    let (from, to) = span(range.as_deref(), bytes.len());
    let content_range = format!("bytes {from}-{}/{}", to.saturating_sub(1), bytes.len());
    let body = &bytes[from..to];
    let cut = (body.len() > 1 && state.cuts > 0).then(|| {
        state.cuts -= 1;
        body.len() / 2
    });
    reply(stream, "206 Partial Content", &[("content-range", &content_range)], body, cut);
}

fn span(range: Option<&str>, length: usize) -> (usize, usize) {
    let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return (0, length);
    };
    (from.parse().unwrap(), to.parse::<usize>().map_or(length, |last| last + 1).min(length))
}

/// With `cut`, promises the whole body and sends only that much.
fn reply(mut stream: TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8], cut: Option<usize>) {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // The client may be gone; that is its business.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..cut.unwrap_or(body.len())]));
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[test]
fn a_named_file_comes_through_a_redirect_and_is_cached() {
    let hub = Hub::start(&[("tiny.gguf", b"GGUF tiny")]);
    let path = hub.fetch("hf:org/name:tiny.gguf", Some(&sha256(b"GGUF tiny"))).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"GGUF tiny");
    let asked = hub.log().len();
    assert!(asked >= 2, "{:?}", hub.log());
    assert_eq!(hub.fetch("hf:org/name:tiny.gguf", None).unwrap(), path);
    assert_eq!(hub.log().len(), asked, "a cached file asks nothing");
    assert_eq!(hub.cache().models().unwrap()[0].sha256, sha256(b"GGUF tiny"));
}

#[test]
fn a_broken_transfer_goes_on_where_it_broke() {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let hub = Hub::start(&[("big.gguf", &bytes)]);
    hub.state.lock().unwrap().cuts = 1;
    let path = hub.fetch("hf:org/name:big.gguf", Some(&sha256(&bytes))).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    let resumed = |line: &String| line.contains("bytes=") && !line.contains("bytes=0-");
    assert!(hub.log().iter().any(resumed), "{:?}", hub.log());
}

#[test]
fn a_wrong_hash_leaves_nothing_behind() {
    let hub = Hub::start(&[("tiny.gguf", b"GGUF tiny")]);
    let error = hub.fetch("hf:org/name:tiny.gguf", Some(&"0".repeat(64))).unwrap_err().to_string();
    assert!(error.contains(&sha256(b"GGUF tiny")) && error.contains("00000000"), "{error}");
    // The next attempt has to ask again: the refused file is gone.
    let asked = hub.log().len();
    hub.fetch("hf:org/name:tiny.gguf", None).unwrap();
    assert!(hub.log().len() > asked);
}

#[test]
fn without_a_file_name_the_only_model_is_taken() {
    let hub = Hub::start(&[("README.md", b"x"), ("only.gguf", b"GGUF")]);
    assert!(hub.fetch("hf:org/name", None).unwrap().ends_with("only.gguf"));
    let hub = Hub::start(&[("a.gguf", b"GGUF"), ("b.gguf", b"GGUF")]);
    let error = hub.fetch("hf:org/name", None).unwrap_err().to_string();
    assert!(error.contains("a.gguf, b.gguf"), "{error}");
}

#[test]
fn safetensors_come_as_a_directory_with_their_small_files() {
    let files: [(&str, &[u8]); 4] =
        [("config.json", b"{}"), ("model.safetensors", b"w"), ("onnx/model.onnx", b"no"), ("tokenizer.json", b"{}")];
    let hub = Hub::start(&files);
    let path = hub.fetch("hf:org/name", None).unwrap();
    assert!(path.join("config.json").is_file() && path.join("model.safetensors").is_file());
    assert!(path.join("tokenizer.json").is_file() && !path.join("onnx").exists());
    assert_eq!(hub.fetch("hf:org/name", None).unwrap(), path);
}

#[test]
fn refusals_say_what_to_do() {
    let hub = Hub::start(&[("tiny.gguf", b"GGUF")]);
    let error = hub.fetch("hf:org/name:other.gguf", None).unwrap_err().to_string();
    assert!(error.contains("other.gguf") && error.contains("no such file"), "{error}");
    hub.state.lock().unwrap().token = Some("right".into());
    let error = hub.fetch("hf:org/name:tiny.gguf", None).unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN"), "{error}");
    let mut settings = hub.settings();
    settings.hub_token = Some(Secret("right".into()));
    let source = "hf:org/name:tiny.gguf".parse().unwrap();
    fetch_with(&settings, &source, None, &hub.cache(), &mut |_| ()).unwrap();
}

#[test]
fn a_hub_that_is_down_is_named_and_a_path_cannot_climb() {
    let hub = Hub::start(&[]);
    let mut settings = hub.settings();
    // Nothing listens on the discard port of loopback.
    settings.hub_endpoint = Some("http://127.0.0.1:9".into());
    let source = "hf:org/name:tiny.gguf".parse().unwrap();
    let error = fetch_with(&settings, &source, None, &hub.cache(), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("HF_ENDPOINT"), "{error}");
    let error = hub.fetch("hf:org/name:../../x.gguf", None).unwrap_err().to_string();
    assert!(error.contains("path inside the repository"), "{error}");
}

#[test]
fn a_data_set_file_comes_the_same_way() {
    let hub = Hub::start(&[("data/train.jsonl", b"{\"question\": \"1 + 1?\"}\n")]);
    let path = fetch_data(&hub.settings(), "org/set", "data/train.jsonl").unwrap();
    assert!(std::fs::read_to_string(path).unwrap().contains("1 + 1"));
    assert!(hub.log()[0].starts_with("/datasets/org/set/resolve/main/"), "{:?}", hub.log());
}
