//! What an operator decides. The recipe's `[serve]` and the command line fill it.

use std::time::Duration;

use crate::traces::Traces;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests answered at once.
    pub concurrency: usize,
    /// Requests that may wait for their turn; more are refused with 429.
    pub queue: usize,
    /// For one request, waiting included.
    pub deadline: Duration,
    /// Where the decomposer fails, the solver answers alone; else the request fails.
    pub falls_back: bool,
    /// Unknown request fields are refused, not ignored.
    pub strict: bool,
    /// A comment is sent when a stream was silent for so long.
    pub keep_alive: Duration,
    /// Largest request, bytes.
    pub max_body: usize,
    pub max_messages: usize,
    /// Connections that have not sent a whole request by then are closed, those that rest between two requests too.
    pub read_timeout: Duration,
    /// A client that has taken nothing of its reply for so long is given up.
    pub write_timeout: Duration,
    /// Names by which this service may be called where it asks for no key, besides addresses and `localhost`: a page of
    /// another site could point a name of its own here.
    pub hosts: Vec<String>,
    /// At shutdown, requests under way have so long to come to their end.
    pub drain: Duration,
    /// Where spans go; `None`: nothing is traced.
    pub traces: Option<Traces>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 64,
            queue: 256,
            deadline: Duration::from_mins(5),
            falls_back: true,
            strict: false,
            keep_alive: Duration::from_secs(10),
            max_body: 4 << 20,
            max_messages: 256,
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_mins(1),
            hosts: Vec::new(),
            drain: Duration::from_secs(30),
            traces: None,
        }
    }
}
