//! Replies from a file instead of a model: one JSON object a line, `{"key": "<64 hex digits>", "text": "…"}` for the
//! call of that key, or `{"messages": [{"role": "user", "content": "…"}], "text": "…"}` for any call that says just
//! that. `finish` (`stop`, `length`) and `usage` may stand beside.

use std::{collections::HashMap, path::Path};

use divvy_core::{
    chat::{ChatRequest, Finish, Message, Reply, Usage},
    digest::Digest,
};
use futures::{StreamExt, stream};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::{
    chat::{Chat, Delta, Deltas},
    client::call_key,
    error::{ChatError, ErrorKind},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    messages: Option<Vec<Message>>,
    text: String,
    finish: Option<Finish>,
    #[serde(default)]
    usage: Usage,
}

#[derive(Debug, Default)]
pub struct Recorded {
    by_key: HashMap<Digest, Reply>,
    by_messages: HashMap<Vec<Message>, Reply>,
    origin: String,
}

impl Recorded {
    /// # Errors
    /// A file that cannot be read, or a line that is no record, by file and line.
    pub fn open(path: &Path) -> Result<Self, ChatError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            ChatError::new(ErrorKind::Backend, format!("cannot read the recorded replies {origin}: {e}"))
        })?;
        Self::parse(&text, &origin)
    }

    /// # Errors
    /// A line that is no record.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ChatError> {
        let mut recorded = Self { origin: origin.to_owned(), ..Self::default() };
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            recorded.add(line).map_err(|reason| {
                ChatError::new(ErrorKind::Backend, format!("{origin}, line {}: {reason}", index + 1))
            })?;
        }
        Ok(recorded)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let reply = Reply { text: line.text, finish: line.finish.unwrap_or(Finish::Stop), usage: line.usage };
        match (line.key, line.messages) {
            (Some(key), None) => {
                let key = Digest::from_hex(&key).ok_or_else(|| format!("`{key}` is no call key (64 hex digits)"))?;
                self.by_key.insert(key, reply);
            }
            (None, Some(messages)) => drop(self.by_messages.insert(messages, reply)),
            _ => return Err("a record has either `key` or `messages`".to_owned()),
        }
        Ok(())
    }

    fn find(&self, request: &ChatRequest) -> Option<&Reply> {
        self.by_key.get(&call_key(request)).or_else(|| self.by_messages.get(&request.messages))
    }
}

impl Chat for Recorded {
    fn start(&self, request: ChatRequest, _cancel: CancellationToken) -> Deltas {
        stream::iter(match self.find(&request).cloned() {
            Some(reply) => {
                vec![Ok(Delta::Text(reply.text)), Ok(Delta::Done { finish: reply.finish, usage: reply.usage })]
            }
            None => {
                let message = format!("{} has no reply for call {}", self.origin, call_key(&request));
                vec![Err(ChatError::new(ErrorKind::Backend, message))]
            }
        })
        .boxed()
    }
}
