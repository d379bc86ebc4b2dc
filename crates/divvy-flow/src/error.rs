//! Why a stage stopped. A row that fails is a record, not an error; these end the command, with the store intact.

use divvy_core::records::Stage;
use divvy_llm::{ChatError, ErrorKind};
use divvy_store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    #[error("interrupted; everything finished so far is kept, run the same command to go on")]
    Interrupted,
    #[error("{0}; everything finished so far is kept")]
    Budget(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{stage}: {source}", stage = .stage.name())]
    Chat { stage: Stage, source: ChatError },
    #[error("{stage}: {count} requests in a row failed, the last with: {last}", stage = .stage.name())]
    Failing { stage: Stage, count: usize, last: String },
    #[error("model `{name}`: {reason}")]
    Model { name: String, reason: String },
    #[error("training `{student}`: {reason}")]
    Train { student: String, reason: String },
    /// The same, of a loss that ran away: another learning rate may serve.
    #[error("training `{student}`: {reason}")]
    Diverged { student: String, reason: String },
    #[error("{0}")]
    Input(String),
    /// What was made of the rows could not be written.
    #[error("{0}")]
    Output(String),
    /// There is no room for questions.
    #[error(transparent)]
    Aside(#[from] std::io::Error),
}

impl FlowError {
    /// The store cannot keep anything more.
    pub(crate) fn is_of_the_store(&self) -> bool {
        match self {
            Self::Store(_) => true,
            Self::Chat { source, .. } => source.kind == ErrorKind::Store,
            _ => false,
        }
    }

    /// Exit codes of the program: 1 failed, 2 bad input, 3 stopped at a budget, 130 interrupted.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Budget(_) => 3,
            Self::Input(_) => 2,
            _ => 1,
        }
    }
}
