//! What can go wrong while a model is opened or a job is handed in. Every message names the file and the key, tensor
//! or length, and says what would be accepted instead.

use thiserror::Error;

use crate::config::Arch;

/// A model that could not be loaded. All of these are the user's to mend: another file, or a fresh download.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{file}: {source}")]
    Io { file: String, source: std::io::Error },
    #[error("{file}: {key}: {reason}; the file is damaged or not what its name says: fetch it again")]
    Corrupt { file: String, key: String, reason: String },
    #[error("{file}: {key} is {value}, must be {want}")]
    BadConfig { file: String, key: String, value: String, want: String },
    #[error("{file}: architecture \"{arch}\" is not supported; supported are: {}", supported())]
    UnsupportedArchitecture { file: String, arch: String },
    #[error("{file}: {key}: {what} is not supported; supported are: {supported}")]
    Unsupported { file: String, key: String, what: String, supported: String },
    #[error("{file}: {what} is missing")]
    Missing { file: String, what: String },
    #[error("{file}: tensor {tensor} has shape {got:?}, the configuration asks for {want:?}")]
    Shape { file: String, tensor: String, got: Vec<usize>, want: Vec<usize> },
    #[error(
        "{file}: tensor {tensor} is part of no {arch} model that the engine runs: without it the answers would be another model's; take a file of one of {}",
        supported()
    )]
    UnreadTensor { file: String, tensor: String, arch: Arch },
    #[error("{path}: not a model: expected a .gguf file or a directory with config.json and safetensors")]
    NotAModel { path: String },
    #[error("{file}: tokenizer: {reason}")]
    Tokenizer { file: String, reason: String },
    #[error("{file}: chat template: {reason}")]
    Template { file: String, reason: String },
}

fn supported() -> String {
    Arch::ALL.map(Arch::name).join(", ")
}

impl LoadError {
    pub(crate) fn corrupt(file: &str, key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt { file: file.into(), key: key.into(), reason: reason.into() }
    }

    pub(crate) fn bad_config(file: &str, key: &str, value: &str, want: &str) -> Self {
        Self::BadConfig { file: file.into(), key: key.into(), value: value.into(), want: want.into() }
    }

    pub(crate) fn missing(file: &str, what: impl Into<String>) -> Self {
        Self::Missing { file: file.into(), what: what.into() }
    }

    pub(crate) fn io(file: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { file: file.display().to_string(), source }
    }
}

/// A text that could not be made from messages, or read back from ids.
#[derive(Debug, Error)]
pub enum TextError {
    #[error("the model's chat template refused these messages: {0}")]
    Template(String),
    #[error("the model's chat template {0}")]
    Endless(String),
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
}

/// A job the engine did not take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubmitError {
    #[error(
        "the prompt has {prompt} tokens, but the model's context holds {context} and a reply needs at least one; shorten the prompt or use a model with a longer context"
    )]
    PromptTooLong { prompt: usize, context: usize },
    #[error(
        "the prompt and its reply may take {tokens} tokens, but keys and values of only {room} are kept at once; ask for a shorter reply (max_tokens) or raise `kv_cache_tokens` of the model"
    )]
    NoRoom { tokens: usize, room: usize },
    #[error("the prompt is empty; it needs at least one token")]
    EmptyPrompt,
    #[error("token id {id} is outside the model's vocabulary of {vocab}")]
    UnknownToken { id: u32, vocab: usize },
    #[error("a job with id {id} is already running; ids of live jobs must differ")]
    DuplicateId { id: u64 },
    #[error("the adapter does not fit this model: {reason}")]
    Adapter { reason: String },
    #[error("replies cannot be held to this JSON schema: {reason}")]
    Format { reason: String },
}
