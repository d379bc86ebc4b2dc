//! What a scripted teacher says: an answer, or a fault. Also read from a file, one JSON object a line, for the
//! stand-alone teacher: `{"say": "…"}`, `{"status": 429, "retry_after": 1}`, `{"fault": "hang"}`.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", untagged)]
pub enum Step {
    /// This very reply, whoever's dialect it is.
    Raw {
        raw: String,
        status: u16,
        content_type: String,
    },
    Say {
        say: String,
    },
    /// An HTTP status with an error body in OpenAI's shape.
    Status {
        status: u16,
        /// Seconds in the header `Retry-After`.
        retry_after: Option<f64>,
        message: Option<String>,
    },
    /// A 200 with just this body.
    Body {
        body: String,
    },
    /// Streams a text word by word, with a pause after each.
    Drip {
        drip: String,
        pause_ms: u64,
    },
    Fault {
        fault: Fault,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Takes the request and never answers.
    Hang,
    /// Begins a 200 and drops the connection in the middle.
    Cut,
    /// A 200 that is no JSON.
    Nonsense,
    /// A completion without text.
    Empty,
    /// The answer of the rule, with `finish_reason: length`.
    Truncated,
    /// The answer of the rule, without `usage`.
    NoUsage,
}

impl Step {
    #[must_use]
    pub fn say(text: impl Into<String>) -> Self {
        Self::Say { say: text.into() }
    }

    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status { status, retry_after: None, message: None }
    }

    /// A reply as some server writes it: an event stream, a page, or else JSON.
    #[must_use]
    pub fn raw(status: u16, raw: impl Into<String>) -> Self {
        let raw: String = raw.into();
        let content_type = match raw.trim_start().get(..1) {
            Some("d" | ":" | "e") => "text/event-stream",
            Some("<") => "text/html",
            _ => "application/json",
        };
        Self::Raw { raw, status, content_type: content_type.to_owned() }
    }

    #[must_use]
    pub fn drip(text: impl Into<String>, pause_ms: u64) -> Self {
        Self::Drip { drip: text.into(), pause_ms }
    }

    #[must_use]
    pub fn fault(fault: Fault) -> Self {
        Self::Fault { fault }
    }
}
