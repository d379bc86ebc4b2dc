//! Why a job that was handed over brought nothing back.

use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum LaunchError {
    /// Stopped on purpose; the next run goes on from the checkpoint.
    #[error("training was stopped")]
    Stopped,
    /// The waiting was broken off; the job goes on without this process.
    #[error("{what} goes on; the same command finds it again, and `{stop}` stops it")]
    Left { what: String, stop: String },
    #[error(
        "the engine torch needs Python: install `uv`, which brings the rest, or name an interpreter that has PyTorch, TRL and \
         PEFT, python = \".venv/bin/python\" under [train]"
    )]
    NoPython,
    #[error("train.python: cannot run `{program}`: {source}")]
    CannotStart { program: String, source: std::io::Error },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Ray(#[from] crate::ray::RayError),
    /// The job's own words, or its last lines, and what can be done.
    #[error("{0}")]
    Failed(String),
}

/// Names the file that could not be read or written.
pub(crate) fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> LaunchError + use<> {
    let path = path.to_owned();
    move |source| LaunchError::Io { path, source }
}
