//! A load of chat completions on one server, for benchmarks. Plain threads and sockets, one connection a thread, so that
//! times are those of the clock and not of a timer's grain. Prints one JSON object.
//!
//! ```text
//! load paced HOST:PORT BODY_FILE RATE SECONDS CONNECTIONS   open loop: times count from when a request was due
//! load flood HOST:PORT BODY_FILE REQUESTS CONNECTIONS       as fast as it goes
//! load hold  HOST:PORT BODY_FILE CONNECTIONS                opens streams, hears a piece of each, holds them until stdin ends
//! load wait  HOST:PORT BODY_FILE CONNECTIONS                the same, but hears nothing: for more than are answered at once
//! ```

#![expect(clippy::print_stdout, reason = "its output is its result")]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::json;

/// One answered request: to its first piece, and to its end.
#[derive(Clone, Copy)]
struct Times {
    first: Duration,
    whole: Duration,
}

/// A kept connection.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    request: Arc<Vec<u8>>,
}

impl Client {
    fn open(address: &str, request: Arc<Vec<u8>>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { reader: BufReader::with_capacity(16 << 10, stream.try_clone()?), stream, request })
    }

    /// Sends, and reads to the end. Times count from `due`.
    fn ask(&mut self, due: Instant) -> io::Result<Times> {
        self.stream.write_all(&self.request)?;
        let chunked = self.head()?;
        let mut first = None;
        match chunked {
            None => while self.chunk(&mut first, due)? {},
            Some(length) => {
                let mut body = vec![0; length];
                self.reader.read_exact(&mut body)?;
            }
        }
        let whole = due.elapsed();
        Ok(Times { first: first.unwrap_or(whole), whole })
    }

    /// The length of the body; `None` where it comes in chunks.
    fn head(&mut self) -> io::Result<Option<usize>> {
        let (mut length, mut line, mut ok) = (None, String::new(), false);
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            ok |= line.starts_with("HTTP/1.1 200");
            if line == "\r\n" {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        if ok { Ok(length) } else { Err(io::Error::other("not a 200")) }
    }

    /// Whether there is more. `first` is set at the first piece of text.
    fn chunk(&mut self, first: &mut Option<Duration>, due: Instant) -> io::Result<bool> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| io::Error::other("a chunk without a size"))?;
        let mut bytes = vec![0; size + 2];
        self.reader.read_exact(&mut bytes)?;
        if first.is_none() && has_text(&bytes) {
            *first = Some(due.elapsed());
        }
        Ok(size > 0)
    }
}

fn has_text(event: &[u8]) -> bool {
    let text = String::from_utf8_lossy(event);
    ["\"content\":\"", "\"reasoning\":\""].iter().any(|key| {
        text.match_indices(key).any(|(at, key)| text.as_bytes().get(at + key.len()).is_some_and(|&byte| byte != b'"'))
    })
}

fn request(address: &str, body: &[u8]) -> Arc<Vec<u8>> {
    let length = body.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    Arc::new([head.as_bytes(), body].concat())
}

/// Every thread sends when its turn is due, whether or not the others have heard back.
fn paced(address: &str, body: &[u8], rate: f64, seconds: f64, connections: usize) {
    let request = request(address, body);
    let begin = Instant::now() + Duration::from_millis(200);
    let total = (rate * seconds) as usize;
    let work = move |thread: usize, address: String, request: Arc<Vec<u8>>| {
        let mut client = Client::open(&address, request).expect("it listens");
        let (mut times, mut failed) = (Vec::new(), 0);
        for number in (thread..total).step_by(connections) {
            let due = begin + Duration::from_secs_f64(number as f64 / rate);
            wait_until(due);
            match client.ask(due) {
                Ok(answered) => times.push(answered),
                Err(_) => {
                    failed += 1;
                    client = Client::open(&address, Arc::clone(&client.request)).expect("it listens");
                }
            }
        }
        (times, failed)
    };
    let threads: Vec<_> = (0..connections)
        .map(|thread| {
            let (address, request) = (address.to_owned(), Arc::clone(&request));
            std::thread::spawn(move || work(thread, address, request))
        })
        .collect();
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("it counts what fails")).collect();
    let failed: u64 = results.iter().map(|(_, failed)| failed).sum();
    let times: Vec<Times> = results.into_iter().flat_map(|(times, _)| times).collect();
    report(&times, failed, begin.elapsed());
}

fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}

fn flood(address: &str, body: &[u8], requests: u64, connections: usize) {
    let request = request(address, body);
    let (begin, count) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let (address, request, count) = (address.to_owned(), Arc::clone(&request), Arc::clone(&count));
            std::thread::spawn(move || {
                let mut client = Client::open(&address, request).expect("it listens");
                let mut failed = 0;
                while count.fetch_add(1, Relaxed) < requests {
                    if client.ask(Instant::now()).is_err() {
                        failed += 1;
                        client = Client::open(&address, Arc::clone(&client.request)).expect("it listens");
                    }
                }
                failed
            })
        })
        .collect();
    let failed: u64 = threads.into_iter().map(|thread| thread.join().expect("it counts what fails")).sum();
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({"requests": requests, "failed": failed, "seconds": seconds, "rate": requests as f64 / seconds})
    );
}

fn hold(address: &str, body: &[u8], connections: usize, hears: bool) {
    let request = request(address, body);
    let mut held = Vec::new();
    for number in 0..connections {
        let opened = Client::open(address, Arc::clone(&request)).and_then(|mut client| {
            client.stream.write_all(&client.request)?;
            if hears {
                client.head()?;
                let mut first = None;
                while first.is_none() && client.chunk(&mut first, Instant::now())? {}
            }
            Ok(client.stream)
        });
        match opened {
            Ok(stream) => held.push(stream),
            Err(error) => {
                println!("{}", json!({"held": held.len(), "error": format!("connection {number}: {error}")}));
                return;
            }
        }
    }
    println!("{}", json!({"held": held.len()}));
    let _ = io::stdin().read(&mut [0]);
}

fn report(times: &[Times], failed: u64, took: Duration) {
    let quantiles = |of: fn(&Times) -> Duration| {
        let mut all: Vec<f64> = times.iter().map(|times| of(times).as_secs_f64() * 1000.0).collect();
        all.sort_by(f64::total_cmp);
        let at = |share: f64| all.get(((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1))).copied();
        json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0)})
    };
    let rate = times.len() as f64 / took.as_secs_f64();
    println!(
        "{}",
        json!({
            "requests": times.len(), "failed": failed, "rate": rate,
            "first_ms": quantiles(|times| times.first), "whole_ms": quantiles(|times| times.whole),
        })
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize| arguments.get(at).and_then(|text| text.parse::<f64>().ok()).expect("numbers, see the source");
    let [how, address, file, ..] = &arguments[..] else { panic!("load paced|flood|hold|wait HOST:PORT BODY_FILE …") };
    let body = std::fs::read(file).expect("the body's file");
    match how.as_str() {
        "paced" => paced(address, &body, number(3), number(4), number(5) as usize),
        "flood" => flood(address, &body, number(3) as u64, number(4) as usize),
        "hold" => hold(address, &body, number(3) as usize, true),
        "wait" => hold(address, &body, number(3) as usize, false),
        other => panic!("no `{other}`: paced, flood, hold or wait"),
    }
}
